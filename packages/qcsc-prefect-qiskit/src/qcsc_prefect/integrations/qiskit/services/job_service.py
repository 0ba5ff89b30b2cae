"""What the tasks need from whoever runs jobs, beyond what the engine asks of any service."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from qcsc_prefect.core.engine.service import JobService
from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import program_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from qiskit.primitives import PrimitiveResult
    from qiskit_ibm_runtime import RuntimeJobV2

    from qcsc_prefect.core.engine.service import JobStatus
    from qcsc_prefect.integrations.qiskit.execution_modes import ExecutionGroup
    from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import PrimitiveImplementation
    from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName, Pub

__all__ = ["PROCESS_TAG", "FetchedResult", "JobRequest", "JobTimes", "QiskitJobService"]

T = TypeVar("T")

#: Carried by every job that this process submits to a service, where it has a tag to spare: one
#: search finds all of them.
PROCESS_TAG = f"qcsc-process-{secrets.token_hex(8)}"


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
        implementation: Which of the client's implementations of the primitive.
        group: The batch or session that the job belongs to; None for a job by itself.
    """

    primitive: PrimitiveName
    pubs: Sequence[Pub]
    backend_name: str
    shots: int | None = None
    precision: float | None = None
    options: Mapping[str, object] = field(default_factory=dict)
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


class QiskitJobService(JobService[JobRequest], Protocol):
    """Runs jobs of Qiskit's primitives: what the engine asks of a service, and their results."""

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
        ...

    async def call(self, function: Callable[[], T]) -> T:
        """Call a blocking function that may ask the service about a job, in a thread."""
        ...

    async def forget_result_text(self, fetched: FetchedResult) -> None:
        """Take note that a result has been recorded: what was kept to read it again can go."""
        del fetched  # nothing was kept

    def job_url(self, job_id: str) -> str | None:  # noqa: ARG002 - for services with a page
        """Return the platform's page of a job, where there is one; asks nobody.

        Known once the service has been asked for anything.
        """
        return None
