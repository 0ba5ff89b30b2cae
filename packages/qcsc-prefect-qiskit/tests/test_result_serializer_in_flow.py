"""The serializer in real Prefect flows, with results of real primitives."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
from prefect import Task, flow, task
from prefect.cache_policies import CacheKeyFnPolicy
from qiskit import QuantumCircuit
from qiskit.primitives import PrimitiveResult, SamplerPubResult, StatevectorSampler

from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.presentation.representations import (
    JobOutput,
    JobReferenceDict,
)

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.states import State


pytestmark = pytest.mark.usefixtures("prefect_server")


def _ghz() -> QuantumCircuit:
    circuit = QuantumCircuit(3, metadata={"run": 7, "angles": (0.5, float("inf"))})
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    circuit.measure_all()
    return circuit


def _fetch_task(calls: list[int]):
    @task(
        persist_result=True,
        result_serializer="qcsc/primitive-result",
        cache_policy=CacheKeyFnPolicy(cache_key_fn=lambda _context, arguments: arguments["key"]),
        cache_result_in_memory=False,
    )
    async def fetch(key: str) -> dict[str, object]:
        calls.append(1)
        result = StatevectorSampler(seed=11).run([_ghz()], shots=100).result()
        return {"primitive": "sampler", "job_id": "j1", "shots": 100, "result": result}

    return fetch


def _flow_over(storage: Path, calls: list[int]):
    @flow(result_storage=storage)
    async def fetch_flow(key: str) -> dict[str, object]:
        return await _fetch_task(calls)(key)

    return fetch_flow


async def test_a_sampler_result_comes_back_from_prefects_cache(tmp_path):
    calls: list[int] = []
    run = _flow_over(tmp_path, calls)
    first = await run("k1")
    second = await run("k1")

    assert calls == [1]
    record = json.loads((tmp_path / "k1").read_bytes())
    assert record["metadata"]["serializer"] == {"type": "qcsc/primitive-result"}
    assert type(second["result"]) is PrimitiveResult
    assert type(second["result"][0]) is SamplerPubResult
    np.testing.assert_array_equal(
        first["result"][0].data.meas.array, second["result"][0].data.meas.array
    )
    assert second["result"][0].metadata == first["result"][0].metadata
    assert list(second) == ["primitive", "job_id", "shots", "result"]


async def test_what_the_tasks_return_comes_back_from_prefects_cache(prefect_home: Path, caplog):
    config = QiskitRuntimeConfig(channel="local", backend_name="aer_simulator")

    def cached(task: Task, key: str) -> Task:
        return task.with_options(
            persist_result=True,
            cache_policy=CacheKeyFnPolicy(cache_key_fn=lambda *_: key),
            cache_result_in_memory=False,
            result_serializer="qcsc/primitive-result",
        )

    submit = cached(submit_sampler_job_task, "submit")
    fetch = cached(fetch_qiskit_job_result_task, "fetch")

    @flow
    async def once() -> list[State]:
        reference = await submit([_ghz()], shots=100, runtime_config=config, return_state=True)
        output = await fetch(
            job_reference=await reference.result(), runtime_config=config, return_state=True
        )
        return [reference, output]

    with caplog.at_level(logging.ERROR):
        first = await once()
    assert "is not stored" not in caplog.text
    again = await once()
    assert [state.name for state in again] == ["Cached", "Cached"]
    for state, kind, stored in zip(first, (JobReferenceDict, JobOutput), again, strict=True):
        assert type(await stored.result()) is kind
        assert (await stored.result())["job_id"] == (await state.result())["job_id"]
    assert (await again[1].result())["result"][0].data.meas.num_shots == 100


@pytest.mark.parametrize("damage", ["flip", "truncate", "replace", "newer"])
async def test_a_damaged_record_is_a_miss_with_a_warning(tmp_path, caplog, damage):
    calls: list[int] = []
    run = _flow_over(tmp_path, calls)
    await run("k1")
    path = tmp_path / "k1"
    record = json.loads(path.read_bytes())
    text = record["result"]
    record["result"] = {
        "flip": text[:200] + ("A" if text[200] != "A" else "B") + text[201:],
        "truncate": text[:-40],
        "replace": "bm90IG91cnM=",
        "newer": _as_newer_version(text),
    }[damage]
    path.write_text(json.dumps(record))

    with caplog.at_level(logging.WARNING):
        again = await run("k1")

    assert calls == [1, 1]
    assert again["job_id"] == "j1"
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("A stored result is not used" in message for message in warnings)


async def test_a_value_without_a_place_is_named_and_the_task_completes(tmp_path, caplog):
    @task(persist_result=True, result_serializer="qcsc/primitive-result")
    async def odd() -> dict[str, object]:
        return {"job_id": "j1", "result": {"data": [1, object()]}}

    @flow(result_storage=tmp_path)
    async def odd_flow() -> dict[str, object]:
        return await odd()

    with caplog.at_level(logging.ERROR):
        output = await odd_flow()

    assert output["job_id"] == "j1"
    assert any("result['data'][1]" in record.getMessage() for record in caplog.records)


def _as_newer_version(text: str) -> str:
    import base64
    import hashlib

    raw = bytearray(base64.b64decode(text))
    raw[8:10] = (99).to_bytes(2, "little")
    raw[24:56] = hashlib.sha256(raw[:24] + raw[56:]).digest()
    return base64.b64encode(raw).decode()
