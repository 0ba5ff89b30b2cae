"""A progress artifact that follows a job while it waits and runs."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from qcsc_prefect.integrations.qiskit.presentation.artifact_keys import artifact_key_for
from qcsc_prefect.integrations.qiskit.presentation.state_lines import state_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

__all__ = ["JobProgress"]

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

#: How long one call of the API may take; it runs beside the waiting, which it never delays.
API_SECONDS = 10.0

#: How long the API is left alone after it did not answer.
PAUSE_SECONDS = 60.0

#: How long the end of the waiting may be delayed by the last update.
FINISH_SECONDS = 1.0

#: Shares of the bar: the queue takes it up to the first, the run to the second.
_QUEUE_PERCENT = 50.0
_RUN_PERCENT = 75.0


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What the artifact shows at one moment."""

    percent: float
    description: str


class JobProgress:
    """The progress artifact of one job, under ``<artifact_key>-progress``.

    The artifact is created at the first update. It is then updated when the job's state changes,
    and otherwise at most every `min_interval` seconds. The calls of the API run beside the
    waiting: :meth:`note` and :meth:`leave` return at once, :meth:`finish` within a second, and none
    raises because of the API.

    A queue has no length that could be known beforehand, so the bar is a rough one: it fills to
    a half as the position in the queue goes down from the first one seen, stands at three
    quarters while the job runs, and is full when the job is done.

    Args:
        artifact_key: The user's key, any text.
        job_id: The job's id.
        backend_name: Its backend, where known.
        job_url: Says which page shows the job, if any; asked at each update, since what is known
            of the service comes with the first answer.
        logger: Where a failure of the API is mentioned, at DEBUG: publishing the result's
            artifacts says so louder.
        min_interval: Seconds between two updates that change no state.

    Example:
        .. code-block:: python

            progress = JobProgress(artifact_key="ghz", job_id=job_id, backend_name="ibm_x",
                                   logger=get_run_logger())
            await progress.update(state="QUEUED", waited_seconds=0, queue_position=12)
            ...
            await progress.finish(state="DONE", waited_seconds=200)
    """

    def __init__(
        self,
        *,
        artifact_key: str,
        job_id: str,
        backend_name: str | None,
        job_url: Callable[[], str | None] = lambda: None,
        logger: Logger,
        min_interval: float = 30.0,
    ) -> None:
        self._key = artifact_key_for(artifact_key, "progress")
        self._job_id = job_id
        self._backend_name = backend_name
        self._job_url = job_url
        self._logger = logger
        self._min_interval = min_interval
        self._artifact_id: UUID | None = None
        self._first_position: int | None = None
        self._percent = 0.0
        self._last_state: str | None = None
        self._last_taken = 0.0
        self._silent_until = 0.0
        self._finished = False
        self._pending: _Shown | None = None
        self._sender: asyncio.Task[None] | None = None

    async def update(
        self,
        *,
        state: str,
        waited_seconds: float,
        queue_position: int | None = None,
        word: str | None = None,
    ) -> None:
        """Take note of the job's state, as :meth:`note` does, from a coroutine."""
        self.note(
            state=state, waited_seconds=waited_seconds, queue_position=queue_position, word=word
        )

    def note(
        self,
        *,
        state: str,
        waited_seconds: float,
        queue_position: int | None = None,
        word: str | None = None,
    ) -> None:
        """Take note of the job's state; the artifact follows in the background.

        Called on the thread of a running event loop. After :meth:`finish` it does nothing.

        Args:
            state: The job's state, by the name that the native client's ``status()`` gives it.
            waited_seconds: Time since the waiting began.
            queue_position: The job's position in the queue, where the service gives it.
            word: The service's own word for the state, where it has one.
        """
        if self._finished:
            return
        now = time.monotonic()
        if state == self._last_state and now - self._last_taken < self._min_interval:
            return
        self._last_state, self._last_taken = state, now
        line = state_line(
            job_id=self._job_id,
            backend_name=self._backend_name,
            state=word or state,
            waited_seconds=waited_seconds,
            queue_position=queue_position,
        )
        url = self._job_url()
        link = f" · [open on the platform]({url})" if url else ""
        self._pending = _Shown(percent=self._share(state, queue_position), description=line + link)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_pending())

    async def finish(self, *, state: str, waited_seconds: float, word: str | None = None) -> None:
        """Show the job's last state and end."""
        self._last_state = None
        self.note(state=state, waited_seconds=waited_seconds, word=word)
        self._finished = True
        if self._sender is None:
            return
        _, late = await asyncio.wait([self._sender], timeout=FINISH_SECONDS)
        for task in late:
            task.cancel()
        # The cancelled request is given the time to close its connection.
        await asyncio.wait([self._sender], timeout=FINISH_SECONDS)

    def leave(self) -> None:
        """End without a last update and without waiting, for who was cancelled."""
        self._finished = True
        if self._sender is not None:
            self._sender.cancel()

    async def _send_pending(self) -> None:
        while self._pending is not None and time.monotonic() >= self._silent_until:
            shown, self._pending = self._pending, None
            await self._send(shown)

    async def _send(self, shown: _Shown) -> None:
        from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
        from prefect.exceptions import PrefectException

        try:
            async with asyncio.timeout(API_SECONDS):
                if self._artifact_id is None:
                    self._artifact_id = await acreate_progress_artifact(
                        progress=shown.percent, key=self._key, description=shown.description
                    )
                else:
                    await aupdate_progress_artifact(
                        artifact_id=self._artifact_id,
                        progress=shown.percent,
                        description=shown.description,
                    )
        except (TimeoutError, OSError, RuntimeError, httpx.HTTPError, PrefectException) as error:
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            self._logger.debug("progress artifact not stored: %r", error)

    def _share(self, state: str, queue_position: int | None) -> float:
        """Return the length of the bar in percent; it never gets shorter."""
        if state == "DONE":
            share = 100.0
        elif state == "RUNNING":
            share = _RUN_PERCENT
        elif queue_position is not None:
            self._first_position = max(self._first_position or 1, queue_position)
            share = _QUEUE_PERCENT * (1 - queue_position / self._first_position)
        else:
            share = 0.0
        self._percent = max(self._percent, share)
        return self._percent
