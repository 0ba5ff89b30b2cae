"""Print what submitting and fetching many jobs costs, beside bare client code.

Run it with ``uv run python packages/qcsc-prefect-qiskit/benchmarks/waiting.py``; it takes about
three minutes. Both run the real client against the emulated service in another process, in
alternation, with jobs of one second; each number is the best of its repetitions. The bare code is
what a user writes without Prefect: one service object and a thread for each job.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="qcsc-bench-")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from prefect import flow
from prefect.testing.utilities import prefect_test_harness
from qiskit import QuantumCircuit
from qiskit_ibm_runtime import SamplerV2

from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.runtime.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.testing import RemoteEmulator

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS = 20
WAITING_JOBS = 200
#: The bare client asks twice a second for each job; a quarter of the jobs is enough to see that.
BARE_WAITING_JOBS = 50
WATCHED_SECONDS = 20.0
SHOTS = 100

_numbers = itertools.count()


@dataclass
class Measured:
    """The best of several repetitions."""

    requests: float = float("inf")
    seconds: float = float("inf")
    stall: float = float("inf")

    def take(self, requests: float, seconds: float, stall: float) -> None:
        self.requests = min(self.requests, requests)
        self.seconds = min(self.seconds, seconds)
        self.stall = min(self.stall, stall)


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
    started = time.perf_counter()
    service = config.get_service()
    backend = service.backend(config.backend_name)
    _ = backend.target

    def one(circuit: QuantumCircuit) -> object:
        return SamplerV2(mode=backend).run([circuit], shots=SHOTS).result()

    with ThreadPoolExecutor(len(circuits)) as threads:
        results = list(threads.map(one, circuits))
    assert len(results) == len(circuits)
    return time.perf_counter() - started


@flow
async def many(config: QiskitRuntimeConfig, circuits: list[QuantumCircuit]) -> tuple[float, float]:
    """Run jobs with both caches on; return the seconds it took, and the loop's longest stall."""

    async def one(circuit: QuantumCircuit) -> object:
        reference = await submit_sampler_job_task(
            [circuit], shots=SHOTS, runtime_config=config, cache_submit=True
        )
        return await fetch_qiskit_job_result_task(
            job_reference=reference, runtime_config=config, cache_result=True
        )

    stall = 0.0

    async def watch() -> None:
        nonlocal stall
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            stall = max(stall, time.perf_counter() - before - 0.001)

    watching = asyncio.create_task(watch())
    started = time.perf_counter()
    await asyncio.gather(*(one(circuit) for circuit in circuits))
    seconds = time.perf_counter() - started
    watching.cancel()
    return seconds, stall


def measure(
    emulator: RemoteEmulator, config: QiskitRuntimeConfig, repetitions: int, delay: float
) -> tuple[Measured, Measured]:
    """Run 20 jobs at once, repeatedly, with bare client code and with the tasks."""
    bare, ours = Measured(), Measured()
    emulator.faults.clear()
    if delay:
        emulator.faults.delay(delay)
    for _ in range(repetitions):
        emulator.clear_requests()
        seconds = run_bare(config, [new_circuit() for _ in range(JOBS)])
        bare.take(emulator.count() / JOBS, seconds, 0.0)
        get_service_pool().clear()
        emulator.clear_requests()
        seconds, stall = asyncio.run(many(config, [new_circuit() for _ in range(JOBS)]))
        ours.take(emulator.count() / JOBS, seconds, stall)
    emulator.faults.clear()
    return bare, ours


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


def requests_while_waiting(emulator: RemoteEmulator, config: QiskitRuntimeConfig) -> list[float]:
    """Requests a second while jobs wait in the queue: bare (scaled to 200 jobs), and ours."""

    def watch(jobs: int) -> float:
        while emulator.count("submit") < jobs:
            time.sleep(0.2)
        time.sleep(3)
        emulator.clear_requests()
        time.sleep(WATCHED_SECONDS)
        found = emulator.count() / WATCHED_SECONDS
        emulator.release_jobs()
        return found

    emulator.set_schedule(queued_seconds=float("inf"))
    emulator.clear_requests()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(
            run_bare, config, [new_circuit() for _ in range(BARE_WAITING_JOBS)]
        )
        bare = watch(BARE_WAITING_JOBS) * WAITING_JOBS / BARE_WAITING_JOBS
        running.result()
    found: list[float] = []
    emulator.clear_requests()
    asyncio.run(wait_for_many(config, lambda: found.append(watch(WAITING_JOBS))))
    return [bare, found[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=4)
    parser.add_argument("--no-waiting", action="store_true", help="leave the 200 jobs out")
    options = parser.parse_args()
    logging.captureWarnings(capture=True)
    command = [sys.executable, "-m", "qcsc_prefect.integrations.qiskit.testing", "--json"]
    server = subprocess.Popen([*command, "--running", "1"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        described = json.loads(server.stdout.readline())
        os.environ.update(described["environment"])
        emulator = RemoteEmulator(described["root_url"])
        config = QiskitRuntimeConfig(
            channel="ibm_quantum_platform",
            token=described["token"],
            url=described["url"],
            instance=described["instance"],
            backend_name="fake_manila",
            primitives="classic",  # as the bare client's; the client-side ones send one more each
        )
        with prefect_test_harness(server_startup_timeout=120):
            measure(emulator, config, 1, 0.0)  # what is loaded at first use is loaded
            bare, ours = measure(emulator, config, options.repetitions, 0.0)
            slow_bare, slow = measure(emulator, config, options.repetitions, 0.1)
            waiting = None if options.no_waiting else requests_while_waiting(emulator, config)
    finally:
        server.terminate()
        server.wait(30)
    print(f"\n{'figure':58} {'bare':>9} {'tasks':>9} {'must be':>10}")
    print(
        f"{'requests a job, 20 jobs at once, both caches on':58} "
        f"{bare.requests:9.2f} {ours.requests:9.2f} {'<= 8':>10}"
    )
    print(f"{'seconds, 20 jobs at once':58} {bare.seconds:9.2f} {ours.seconds:9.2f}")
    print(
        f"{'seconds, 20 jobs, every request delayed by 0.1 s':58} "
        f"{slow_bare.seconds:9.2f} {slow.seconds:9.2f} {f'<= {1.5 * slow_bare.seconds:.2f}':>10}"
    )
    print(
        f"{'longest stall of the event loop in that run, seconds':58} "
        f"{'':9} {slow.stall:9.3f} {'<= 0.2':>10}"
    )
    if waiting is not None:
        print(
            f"{'requests a second while 200 jobs wait':58} "
            f"{waiting[0]:9.1f} {waiting[1]:9.1f} {'<= 5':>10}"
        )


if __name__ == "__main__":
    main()
