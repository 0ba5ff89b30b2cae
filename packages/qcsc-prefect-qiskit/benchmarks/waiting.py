"""Print what submitting and fetching many jobs costs, beside bare client code and Prefect alone.

Run it with ``uv run python packages/qcsc-prefect-qiskit/benchmarks/waiting.py``; it takes about ten
minutes, and ends with code 1 where a number is not what it must be. All sides run in alternation
in this process, with the real client against the emulated service in another one, which answers
0.05 s late and runs each job for two seconds. The bare code is what a user writes without Prefect:
one service object and a thread for each job. Prefect alone is a flow of as many tasks, which do
nothing but wait for as long as a job runs.

Seconds and CPU are the least of the repetitions, since the machine may be busy; requests are the
most. The stall of the event loop is the least of the repetitions' longest ones, for the same
reason. It depends on what the garbage collector has to look at, which is the same for all sides.
Small numbers are measured with the client's classic primitives, which the tasks use by default, and
with its client-side ones, which send a request more for each job.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

# Before Prefect is imported: it reads them then.
os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"

from prefect import flow, task
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from qiskit import QuantumCircuit
from qiskit_ibm_runtime import SamplerV2
from qiskit_ibm_runtime.executor_sampler import Sampler
from silent_server import prefect_server

from qcsc_prefect.core.engine import waiting
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
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

SHOTS = 100
LATENCY = 0.05
RUNNING_SECONDS = 2.0
#: How often the seconds of bare code may be taken, for so many jobs at once.
FEW = 20
MOST_OF_BARE_SECONDS = {20: 1.3, 200: 1.5, 500: 1.5}
#: So many jobs end together, and are to be noticed.
TOGETHER = 2000
NOTICED_WITHIN = 60.0
NOTICED_IN_REQUESTS = 25
#: Seconds of CPU for a job, beyond those of bare code and of Prefect alone.
MOST_CPU = 0.005
#: Seconds that the event loop may stand still beyond what Prefect alone lets it.
MOST_STALL = 0.1
#: The wait is watched from so many seconds after the last submission on ...
SETTLING_SECONDS = 30.0
#: ... for so many.
WATCHED_SECONDS = 60.0

_numbers = itertools.count()


@dataclass
class Measured:
    """What several repetitions cost; requests and CPU are of one job."""

    requests: float = 0.0
    seconds: float = float("inf")
    cpu: float = float("inf")
    stall: float = float("inf")

    def take(self, requests: float, seconds: float, cpu: float, stall: float) -> None:
        self.requests = max(self.requests, requests)
        self.seconds = min(self.seconds, seconds)
        self.cpu = min(self.cpu, cpu)
        self.stall = min(self.stall, stall)


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
        await asyncio.sleep(0.01)  # the last stall may have ended just now
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
    bare: float | None
    prefect: float | None
    tasks: float
    limit: float | None = None

    @property
    def is_missed(self) -> bool:
        return self.limit is not None and self.tasks > self.limit

    def __str__(self) -> str:
        floors = ("" if floor is None else f"{floor:.3f}" for floor in (self.bare, self.prefect))
        limit = "" if self.limit is None else f"<= {self.limit:.3f}"
        missed = " MISSED" if self.is_missed else ""
        columns = " ".join(f"{column:>9}" for column in (*floors, f"{self.tasks:.3f}"))
        return f"{self.title:58} {columns} {limit:>11}{missed}"


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
        job = sampler_class(mode=backend).run([circuit], shots=SHOTS)
        while True:
            try:
                return job.result()
            except SystemError:
                # Of threads that decode at the same moment some fail in CPython 3.11, by its issue
                # gh-106905; with hundreds of them one does nearly always.
                continue

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


@task
async def first_of_two() -> None:
    """Do nothing, where a job would be submitted."""


@task
async def second_of_two() -> None:
    """Do nothing for as long as a job runs, where it would be fetched."""
    await asyncio.sleep(RUNNING_SECONDS)


@flow
async def run_empty(
    config: QiskitRuntimeConfig,  # noqa: ARG001
    circuits: list[QuantumCircuit],
) -> tuple[float, LoopWatch]:
    """Run as many tasks as there would be for these circuits, which only wait."""

    async def one() -> None:
        await first_of_two()
        await second_of_two()

    async with LoopWatch() as watch:
        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in circuits))
        seconds = time.perf_counter() - started
    return seconds, watch


@flow
async def run_tasks(
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
    emulator: RemoteEmulator, config: QiskitRuntimeConfig, jobs: int, repetitions: int
) -> list[Measured]:
    """Run jobs at once, repeatedly: bare, Prefect alone, and with the tasks."""
    measured = [Measured(), Measured(), Measured()]
    for _ in range(repetitions):
        for run, found in zip(
            (run_bare_beside_a_loop, run_empty, run_tasks), measured, strict=True
        ):
            get_service_pool().clear()
            emulator.clear_requests()
            circuits = [new_circuit() for _ in range(jobs)]
            gc.collect()
            began = time.process_time()
            seconds, watch = asyncio.run(run(config, circuits))
            cpu = (time.process_time() - began) / jobs
            found.take(emulator.count() / jobs, seconds, cpu, watch.stall)
    return measured


def rows_of(
    emulator: RemoteEmulator, config: QiskitRuntimeConfig, jobs: int, repetitions: int
) -> Iterator[Row]:
    """Measure so many jobs at once."""
    bare, empty, ours = measure(emulator, config, jobs, repetitions)
    title = f"{jobs} at once, {TITLES[config.primitives]}"
    most = MOST_OF_BARE_SECONDS[jobs] * bare.seconds
    yield Row(f"{title}: seconds", bare.seconds, empty.seconds, ours.seconds, most)
    yield Row(f"{title}: requests a job", bare.requests, None, ours.requests, bare.requests)
    most = bare.cpu + empty.cpu + MOST_CPU
    yield Row(f"{title}: seconds of CPU a job", bare.cpu, empty.cpu, ours.cpu, most)
    most = empty.stall + MOST_STALL
    yield Row(f"{title}: longest stall", bare.stall, empty.stall, ours.stall, most)


@flow
async def wait_for_many(config: QiskitRuntimeConfig, watch: Callable[[], object]) -> None:
    """Let jobs wait, and fetch them when they have ended."""

    async def one(circuit: QuantumCircuit) -> object:
        reference = await submit_sampler_job_task(
            [circuit], shots=SHOTS, runtime_config=config, cache_submit=True
        )
        return await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)

    tasks = [asyncio.create_task(one(new_circuit())) for _ in range(TOGETHER)]
    await asyncio.to_thread(watch)
    await asyncio.gather(*tasks)


def rows_of_waiting(emulator: RemoteEmulator, config: QiskitRuntimeConfig) -> Iterator[Row]:
    """Let jobs end together, and see when the last is noticed, and in how many requests."""
    waited: list[float] = []

    def watch() -> None:
        while emulator.count("submit") < TOGETHER:
            time.sleep(0.5)
        time.sleep(SETTLING_SECONDS)
        emulator.clear_requests()
        time.sleep(WATCHED_SECONDS)
        waited.append(emulator.count() / WATCHED_SECONDS)
        emulator.clear_requests()
        emulator.release_jobs()
        began = time.perf_counter()
        # Nothing outside tells when a job was noticed, but not yet fetched.
        while any(watcher._waited_for for watcher in waiting._watchers.values()):  # noqa: SLF001
            time.sleep(0.1)
        waited.append(time.perf_counter() - began)
        waited.append(emulator.count("search") + emulator.count("job"))

    emulator.set_schedule(queued_seconds=float("inf"))
    emulator.clear_requests()
    asyncio.run(wait_for_many(config, watch))
    rate, seconds, requests = waited
    yield Row(f"{TOGETHER} wait: requests a second", 2.0 * TOGETHER, None, rate, 5.0)
    title = f"{TOGETHER} end together: "
    yield Row(f"{title}seconds until the last is noticed", None, None, seconds, NOTICED_WITHIN)
    yield Row(f"{title}requests for that", None, None, requests, NOTICED_IN_REQUESTS)


def silence() -> None:
    """Keep what the bare code provokes off the screen: it is known, and not what is measured."""
    warnings.simplefilter("ignore")
    # More threads than the client keeps connections.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("qiskit_ibm_runtime").setLevel(logging.ERROR)


def all_rows(
    emulator: RemoteEmulator,
    classic: QiskitRuntimeConfig,
    client_side: QiskitRuntimeConfig,
    options: argparse.Namespace,
) -> Iterator[Row]:
    """Measure each number of jobs that is asked for."""
    for jobs in options.jobs:
        if jobs == TOGETHER:
            yield from rows_of_waiting(emulator, classic)
            continue
        for config in (classic, client_side) if jobs <= FEW else (classic,):
            yield from rows_of(emulator, config, jobs, options.repetitions)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, nargs="*", default=[*MOST_OF_BARE_SECONDS, TOGETHER])
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    silence()
    command = [sys.executable, "-W", "ignore", "-m", "qcsc_prefect.integrations.qiskit.testing"]
    server = subprocess.Popen(
        [*command, "--json", "--running", str(RUNNING_SECONDS)], stdout=subprocess.PIPE, text=True
    )
    missed = False
    try:
        assert server.stdout is not None
        described = json.loads(server.stdout.readline())
        os.environ.update(described["environment"])
        emulator = RemoteEmulator(described["root_url"])
        emulator.faults.delay(LATENCY)
        classic, client_side = (
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
            for config in (classic, client_side):
                measure(emulator, config, 3, 1)  # what is loaded at first use is loaded
            print(f"{'':58} {'bare':>9} {'Prefect':>9} {'tasks':>9} {'must be':>11}")
            for row in all_rows(emulator, classic, client_side, options):
                print(row, flush=True)
                missed = missed or row.is_missed
    finally:
        server.terminate()
        server.wait(30)
    sys.exit(missed)


if __name__ == "__main__":
    main()
