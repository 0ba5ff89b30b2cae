"""Cache keys: what is in them, and what they do with what cannot be keyed."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from prefect import flow, task
from prefect.utilities.annotations import opaque, quote, unmapped
from qiskit import QuantumCircuit

from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.cache import (
    qiskit_estimator_submit_cache_key,
    qiskit_result_fetch_cache_key,
    qiskit_sampler_submit_cache_key,
)
from qcsc_prefect.integrations.qiskit.input_digest import build_qiskit_sampler_input_digest


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def config(**fields: Any) -> QiskitRuntimeConfig:
    return QiskitRuntimeConfig(
        **{"channel": "ibm_quantum_platform", "instance": "crn", "backend_name": "b", **fields}
    )


def sampler_key(**parameters: Any) -> str | None:
    return qiskit_sampler_submit_cache_key(None, parameters)


def result_key(**parameters: Any) -> str | None:
    return qiskit_result_fetch_cache_key(None, parameters)


def test_keys_have_their_documented_form() -> None:
    assert sampler_key(input_digest="d").startswith("qiskit-sampler-")  # type: ignore[union-attr]
    estimator = qiskit_estimator_submit_cache_key(None, {"input_digest": "d"})
    assert estimator is not None
    assert estimator.startswith("qiskit-estimator-")
    result = result_key(job_id="j")
    assert result is not None
    assert result.startswith("qiskit-result-")
    for key in (sampler_key(input_digest="d"), estimator, result):
        assert key is not None
        assert len(key.rpartition("-")[2]) == 64


def test_whatever_tells_submissions_apart_is_in_the_key() -> None:
    circuit = bell()
    parameters: list[dict[str, Any]] = [
        {"pubs": [circuit]},
        {"pubs": [circuit], "shots": 10},
        {"pubs": [circuit], "options": {"default_shots": 10}},
        {"pubs": [circuit], "backend_name": "b"},
        {"pubs": [circuit], "runtime_block_name": "b"},
        {"pubs": [circuit], "runtime_config": config()},
        {"pubs": [circuit], "runtime_config": config(backend_name="c")},
        {"pubs": [circuit], "runtime_config": config(instance="other")},
        {"pubs": [circuit], "runtime_config": config(account_name="mine")},
        {"pubs": [circuit], "configuration_identity": "mine"},
        {"pubs": [circuit], "configuration_identity": {"account": "mine"}},
        {"pubs": [circuit], "cache_namespace": "n"},
        {"input_digest": "a"},
        {"input_digest": "b"},
        {"input_digest": "a", "runtime_config": config()},
        {"input_digest": "a", "runtime_config": config(backend_name="c")},
    ]
    keys = [sampler_key(**given) for given in parameters]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    estimators = [qiskit_estimator_submit_cache_key(None, {"input_digest": d}) for d in "ab"]
    assert len({*estimators, *keys}) == len(keys) + 2


def test_equal_submissions_have_one_key() -> None:
    circuit = bell()
    key = sampler_key(pubs=[circuit], shots=10, runtime_config=config())
    assert key == sampler_key(pubs=[(circuit, None, 10)], runtime_config=config())
    for wrap in (opaque, quote, unmapped):
        assert key == sampler_key(pubs=wrap([circuit]), shots=10, runtime_config=config())
    assert key == sampler_key(pubs=quote(opaque([circuit])), shots=10, runtime_config=config())
    ignored = {"artifact_key": "a", "unknown": object()}
    assert key == sampler_key(pubs=[circuit], shots=10, runtime_config=config(), **ignored)


def test_a_given_digest_does_not_hide_another_input() -> None:
    other = bell()
    other.x(0)
    chosen: dict[str, Any] = {"input_digest": "mine", "pubs": [bell()], "shots": 10}
    different: list[dict[str, Any]] = [
        chosen,
        {**chosen, "shots": 20},
        {**chosen, "pubs": [(bell(), None, 30)]},
        {**chosen, "options": {"twirling": {"enable_gates": True}}},
        {**chosen, "pubs": [other]},
        {**chosen, "pubs": [bell(), bell()]},
    ]
    keys = [sampler_key(**parameters) for parameters in different]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert sampler_key(**{**chosen, "pubs": [(bell(), None, 10)]}) == keys[0]
    trusted = {**chosen, "trust_input_digest": True}
    assert sampler_key(**trusted) == sampler_key(**{**trusted, "pubs": [other]})
    assert sampler_key(**trusted) != sampler_key(**{**trusted, "shots": 20})
    precise = [
        qiskit_estimator_submit_cache_key(None, {"input_digest": "mine", "precision": precision})
        for precision in (0.1, 0.2)
    ]
    assert precise[0] != precise[1]


def test_a_given_digest_is_the_way_out_for_what_cannot_be_digested() -> None:
    pubs = [QuantumCircuit(1, 1, metadata={"hook": object()})]
    assert sampler_key(pubs=pubs) is None
    assert sampler_key(pubs=pubs, input_digest="mine") is not None
    callbacks = [sampler_key(input_digest="mine", options={"callback": it}) for it in (print, 1)]
    assert None not in callbacks
    assert callbacks[0] != callbacks[1]


def test_the_token_is_not_in_the_key() -> None:
    assert sampler_key(input_digest="d", runtime_config=config(token="a")) == sampler_key(
        input_digest="d", runtime_config=config(token="b")
    )


def test_results_are_keyed_by_job_and_account() -> None:
    expected = result_key(job_id="j")
    assert expected == result_key(job_reference={"job_id": "j", "backend_name": "b"})
    assert expected == result_key(job_id="j", shots=3, pubs=[bell()], primitive="sampler")
    assert expected == result_key(job_id=opaque("j"))
    others = [
        result_key(job_id="k"),
        result_key(job_id="j", runtime_block_name="b"),
        result_key(job_id="j", runtime_config=config()),
        result_key(job_id="j", runtime_config=config(instance="other")),
        result_key(job_id="j", configuration_identity="mine"),
    ]
    assert len({expected, *others, None}) == 7
    same = config(backend_name="c")
    assert result_key(job_id="j", runtime_config=same) == others[2]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"pubs": None},
        {"pubs": 3},
        {"pubs": [object()]},
        {"pubs": [QuantumCircuit(1, metadata={"hook": object()})]},
        {"pubs": [bell()], "shots": -1},
        {"pubs": [bell()], "options": {"callback": print}},
        {"pubs": [bell()], "cache_scope": "task"},
        {"pubs": [bell()], "runtime_config": object()},
        {"pubs": [bell()], "unknown": object(), "options": 3},
        {"input_digest": ""},
        {"input_digest": 3},
        {"input_digest": "d", "configuration_identity": {"a": object()}},
    ],
)
def test_what_cannot_be_keyed_gives_none(parameters: dict[str, Any]) -> None:
    assert sampler_key(**parameters) is None
    assert qiskit_estimator_submit_cache_key(None, parameters) is None


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"job_id": None},
        {"job_id": ""},
        {"job_id": 3},
        {"job_reference": {}},
        {"job_reference": "j"},
        {"job_reference": {"job_id": None}},
        {"job_id": "j", "runtime_config": object()},
    ],
)
def test_no_job_gives_no_result_key(parameters: dict[str, Any]) -> None:
    assert result_key(**parameters) is None


def test_an_iterator_is_left_for_the_task() -> None:
    pubs = iter([bell()])
    assert sampler_key(pubs=pubs) is None
    assert isinstance(next(pubs), QuantumCircuit)


def test_a_submission_without_a_key_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        sampler_key(pubs=[bell()], options={"callback": print})
    assert "options.callback" in caplog.text


def test_the_flow_counts_by_its_name_also_inside_tasks(prefect_server: None) -> None:
    circuit = bell()

    @task
    def digest_in_task(scope: str) -> str:
        return build_qiskit_sampler_input_digest([circuit], cache_scope=scope)

    @flow(name="inner")
    def inner() -> str:
        return digest_in_task("flow")

    @flow(name="outer")
    def outer() -> dict[str, str]:
        return {
            "flow": build_qiskit_sampler_input_digest([circuit]),
            "task": digest_in_task("flow"),
            "submitted": digest_in_task.submit("flow").result(),
            "subflow": inner(),
            "global": digest_in_task("global"),
        }

    found = outer()
    inside = inner()
    assert found["flow"] == found["task"] == found["submitted"]
    assert found["subflow"] == inside
    outside = build_qiskit_sampler_input_digest([circuit])
    assert found["global"] == build_qiskit_sampler_input_digest([circuit], cache_scope="global")
    assert len({found["flow"], inside, outside, found["global"]}) == 4
    with pytest.raises(ValueError, match="cache_scope"):
        build_qiskit_sampler_input_digest([circuit], cache_scope="task")


def test_arrays_in_annotations_are_taken_as_they_are() -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    empty = np.empty((3, 0))
    assert sampler_key(pubs=opaque([(circuit, empty)])) == sampler_key(pubs=[(circuit, empty)])
