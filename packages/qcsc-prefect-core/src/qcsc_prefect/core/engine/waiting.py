"""Waits for jobs: one poller for all jobs of a service, not a thread for each.

The pause between two looks at a job grows with the time it has been waited for, so that a job
which ends in a second is noticed at once and one that queues for hours costs almost nothing.

All pollers of a process share one thread with an event loop of its own, because tasks that are
submitted to a task runner have an event loop each: on these, every job would have its own poller.

A poller works for whoever waits, so it runs in the context of none of them: what it logs belongs
to no run. What there is to tell of a job is told in the context of the one who waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qcsc_prefect.core.engine.service import JobState
from qcsc_prefect.core.errors import (
    JobError,
    JobNotFoundError,
    JobWaitTimeoutError,
    ResultUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcsc_prefect.core.engine.service import AnyService, AwaitedJob, JobStatus

__all__ = ["JobWatcher", "WaitLimits", "wait_for_job"]

#: Seconds after which the service is asked again, however long it has asked to be left alone: the
#: job may have ended long before.
_LONGEST_PUT_OFF = 3600.0
#: Seconds after which those are looked at again whose turn did not come.
_NEXT_TURN = 1.0
#: Up to so many jobs that are waited for together, people want to know the place of each.
_WITH_PLACES = 20


@dataclass(frozen=True)
class WaitLimits:
    """How patiently a job is waited for; all in seconds.

    Attributes:
        max_wait: Longest wait for one job; None for no limit.
        first_look: Pause before the first look, for a job that cannot have ended yet.
        first_pause: Pause after the first look.
        longest_pause: What the pause grows to.
        growth: Share of the time waited so far that the next pause takes.
        outage: How long the service may fail to answer before the wait is given up; a pause for
            which it has asked is waited out first.
        unknown_state: How long a job may stand in a state that this release does not know.
        not_found: How long the service may not know the job, which it need not show at once.
    """

    max_wait: float | None = None
    first_look: float = 0.0
    first_pause: float = 0.1
    longest_pause: float = 30.0
    growth: float = 0.2
    outage: float = 300.0
    unknown_state: float = 600.0
    not_found: float = 0.0


async def wait_for_job(
    service: AnyService,
    job: AwaitedJob,
    limits: WaitLimits,
    on_change: Callable[[JobStatus, float], None],
    *,
    watcher: JobWatcher | None = None,
) -> JobStatus:
    """Wait until a job has ended.

    Args:
        service: Where the job runs.
        job: The job; takes note of what is learned of it.
        limits: How patiently to wait.
        on_change: Called on the caller's event loop, in a copy of its context, with the status and
            the seconds waited, whenever the state, or the position in the queue, is another than
            before.
        watcher: One that watches the service's jobs on the caller's event loop; by default, that of
            the process.

    Returns:
        The final status.

    Raises:
        JobWaitTimeoutError: If ``max_wait`` is over; the job goes on.
        ResultUnavailableError: If the job stays in an unknown state.
        JobError: If the service does not answer, or does not know the job.
    """
    if watcher is None:
        waiting = _wait_with_the_process(service, job, limits, on_change)
    else:
        waiting = watcher.wait(job, limits, on_change)
    try:
        async with asyncio.timeout(limits.max_wait):
            return await waiting
    except TimeoutError as error:
        raise JobWaitTimeoutError(
            f"Job {job.job_id} has not ended after {limits.max_wait:g} s of waiting; it goes on. "
            "Fetch it later by this job id, or wait longer with max_wait.",
            job_id=job.job_id,
        ) from error


async def _wait_with_the_process(
    service: AnyService,
    job: AwaitedJob,
    limits: WaitLimits,
    on_change: Callable[[JobStatus, float], None],
) -> JobStatus:
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()

    def pass_on(status: JobStatus, waited: float) -> None:
        # The caller's loop may be closed by the time its job changes; then nobody wants to know.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(on_change, status, waited, context=context)

    waiting = asyncio.run_coroutine_threadsafe(
        _wait_on_the_pollers_loop(service, job, limits, pass_on), _pollers_loop()
    )
    return await asyncio.wrap_future(waiting)


async def _wait_on_the_pollers_loop(
    service: AnyService,
    job: AwaitedJob,
    limits: WaitLimits,
    on_change: Callable[[JobStatus, float], None],
) -> JobStatus:
    if service not in _watchers:
        _watchers[service] = JobWatcher(service)
    return await _watchers[service].wait(job, limits, on_change)


@dataclass(eq=False)
class _WaitedFor:
    job: AwaitedJob
    limits: WaitLimits
    on_change: Callable[[JobStatus, float], None]
    done: asyncio.Future[JobStatus]
    since: float
    due: float
    pause: float = 0.0
    answered_at: float = 0.0
    failing_since: float | None = None
    unknown_since: float | None = None

    def schedule(self, now: float) -> None:
        self.answered_at = now
        waited = now - self.since
        pause = max(self.limits.first_pause, waited * self.limits.growth)
        self.pause = min(pause, self.limits.longest_pause)
        self.due = now + self.pause

    def schedule_next_turn(self, now: float) -> None:
        """Look again soon: nothing was learned of the job, because others had their turn."""
        self.pause, self.due = 0.0, now + _NEXT_TURN

    def put_off(self, now: float, seconds: float) -> None:
        """Do not look for so many seconds, for which the service has asked."""
        due = now + min(seconds, _LONGEST_PUT_OFF)
        if due > self.due:
            self.pause, self.due = 0.0, due

    def may_be_looked_at(self, now: float) -> bool:
        """Whether the job is due, or will be so soon that it can share a request with others."""
        return self.due - self.pause / 2 <= now


@dataclass(eq=False)
class JobWatcher:
    """Watches jobs of one service, on one event loop.

    Attributes:
        service: Where the jobs run.
    """

    service: AnyService
    _waited_for: set[_WaitedFor] = field(default_factory=set)
    _poller: asyncio.Task[None] | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(
        self, job: AwaitedJob, limits: WaitLimits, on_change: Callable[[JobStatus, float], None]
    ) -> JobStatus:
        """Wait until a job has ended, without an end to the wait; see `wait_for_job`."""
        now = asyncio.get_running_loop().time()
        done: asyncio.Future[JobStatus] = asyncio.get_running_loop().create_future()
        waited_for = _WaitedFor(
            job, limits, on_change, done, now, now + limits.first_look, limits.first_look
        )
        self._waited_for.add(waited_for)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(
                self._poll(), name="qcsc-prefect-job-poller", context=contextvars.Context()
            )
            self._poller.add_done_callback(self._end_waits)
        self._wake.set()
        try:
            return await done
        finally:
            self._waited_for.discard(waited_for)

    async def _poll(self) -> None:
        while self._waited_for:
            self._wake.clear()
            now = asyncio.get_running_loop().time()
            next_due = min(waited_for.due for waited_for in self._waited_for)
            if next_due > now:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), next_due - now)
            else:
                await self._look([w for w in self._waited_for if w.may_be_looked_at(now)])

    def _end_waits(self, poller: asyncio.Task[None]) -> None:
        """Let nobody wait for a poller that has ended by a mistake in this package."""
        error = None if poller.cancelled() else poller.exception()
        for waited_for in self._waited_for:
            if error is not None and not waited_for.done.done():
                waited_for.done.set_exception(error)

    async def _look(self, jobs: list[_WaitedFor]) -> None:
        # Those that have waited longest for their turn come first.
        jobs.sort(key=lambda waited_for: waited_for.answered_at)
        answers = await self.service.statuses(
            [waited_for.job for waited_for in jobs], places=len(self._waited_for) <= _WITH_PLACES
        )
        now = asyncio.get_running_loop().time()
        for waited_for in jobs:
            if waited_for.done.done():
                continue
            answer = answers.get(waited_for.job.job_id)
            if answer is None:
                waited_for.schedule_next_turn(now)
                continue
            if isinstance(answer, JobError):
                _note_failure(waited_for, answer, now)
            else:
                _note_status(waited_for, answer, now)
            waited_for.schedule(now)
            if isinstance(answer, JobError) and answer.retry_after is not None:
                waited_for.put_off(now, answer.retry_after)


def _note_failure(waited_for: _WaitedFor, error: JobError, now: float) -> None:
    if waited_for.failing_since is None:
        waited_for.failing_since = now
    if isinstance(error, JobNotFoundError):
        is_over = now - waited_for.since >= waited_for.limits.not_found
    else:
        is_over = error.retryable is False
    if is_over or now - waited_for.failing_since >= waited_for.limits.outage:
        waited_for.done.set_exception(error)


def _note_status(waited_for: _WaitedFor, status: JobStatus, now: float) -> None:
    waited_for.failing_since = None
    known, waited_for.job.last = waited_for.job.last, status
    if status != known:
        waited_for.on_change(status, now - waited_for.since)
    if status.state.is_final:
        waited_for.done.set_result(status)
        return
    if status.state is not JobState.UNKNOWN:
        waited_for.unknown_since = None
        return
    if waited_for.unknown_since is None:
        waited_for.unknown_since = now
    if now - waited_for.unknown_since >= waited_for.limits.unknown_state:
        waited_for.done.set_exception(
            ResultUnavailableError(
                f"Job {waited_for.job.job_id} has been in the state {status.raw_state!r} for "
                f"{waited_for.limits.unknown_state:g} s, which this release does not know. Look at "
                "the job on the service's own page, and fetch it again.",
                job_id=waited_for.job.job_id,
            )
        )


_start = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_watchers: dict[AnyService, JobWatcher] = {}


def _pollers_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of the pollers, in a thread that ends with the process."""
    global _loop  # noqa: PLW0603 - one for each process is what it is for
    with _start:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(
                target=_run, args=(_loop,), name="qcsc-prefect-job-pollers", daemon=True
            ).start()
        return _loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        # These two end an event loop as well as the task that raised them. That task passes them
        # on to those who wait; the others still have jobs to wait for.
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            loop.run_forever()


def _start_anew_in_child() -> None:
    global _start, _loop, _watchers  # noqa: PLW0603
    _start = threading.Lock()
    _loop = None
    _watchers = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_in_child)
