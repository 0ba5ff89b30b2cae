"""Records that this package and Prefect write and read, in each other's place."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from prefect.filesystems import LocalFileSystem, RemoteFileSystem
from prefect.results import ResultStore
from prefect.serializers import PickleSerializer
from qiskit.primitives import BitArray, DataBin, PrimitiveResult, SamplerPubResult

from qcsc_prefect.core.container.format import read_about
from qcsc_prefect.core.errors import UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.results import (
    PrimitiveResultSerializer,
    aread_result_record,
    awrite_result_record,
)


def output(shots: int = 100) -> dict[str, object]:
    bits = np.random.default_rng(3).integers(0, 256, (shots, 2), dtype=np.uint8)
    pub_result = SamplerPubResult(DataBin(c=BitArray(bits, 16)), {"circuit_metadata": {1: (2,)}})
    return {
        "primitive": "sampler",
        "job_id": "j1",
        "shots": shots,
        "result": PrimitiveResult([pub_result], {"version": 2}),
        "metadata": {"tags": ["a"]},
        "job_reference": {"job_id": "j1", "schema_version": 1},
    }


def assert_output(found: object, expected: dict[str, object]) -> None:
    assert isinstance(found, dict)
    assert list(found) == list(expected)
    np.testing.assert_array_equal(
        found["result"][0].data.c.array, expected["result"][0].data.c.array
    )
    assert found["result"][0].metadata == expected["result"][0].metadata
    assert {**found, "result": None} == {**expected, "result": None}


def local_store(folder: Path, **options: object) -> ResultStore:
    return ResultStore(
        result_storage=LocalFileSystem(basepath=str(folder)),
        serializer=PrimitiveResultSerializer(),
        cache_result_in_memory=False,
        **options,
    )


@pytest.mark.parametrize("shots", [0, 100, 3_000_000])
async def test_prefect_reads_what_we_wrote_and_we_what_prefect_wrote(tmp_path, shots):
    store = local_store(tmp_path)
    expected = output(shots)

    await awrite_result_record(store, "ours", expected)
    assert await store.aexists("ours")
    assert_output((await store.aread("ours")).result, expected)

    await store.awrite(expected, key="theirs")
    found = await aread_result_record(store, "theirs")
    assert_output(found.output, expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs"]


def container_of(path: Path) -> bytes:
    return b64decode(json.loads(path.read_bytes())["result"])


async def test_our_record_is_prefects_but_for_the_key_in_the_container(tmp_path):
    store = local_store(tmp_path)
    expiration = datetime.now(UTC) + timedelta(days=1)
    await awrite_result_record(store, "key", output(), expiration)
    ours, our_container = (tmp_path / "key").read_bytes(), container_of(tmp_path / "key")
    await store.awrite(output(), key="key", expiration=expiration)
    theirs, their_container = (tmp_path / "key").read_bytes(), container_of(tmp_path / "key")
    assert ours.partition(b',"result":')[:2] == theirs.partition(b',"result":')[:2]
    assert read_about(our_container) == {**read_about(their_container), "key": "key"}


@pytest.mark.parametrize("writer", ["ours", "Prefect"])
async def test_a_record_in_the_place_of_another_is_a_miss(tmp_path, caplog, writer):
    store = local_store(tmp_path)
    for key, shots in (("one", 111), ("two", 222)):
        if writer == "ours":
            await awrite_result_record(store, key, output(shots))
        else:
            await store.awrite(output(shots), key=key)
    shutil.copy(tmp_path / "one", tmp_path / "two")
    with caplog.at_level(logging.WARNING):
        assert await aread_result_record(store, "two") is None
        assert (await aread_result_record(store, "one")).output["shots"] == 111
    assert "The stored result under the key two is not used: It was written under the key" in (
        caplog.text
    )


async def test_content_in_the_place_of_another_is_a_miss(tmp_path):
    apart = LocalFileSystem(basepath=str(tmp_path / "metadata"))
    store = local_store(tmp_path / "results", metadata_storage=apart)
    for key, shots in (("one", 111), ("two", 222)):
        await awrite_result_record(store, key, output(shots))
    shutil.copy(tmp_path / "results" / "one", tmp_path / "results" / "two")
    assert await aread_result_record(store, "two") is None


@pytest.mark.parametrize("value", [None, {"job_id": "j1"}, [1, "a", (2.5, None)], "text"])
async def test_plain_outputs_pass(tmp_path, value):
    store = local_store(tmp_path)
    await awrite_result_record(store, "k", value)
    assert (await aread_result_record(store, "k")).output == value
    assert (await store.aread("k")).result == value


async def test_an_absent_record_is_a_miss_without_a_word(tmp_path, caplog):
    assert await aread_result_record(local_store(tmp_path), "nothing") is None
    assert caplog.records == []


async def test_an_expired_record_is_a_miss(tmp_path):
    store = local_store(tmp_path)
    await awrite_result_record(store, "old", output(), datetime.now(UTC) - timedelta(seconds=1))
    await awrite_result_record(store, "new", output(), datetime.now(UTC) + timedelta(hours=1))
    assert await aread_result_record(store, "old") is None
    found = await aread_result_record(store, "new")
    assert found.expiration > datetime.now(UTC)
    assert not await store.aexists("old")


class _Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (_explode, (str(self.target), "boom"))


def _explode(target: str, text: str) -> None:
    Path(target).write_text(text)


async def test_a_pickle_under_our_key_is_not_run(tmp_path, caplog):
    store = local_store(tmp_path / "storage")
    hostile = store.model_copy(update={"serializer": PickleSerializer()})
    await hostile.awrite(_Bomb(tmp_path / "boom"), key="k")
    assert b"pickle" in (tmp_path / "storage" / "k").read_bytes()

    with caplog.at_level(logging.WARNING):
        assert await aread_result_record(store, "k") is None

    assert not (tmp_path / "boom").exists()
    assert "serializer 'pickle'" in caplog.text
    # The same record does explode where Prefect reads it, so the bomb is a real one.
    await store.aexists("k")
    assert (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"",
        lambda raw: pickle.dumps({"a": 1}),
        lambda raw: b"[1, 2]",
        lambda raw: b'{"metadata":{"serializer":{"type":"qcsc/primitive-result"}}}',
        lambda raw: raw.replace(b'"result":"', b'"result":"A', 1),
        lambda raw: raw.replace(b'"result":"', b'"result":"\\u0041', 1),
        lambda raw: raw.replace(b'"result":"', b'"result":"\xff', 1),
        lambda raw: raw[:-30] + b'AAAA"}',
        lambda raw: raw.replace(b"serializer", b"serialiser", 1),
        lambda raw: b"{" * 100_000,
    ],
)
async def test_a_damaged_record_is_a_miss_with_a_warning(tmp_path, caplog, damage):
    store = local_store(tmp_path)
    await awrite_result_record(store, "k", output())
    path = tmp_path / "k"
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert await aread_result_record(store, "k") is None
    assert "The stored result under the key k is not used" in caplog.text


async def test_a_record_in_another_layout_of_json_is_read(tmp_path):
    store = local_store(tmp_path)
    expected = output()
    await awrite_result_record(store, "k", expected)
    path = tmp_path / "k"
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=2))
    assert_output((await aread_result_record(store, "k")).output, expected)


async def test_a_value_without_a_place_leaves_the_old_record(tmp_path):
    store = local_store(tmp_path)
    await awrite_result_record(store, "k", {"v": 1})
    with pytest.raises(UnsupportedTypeError, match=r"result\[0\]\.data\.foo"):
        await awrite_result_record(
            store, "k", {"result": PrimitiveResult([SamplerPubResult(DataBin(foo=object()))])}
        )
    assert (await aread_result_record(store, "k")).output == {"v": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


async def test_storage_that_is_not_local(tmp_path):
    storage = RemoteFileSystem(basepath="memory://qcsc-results")
    store = ResultStore(
        result_storage=storage,
        serializer=PrimitiveResultSerializer(),
        cache_result_in_memory=False,
    )
    expected = output()
    await awrite_result_record(store, "k", expected)
    assert_output((await aread_result_record(store, "k")).output, expected)
    assert_output((await store.aread("k")).result, expected)
    assert await aread_result_record(store, "absent") is None


async def test_metadata_that_is_stored_apart(tmp_path):
    apart = LocalFileSystem(basepath=str(tmp_path / "metadata"))
    store = local_store(tmp_path / "results", metadata_storage=apart)
    expected = output()
    await awrite_result_record(store, "ours", expected)
    assert_output((await store.aread("ours")).result, expected)
    await store.awrite(expected, key="theirs")
    assert_output((await aread_result_record(store, "theirs")).output, expected)
    assert await aread_result_record(store, "absent") is None


async def test_a_key_that_leaves_the_storage_is_refused(tmp_path):
    with pytest.raises(ValueError, match="outside"):
        await awrite_result_record(local_store(tmp_path / "inner"), "../k", {"v": 1})
