"""What the tasks need from whoever runs jobs."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeVar

from qcsc_prefect.integrations.qiskit.primitive_choice import program_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from qiskit.primitives import PrimitiveResult
    from qiskit_ibm_runtime import RuntimeJobV2

    from qcsc_prefect.core.errors import JobError
    from qcsc_prefect.integrations.qiskit.execution_modes import ExecutionGroup
    from qcsc_prefect.integrations.qiskit.primitive_choice import PrimitiveImplementation
    from qcsc_prefect.integrations.qiskit.pubs import PrimitiveName, Pub

__all__ = [
    "PROCESS_TAG",
    "AwaitedJob",
    "FetchedResult",
    "JobRequest",
    "JobService",
    "JobState",
    "JobStatus",
    "JobTimes",
    "ListedJob",
    "SubmittedJob",
]


T = TypeVar("T")

#: Carried by every job that this process submits to a service, where it has a tag to spare: one
#: search finds all of them.
PROCESS_TAG = f"qcsc-process-{secrets.token_hex(8)}"


class JobState(Enum):
    """Where a job stands, in the words of the native client's ``status()``."""

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
        return self in {JobState.DONE, JobState.ERROR, JobState.CANCELLED}


@dataclass(frozen=True)
class JobRequest:
    """One job to be run.

    Attributes:
        primitive: Which primitive runs it.
        pubs: Its native PUBs.
        backend_name: Backend it is meant for.
        shots: Shots of the call, for PUBs that do not say their own.
        precision: Target standard error of the call, for PUBs that do not say their own.
        options: Native options of the primitive.
        tags: Tags under which the service is to list the job.
        implementation: Which of the client's implementations of the primitive.
        group: The batch or session that the job belongs to; None for a job by itself.
    """

    primitive: PrimitiveName
    pubs: Sequence[Pub]
    backend_name: str
    shots: int | None = None
    precision: float | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    implementation: PrimitiveImplementation = "classic"
    group: ExecutionGroup | None = None

    @property
    def effort(self) -> float | None:
        """The shots or the precision of the call."""
        return self.shots if self.primitive == "sampler" else self.precision

    @property
    def program(self) -> str:
        """The service's name of the program that runs the job."""
        return program_of(self.primitive, self.implementation)


@dataclass(frozen=True)
class SubmittedJob:
    """A job that the service has accepted.

    Attributes:
        job_id: Its id.
        backend_name: Its backend.
        submitted_at: When it was submitted, by the service's clock.
        session_id: The batch or session that it belongs to, where it belongs to one.
    """

    job_id: str
    backend_name: str
    submitted_at: datetime
    session_id: str | None = None


@dataclass(frozen=True)
class ListedJob:
    """A job as a search by tag shows it."""

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
        answer: All that the service said of the job with it, where there is a service.
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


@dataclass(frozen=True)
class JobTimes:
    """When a job was created, began to run, and ended; None where that is not known."""

    created: datetime | None = None
    started: datetime | None = None
    completed: datetime | None = None


@dataclass(frozen=True)
class FetchedResult:
    """The result of a finished job, with what is known about how it ran.

    Attributes:
        result: The native result, untouched.
        backend_name: Backend the job ran on.
        native_job: The native job object; None for a job on this machine.
        times: When the job ran, where no native job can be asked.
        session_id: The batch or session of the job, where it belongs to one.
    """

    result: PrimitiveResult
    backend_name: str | None
    native_job: RuntimeJobV2 | None = None
    times: JobTimes | None = None
    session_id: str | None = None


class JobService(Protocol):
    """Runs jobs and remembers them.

    Every method may be called from any event loop and from many tasks at once; none of them blocks
    the loop.

    Attributes:
        instance: The service instance that has the jobs; None where there is no such thing.
        first_pause: Seconds after which it is worth looking at a new job for the second time.
        shows_jobs_at_once: Whether a job that has been accepted can be found from then on.
    """

    instance: str | None
    first_pause: float
    shows_jobs_at_once: bool

    async def now(self) -> datetime:
        """Return the present by the service's clock, which dates the jobs."""

    async def submit(self, request: JobRequest) -> SubmittedJob:
        """Hand a job over, once, and return as soon as its id is known.

        Raises:
            SubmissionError: If no job was created.
            SubmissionUncertainError: If a job may have been created.
            InputError: If the request is refused before anything is sent.
        """

    def prepare(self, backend_name: str) -> None:
        """Begin to load what a submission to a backend is about to need; returns at once."""

    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        """List the jobs that carry a tag, oldest first."""

    async def jobs_beside(
        self, job_id: str, tag: str, created_after: datetime | None, *, since: datetime
    ) -> list[ListedJob]:
        """List the jobs that carry the tag of a job which has just been submitted.

        Args:
            job_id: The job.
            tag: The tag.
            created_after: How old a job may be; None for any age.
            since: From when on jobs may have been created that the last search for the tag did not
                show, by the service's clock.
        """

    async def jobs_seen_late(
        self, job_id: str, tag: str, since: datetime
    ) -> list[ListedJob] | None:
        """List the jobs that carry the tag of a job which was submitted some seconds ago.

        Args:
            job_id: The job.
            tag: The tag.
            since: From when on they may have been created, by the service's clock.

        Returns:
            The jobs; None where one search does not tell it to all who ask at this moment, and
            where nobody else can have submitted any.

        Raises:
            JobError: If the service could not be asked.
        """

    async def status(self, job_id: str) -> JobStatus:
        """Ask once where a job stands.

        Raises:
            JobNotFoundError: If the service does not know the job.
        """

    async def statuses(
        self, jobs: Sequence[AwaitedJob], *, places: bool
    ) -> dict[str, JobStatus | JobError]:
        """Ask once where several jobs stand, in as few requests as the service allows.

        Args:
            jobs: The jobs; where not all can have their turn, the first have it.
            places: Whether to ask for their places in the queue, which may cost a request for each.

        Returns:
            For each job its status, or the error that asking for it gave. A job that was left out
            is to be asked for again soon.
        """

    async def result(
        self, job_id: str, *, seconds: float | None = None, status: JobStatus | None = None
    ) -> FetchedResult:
        """Read the result of a job that is done.

        Args:
            job_id: The job.
            status: How it ended, where that was asked for.
            seconds: How long the download and what the client makes of it may take, but for a
                download that cannot be repeated; None for the service's own limit.

        Raises:
            JobNotFoundError: If the service does not know the job.
            JobWaitTimeoutError: If the client does not make a result of it in time.
            ResultUnavailableError: If the result could not be read this time.
        """

    async def call(self, function: Callable[[], T]) -> T:
        """Call a blocking function that may ask the service about a job, in a thread."""

    async def forget_result_text(self, fetched: FetchedResult) -> None:
        """Take note that a result has been recorded: what was kept to read it again can go."""

    def job_url(self, job_id: str) -> str | None:
        """Return the platform's page of a job, where there is one; asks nobody.

        Known once the service has been asked for anything.
        """

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; False where it had ended already."""
