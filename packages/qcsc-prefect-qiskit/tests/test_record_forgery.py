"""Anything may lie in a record's place: what was not written there is a miss, with a word about it.

The long form mutates as often as it is told::

    QCSC_PREFECT_FUZZ_EXAMPLES=20000 uv run pytest -n0 -k "container or forge" packages
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.filesystems import LocalFileSystem, RemoteFileSystem
from prefect.results import ResultStore
from qiskit import QuantumCircuit

from qcsc_prefect.core.engine.identity import SubmissionIdentity
from qcsc_prefect.core.engine.memory import SubmissionMemory, UnreadableIntent
from qcsc_prefect.core.prefect.ledger import PrefectLedger
from qcsc_prefect.core.reference import JobReference
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.results import (
    PrimitiveResultSerializer,
    aread_result_record,
    awrite_result_record,
)

CONFIG = QiskitRuntimeConfig(channel="local", backend_name="aer_simulator")
MUTATIONS = int(os.environ.get("QCSC_PREFECT_FUZZ_EXAMPLES", "600"))
KEY = "qiskit-sampler-" + 64 * "0"
OTHER = "qiskit-sampler-" + 64 * "1"
REFERENCE = JobReference(
    job_id="d1c0qmyv3z50008ah8x0",
    primitive="sampler",
    shots=1000,
    options={"default_shots": 7, "angles": [0.5, 1e-9], "seed": 2**70},
    input_digest="qiskit-sampler-input-" + 64 * "a",
    submitted_at="2026-11-25T10:00:00+00:00",
)
logger = logging.getLogger("test_record_forgery")


def memory_in(store: ResultStore) -> SubmissionMemory:
    return SubmissionMemory(PrefectLedger(store), logger)


def identity(key: str) -> SubmissionIdentity:
    return SubmissionIdentity(key, "a-tag", "a-digest")


def store_over(folder: Path, *, apart: bool = False) -> ResultStore:
    metadata = LocalFileSystem(basepath=str(folder / "metadata")) if apart else None
    return ResultStore(
        result_storage=LocalFileSystem(basepath=str(folder / "results")),
        metadata_storage=metadata,
        cache_result_in_memory=False,
    )


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Content with one thing changed, as disks, editors and interrupted copies change it."""
    place = rng.randrange(len(content))
    match rng.randrange(6):
        case 0:
            return (
                content[:place]
                + bytes([content[place] ^ 1 << rng.randrange(8)])
                + (content[place + 1 :])
            )
        case 1:
            # As text: what comes out is JSON in most cases.
            letter = rng.choice(b"0123456789abcdef").to_bytes(1, "big")
            return content[:place] + letter + content[place + 1 :]
        case 2:
            return content[:place]
        case 3:
            return content[:place] + content[place + rng.randrange(1, 20) :]
        case 4:
            end = place + rng.randrange(1, 20)
            return content[:end] + content[place:]
        case _:
            return content[:place] + rng.randbytes(rng.randrange(1, 9)) + content[place:]


@pytest.mark.parametrize("apart", [False, True], ids=["together", "metadata apart"])
async def test_a_mutated_record_is_no_other_record(tmp_path: Path, apart: bool):
    memory = memory_in(store_over(tmp_path, apart=apart))
    await memory.record(KEY, REFERENCE)
    assert await memory.recorded(KEY) == REFERENCE
    path = tmp_path / "results" / KEY
    content = path.read_bytes()
    rng = random.Random(13)
    kept = 0
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(content, rng))
        found = await memory.recorded(KEY)
        assert found in (None, REFERENCE), path.read_text()
        kept += found is not None
    assert kept < MUTATIONS / 2


async def test_a_mutated_intent_is_heeded(tmp_path: Path):
    memory = memory_in(store_over(tmp_path))
    await memory.declare_intent(identity(KEY), earlier=["d1c0"])
    path = tmp_path / "results" / f"{KEY}-intent"
    content = path.read_bytes()
    declared = await memory.outstanding_intent(KEY)
    assert declared is not None
    rng = random.Random(14)
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(content, rng))
        found = await memory.outstanding_intent(KEY)
        assert found == declared or isinstance(found, UnreadableIntent), path.read_text()


async def test_a_mutated_result_is_no_other_result(tmp_path: Path):
    store = store_over(tmp_path)
    output = {"job_id": "d1c0", "shots": 111, "angles": (0.5, 1.5), "raw": bytes(range(256)) * 20}
    await awrite_result_record(store, KEY, output)
    path = tmp_path / "results" / KEY
    content = path.read_bytes()
    rng = random.Random(15)
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(content, rng))
        found = await aread_result_record(store, KEY)
        assert found is None or found.output == output


@pytest.mark.parametrize("apart", [False, True], ids=["together", "metadata apart"])
async def test_a_record_of_another_key_is_a_miss(tmp_path: Path, caplog, apart: bool):
    memory = memory_in(store_over(tmp_path, apart=apart))
    await memory.record(KEY, REFERENCE)
    await memory.record(OTHER, JobReference(job_id="another"))
    shutil.copy(tmp_path / "results" / OTHER, tmp_path / "results" / KEY)
    with caplog.at_level(logging.WARNING):
        assert await memory.recorded(KEY) is None
    assert f"it was written as '{OTHER}'" in caplog.text


async def test_an_intent_in_the_place_of_another_is_heeded(tmp_path: Path, caplog):
    memory = memory_in(store_over(tmp_path))
    await memory.declare_intent(identity(KEY))
    await memory.clear_intent(identity(OTHER))
    shutil.copy(tmp_path / "results" / f"{OTHER}-intent", tmp_path / "results" / f"{KEY}-intent")
    with caplog.at_level(logging.WARNING):
        assert isinstance(await memory.outstanding_intent(KEY), UnreadableIntent)
    assert f"it was written as '{OTHER}-intent'" in caplog.text


async def test_prefect_reads_our_record_as_a_reference(tmp_path: Path):
    store = store_over(tmp_path)
    await memory_in(store).record(KEY, REFERENCE)
    result = (await store.aread(KEY)).result
    assert {name: result[name] for name in REFERENCE.to_dict()} == REFERENCE.to_dict()
    assert result["seal"]["key"] == KEY


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 8 << 30)


PLACES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "link to a device without an end": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path),
    "8 GiB that take no room": _sparse,
    "empty": Path.touch,
    "deep": lambda path: path.write_bytes(b"[" * 1_000_000),
    "deep result": lambda path: path.write_text(
        json.dumps({"metadata": {"serializer": {"type": "json"}}, "result": "[" * 1_000_000})
    ),
    "long number": lambda path: path.write_text(
        json.dumps({"metadata": {"serializer": {"type": "json"}}, "result": "9" * 100_000})
    ),
}


@pytest.mark.parametrize("place", list(PLACES))
async def test_what_is_no_record_is_a_miss_with_a_word(tmp_path: Path, caplog, place: str):
    (tmp_path / "results").mkdir()
    for key in (KEY, f"{OTHER}-intent"):
        PLACES[place](tmp_path / "results" / key)
    store = store_over(tmp_path)
    memory = memory_in(store)
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(30):
            assert await aread_result_record(store, KEY) is None
            assert await memory.recorded(KEY) is None
            assert isinstance(await memory.outstanding_intent(OTHER), UnreadableIntent)
    assert f"The stored result under the key {KEY} is not used" in caplog.text
    assert "A record of an earlier submission is passed over" in caplog.text
    assert "An intent to submit may be outstanding" in caplog.text


async def test_a_record_larger_than_the_setting_is_a_miss(tmp_path: Path, caplog, monkeypatch):
    store = store_over(tmp_path)
    await awrite_result_record(store, KEY, {"zeros": bytes(1 << 20)})
    monkeypatch.setenv("QCSC_PREFECT_MAX_RECORD_BYTES", str(1 << 20))
    with caplog.at_level(logging.WARNING):
        assert await aread_result_record(store, KEY) is None
    assert "set a larger QCSC_PREFECT_MAX_RECORD_BYTES" in caplog.text
    monkeypatch.setenv("QCSC_PREFECT_MAX_RECORD_BYTES", str(1 << 21))
    assert await aread_result_record(store, KEY) is not None


async def test_what_a_remote_storage_gives_is_bounded_too(caplog, monkeypatch):
    store = ResultStore(
        result_storage=RemoteFileSystem(basepath="memory://qcsc-bounded"),
        cache_result_in_memory=False,
    )
    memory = memory_in(store)
    await awrite_result_record(store, OTHER, {"raw": random.Random(1).randbytes(3000)})
    await memory.record(KEY, REFERENCE)
    assert await memory.recorded(KEY) == REFERENCE
    monkeypatch.setenv("QCSC_PREFECT_MAX_RECORD_BYTES", "2000")
    with caplog.at_level(logging.WARNING):
        assert await memory.recorded(KEY) is None
        assert await aread_result_record(store, OTHER) is None
    assert "and no more than 31 are read" in caplog.text
    assert "and no more than 4000 are read" in caplog.text


async def test_each_asks_for_its_own_job(prefect_home: Path, caplog):
    references = [
        await submit_sampler_job_task(
            [bell()], shots=shots, runtime_config=CONFIG, cache_submit=True
        )
        for shots in (111, 222)
    ]

    async def fetched_shots() -> list[int]:
        outputs = [
            await fetch_qiskit_job_result_task(
                job_reference=reference, runtime_config=CONFIG, cache_result=True
            )
            for reference in references
        ]
        return [output["result"][0].data.meas.num_shots for output in outputs]

    assert await fetched_shots() == [111, 222]
    results = {_job_of(path): path for path in prefect_home.rglob("qiskit-result-*")}
    records = {
        json.loads(json.loads(path.read_text())["result"])["job_id"]: path
        for path in prefect_home.rglob("qiskit-sampler-*")
        if not path.name.endswith("-intent")
    }
    first, second = [reference["job_id"] for reference in references]
    shutil.copy(results[first], results[second])
    shutil.copy(records[first], records[second])
    with caplog.at_level(logging.WARNING):
        assert await fetched_shots() == [111, 222]
        again = await submit_sampler_job_task(
            [bell()], shots=222, runtime_config=CONFIG, cache_submit=True
        )
    assert again["job_id"] == second
    assert f"under the key {results[second].name} is not used" in caplog.text
    assert "A record of an earlier submission is passed over" in caplog.text


def _job_of(path: Path) -> str:
    store = ResultStore(result_storage=LocalFileSystem(basepath=str(path.parent)))
    return store.read(path.name).result["job_id"]


async def test_what_prefect_kept_of_another_job_is_not_taken(prefect_home: Path, caplog):
    references = [
        await submit_sampler_job_task([bell()], shots=shots, runtime_config=CONFIG)
        for shots in (111, 222)
    ]
    outputs = [
        await fetch_qiskit_job_result_task(
            job_reference=reference, runtime_config=CONFIG, cache_result=True
        )
        for reference in references
    ]
    [place] = [
        path
        for path in prefect_home.rglob("qiskit-result-*")
        if _job_of(path) == references[1]["job_id"]
    ]
    # Under the right key, and by Prefect's hand: only the content says whose it is.
    store = ResultStore(
        result_storage=LocalFileSystem(basepath=str(place.parent)),
        serializer=PrimitiveResultSerializer(),
    )
    await store.awrite(dict(outputs[0]), key=place.name)
    with caplog.at_level(logging.WARNING):
        output = await fetch_qiskit_job_result_task(
            job_reference=references[1], runtime_config=CONFIG, cache_result=True
        )
    assert output["result"][0].data.meas.num_shots == 222
    assert f"is not that of job {references[1]['job_id']}" in caplog.text
