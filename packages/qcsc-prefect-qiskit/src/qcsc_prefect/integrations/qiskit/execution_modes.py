"""Puts the jobs of a flow run into one batch or session of the service.

With ``QiskitRuntimeConfig(mode="batch")`` or ``mode="session"`` the first job of a flow run opens a
batch or session, every further job of the run with the same configuration and backend goes into it,
and it is closed when the run ends: completed, failed, cancelled or crashed. Closing takes no job
back: those that wait or run go on. `execution_mode` draws other limits:

    async with execution_mode(config):
        ...  # one batch for whatever is submitted in here, also by subflows

What belongs together is known to one process. Another process that works for the same run (a
worker of ``DaskTaskRunner``, say) opens a batch of its own and closes it when that process ends. A
process that is killed outright closes nothing; the service then closes the batch by itself, after
``max_time`` at the latest, and a session is put aside as soon as it has been idle for its
interactive timeout (a minute or so, decided by the plan).
"""

from __future__ import annotations

import atexit
import contextvars
import functools
import os
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Self

from httpx import HTTPError
from prefect import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

from qcsc_prefect.core.prefect.task_runs import RunLogger, run_logger
from qcsc_prefect.core.threads import run_blocking
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.services.runtime_config import require_config

if TYPE_CHECKING:
    from collections.abc import Hashable
    from contextvars import Token
    from types import TracebackType
    from uuid import UUID

    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State
    from qiskit_ibm_runtime import IBMBackend
    from qiskit_ibm_runtime.session import Session

    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig

#: Seconds that the end of a flow run or of a scope waits for the service to take note.
CLOSE_SECONDS = 30.0

#: Seconds between two looks at a run whose end no hook may tell of.
_LOOK_SECONDS = 0.2
#: Seconds between two questions to Prefect's server about a run that is retried.
_ASK_SECONDS = 2.0
#: Seconds that the hooks of a run have to do it themselves.
_HOOK_SECONDS = 0.5

__all__ = [
    "CLOSE_SECONDS",
    "ExecutionGroup",
    "close_execution_modes",
    "current_group",
    "execution_mode",
]


class ExecutionGroup:
    """Jobs that share a batch or session, one on each backend that they use.

    Args:
        config: The configuration that asks for it; its ``mode`` is not ``"job"``.
    """

    def __init__(self, config: QiskitRuntimeConfig) -> None:
        self.mode = config.mode
        self.key = _key(config)
        self._max_time = config.max_time
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def is_open_on(self, backend: IBMBackend) -> bool:
        """Whether there is a native batch or session on a backend."""
        return backend.name in self._open

    def open_on(self, backend: IBMBackend) -> Session:
        """Return the native batch or session on a backend, opening it if there is none; blocks.

        Args:
            backend: The native backend.

        Returns:
            The native ``Batch`` or ``Session``.
        """
        from qiskit_ibm_runtime import Batch, Session

        native_class = Batch if self.mode == "batch" else Session
        with self._lock:
            known = self._open.get(backend.name)
            if known is None:
                opened: Session = native_class(backend, max_time=self._max_time)
                self._open[backend.name] = opened
                _register_exit()
                _opened.add(self)
                run_logger().info("Opened %s %s on %s", self.mode, opened.session_id, backend.name)
                return opened
            if known.service is not backend.service:
                # The service was made anew, for example with new credentials.
                twin: Session = native_class(backend, create_new=False)
                twin._session_id = known.session_id  # noqa: SLF001 - from_id() would ask twice
                self._open[backend.name] = known = twin
            return known

    def forget_if_ended(self, backend_name: str) -> bool:
        """Forget the batch or session on a backend if the service takes no more jobs into it.

        Args:
            backend_name: The backend.

        Returns:
            Whether it had ended, so that a new one can be opened.
        """
        with self._lock:
            known = self._open.get(backend_name)
            details = None if known is None else known.details()
            if details is None or details["accepting_jobs"]:
                return False
            del self._open[backend_name]
        run_logger().info(
            "The service has ended %s %s; opening another one", self.mode, details["id"]
        )
        return True

    def close(self, *, seconds: float | None = CLOSE_SECONDS) -> None:
        """Close what is open; blocks. Jobs that were accepted go on.

        Args:
            seconds: How long to wait for the service; None for ever, without another thread.
        """
        logger = run_logger()
        # Held as long as the service does not answer to an opening, which may be for ever.
        if not self._lock.acquire(timeout=-1 if seconds is None else seconds):
            logger.warning(
                "The service has not answered for %g s to the opening of a %s; if it opens one, it "
                "closes it by itself after a while",
                seconds,
                self.mode,
            )
            return
        try:
            closing, self._open = tuple(self._open.values()), {}
            _opened.discard(self)
        finally:
            self._lock.release()
        if seconds is None:
            for native in closing:
                self._close_natively(native, logger)
            return
        # The client waits for an answer without end, and daemons hold up no process.
        threads = [
            threading.Thread(
                target=self._close_natively,
                args=(native, logger),
                name="qcsc-close-mode",
                daemon=True,
            )
            for native in closing
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        for native, thread in zip(closing, threads, strict=True):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                logger.warning(
                    "The service has not answered for %g s to the closing of %s %s; it closes it "
                    "by itself after a while",
                    seconds,
                    self.mode,
                    native.session_id,
                )

    def _close_natively(self, native: Session, logger: RunLogger) -> None:
        from qiskit.exceptions import QiskitError
        from requests.exceptions import RequestException

        try:
            native.close()
        except (QiskitError, RequestException) as error:
            logger.warning(
                "%s %s could not be closed (%s); the service closes it by itself after a while",
                self.mode.capitalize(),
                native.session_id,
                type(error).__name__,
            )
        else:
            logger.info("Closed %s %s", self.mode, native.session_id)


class execution_mode:  # noqa: N801 - reads as a context manager
    """Put the jobs submitted inside of a ``with`` or ``async with`` into one batch or session.

    It covers jobs submitted with an equal configuration, by tasks and subflows in this process too.
    With ``mode="job"``, and on the channel ``local``, it does nothing.

    Args:
        config: The configuration; its ``mode`` and ``max_time`` say what is opened.

    Raises:
        ConfigurationError: If it is none.

    Example:
        >>> config = QiskitRuntimeConfig(channel="local", backend_name="fake_manila", mode="batch")
        >>> with execution_mode(config):
        ...     pass
    """

    def __init__(self, config: QiskitRuntimeConfig) -> None:
        require_config("config", config)
        self._group = ExecutionGroup(config) if _is_grouped(config) else None
        self._token: Token[tuple[ExecutionGroup, ...]] | None = None

    def __enter__(self) -> Self:
        if self._group is not None:
            self._token = _scopes.set((self._group, *_scopes.get()))
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        if self._group is not None:
            self._group.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        if self._group is not None:
            await run_blocking(self._group.close)

    def _leave(self) -> None:
        if self._token is not None:
            _scopes.reset(self._token)
            self._token = None


def current_group(config: QiskitRuntimeConfig) -> ExecutionGroup | None:
    """Return the group that a job submitted here belongs to.

    Args:
        config: The configuration it is submitted with.

    Returns:
        That of the nearest `execution_mode` with this configuration, else that of the flow run;
        None where jobs run by themselves: in mode ``"job"``, on the channel ``local``, and in
        neither.
    """
    if not _is_grouped(config):
        return None
    key = _key(config)
    for group in _scopes.get():
        if group.key == key:
            return group
    run = FlowRunContext.get()
    if run is None or run.flow_run is None:
        run_logger().warning(
            "mode=%r groups the jobs of a flow run, and there is none here: the job runs by "
            "itself. Submit it inside of a flow or of execution_mode(config)",
            config.mode,
        )
        return None
    group = ExecutionGroup(config)
    if run.flow is not None:
        _close_after(run.flow)
    with _groups_lock:
        if run.flow_run.id not in _groups:
            _groups[run.flow_run.id] = {}
            threading.Thread(
                # Prefect's settings are in the context.
                target=contextvars.copy_context().run,
                args=(_close_when_over, run.flow_run),
                name="qcsc-run-end",
                daemon=True,
            ).start()
        return _groups[run.flow_run.id].setdefault(key, group)


async def close_execution_modes(flow: Flow[..., object], flow_run: FlowRun, state: State) -> None:  # noqa: ARG001 - the signature of Prefect's hooks
    """Close the batches and sessions of a flow run; a Prefect state hook.

    It is added to a flow by the first of its jobs that needs it.
    """
    with _groups_lock:
        groups = _groups.pop(flow_run.id, {})
    for group in groups.values():
        await run_blocking(group.close)


def _close_when_over(flow_run: FlowRun) -> None:
    """Close what belongs to a run that ends in a state for which Prefect calls no hook.

    A flow that returns ``Cancelled()`` does. Prefect's engine notes the state of a run of this
    process in the object that its context holds, so looking at it costs nothing.
    """
    began = flow_run.state
    while flow_run.id in _groups:
        state = flow_run.state
        if state is not None and began is not None and state.id != began.id:
            # Another state while the run goes on: it is retried, with an object of its own.
            state = state if state.is_final() else _state_on_server(flow_run.id)
        if state is not None and state.is_final():
            time.sleep(_HOOK_SECONDS)
            with _groups_lock:
                groups = _groups.pop(flow_run.id, {})
            for group in groups.values():
                group.close()
            return
        time.sleep(_LOOK_SECONDS)


def _state_on_server(flow_run_id: UUID) -> State | None:
    """Ask Prefect for the state of a run; None where it does not answer."""
    time.sleep(_ASK_SECONDS)
    try:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(flow_run_id).state
    except (HTTPError, PrefectException):
        return None


def _close_after(flow: Flow[..., object]) -> None:
    for hooks in (
        flow.on_completion_hooks,
        flow.on_failure_hooks,
        flow.on_cancellation_hooks,
        flow.on_crashed_hooks,
    ):
        if close_execution_modes not in hooks:
            hooks.append(close_execution_modes)


def _is_grouped(config: QiskitRuntimeConfig) -> bool:
    return config.mode != "job" and config.channel != "local"


def _key(config: QiskitRuntimeConfig) -> Hashable:
    return (get_service_pool().key(config), config.mode, config.max_time)


_scopes: ContextVar[tuple[ExecutionGroup, ...]] = ContextVar("execution_modes", default=())

_groups_lock = threading.Lock()
_groups: dict[UUID, dict[Hashable, ExecutionGroup]] = {}
# Whatever was opened: a run that ends without a hook, such as one that its worker stops, still
# gets here if its process ends in good order.
_opened: set[ExecutionGroup] = set()


@functools.cache
def _register_exit() -> None:
    atexit.register(_close_what_is_open)


def _close_what_is_open() -> None:
    for group in tuple(_opened):
        group.close(seconds=None)  # no thread can be started any more


def _start_anew_in_child() -> None:
    # The batches are the parent's to close.
    global _groups_lock  # noqa: PLW0603
    _groups_lock = threading.Lock()
    _groups.clear()
    _opened.clear()


os.register_at_fork(after_in_child=_start_anew_in_child)
