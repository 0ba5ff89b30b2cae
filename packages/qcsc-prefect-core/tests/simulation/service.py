"""The service, as a specification: what it accepts, shows, runs, cancels and forgets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from qcsc_prefect.core.engine.service import (
    JobService,
    JobState,
    JobStatus,
    ListedJob,
    SubmittedJob,
)
from qcsc_prefect.core.errors import JobError, JobNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qcsc_prefect.core.engine.service import AwaitedJob

    from .calls import CallRun
    from .schedule import Schedule

__all__ = ["Request", "ServiceClient", "SimulatedJob", "SimulatedService"]

_BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
BACKEND = "sim"


@dataclass(frozen=True)
class Request:
    """A job: which input, and with a chosen digest what runs under it."""

    what: int
    content: int | None


class SimulatedJob:
    """A job that the service has accepted; all times in seconds since the beginning."""

    __slots__ = (
        "call",
        "cancelled_at",
        "cancelled_by_us",
        "created",
        "created_at",
        "deleted_at",
        "is_double",
        "job_id",
        "known_at",
        "outcome",
        "queue_end",
        "request",
        "run_end",
        "shown_at",
        "tags",
    )

    def __init__(self, job_id: str, request: Request, tags: tuple[str, ...], call: CallRun) -> None:
        self.job_id = job_id
        self.request = request
        self.tags = tags
        self.call = call
        self.is_double = False
        self.created = self.shown_at = self.known_at = self.queue_end = self.run_end = 0.0
        self.created_at = _BEGINNING
        self.outcome = JobState.DONE
        self.cancelled_at: float | None = None
        self.cancelled_by_us = False
        self.deleted_at: float | None = None

    def state(self, now: float) -> JobState:
        """Return where the job stands."""
        if self.cancelled_at is not None and now >= self.cancelled_at:
            return JobState.CANCELLED
        if now < self.queue_end:
            return JobState.QUEUED
        return JobState.RUNNING if now < self.run_end else self.outcome

    def is_there(self, now: float) -> bool:
        """Whether the service has not forgotten it."""
        return self.deleted_at is None or now < self.deleted_at

    def is_usable(self, now: float) -> bool:
        """Whether it is there and has not failed."""
        return self.is_there(now) and not self.state(now).has_failed

    @property
    def was_paid(self) -> bool:
        """Whether it runs in the end, and gives a result."""
        return self.cancelled_at is None and self.outcome is JobState.DONE


class SimulatedService:
    """All that the service knows.

    Args:
        schedule: How it behaves.
        chance: What is left to chance; numbers in [0, 1).
    """

    def __init__(self, schedule: Schedule, chance: Callable[[], float]) -> None:
        self.jobs: dict[str, SimulatedJob] = {}
        self._by_tag: dict[str, list[SimulatedJob]] = {}
        self._schedule = schedule
        self._chance = chance

    def clock(self, now: float) -> datetime:
        """Return what the service's clock shows."""
        schedule = self._schedule
        return _BEGINNING + timedelta(seconds=now * schedule.clock_rate + schedule.clock_offset)

    def accept(
        self, now: float, request: Request, tags: Sequence[str], call: CallRun
    ) -> SimulatedJob:
        """Make a job; it shows later."""
        chance, schedule = self._chance, self._schedule
        job = SimulatedJob(f"job-{len(self.jobs) + 1}", request, tuple(tags), call)
        job.created, job.created_at = now, self.clock(now)
        job.shown_at = now + schedule.lag * chance()
        # Who asks for it by its id may find it before a search does.
        job.known_at = now + (job.shown_at - now) * (chance() if chance() < 0.5 else 0.0)
        least, most = schedule.queue
        job.queue_end = now + least + (most - least) * chance()
        job.run_end = job.queue_end + 1.0 + 10.0 * chance()
        if schedule.fails and chance() < schedule.fails:
            if chance() < 0.5:
                job.outcome = JobState.ERROR
            else:  # by somebody who is no part of this
                job.cancelled_at = now + (job.run_end - now) * chance()
        if schedule.goes and chance() < schedule.goes:
            job.deleted_at = job.run_end + 60.0 * chance()
        self.jobs[job.job_id] = job
        for tag in job.tags:
            self._by_tag.setdefault(tag, []).append(job)
        return job

    def search(self, now: float, tag: str, created_after: datetime | None) -> list[ListedJob]:
        """List the jobs of a tag that show by now, newest first."""
        return [
            ListedJob(
                job.job_id,
                BACKEND,
                job.state(now),
                job.created_at,
                program="sim",
                tags=job.tags,
            )
            for job in reversed(self._by_tag.get(tag, ()))
            if job.shown_at <= now
            and job.is_there(now)
            and (created_after is None or job.created_at >= created_after)
        ]

    def status(self, now: float, job_id: str) -> JobStatus:
        """Say where a job stands.

        Raises:
            JobNotFoundError: If it is not known yet, or any more.
        """
        job = self.jobs.get(job_id)
        if job is None or job.known_at > now or not job.is_there(now):
            raise JobNotFoundError(f"Job {job_id} is not known.", job_id=job_id)
        state = job.state(now)
        return JobStatus(state, state.value)

    def cancel(self, now: float, job_id: str) -> bool:
        """Cancel a job, also one that runs; false where it had ended."""
        job = self.jobs.get(job_id)
        if job is None or not job.is_there(now):
            raise JobNotFoundError(f"Job {job_id} is not known.", job_id=job_id)
        if job.state(now).is_final:
            return False
        job.cancelled_at, job.cancelled_by_us = now, True
        return True


class ServiceClient(JobService[Request]):
    """The service as one call of one process reaches it.

    Args:
        call: The call.
    """

    instance = "the-instance"
    first_pause = 3.0

    def __init__(self, call: CallRun) -> None:
        self._call = call
        self._service = call.process.world.service

    async def submit(self, request: Request, tags: Sequence[str]) -> SubmittedJob:
        return await self._call.submission(request, tags)

    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        return await self._call.question("search", self._call.searched, tag, created_after)

    async def status(self, job_id: str) -> JobStatus:
        return await self._call.question("status", self._service.status, job_id)

    async def statuses(
        self, jobs: Sequence[AwaitedJob], *, places: bool
    ) -> dict[str, JobStatus | JobError]:
        (job,) = jobs  # each call waits by itself
        try:
            return {job.job_id: await self.status(job.job_id)}
        except JobError as error:
            return {job.job_id: error}

    async def cancel(self, job_id: str) -> bool:
        return await self._call.question("cancel", self._call.cancelled_job, job_id)

    async def now(self) -> datetime:
        return self._service.clock(self._call.process.world.timeline.now)

    async def jobs_beside(
        self, job_id: str, tag: str, created_after: datetime | None, *, since: datetime
    ) -> list[ListedJob]:
        if self._call.process.world.schedule.shares_searches:
            recent = await self._recent("beside", tag, job_id, since)
            if recent is not None:
                return [
                    job
                    for job in recent
                    if created_after is None
                    or job.created_at is None
                    or job.created_at >= created_after
                ]
        return await self._call.question("beside", self._call.searched, tag, created_after)

    async def jobs_seen_late(
        self, job_id: str, tag: str, since: datetime
    ) -> list[ListedJob] | None:
        if self._call.process.world.schedule.shares_searches:
            return await self._recent("late", tag, job_id, since)
        return await self._call.question("late", self._call.searched, tag, since)

    async def _recent(
        self, name: str, tag: str, job_id: str, since: datetime
    ) -> list[ListedJob] | None:
        """Look for jobs as an adapter may that shares a search: none where it does not tell."""
        found = await self._call.question(name, self._call.searched, tag, since)
        return found if any(job.job_id == job_id for job in found) else None
