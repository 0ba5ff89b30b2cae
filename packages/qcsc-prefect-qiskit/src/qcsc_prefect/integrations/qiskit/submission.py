"""Submits a job, and where asked to, sees to it that it is submitted once.

The order of the steps is the promise:

1. A lock on the submit key lets one caller in; the operating system frees it if that one dies.
2. A usable record in Prefect's result storage is taken.
3. Else a job that carries the digest's tag is looked up on the service and adopted. Where an
   intent says that an earlier answer may be outstanding, the lookup is repeated until the service
   has had time to show the job.
4. Else an intent is written, the job is sent, and its reference is recorded at once.
5. The job is looked up once more: no lock reaches another machine, which may have sent the same
   input meanwhile. All of them settle on the oldest job, and each cancels its own later one.

A process that is killed between any two of these steps leaves behind what the next one needs:
before the intent nothing was sent; after it the lookup finds what was.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from qcsc_prefect.core.errors import (
    JobError,
    JobNotFoundError,
    SubmissionError,
    SubmissionUncertainError,
)
from qcsc_prefect.core.reference import REFERENCE_SCHEMA_VERSION, JobReference
from qcsc_prefect.integrations.qiskit.jobs.service import JobState
from qcsc_prefect.integrations.qiskit.plain_values import plain_mapping
from qcsc_prefect.integrations.qiskit.process_locks import hold_lock

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from qcsc_prefect.integrations.qiskit.jobs.service import JobRequest, JobService, ListedJob
    from qcsc_prefect.integrations.qiskit.submission_ledger import SubmissionLedger
    from qcsc_prefect.integrations.qiskit.task_runs import RunLogger

__all__ = ["Submission", "SubmissionIdentity", "Submitter"]

_FAILED = frozenset({JobState.ERROR, JobState.CANCELLED})
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class SubmissionIdentity:
    """Under which names a submission is remembered.

    Attributes:
        key: Key of the record in Prefect's result storage.
        tag: Tag under which the service lists the job.
        input_digest: Digest of the input.
        lifetime: How old a job may be to be taken for this submission; None for any age.
        visibility_delay: Seconds after which the service's search shows a new job for certain.
    """

    key: str
    tag: str
    input_digest: str
    lifetime: timedelta | None
    visibility_delay: float


@dataclass(frozen=True)
class Submission:
    """A submitted job, and whether it had been submitted before."""

    reference: JobReference
    reused: bool


class Submitter:
    """Submits jobs through one service, in the name of one task run."""

    def __init__(
        self, service: JobService, logger: RunLogger, *, runtime_block_name: str | None
    ) -> None:
        self._service = service
        self._logger = logger
        self._runtime_block_name = runtime_block_name

    async def submit(self, request: JobRequest, *, input_digest: str | None) -> Submission:
        """Submit a job, without asking whether it was submitted before.

        Args:
            request: The job.
            input_digest: Digest of its input, for its reference.

        Returns:
            The submitted job.
        """
        return await _uninterrupted(self._send(request, input_digest))

    async def submit_once(
        self,
        request: JobRequest,
        identity: SubmissionIdentity,
        ledger: SubmissionLedger,
        *,
        refresh: bool,
    ) -> Submission:
        """Return the job that was submitted for this input, submitting it if there is none.

        Args:
            request: The job; its tags hold the identity's tag.
            identity: The names under which the submission is remembered.
            ledger: Where records and intents are kept.
            refresh: Submit anew, whatever is known of earlier submissions.

        Returns:
            The job.

        Raises:
            SubmissionError: If the service refused the job.
            SubmissionUncertainError: If the answer was lost, and no job showed up in the search
                within the visibility delay.
        """
        async with hold_lock(identity.key):
            if not refresh:
                known = await self._recorded(identity, ledger)
                if known is None:
                    known = await self._adopted(request, identity, ledger)
                if known is not None:
                    return Submission(known, reused=True)
            sending = self._send_once(request, identity, ledger, give_way=not refresh)
            return await _uninterrupted(sending)

    async def _recorded(
        self, identity: SubmissionIdentity, ledger: SubmissionLedger
    ) -> JobReference | None:
        reference = await ledger.record(identity.key)
        if reference is None or reference.job_id is None:
            return None
        try:
            status = await self._service.status(reference.job_id)
        except JobNotFoundError:
            self._logger.warning(
                "Job %s is recorded for this input, but the service does not know it any more; "
                "looking for another one",
                reference.job_id,
            )
            return None
        except JobError as error:
            if error.retryable is False:
                raise
            self._logger.info(
                "Job %s is recorded for this input; it could not be checked now: %s",
                reference.job_id,
                error,
            )
            return reference
        if status.state in _FAILED:
            self._logger.warning(
                "Job %s is recorded for this input, but it ended as %s (%s); submitting a new one",
                reference.job_id,
                status.raw_state,
                status.message or "no reason given",
            )
            return None
        self._logger.info(
            "Reusing job %s (%s) on %s: the same input was submitted before",
            reference.job_id,
            status.raw_state,
            reference.backend_name,
        )
        return reference

    async def _adopted(
        self, request: JobRequest, identity: SubmissionIdentity, ledger: SubmissionLedger
    ) -> JobReference | None:
        intent = await ledger.outstanding_intent(identity.key)
        if intent is None:
            found = await self._usable_job(identity)
        else:
            self._logger.info(
                "A submission of this input was begun at %s by %s, and its answer was lost; "
                "looking for its job",
                intent.declared_at.isoformat(timespec="seconds"),
                intent.holder,
            )
            found = await self._job_that_may_show_up(identity, intent.declared_at)
        return None if found is None else await self._adopt(found, request, identity, ledger)

    async def _adopt(
        self,
        found: ListedJob,
        request: JobRequest,
        identity: SubmissionIdentity,
        ledger: SubmissionLedger,
    ) -> JobReference:
        reference = self._reference(
            request,
            job_id=found.job_id,
            backend_name=found.backend_name or request.backend_name,
            submitted_at=found.created_at,
            input_digest=identity.input_digest,
        )
        self._logger.info(
            "Reusing job %s (%s) on %s: the service lists it under the tag of this input",
            found.job_id,
            found.state.value,
            reference.backend_name,
        )
        await self._remember(reference, identity, ledger)
        return reference

    async def _job_that_may_show_up(
        self, identity: SubmissionIdentity, sent_at: datetime
    ) -> ListedJob | None:
        pause = 0.2
        deadline = sent_at + timedelta(seconds=identity.visibility_delay)
        while True:
            # Asked before the clock is read: the last search comes after the deadline.
            last = datetime.now(UTC) >= deadline
            found = await self._usable_job(identity)
            if found is not None or last:
                return found
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)

    async def _usable_job(self, identity: SubmissionIdentity) -> ListedJob | None:
        listed = await self._listed_jobs(identity)
        usable = [job for job in listed if job.state not in _FAILED]
        if not usable:
            return None
        first, *others = usable
        for other in others:
            # The client repeats a POST that was answered by an error, and each may make a job.
            if other.state in {JobState.INITIALIZING, JobState.QUEUED}:
                await self._cancel_duplicate(other, first)
        return first

    async def _listed_jobs(self, identity: SubmissionIdentity) -> list[ListedJob]:
        """Return the jobs of an input, oldest first, in an order that all machines agree on."""
        oldest = None if identity.lifetime is None else datetime.now(UTC) - identity.lifetime
        listed = await self._service.jobs_with_tag(identity.tag, oldest)
        return sorted(listed, key=lambda job: (job.created_at or _NEVER, job.job_id))

    async def _cancel_duplicate(self, duplicate: ListedJob, kept: ListedJob) -> None:
        try:
            cancelled = await self._service.cancel(duplicate.job_id)
        except JobError as error:
            self._logger.warning(
                "Job %s is a duplicate of job %s and could not be cancelled: %s",
                duplicate.job_id,
                kept.job_id,
                error,
            )
            return
        if cancelled:
            self._logger.warning(
                "Cancelled job %s, a duplicate of job %s", duplicate.job_id, kept.job_id
            )

    async def _send_once(
        self,
        request: JobRequest,
        identity: SubmissionIdentity,
        ledger: SubmissionLedger,
        *,
        give_way: bool,
    ) -> Submission:
        try:
            await ledger.declare_intent(identity.key)
        except Exception as error:  # noqa: BLE001 - storage blocks raise errors of any kind
            self._logger.warning(
                "The intent to submit could not be stored (%s: %s); submitting without it",
                type(error).__name__,
                error,
            )
        sent_at = datetime.now(UTC)
        try:
            submission = await self._send(request, identity.input_digest)
        except SubmissionUncertainError as error:
            self._logger.warning("%s Looking for the job on the service", error)
            found = await self._job_that_may_show_up(identity, sent_at)
            if found is None:
                raise
            submission = Submission(
                self._reference(
                    request,
                    job_id=found.job_id,
                    backend_name=found.backend_name or request.backend_name,
                    submitted_at=found.created_at,
                    input_digest=identity.input_digest,
                ),
                reused=False,
            )
        except SubmissionError:
            await self._withdraw_intent(identity, ledger)
            raise
        await self._remember(submission.reference, identity, ledger)
        older = await self._older_job(submission, identity) if give_way else None
        if older is None:
            return submission
        return Submission(await self._adopt(older, request, identity, ledger), reused=True)

    async def _older_job(
        self, submission: Submission, identity: SubmissionIdentity
    ) -> ListedJob | None:
        """Give way to a job that another machine sent just before this one.

        Whoever holds the later job cancels it and nobody else does, so that no machine loses a job
        that it waits for.
        """
        own_id = submission.reference.job_id
        try:
            listed = await self._listed_jobs(identity)
        except JobError as error:
            self._logger.warning(
                "Job %s was submitted; whether another machine submitted the same input at the "
                "same moment could not be checked: %s",
                own_id,
                error,
            )
            return None
        for position, own in enumerate(listed):
            if own.job_id == own_id:
                older = next((job for job in listed[:position] if job.state not in _FAILED), None)
                if older is not None and own.state not in {*_FAILED, JobState.DONE}:
                    await self._cancel_duplicate(own, older)
                return older
        return None  # not shown yet: which of them is older cannot be told

    async def _withdraw_intent(
        self, identity: SubmissionIdentity, ledger: SubmissionLedger
    ) -> None:
        try:
            await ledger.clear_intent(identity.key)
        except Exception as error:  # noqa: BLE001 - storage blocks raise errors of any kind
            self._logger.warning(
                "The intent of a submission that was refused could not be cleared (%s: %s)",
                type(error).__name__,
                error,
            )

    async def _send(self, request: JobRequest, input_digest: str | None) -> Submission:
        submitted = await self._service.submit(request)
        self._logger.info(
            "Submitted %s job %s to %s",
            request.primitive,
            submitted.job_id,
            submitted.backend_name,
        )
        reference = self._reference(
            request,
            job_id=submitted.job_id,
            backend_name=submitted.backend_name,
            submitted_at=submitted.submitted_at,
            input_digest=input_digest,
        )
        return Submission(reference, reused=False)

    async def _remember(
        self, reference: JobReference, identity: SubmissionIdentity, ledger: SubmissionLedger
    ) -> None:
        """Store the record; a job that cannot be recorded is still handed to the caller."""
        try:
            await ledger.write_record(identity.key, reference, identity.lifetime)
            await ledger.clear_intent(identity.key)
        except Exception as error:  # noqa: BLE001 - storage blocks raise errors of any kind
            self._logger.warning(
                "Job %s on %s was submitted, but its record could not be stored (%s: %s). Keep the "
                "job id: the job can be fetched by it",
                reference.job_id,
                reference.backend_name,
                type(error).__name__,
                error,
            )

    def _reference(
        self,
        request: JobRequest,
        *,
        job_id: str,
        backend_name: str,
        submitted_at: datetime | None,
        input_digest: str | None,
    ) -> JobReference:
        return JobReference(
            job_id=job_id,
            primitive=request.primitive,
            program_type=request.primitive,
            backend_name=backend_name,
            runtime_block_name=self._runtime_block_name,
            shots=request.shots,
            precision=request.precision,
            input_digest=input_digest,
            options=dict(plain_mapping(request.options)) or None,
            tags=list(request.tags) or None,
            submitted_at=None if submitted_at is None else submitted_at.isoformat(),
            schema_version=REFERENCE_SCHEMA_VERSION,
        )


async def _uninterrupted(submission: Coroutine[Any, Any, Submission]) -> Submission:
    """Finish a submission whatever happens to the caller; a job that was sent must be recorded."""
    task = asyncio.ensure_future(submission)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        raise
