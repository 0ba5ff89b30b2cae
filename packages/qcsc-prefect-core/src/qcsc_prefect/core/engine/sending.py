"""Sends a job, so that it is known whatever happens to its caller and to the answer."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from qcsc_prefect.core.engine.cancelling import (
    NO_ANSWER,
    Shield,
    after_cancellation,
    finish_though_cancelled,
)
from qcsc_prefect.core.engine.log import ENGINE_LOGGER, RunLogger
from qcsc_prefect.core.engine.patience import SubmissionPatience
from qcsc_prefect.core.errors import JobReferenceError, SubmissionUncertainError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine
    from datetime import datetime
    from typing import Any

    from qcsc_prefect.core.engine.lookup import SubmissionLookup
    from qcsc_prefect.core.engine.service import JobService, ListedJob
    from qcsc_prefect.core.reference import JobReference

__all__ = ["Sender"]

RequestT = TypeVar("RequestT")


@dataclass
class Sender(Generic[RequestT]):
    """Sends jobs to one service, and makes references of them.

    Attributes:
        service: Where to.
        logger: Where to say what becomes of the jobs.
        patience: How long to go on where the service does not take a job.
        cancel_job_on_cancellation: Whether a job is cancelled that was accepted while its caller
            was cancelled.
        remark: What to add to the line of the log that names a submitted job.
        shield: What a cancelled caller waits in until its job is recorded.
    """

    service: JobService[RequestT]
    logger: RunLogger = ENGINE_LOGGER
    patience: SubmissionPatience = field(default_factory=SubmissionPatience)
    cancel_job_on_cancellation: bool = False
    remark: str = ""
    shield: Shield = nullcontext

    async def send(self, request: RequestT, draft: JobReference) -> JobReference:
        """Send a job, once, and return its reference.

        Raises:
            SubmissionUncertainError: If it was accepted under a name that no reference can hold.
        """
        submitted = await self.service.submit(request, draft.tags or ())
        self.logger.info(
            "Submitted %s job %s to %s%s",
            draft.primitive,
            submitted.job_id,
            submitted.backend_name,
            self.remark,
        )
        try:
            return draft.of_job(
                submitted.job_id,
                backend_name=submitted.backend_name,
                submitted_at=_iso(submitted.submitted_at),
                session_id=submitted.session_id,
                instance=self.service.instance,
            )
        except JobReferenceError as error:
            # It is paid for: what an answer lacks must not look like a refusal.
            raise SubmissionUncertainError(
                f"The service accepted a job, and its answer cannot be used: {error}",
                backend_name=draft.backend_name,
            ) from error

    async def uninterrupted(self, submission: Coroutine[Any, Any, JobReference]) -> JobReference:
        """Finish a submission whatever happens to the caller; a job that was sent is recorded."""
        return await finish_though_cancelled(
            submission, self._after_cancellation, shield=self.shield
        )

    async def look(
        self, lookup: SubmissionLookup, error: SubmissionUncertainError, visibility_delay: float
    ) -> ListedJob | None:
        """Look for the job of a submission whose answer was lost.

        Raises:
            SubmissionUncertainError: The error, if the service does not tell.
        """
        self.logger.warning(
            "%s Looking for it for %g s: so long may the service take to show a new job",
            error,
            visibility_delay,
        )
        try:
            return await lookup.job_that_may_show_up(visibility_delay)
        except NO_ANSWER as unanswered:
            self.logger.warning("The job could not be looked for: %s", unanswered)
            raise error from None

    def adopted(self, found: ListedJob, draft: JobReference) -> JobReference:
        """Return the reference of a job that the service lists."""
        reference = draft.of_job(
            found.job_id,
            program_type=found.program or None,
            backend_name=found.backend_name or None,
            submitted_at=_iso(found.created_at),
            session_id=found.session_id,
            instance=self.service.instance,
        )
        self.logger.info(
            "Reusing job %s (%s) on %s: the service lists it under the tag of this input",
            found.job_id,
            found.state.value,
            reference.backend_name,
        )
        return reference

    async def _after_cancellation(self, submission: asyncio.Task[JobReference]) -> None:
        if not submission.cancelled() and submission.exception() is None:
            job_id = str(submission.result().job_id)
            await after_cancellation(
                lambda: self.service.cancel(job_id),
                job_id,
                self.logger,
                during="submission",
                cancel_job=self.cancel_job_on_cancellation,
            )


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
