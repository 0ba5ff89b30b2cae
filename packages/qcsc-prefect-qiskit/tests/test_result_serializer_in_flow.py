"""The serializer in real Prefect flows, with results of real primitives."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
from prefect import flow, task
from prefect.cache_policies import CacheKeyFnPolicy
from qiskit import QuantumCircuit
from qiskit.primitives import PrimitiveResult, SamplerPubResult, StatevectorSampler

import qcsc_prefect.integrations.qiskit.results  # noqa: F401 - registers the serializer

if TYPE_CHECKING:
    from pathlib import Path


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
