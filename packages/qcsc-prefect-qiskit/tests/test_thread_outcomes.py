"""Whatever a call in a thread raises reaches those who wait for it, on every bridge to a loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import sys
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, NoReturn

import pytest
from qiskit import QuantumCircuit
from qiskit.primitives.containers.sampler_pub import SamplerPub

from qcsc_prefect.core.engine.service import AwaitedJob, JobState
from qcsc_prefect.core.engine.waiting import WaitLimits, wait_for_job
from qcsc_prefect.core.errors import JobNotFoundError
from qcsc_prefect.core.threads import run_blocking
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.services.connections.client_threads import ClientThreads
from qcsc_prefect.integrations.qiskit.services.connections.made_once import MadeOnce, make_once
from qcsc_prefect.integrations.qiskit.services.ibm.instances import ConfiguredInstance
from qcsc_prefect.integrations.qiskit.services.ibm.runtime_service import RuntimeJobService
from qcsc_prefect.integrations.qiskit.services.local import runner
from qcsc_prefect.integrations.qiskit.services.local.backends import LocalBackends
from qcsc_prefect.integrations.qiskit.services.local.job_service import LocalJobService
from qcsc_prefect.integrations.qiskit.services.local.store import LocalJob, LocalJobStore


class PanicError(BaseException):
    """As the panics of Qiskit's Rust code: no ``Exception``."""


class RaisingConfig(QiskitRuntimeConfig):
    """A user's block that looks its account up, and stumbles."""

    _block_type_slug = "raising-config"
    _block_type_name = "Raising config"
    raised: ClassVar[BaseException]

    def get_service(self) -> NoReturn:
        raise self.raised


def fail(error: BaseException) -> NoReturn:
    raise error


async def with_client_threads(error: BaseException) -> None:
    await ClientThreads().call(fail, error)


async def with_made_once(error: BaseException) -> None:
    product: MadeOnce[None] = MadeOnce()
    make_once(product, lambda: fail(error), lambda: None)
    await product.wait(30)


async def with_the_pollers(error: BaseException) -> None:
    RaisingConfig.raised = error
    service = RuntimeJobService(ConfiguredInstance("crn:v1:x", RaisingConfig()))
    await wait_for_job(service, AwaitedJob("job"), WaitLimits(), lambda *_: None)


@pytest.mark.parametrize(
    "bridge",
    [
        lambda error: run_blocking(fail, error),
        with_client_threads,
        with_made_once,
        with_the_pollers,
    ],
    ids=["run_blocking", "client_threads", "made_once", "pollers"],
)
@pytest.mark.parametrize(
    "error",
    [
        LookupError("x"),
        StopIteration("x"),
        StopAsyncIteration("x"),
        GeneratorExit("x"),
        KeyboardInterrupt("x"),
        SystemExit("x"),
        PanicError("x"),
        asyncio.CancelledError("x"),
        concurrent.futures.CancelledError("x"),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
async def test_whatever_is_raised_comes_across(
    bridge: Callable[[BaseException], Coroutine[Any, Any, None]],
    error: BaseException,
    tmp_path: Path,
):
    came: BaseException | None = None
    try:
        async with asyncio.timeout(20):
            await bridge(error)
    except BaseException as raised:  # noqa: BLE001 - compared below
        came = raised
    if isinstance(
        error, StopIteration | asyncio.CancelledError | concurrent.futures.CancelledError
    ):
        assert isinstance(came, RuntimeError)
        assert came.__cause__ is error
    else:
        assert came is error
    # Those who wait for other jobs go on.
    elsewhere = LocalJobService(LocalJobStore(tmp_path))
    with pytest.raises(JobNotFoundError):
        await asyncio.wait_for(
            wait_for_job(elsewhere, AwaitedJob("local-0"), WaitLimits(), lambda *_: None), 20
        )


async def test_a_local_job_that_panics_has_failed_and_is_not_run_for_ever(tmp_path: Path):
    store = LocalJobStore(tmp_path)
    circuit = QuantumCircuit(1)
    circuit.measure_all()
    job = LocalJob(
        job_id=store.new_job_id(),
        primitive="sampler",
        backend_name="fake_manila",
        created=datetime.now(UTC),
    )
    store.create(job, runner.encode_inputs([SamplerPub.coerce(circuit)]))
    backends = LocalBackends()
    service = LocalJobService(store, backends)
    with backends._lock:
        await service.status(job.job_id)
        while not (running := threads_in(LocalBackends.backend)):
            await asyncio.sleep(0.01)
        raise_in(running[0], PanicError)
    status = await asyncio.wait_for(
        wait_for_job(service, AwaitedJob(job.job_id), WaitLimits(), lambda *_: None), 30
    )
    assert (status.state, status.message) == (JobState.ERROR, "PanicError: ")


def threads_in(function: Callable[..., object]) -> list[int]:
    def is_in(frame: FrameType | None) -> bool:
        return frame is not None and frame.f_code is function.__code__

    here = threading.get_ident()
    frames = sys._current_frames().items()
    return [thread for thread, frame in frames if thread != here and is_in(frame)]


def raise_in(thread: int, error: type[BaseException]) -> None:
    """Raise an exception in a thread, as soon as it runs Python again."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))
