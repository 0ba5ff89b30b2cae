"""The tasks mapped over many calls, and sent to other processes."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import cloudpickle
import pytest
from prefect import flow, task, unmapped
from prefect.exceptions import MappingLengthMismatch
from prefect.utilities.annotations import opaque
from qiskit import QuantumCircuit

from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    run_estimator_task,
    run_sampler_task,
    submit_estimator_job_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.submitting.pub_task import PubTask

CONFIG = QiskitRuntimeConfig(channel="local", backend_name="aer_simulator")


def basis_state(state: int) -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    for qubit in range(2):
        if state >> qubit & 1:
            circuit.x(qubit)
    circuit.measure_all()
    return circuit


def counts(outputs: list[dict]) -> list[dict[str, int]]:
    return [output["result"][0].data.meas.get_counts() for output in outputs]


@task
def prepared_pubs() -> list[list[QuantumCircuit]]:
    return [[basis_state(state)] for state in range(4)]


@pytest.mark.parametrize("given", ["list", "generator", "future", "bare circuits"])
def test_each_element_of_pubs_is_one_job(prefect_home: Path, given: str):
    @flow
    def mapped() -> list[dict[str, int]]:
        pubs: object = {
            "list": [[basis_state(state)] for state in range(4)],
            "generator": ([basis_state(state)] for state in range(4)),
            "future": prepared_pubs.submit(),
            "bare circuits": [basis_state(state) for state in range(4)],
        }[given]
        jobs = submit_sampler_job_task.map(pubs, runtime_config=CONFIG, shots=10)
        outputs = fetch_qiskit_job_result_task.map(job_reference=jobs, runtime_config=CONFIG)
        return counts(outputs.result())

    assert mapped() == [{"00": 10}, {"01": 10}, {"10": 10}, {"11": 10}]


def test_what_python_could_iterate_over_is_shared(prefect_home: Path):
    options = {"simulator": {"seed_simulator": 7}}

    @flow
    def mapped() -> list[dict[str, int]]:
        one_circuit = run_sampler_task.map(
            basis_state(1), shots=[10, 20], options=options, runtime_config=CONFIG
        )
        shared_pubs = run_sampler_task.map(
            pubs=unmapped([basis_state(2), basis_state(3)]), shots=[30], runtime_config=CONFIG
        )
        return counts(one_circuit.result()) + counts(shared_pubs.result())

    assert mapped() == [{"01": 10}, {"01": 20}, {"10": 30}]


def test_lengths_that_differ_are_refused_before_anything_is_sent(prefect_home: Path):
    @flow
    def mapped() -> None:
        submit_sampler_job_task.map([basis_state(0)], shots=[10, 20], runtime_config=CONFIG)

    with pytest.raises(MappingLengthMismatch):
        mapped()


@pytest.mark.parametrize(
    "original",
    [
        submit_sampler_job_task,
        submit_estimator_job_task,
        fetch_qiskit_job_result_task,
        run_sampler_task,
        run_estimator_task.with_options(retries=2),
    ],
)
def test_a_task_survives_the_way_to_another_process(original: PubTask):
    arrived = cloudpickle.loads(cloudpickle.dumps(original))
    assert type(arrived) is PubTask
    assert (arrived.name, arrived.retries) == (original.name, original.retries)
    assert inspect.signature(arrived.fn) == inspect.signature(original.fn)


def test_what_keeps_prefect_from_walking_survives_it_too():
    pubs = [(basis_state(1), None, 10)]
    assert cloudpickle.loads(cloudpickle.dumps(opaque(pubs))) == opaque(pubs)
    assert pickle.loads(pickle.dumps(opaque(opaque(pubs)))) == opaque(opaque(pubs))
