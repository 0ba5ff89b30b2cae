"""Print what submitting and fetching many jobs costs, beside bare client code.

Run it with ``uv run python packages/qcsc-prefect-qiskit/benchmarks/waiting.py``; it takes about
five minutes, and ends with code 1 where a number is not what it must be. Both sides run the real
client against the emulated service in another process, in alternation, with jobs of one second.
The bare code is what a user writes without Prefect: one service object and a thread for each job.

Seconds are the least of the repetitions, since the machine may be busy; requests are the most, and
the stall is the longest of all. Python's garbage collector stops every thread for a while that
depends on all that was imported, 0.2 to 0.3 s, so the stall is told with it, and in a program that
calls ``gc.freeze()`` after its imports, as the documentation advises. Each is measured with the
client's classic primitives, which the tasks use by default, and with its client-side ones, which
send a request more for each job.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

# Before Prefect is imported: it reads them then.
os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"

from prefect import flow
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from qiskit import QuantumCircuit
from qiskit_ibm_runtime import SamplerV2
from qiskit_ibm_runtime.executor_sampler import Sampler
from silent_server import prefect_server

from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.runtime.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.testing import RemoteEmulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Primitives = Literal["classic", "client_side"]
#: What the bare code uses where the tasks' configuration says ``primitives=...``.
BARE_SAMPLERS: dict[Primitives, type] = {"classic": SamplerV2, "client_side": Sampler}
TITLES: dict[Primitives, str] = {
    "classic": "classic primitives",
    "client_side": "client-side primitives",
}

JOBS = 20
WAITING_JOBS = 200
#: The bare client asks twice a second for each job; a quarter of the jobs is enough to see that.
BARE_WAITING_JOBS = 50
#: The wait is watched from the last submission on, first for so many seconds ...
SETTLING_SECONDS = 3.0
#: ... in which the last of them are still looked for once more, and then for so many.
WATCHED_SECONDS = 20.0
MOST_REQUESTS = 8.0
LONGEST_STALL = 0.2
SHOTS = 100
LATENCY = 0.1

_numbers = itertools.count()


@dataclass
class Measured:
    """What several repetitions cost."""

    requests: float = 0.0
    seconds: float = float("inf")
    stall: float = 0.0

    def take(self, requests: float, seconds: float, watch: LoopWatch) -> None:
        self.requests = max(self.requests, requests)
        self.seconds = min(self.seconds, seconds)
        self.stall = max(self.stall, watch.stall)


class LoopWatch:
    """Watches the event loop it is entered on.

    Attributes:
        stall: The longest time for which the loop did nothing that was due, in seconds.
    """

    def __init__(self) -> None:
        self.stall = 0.0

    async def __aenter__(self) -> LoopWatch:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.stall = max(self.stall, time.perf_counter() - before - 0.001)


@dataclass(frozen=True)
class Row:
    """One line of the table; a number of the tasks may have a limit."""

    title: str
    bare: float
    tasks: float
    limit: float | None = None

    @property
    def is_missed(self) -> bool:
        return self.limit is not None and self.tasks > self.limit

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"<= {self.limit:.2f}"
        missed = " MISSED" if self.is_missed else ""
        return f"{self.title:84} {self.bare:8.2f} {self.tasks:8.2f} {limit:>9}{missed}"


def new_circuit() -> QuantumCircuit:
    """A circuit that was never run before."""
    circuit = QuantumCircuit(2)
    circuit.rz(next(_numbers), 0)
    circuit.sx(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def run_bare(config: QiskitRuntimeConfig, circuits: list[QuantumCircuit]) -> float:
    """Run jobs with bare client code and return the seconds it took."""
    sampler_class = BARE_SAMPLERS[config.primitives]
    started = time.perf_counter()
    service = config.get_service()
    backend = service.backend(config.backend_name)
    _ = backend.target

    def one(circuit: QuantumCircuit) -> object:
        return sampler_class(mode=backend).run([circuit], shots=SHOTS).result()

    with ThreadPoolExecutor(len(circuits)) as threads:
        results = list(threads.map(one, circuits))
    assert len(results) == len(circuits)
    return time.perf_counter() - started


async def run_bare_beside_a_loop(
    config: QiskitRuntimeConfig, circuits: list[QuantumCircuit]
) -> tuple[float, LoopWatch]:
    """Run jobs with bare client code, beside an event loop that has nothing to do."""
    async with LoopWatch() as watch:
        seconds = await asyncio.to_thread(run_bare, config, circuits)
    return seconds, watch


@flow
async def many(
    config: QiskitRuntimeConfig, circuits: list[QuantumCircuit]
) -> tuple[float, LoopWatch]:
    """Run jobs with both caches on; return the seconds it took."""

    async def one(circuit: QuantumCircuit) -> object:
        reference = await submit_sampler_job_task(
            [circuit], shots=SHOTS, runtime_config=config, cache_submit=True
        )
        return await fetch_qiskit_job_result_task(
            job_reference=reference, runtime_config=config, cache_result=True
        )

    async with LoopWatch() as watch:
        started = time.perf_counter()
        await asyncio.gather(*(one(circuit) for circuit in circuits))
        seconds = time.perf_counter() - started
    return seconds, watch


def measure(
    emulator: RemoteEmulator, config: QiskitRuntimeConfig, repetitions: int, delay: float
) -> tuple[Measured, Measured]:
    """Run 20 jobs at once, repeatedly, with bare client code and with the tasks."""
    measured = Measured(), Measured()
    emulator.faults.clear()
    if delay:
        emulator.faults.delay(delay)
    for _ in range(repetitions):
        for run, found in zip((run_bare_beside_a_loop, many), measured, strict=True):
            get_service_pool().clear()
            emulator.clear_requests()
            seconds, watch = asyncio.run(run(config, [new_circuit() for _ in range(JOBS)]))
            found.take(emulator.count() / JOBS, seconds, watch)
    emulator.faults.clear()
    return measured


@contextmanager
def imports_frozen() -> Iterator[None]:
    """Let the garbage collector pass over what there is now, which is nearly all there will be."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def rows_of_many(
    emulator: RemoteEmulator, config: QiskitRuntimeConfig, repetitions: int
) -> Iterator[Row]:
    """Measure 20 jobs at once with the primitives of a configuration."""
    title = TITLES[config.primitives]
    slowly = f"every request delayed by {LATENCY} s"
    measure(emulator, config, 1, 0.0)  # what is loaded at first use is loaded
    bare, ours = measure(emulator, config, repetitions, 0.0)
    yield Row(
        f"{title}: requests a job, 20 at once, both caches",
        bare.requests,
        ours.requests,
        MOST_REQUESTS,
    )
    yield Row(f"{title}: seconds, 20 jobs at once", bare.seconds, ours.seconds)
    yield Row(f"{title}: longest stall, seconds", bare.stall, ours.stall)
    bare, ours = measure(emulator, config, repetitions, LATENCY)
    title = f"{title}, {slowly}"
    yield Row(f"{title}: seconds", bare.seconds, ours.seconds, 1.5 * bare.seconds)
    yield Row(f"{title}: longest stall, seconds", bare.stall, ours.stall)
    with imports_frozen():
        bare, ours = measure(emulator, config, repetitions, LATENCY)
    yield Row(f"{title}: the same with gc.freeze()", bare.stall, ours.stall, LONGEST_STALL)


@flow
async def wait_for_many(config: QiskitRuntimeConfig, watch: Callable[[], object]) -> None:
    """Let 200 jobs wait, watch the requests, then let them end."""

    async def one(circuit: QuantumCircuit) -> object:
        reference = await submit_sampler_job_task(
            [circuit], shots=SHOTS, runtime_config=config, cache_submit=True
        )
        return await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)

    tasks = [asyncio.create_task(one(new_circuit())) for _ in range(WAITING_JOBS)]
    await asyncio.to_thread(watch)
    await asyncio.gather(*tasks)


def rows_of_waiting(emulator: RemoteEmulator, config: QiskitRuntimeConfig) -> Iterator[Row]:
    """Count the requests while jobs wait in the queue: bare (scaled to 200 jobs), and ours."""

    def watch(jobs: int) -> list[float]:
        while emulator.count("submit") < jobs:
            time.sleep(0.05)
        rates = []
        for seconds in (SETTLING_SECONDS, WATCHED_SECONDS):
            emulator.clear_requests()
            time.sleep(seconds)
            rates.append(emulator.count() / seconds * WAITING_JOBS / jobs)
        emulator.release_jobs()
        return rates

    emulator.set_schedule(queued_seconds=float("inf"))
    emulator.clear_requests()
    with ThreadPoolExecutor(1) as threads:
        circuits = [new_circuit() for _ in range(BARE_WAITING_JOBS)]
        running = threads.submit(run_bare, config, circuits)
        bare = watch(BARE_WAITING_JOBS)
        running.result()
    ours: list[float] = []
    emulator.clear_requests()
    asyncio.run(wait_for_many(config, lambda: ours.extend(watch(WAITING_JOBS))))
    first, until = SETTLING_SECONDS, SETTLING_SECONDS + WATCHED_SECONDS
    title = "requests a second, 200 jobs wait"
    yield Row(f"{title}: {first:g} to {until:g} s after the last submission", bare[1], ours[1], 5)
    yield Row(f"{title}: in the {first:g} s after it", bare[0], ours[0])


def silence() -> None:
    """Keep what the bare code provokes off the screen: it is known, and not what is measured."""
    warnings.simplefilter("ignore")
    # More threads than the client keeps connections.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("qiskit_ibm_runtime").setLevel(logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=4)
    parser.add_argument("--no-waiting", action="store_true", help="leave the 200 jobs out")
    options = parser.parse_args()
    silence()
    command = [sys.executable, "-W", "ignore", "-m", "qcsc_prefect.integrations.qiskit.testing"]
    server = subprocess.Popen(
        [*command, "--json", "--running", "1"], stdout=subprocess.PIPE, text=True
    )
    rows: list[Row] = []
    try:
        assert server.stdout is not None
        described = json.loads(server.stdout.readline())
        os.environ.update(described["environment"])
        emulator = RemoteEmulator(described["root_url"])
        classic, default = (
            QiskitRuntimeConfig(
                channel="ibm_quantum_platform",
                token=described["token"],
                url=described["url"],
                instance=described["instance"],
                backend_name="fake_manila",
                primitives=primitives,
            )
            for primitives in TITLES
        )
        with (
            tempfile.TemporaryDirectory(prefix="qcsc-bench-", ignore_cleanup_errors=True) as home,
            prefect_server(Path(home)) as api_url,
            temporary_settings({PREFECT_API_URL: api_url, PREFECT_HOME: Path(home)}),
        ):
            for config in (classic, default):
                rows += rows_of_many(emulator, config, options.repetitions)
            if not options.no_waiting:
                rows += rows_of_waiting(emulator, default)
    finally:
        server.terminate()
        server.wait(30)
    print(f"{'':84} {'bare':>8} {'tasks':>8} {'must be':>9}")
    for row in rows:
        print(row)
    sys.exit(any(row.is_missed for row in rows))


if __name__ == "__main__":
    main()
