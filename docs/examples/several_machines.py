"""One experiment that several machines may start, also at the same time: they share one job.

Deploy it and run it as the page "Several machines" describes.
"""

from __future__ import annotations

import asyncio
import socket

from prefect import flow
from prefect.artifacts import acreate_table_artifact
from qiskit import QuantumCircuit
from qiskit.transpiler import generate_preset_pass_manager

from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)


def ghz_circuit(num_qubits: int) -> QuantumCircuit:
    """Return a circuit that prepares and measures a GHZ state."""
    circuit = QuantumCircuit(num_qubits)
    circuit.h(0)
    for qubit in range(1, num_qubits):
        circuit.cx(qubit - 1, qubit)
    circuit.measure_all()
    return circuit


async def isa_circuit(circuit: QuantumCircuit, block: str) -> QuantumCircuit:
    """Return the circuit in the instructions of the block's backend."""
    config = await QiskitRuntimeConfig.aload(block)
    backend = await asyncio.to_thread(config.get_backend)
    # The seed makes the circuit, and with it the job, the same on every machine.
    return generate_preset_pass_manager(backend=backend, seed_transpiler=7).run(circuit)


@flow
async def experiment(block: str = "lab", shots: int = 1000) -> dict[str, int]:
    """Sample a GHZ state through the saved configuration `block`."""
    pubs = [await isa_circuit(ghz_circuit(3), block)]
    job = await submit_sampler_job_task(pubs, block, shots, cache_submit=True)
    output = await fetch_qiskit_job_result_task(block, job_reference=job, cache_result=True)
    counts: dict[str, int] = output["result"][0].data.meas.get_counts()
    row = {"machine": socket.gethostname(), "job": job["job_id"], **counts}
    await acreate_table_artifact([row], key="experiment")
    return counts
