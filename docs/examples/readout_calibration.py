"""A hundred jobs from the worker processes of a Dask cluster: how well each state is read out.

Each job prepares one basis state and measures it. Run it twice: the second time no job is sent.
It needs a Prefect server in a process of its own, as the page "Several machines" describes.
"""

from __future__ import annotations

import argparse

from prefect import flow
from prefect_dask import DaskTaskRunner
from qiskit import QuantumCircuit

from qcsc_prefect.integrations.qiskit import (
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)

CLUSTER = DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 4})


def basis_state(num_qubits: int, state: int) -> QuantumCircuit:
    """Return a circuit that prepares a basis state and measures it."""
    circuit = QuantumCircuit(num_qubits)
    for qubit in range(num_qubits):
        if state >> qubit & 1:
            circuit.x(qubit)
    circuit.measure_all()
    return circuit


@flow(task_runner=CLUSTER)
def readout_calibration(
    block: str = "lab", num_qubits: int = 7, states: int = 100, shots: int = 100
) -> list[dict[str, int]]:
    """Return the counts of the first `states` basis states, one job each."""
    # One element for each call; block and shots are no lists, so all calls share them.
    pubs = [[basis_state(num_qubits, state)] for state in range(states)]
    jobs = submit_sampler_job_task.map(pubs, block, shots, cache_submit=True)
    outputs = fetch_qiskit_job_result_task.map(block, job_reference=jobs, cache_result=True)
    return [output["result"][0].data.meas.get_counts() for output in outputs.result()]


if __name__ == "__main__":  # Dask's worker processes import this file
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--block", default="lab")
    for state, counts in enumerate(readout_calibration(parser.parse_args().block)):
        print(f"{state:07b} was read as {counts}")
