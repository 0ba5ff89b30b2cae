"""One input, and all that happens to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import uuid4

from qcsc_prefect.core.conformance.callers import Caller, identity_of
from qcsc_prefect.core.engine.service import AwaitedJob
from qcsc_prefect.core.engine.waiting import JobWatcher, WaitLimits, wait_for_job
from qcsc_prefect.core.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from qcsc_prefect.core.conformance.faults import Faults
    from qcsc_prefect.core.engine.service import JobService, JobState, ListedJob, SubmittedJob
    from qcsc_prefect.core.reference import JobReference

__all__ = ["NotRightError", "Trial"]

RequestT = TypeVar("RequestT")
T = TypeVar("T")

_PAUSE = 0.05
_LIMITS = WaitLimits(max_wait=30.0, first_pause=_PAUSE, longest_pause=1.0, outage=5.0)


class NotRightError(Exception):
    """Ends a trial in which something is not what it should be."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(expected, seen)
        self.expected, self.seen = expected, seen


@dataclass
class Trial(Generic[RequestT]):
    """One input of a vendor, under a tag of its own; see `check_vendor` for what it is given."""

    service_factory: Callable[[], JobService[RequestT]]
    request: RequestT
    faults: Faults
    folder: Path
    visibility_delay: float
    processes: bool
    input_name: str = field(default_factory=lambda: f"conformance-{uuid4().hex}")

    def __post_init__(self) -> None:
        self.service = self.service_factory()
        self.tag = identity_of(self.input_name).tag
        self._before = frozenset(self.faults.jobs())
        self._made: set[str] = set()

    def expect(self, what: str, seen: object, wanted: object) -> None:
        """Go on only where something is as it should be."""
        if seen != wanted:
            raise NotRightError(f"{what}: {_short(wanted)}", _short(seen))

    def expect_one_job(self, *references: JobReference) -> None:
        """Go on only where one job was made, and all these are it."""
        self.expect("jobs made", len(self.jobs_made()), 1)
        for reference in references:
            self.expect("the job", {reference.job_id}, self.jobs_made())

    async def expect_another_job(self, reference: JobReference) -> None:
        """Go on only where the next submission makes another job than this one."""
        again = await self.once()
        self.expect("the same job", again.job_id == reference.job_id, wanted=False)

    def jobs_made(self) -> set[str]:
        """Return the jobs that were made since the trial began."""
        self._made |= self.faults.jobs().keys() - self._before
        return self._made

    def jobs_alive(self) -> set[str]:
        """Return those of them that have not failed and were not cancelled."""
        made, jobs = self.jobs_made(), self.faults.jobs()
        return {job_id for job_id in made & jobs.keys() if not jobs[job_id].has_failed}

    def caller(self, machine: str = "one") -> Caller[RequestT]:
        """Return a caller on a machine that shares no records with others."""
        return Caller(
            self.service_factory,
            self.request,
            self.input_name,
            self.folder / machine,
            self.visibility_delay,
        )

    async def submit(self) -> SubmittedJob:
        """Hand the job to the service, without the engine."""
        return await self.service.submit(self.request, (self.tag,))

    async def once(self, machine: str = "one") -> JobReference:
        """Submit once, as a vendor's task does."""
        return await self.caller(machine).submit_once()

    async def once_in_a_process(self) -> JobReference:
        """Submit once from a process of its own, where there are any."""
        caller = self.caller()
        return await (caller.in_own_process() if self.processes else caller.submit_once())

    async def killed_once(self) -> None:
        """Submit once, and be killed when the job is accepted and about to be recorded."""
        caller = self.caller()
        await (caller.killed_process() if self.processes else caller.abandoned())

    async def raised_by(self, call: Awaitable[T]) -> T | JobError:
        """Return the error of a call where it raises one of the engine's, else its answer."""
        try:
            return await call
        except JobError as error:
            return error

    async def listed_once(self) -> list[str]:
        """Return the ids that a search shows."""
        return [job.job_id for job in await self.service.jobs_with_tag(self.tag, None)]

    async def listed(self) -> list[ListedJob]:
        """Return what a search shows, once it shows something or must."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.visibility_delay
        while True:
            is_last = loop.time() >= deadline
            found = await self.service.jobs_with_tag(self.tag, None)
            if found or is_last:
                return found
            await asyncio.sleep(_PAUSE)

    async def end_of(self, job_id: str) -> JobState:
        """Wait for a job, and return how it ended."""
        watcher = JobWatcher(self.service)
        job = AwaitedJob(job_id)
        status = await wait_for_job(self.service, job, _LIMITS, lambda *_: None, watcher=watcher)
        return status.state


def _short(value: object) -> str:
    return value.__name__ if isinstance(value, type) else f"{value!r:.300}"
