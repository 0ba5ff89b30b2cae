"""Print what storing and reading a result costs, beside Prefect's own serializers.

Run it with ``uv run python packages/qcsc-prefect-qiskit/benchmarks/result_storage.py``. It takes
about two minutes, nearly all of them in ``compressed/pickle``; ``--quick`` leaves that out, and
``--slow`` also lets it store 100 MB.

Everything is written to and read from a result store on the local disk in a temporary folder, in
one process, alternating; each number is the best of its repetitions. A coroutine that wakes up
every millisecond measures the longest time for which the event loop stood still.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("PREFECT_HOME", tempfile.mkdtemp(prefix="qcsc-bench-"))
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")

import numpy as np
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore
from prefect.serializers import Serializer
from qiskit.primitives import BitArray, DataBin, PrimitiveResult, SamplerPubResult

from qcsc_prefect.core.container.archive import load_result, save_result
from qcsc_prefect.integrations.qiskit.results import aread_result_record, awrite_result_record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_BITS = 127
_BYTES_PER_SHOT = 16


@dataclass
class Measured:
    """The best of several repetitions of one action."""

    seconds: float = float("inf")
    stall: float = float("inf")


def random_bits(shots: int) -> np.ndarray:
    """Outcomes with no order in them at all, as from a deep random circuit."""
    bits = np.random.default_rng(7).integers(0, 256, (shots, _BYTES_PER_SHOT), dtype=np.uint8)
    bits[:, 0] &= 0x7F
    return bits


def few_outcomes(shots: int, outcomes: int = 1000) -> np.ndarray:
    """A thousand different outcomes, drawn with unequal probabilities."""
    rng = np.random.default_rng(7)
    probabilities = rng.dirichlet(np.ones(outcomes))
    return random_bits(outcomes)[rng.choice(outcomes, shots, p=probabilities)]


def fetch_output(bits: np.ndarray) -> dict[str, object]:
    """The output of a fetch task that holds these outcomes."""
    data = DataBin(meas=BitArray(bits, _BITS))
    pub_result = SamplerPubResult(data, metadata={"circuit_metadata": {"depth": 60}})
    return {
        "primitive": "sampler",
        "backend_name": "bench",
        "job_id": "bench-1",
        "shots": len(bits),
        "result": PrimitiveResult([pub_result], metadata={"version": 2}),
        "metadata": {"status": "DONE", "tags": ["bench"]},
    }


async def measured(action: Callable[[], Awaitable[object]], repetitions: int) -> Measured:
    """Time an action, and how long the event loop stood still meanwhile."""
    best = Measured()
    for _ in range(repetitions):
        longest = 0.0

        async def tick() -> None:
            nonlocal longest
            last = time.perf_counter()
            while True:
                await asyncio.sleep(0.001)
                now = time.perf_counter()
                longest = max(longest, now - last - 0.001)
                last = now

        ticker = asyncio.create_task(tick())
        await asyncio.sleep(0.01)
        start = time.perf_counter()
        await action()
        best.seconds = min(best.seconds, time.perf_counter() - start)
        await asyncio.sleep(0.01)
        ticker.cancel()
        best.stall = min(best.stall, longest)
    return best


def _store(folder: Path, serializer: str) -> ResultStore:
    return ResultStore(
        result_storage=LocalFileSystem(basepath=str(folder)),
        serializer=Serializer(type=serializer),
        cache_result_in_memory=False,
    )


async def _prefect_row(folder: Path, serializer: str, output: object, times: int) -> None:
    store = _store(folder, serializer)
    write = await measured(lambda: store.awrite(output, key="prefect"), times)
    size = (folder / "prefect").stat().st_size
    read = await measured(lambda: store.aread("prefect"), times)
    _print_row(f"{serializer}, by Prefect", write, read, size)


async def _own_row(folder: Path, output: object, times: int) -> None:
    store = _store(folder, "qcsc/primitive-result")
    write = await measured(lambda: awrite_result_record(store, "own", output), times)
    size = (folder / "own").stat().st_size
    read = await measured(lambda: aread_result_record(store, "own"), times)
    _print_row("qcsc/primitive-result, by our tasks", write, read, size)


async def _archive_row(folder: Path, output: dict[str, object], times: int) -> None:
    path = folder / "archive.qcsc"
    write = await measured(lambda: asyncio.to_thread(save_result, path, output), times)
    read = await measured(lambda: asyncio.to_thread(load_result, path), times)
    _print_row("archive (zlib, synced to disk)", write, read, path.stat().st_size)


def _print_row(name: str, write: Measured, read: Measured, size: int) -> None:
    stall = max(write.stall, read.stall)
    print(
        f"| {name:<37} | {write.seconds:8.3f} s | {read.seconds:8.3f} s "
        f"| {size / 1e6:6.1f} MB | {stall * 1000:7.0f} ms |",
        flush=True,
    )


async def _print_table(title: str, bits: np.ndarray, *, compressed_pickle: bool) -> None:
    print(f"\n{title}\n")
    print(f"| {'':<37} | {'write':>10} | {'read':>10} | {'size':>9} | {'stall':>10} |")
    print(f"|{'-' * 39}|{'-' * 12}|{'-' * 12}|{'-' * 11}|{'-' * 12}|")
    output = fetch_output(bits)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await _own_row(folder, output, 5)
        await _archive_row(folder, output, 3)
        await _prefect_row(folder, "qcsc/primitive-result", output, 3)
        await _prefect_row(folder, "pickle", output, 3)
        if compressed_pickle:
            await _prefect_row(folder, "compressed/pickle", output, 1)


async def _main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark of storing results.")
    parser.add_argument("--quick", action="store_true", help="leave compressed/pickle out")
    parser.add_argument("--slow", action="store_true", help="compressed/pickle for 100 MB as well")
    arguments = parser.parse_args()
    with_pickle = not arguments.quick
    await _print_table(
        "16 MB, random bits (10^6 shots of 127 bits)",
        random_bits(10**6),
        compressed_pickle=with_pickle,
    )
    await _print_table(
        "16 MB, few outcomes (10^6 shots of 127 bits, 1000 outcomes)",
        few_outcomes(10**6),
        compressed_pickle=with_pickle,
    )
    await _print_table(
        "100 MB, random bits (6.25 x 10^6 shots of 127 bits)",
        random_bits(6_250_000),
        compressed_pickle=arguments.slow,
    )


if __name__ == "__main__":
    asyncio.run(_main())
