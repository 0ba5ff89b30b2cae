"""What the engine asks of whoever runs jobs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Never, Protocol, TypeAlias, TypeVar

from qcsc_prefect.core.engine.clock import SYSTEM_CLOCK
from qcsc_prefect.core.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

__all__ = [
    "AnyService",
    "AwaitedJob",
    "JobService",
    "JobState",
    "JobStatus",
    "ListedJob",
    "SubmittedJob",
]

RequestT_contra = TypeVar("RequestT_contra", contravariant=True)


class JobState(Enum):
    """Where a job stands."""

    INITIALIZING = "INITIALIZING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"
    #: The service said something that this release does not know.
    UNKNOWN = "UNKNOWN"

    @property
    def is_final(self) -> bool:
        """Whether the job cannot change its state any more."""
        return self is JobState.DONE or self.has_failed

    @property
    def has_failed(self) -> bool:
        """Whether the job ended without a result."""
        return self in {JobState.ERROR, JobState.CANCELLED}

    @property
    def is_waiting(self) -> bool:
        """Whether the job has not begun to run, so that cancelling it costs nothing."""
        return self in {JobState.INITIALIZING, JobState.QUEUED}


@dataclass(frozen=True)
class SubmittedJob:
    """A job that the service has accepted.

    Attributes:
        job_id: Its id.
        backend_name: Its backend.
        submitted_at: When it was submitted, by the service's clock.
        session_id: The group of jobs that it belongs to, where it belongs to one.
    """

    job_id: str
    backend_name: str
    submitted_at: datetime
    session_id: str | None = None


@dataclass(frozen=True)
class ListedJob:
    """A job as a search by tag shows it.

    Attributes:
        job_id: Its id.
        backend_name: Its backend; None where the search does not tell.
        state: Where it stood.
        created_at: When it was created, by the service's clock; None where the search does not
            tell.
        program: The service's name of the program that runs it.
        session_id: The group of jobs that it belongs to.
        tags: Its tags, where the search tells them.
    """

    job_id: str
    backend_name: str | None
    state: JobState
    created_at: datetime | None
    program: str | None = None
    session_id: str | None = None
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True)
class JobStatus:
    """Where a job stands.

    Attributes:
        state: The state.
        raw_state: The service's own word for it.
        queue_position: Jobs ahead of it and itself, where the service says so.
        message: Why it failed or was cancelled, in the service's own words.
        ran_too_long: Whether it was cancelled because it ran longer than it was allowed to.
        service_code: The service's own code of the failure.
        answer: All that the service said of the job with it, for the vendor's own use.
    """

    state: JobState
    raw_state: str
    queue_position: int | None = None
    message: str | None = None
    ran_too_long: bool = False
    service_code: int | str | None = None
    answer: Mapping[str, object] | None = field(default=None, repr=False, compare=False)


@dataclass(eq=False)
class AwaitedJob:
    """A job that is waited for. Who waits remembers it; the service need not remember any job.

    Attributes:
        job_id: Its id.
        tags: The tags under which it was submitted, as far as they are known.
        submitted_at: When it was submitted, as far as that is known.
        last: Where it stood when it was last seen.
    """

    job_id: str
    tags: Sequence[str] = ()
    submitted_at: datetime | None = None
    last: JobStatus | None = None


class JobService(Protocol[RequestT_contra]):
    """Runs jobs, remembers them, and finds them by a tag.

    A vendor's service subclasses this and writes `submit`, `jobs_with_tag`, `status` and `cancel`;
    the others have bodies that are right for every service, and can be had in fewer requests by
    one that offers more. Every method may be called from any event loop and from many tasks at
    once; none of them blocks the loop. What they raise are errors of `qcsc_prefect.core.errors`.

    Attributes:
        instance: The part of the service that has the jobs; None where there is no such thing.
        first_pause: Seconds after which it is worth looking at a new job for the second time.
        shows_jobs_at_once: Whether a job that has been accepted can be found from then on.
    """

    instance: str | None = None
    first_pause: float = 0.3
    shows_jobs_at_once: bool = False

    async def submit(self, request: RequestT_contra, tags: Sequence[str]) -> SubmittedJob:
        """Hand a job over, once, and return as soon as its id is known.

        Args:
            request: The job, in the vendor's own terms.
            tags: The tags under which the service is to list it.

        Raises:
            SubmissionError: If no job was created. Its ``retryable`` says whether to send it again.
            SubmissionUncertainError: If a job may have been created.
            InputError: If the request is refused before anything is sent.
        """
        ...

    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        """List the jobs that carry a tag.

        Args:
            tag: The tag.
            created_after: Since when they must have been created; None for any age.

        Raises:
            JobError: If the service could not be asked.
        """
        ...

    async def status(self, job_id: str) -> JobStatus:
        """Ask once where a job stands.

        Raises:
            JobNotFoundError: If the service does not know the job.
            JobError: If it could not be asked.
        """
        ...

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; False where it had ended already.

        Raises:
            JobError: If the service could not be asked.
        """
        ...

    async def now(self) -> datetime:
        """Return the present by the service's clock, which dates the jobs."""
        return SYSTEM_CLOCK.now()

    def prepare(self, request: RequestT_contra) -> None:
        """Begin to load what a submission is about to need; returns at once."""
        del request  # nothing is loaded for it here

    async def jobs_beside(
        self,
        job_id: str,  # noqa: ARG002 - for services that share a search
        tag: str,
        created_after: datetime | None,
        *,
        since: datetime,  # noqa: ARG002
    ) -> list[ListedJob]:
        """List the jobs that carry the tag of a job which has just been submitted.

        Args:
            job_id: The job.
            tag: The tag.
            created_after: Since when they must have been created; None for any age.
            since: From when on jobs may have been created that the last search for the tag did not
                show, by the service's clock.
        """
        return await self.jobs_with_tag(tag, created_after)

    async def jobs_seen_late(
        self,
        job_id: str,  # noqa: ARG002
        tag: str,
        since: datetime,
    ) -> list[ListedJob] | None:
        """List the jobs that carry the tag of a job which was submitted some seconds ago.

        Args:
            job_id: The job.
            tag: The tag.
            since: From when on they may have been created, by the service's clock.

        Returns:
            The jobs; None where this is not worth its requests, and where nobody else can have
            submitted any.

        Raises:
            JobError: If the service could not be asked.
        """
        return await self.jobs_with_tag(tag, since)

    async def statuses(
        self,
        jobs: Sequence[AwaitedJob],
        *,
        places: bool,  # noqa: ARG002
    ) -> dict[str, JobStatus | JobError]:
        """Ask once where several jobs stand, in as few requests as the service allows.

        Args:
            jobs: The jobs; where not all can have their turn, the first have it.
            places: Whether to ask for their places in the queue, which may cost a request for each.

        Returns:
            For each job its status, or the error that asking for it gave. A job that was left out
            is to be asked for again soon.
        """

        async def one(job_id: str) -> JobStatus | JobError:
            try:
                return await self.status(job_id)
            except JobError as error:
                return error

        ids = [job.job_id for job in jobs]
        return dict(zip(ids, await asyncio.gather(*map(one, ids)), strict=True))


#: A service, whatever its requests are, for who submits none.
AnyService: TypeAlias = JobService[Never]
