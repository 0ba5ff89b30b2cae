"""A GHZ state and the energy of molecular hydrogen, in a flow that survives everything.

The flow samples a three-qubit GHZ state, then scans the energy of the hydrogen molecule over the
one angle of its ansatz. Both jobs are submitted once: run it again, or kill it and run it again,
and it finds them.

Run it on this machine, without an account::

    uv run docs/examples/hydrogen.py

or on real hardware, through a saved QiskitRuntimeConfig block::

    uv run docs/examples/hydrogen.py --block my-block
"""

from __future__ import annotations

import argparse
import asyncio
import os

# The embedded server's telemetry competes with the first run for the fresh database, and making
# that database takes a slow machine longer than Prefect waits by default.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

import numpy as np
from prefect import flow
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import generate_preset_pass_manager

from qcsc_prefect.integrations.qiskit import (
    QCSCEstimatorV2,
    QCSCSamplerV2,
    QiskitRuntimeConfig,
)

# Electronic Hamiltonian of H2 at 0.735 angstrom in the STO-3G basis, in hartree: parity mapping,
# reduced to two qubits by its symmetries. Coefficients as in the tutorials of Qiskit Nature, which
# computes the integrals with PySCF; the reduction is described in Bravyi et al., arXiv:1701.08213.
HYDROGEN = SparsePauliOp.from_list(
    [
        ("II", -1.052373245772859),
        ("IZ", 0.39793742484318045),
        ("ZI", -0.39793742484318045),
        ("ZZ", -0.01128010425623538),
        ("XX", 0.18093119978423156),
    ]
)
ANGLES = np.linspace(-np.pi, np.pi, 49)


def ghz_circuit(num_qubits: int) -> QuantumCircuit:
    """Return a circuit that prepares and measures a GHZ state."""
    circuit = QuantumCircuit(num_qubits, name=f"GHZ-{num_qubits}")
    circuit.h(0)
    for qubit in range(1, num_qubits):
        circuit.cx(qubit - 1, qubit)
    circuit.measure_all()
    return circuit


def hydrogen_ansatz() -> QuantumCircuit:
    """Return cos(theta/2)|01> + sin(theta/2)|10>, the states that share both electrons."""
    theta = Parameter("theta")
    circuit = QuantumCircuit(2, name="H2 ansatz")
    circuit.x(0)
    circuit.ry(theta, 1)
    circuit.cx(1, 0)
    return circuit


def fitted_minimum(energies: np.ndarray) -> float:
    """Return the minimum of a + b cos(theta) + c sin(theta), the exact form of the scan."""
    design = np.stack([np.ones_like(ANGLES), np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    (a, b, c), *_ = np.linalg.lstsq(design, energies, rcond=None)
    return float(a - np.hypot(b, c))


@flow(name="hydrogen")
async def hydrogen(block_name: str | None = None) -> float:
    """Sample a GHZ state, scan the energy of H2, and return the lowest energy in hartree."""
    if block_name is None:
        config = QiskitRuntimeConfig(channel="local", backend_name="aer_simulator")
    else:
        config = await QiskitRuntimeConfig.aload(block_name)
    backend = await asyncio.to_thread(config.get_backend)
    transpiler = generate_preset_pass_manager(1, backend=backend, seed_transpiler=7)
    keep = {"cache_submit": True, "cache_result": True, "retry_fetch": True}

    ghz = transpiler.run(ghz_circuit(3))
    sampler = QCSCSamplerV2(runtime_config=config)
    sampling = await sampler.run([ghz], shots=4096, artifact_key="ghz", **keep)

    ansatz = transpiler.run(hydrogen_ansatz())
    observable = HYDROGEN.apply_layout(ansatz.layout)
    estimator = QCSCEstimatorV2(runtime_config=config)
    scan = await estimator.run(
        [(ansatz, observable, ANGLES)], precision=0.01, artifact_key="hydrogen", **keep
    )

    counts = (await sampling.result())[0].data.meas.get_counts()
    energies = (await scan.result())[0].data.evs
    lowest = fitted_minimum(energies)
    exact = float(np.linalg.eigvalsh(HYDROGEN.to_matrix())[0])
    print(f"GHZ job {sampling.job_id()}: {dict(sorted(counts.items()))}")
    print(f"H2 job {scan.job_id()}: {energies.size} energies, lowest {energies.min():.4f} hartree")
    print(f"Minimum of the scan: {lowest:.4f} hartree")
    print(f"Exact value:         {exact:.4f} hartree ({1000 * (lowest - exact):+.1f} mhartree off)")
    return lowest


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--block", help="name of a saved QiskitRuntimeConfig block")
    asyncio.run(hydrogen(arguments.parse_args().block))
