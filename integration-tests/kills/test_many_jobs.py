"""Many jobs of one process: faults among them end none, and nothing of them is left behind.

The service is a process of its own, so that what it keeps of the jobs is not counted.
``QCSC_PREFECT_ALL_FAULTS=1`` runs as many jobs as the memory of a process can be judged by.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import logging
import os
import random
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect import flow
from prefect.events.clients import NullEventsClient
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_HOME,
    PREFECT_LOCAL_STORAGE_PATH,
    temporary_settings,
)

from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.testing import Endpoint, RemoteEmulator

from ..machines import emulated_service
from .fault_cases import FAULTS
from .processes import PrefectServer
from .program import DELAY
from .test_faults import ALL
from .worker import SHOTS, circuit_of

IN_A_FLOW = 25
FLOWS = 60 if ALL else 3
#: Flows after which a process has loaded and learned what it keeps.
FIRST_FLOWS = 8
UNFETCHED_FLOWS = 200
_ENDPOINTS = (
    Endpoint.TOKEN,
    Endpoint.BACKENDS,
    Endpoint.CONFIGURATION,
    Endpoint.PROPERTIES,
    Endpoint.USAGE,
    Endpoint.STATUS,
    Endpoint.SEARCH,
    Endpoint.SUBMIT,
    Endpoint.RESULT,
    Endpoint.METRICS,
)
_PASSING = [name for name, fault in FAULTS.items() if fault.passes and name != "hangs"]
_numbers = itertools.count(40000)


class _Allocated(ctypes.Structure):
    """What glibc's ``mallinfo2`` tells, in bytes."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def _in_use() -> int:
    """Return how many bytes Python and the C code in this process hold.

    The resident size says less: it grows by megabytes as freed memory is spread over more pages.
    """
    with tempfile.TemporaryFile() as told:
        stderr = os.dup(2)
        os.dup2(told.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        told.seek(0)
        [of_python] = re.findall(rb"bytes in allocated blocks\s*=\s*([\d,]+)", told.read())
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Allocated
    of_c = mallinfo2()
    return int(of_python.replace(b",", b"")) + of_c.uordblks + of_c.hblkhd


@dataclass(frozen=True)
class _Kept:
    """What a process holds."""

    memory: int
    threads: int
    handles: int

    @classmethod
    async def now(cls) -> _Kept:
        """Look, after what can be freed has been.

        Prefect keeps the context of the run with each event that waits for its turn.
        """
        await asyncio.to_thread(EventsWorker.instance().wait_until_empty)
        for _ in range(3):
            gc.collect()
        memory = _in_use() if sys.platform == "linux" else 0
        return cls(memory, threading.active_count(), len(list(Path("/proc/self/fd").iterdir())))


@pytest.fixture
def emulated(
    prefect_server_process: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[RemoteEmulator, QiskitRuntimeConfig]]:
    settings = {
        PREFECT_API_URL: prefect_server_process.api_url,
        PREFECT_CLIENT_MAX_RETRIES: 8,
        PREFECT_HOME: tmp_path / "home",
        PREFECT_LOCAL_STORAGE_PATH: tmp_path / "home" / "storage",
    }
    with emulated_service() as emulator, temporary_settings(settings):
        account = emulator.description
        for name, value in account.environment.items():
            monkeypatch.setenv(name, value)
        get_service_pool().clear()
        # Prefect keeps up to 700 events that its server has not confirmed.
        EventsWorker.set_client_override(NullEventsClient)
        yield (
            emulator,
            QiskitRuntimeConfig(
                channel="ibm_quantum_platform",
                token=account.token,
                url=account.url,
                instance=account.instance,
                backend_name="fake_manila",
            ),
        )
        EventsWorker.set_client_override(None)
        get_service_pool().clear()


def keep_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pytest not keep what it captures of the log, with the errors in it and all they refer to.

    Called by the test itself: pytest begins to capture after its fixtures are set up.
    """
    monkeypatch.setattr(logging.root, "handlers", [])


async def submitted(config: QiskitRuntimeConfig, number: int) -> dict:
    return await submit_sampler_job_task(
        [circuit_of(number)],
        shots=SHOTS,
        runtime_config=config,
        cache_submit=True,
        visibility_delay=DELAY,
    )


async def fetched(config: QiskitRuntimeConfig, number: int) -> None:
    output = await fetch_qiskit_job_result_task(
        job_reference=await submitted(config, number), runtime_config=config, cache_result=True
    )
    counts = output["result"][0].data.meas.get_counts()
    assert counts == {f"{number & 31:05b}": SHOTS}, number


@flow
async def many(
    one: Callable[[QiskitRuntimeConfig, int], Coroutine], config: QiskitRuntimeConfig
) -> None:
    await asyncio.gather(*(one(config, next(_numbers)) for _ in range(IN_A_FLOW)))


async def test_a_fault_among_some_jobs_ends_none_of_them(
    emulated: tuple[RemoteEmulator, QiskitRuntimeConfig], monkeypatch: pytest.MonkeyPatch
):
    keep_no_log(monkeypatch)
    emulator, config = emulated
    faults = random.Random(7)
    struck = []
    for number in range(FLOWS):
        if number == min(FIRST_FLOWS, FLOWS - 1):
            before = await _Kept.now()
        endpoint, name = faults.choice(_ENDPOINTS), faults.choice(_PASSING)
        get_service_pool().clear()  # as a flow in a new process would begin
        emulator.faults.clear()
        emulator.clear_requests()
        FAULTS[name].inject(emulator.faults, endpoint, 1)
        await many(fetched, config)
        struck += [record.fault for record in emulator.requests if record.fault is not None]
    after = await _Kept.now()
    assert len(emulator.jobs) == FLOWS * IN_A_FLOW, "a lost answer must not cost a second job"
    assert len(struck) >= 0.9 * FLOWS
    if ALL:
        jobs = (FLOWS - FIRST_FLOWS) * IN_A_FLOW
        print(f"{(after.memory - before.memory) / jobs:.0f} bytes a job, {before}, {after}")
        assert after.memory - before.memory < 5_000 * jobs
        assert after.threads - before.threads < IN_A_FLOW
        assert after.handles - before.handles < IN_A_FLOW


@pytest.mark.skipif(not ALL, reason="it submits 5,000 jobs; QCSC_PREFECT_ALL_FAULTS=1 runs it")
async def test_jobs_that_nobody_fetches_leave_little_behind(
    emulated: tuple[RemoteEmulator, QiskitRuntimeConfig], monkeypatch: pytest.MonkeyPatch
):
    keep_no_log(monkeypatch)
    emulator, config = emulated
    emulator.set_schedule(queued_seconds=float("inf"))
    for number in range(FIRST_FLOWS + UNFETCHED_FLOWS):
        if number == FIRST_FLOWS:
            before = await _Kept.now()
        await many(submitted, config)
    after = await _Kept.now()
    print(f"{(after.memory - before.memory) / 1e6:.1f} MB, {before}, {after}")
    assert after.memory - before.memory < 10_000_000
