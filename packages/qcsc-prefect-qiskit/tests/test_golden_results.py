"""Records and archives that earlier releases wrote stay readable.

The files in ``golden/`` are never written again. Running this module as a script adds those that
are missing. Those of version 1 were written by qcsc-prefect-qiskit 0.4.0 with Qiskit 2.6, the
client 0.51 and Prefect 3.8.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from pathlib import Path

import numpy as np
from dateutil import tz
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore
from qiskit.primitives import BitArray, DataBin, PrimitiveResult, PubResult, SamplerPubResult
from qiskit.quantum_info import PauliList, SparsePauliOp
from qiskit_ibm_runtime import results as client_results
from qiskit_ibm_runtime.execution_span import (
    DoubleSliceSpan,
    ExecutionSpans,
    SliceSpan,
    TwirledSliceSpan,
    TwirledSliceSpanV2,
)

from qcsc_prefect.core.container.format import encode_container
from qcsc_prefect.integrations.qiskit.results import (
    PrimitiveResultSerializer,
    aread_result_record,
    awrite_result_record,
    describe_result,
    load_result,
    save_result,
)

GOLDEN = Path(__file__).parent / "golden"
ARCHIVE = GOLDEN / "result-archive-v1.qcsc"
RECORD = GOLDEN / "result-record-v1.json"

START = dt.datetime(2026, 11, 23, 1, 2, 3, 4, tzinfo=tz.tzutc())
STOP = dt.datetime(2026, 11, 23, 2, 2, 3, tzinfo=tz.tzoffset(None, 3600))


def golden_output() -> dict[str, object]:
    spans = ExecutionSpans(
        [
            SliceSpan(START, STOP, {0: ((3, 4), slice(2, 7))}),
            DoubleSliceSpan(START, STOP, {0: ((3, 4, 10), slice(2, 7), slice(1, 4))}),
            TwirledSliceSpan(START, STOP, {1: ((2, 3), True, slice(0, 3), slice(0, 4))}),
            TwirledSliceSpanV2(START, STOP, {1: ((2, 3), False, slice(0, 3), slice(0, 4), 7)}),
        ]
    )
    bits = BitArray(np.arange(48, dtype=np.uint8).reshape(2, 3, 4, 2), 13)
    sampled = SamplerPubResult(
        DataBin(left=bits, c_2=bits[0], shape=()), {"circuit_metadata": {1: ("a", None)}}
    )
    estimated = PubResult(
        DataBin(evs=np.array([0.5, -1.0]), stds=np.array([0.1, 0.2]), shape=(2,)),
        {"target_precision": 0.015625},
    )
    mitigated = client_results.EstimatorPubResult(
        DataBin(evs=np.float64(0.25)), {"observable": SparsePauliOp(PauliList(["ZZ"]), [1.5])}
    )
    chunk = client_results.ChunkSpan(START, STOP, [client_results.ChunkPart(0, 10)])
    executor = {
        "metadata": client_results.Metadata([chunk]),
        "item": client_results.ItemMetadata(
            client_results.SchedulerTiming("a,b", 3),
            [client_results.StretchValues("s", 3, 1, [(0, 3)])],
        ),
    }
    metadata = {"execution": {"execution_spans": spans}, "executor": executor, "version": 2}
    return {
        "primitive": "sampler",
        "backend_name": "golden",
        "job_id": "g1",
        "shots": 4,
        "result": PrimitiveResult([sampled, estimated, mitigated], metadata),
        "metadata": {"tags": ["x"], "seconds": 1.5},
        "input_digest": "qiskit-sampler-input-" + 64 * "0",
        "job_reference": {"job_id": "g1", "schema_version": 1},
    }


def store_over(folder: Path) -> ResultStore:
    return ResultStore(
        result_storage=LocalFileSystem(basepath=str(folder)),
        serializer=PrimitiveResultSerializer(),
    )


def write_missing() -> None:
    if not ARCHIVE.exists():
        save_result(ARCHIVE, golden_output())
    if not RECORD.exists():
        asyncio.run(awrite_result_record(store_over(GOLDEN), RECORD.name, golden_output()))
        # The storage key is the path on the machine that wrote it.
        text = RECORD.read_text().replace(str(RECORD), RECORD.name)
        RECORD.write_text(text)


def assert_golden(output: object) -> None:
    # Encoding tells types, bits and orders apart, so equal bytes are equal values.
    assert (
        encode_container(output, codec="none").to_bytes()
        == encode_container(golden_output(), codec="none").to_bytes()
    )


def test_a_golden_archive_is_loaded():
    assert_golden(load_result(ARCHIVE))
    assert describe_result(ARCHIVE)["qcsc-prefect-core"] == "0.4.0"


async def test_a_golden_record_is_read(tmp_path):
    shutil.copy(RECORD, tmp_path)
    assert_golden((await aread_result_record(store_over(tmp_path), RECORD.name)).output)
    assert_golden((await store_over(tmp_path).aread(RECORD.name)).result)


if __name__ == "__main__":
    write_missing()
