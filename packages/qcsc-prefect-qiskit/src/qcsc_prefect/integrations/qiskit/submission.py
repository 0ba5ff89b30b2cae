"""Submits a job, and where asked to, sees to it that it is submitted once.

The order of the steps is the promise; `docs/paying-once.md` tells what each kind of crash leaves.

1. A lock on the submit key lets one caller in; the operating system frees it if that one dies.
2. A usable record in Prefect's result storage is taken.
3. Else a job that carries the digest's tag is looked up on the service and adopted. Where an
   intent says that an earlier answer may be outstanding, the lookup is repeated until the service
   has had time to show the job.
4. Else an intent is written, the job is sent, its reference is recorded, and the intent cleared.
5. The service is searched once more: no lock reaches another machine, which may have sent the same
   input meanwhile. All of them settle on the oldest job, and later ones in the queue are cancelled.

A process that is killed between any two of these steps leaves behind what the next one needs:
before the intent nothing was sent; after it the lookup finds what was.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from qcsc_prefect.core.errors import (
    ConfigurationError,
    InputError,
    JobError,
    SubmissionError,
    SubmissionUncertainError,
)
from qcsc_prefect.core.reference import JobReference
from qcsc_prefect.integrations.qiskit.chosen_digest import content_digest_of
from qcsc_prefect.integrations.qiskit.finishing import finish_though_cancelled
from qcsc_prefect.integrations.qiskit.job_cancellation import after_cancellation
from qcsc_prefect.integrations.qiskit.plain_values import plain_mapping
from qcsc_prefect.integrations.qiskit.process_locks import hold_lock
from qcsc_prefect.integrations.qiskit.rate_patience import RatePatience
from qcsc_prefect.integrations.qiskit.submission_lookup import SubmissionLookup
from qcsc_prefect.integrations.qiskit.submission_memory import SubmissionMemory

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine
    from typing import Any

    from qcsc_prefect.integrations.qiskit.jobs.service import JobRequest, JobService, ListedJob
    from qcsc_prefect.integrations.qiskit.submission_ledger import (
        SubmissionIntent,
        SubmissionLedger,
    )
    from qcsc_prefect.integrations.qiskit.submission_memory import SubmissionIdentity
    from qcsc_prefect.integrations.qiskit.task_runs import RunLogger

__all__ = ["Submission", "Submitter"]


@dataclass(frozen=True)
class Submission:
    """A submitted job, and how it came about.

    Attributes:
        reference: The job.
        reused: Whether it had been submitted before.
        sent_again: Whether it was sent more than once, so that the service may have more of it.
    """

    reference: JobReference
    reused: bool
    sent_again: bool = False


@dataclass
class Submitter:
    """Submits jobs through one service, in the name of one task run.

    Attributes:
        service: Where to.
        logger: Logger of the task run.
        runtime_block_name: The saved configuration block, for the reference.
        patience: How long to go on where the service takes no more jobs for the moment.
        cancel_job_on_cancellation: Whether a job is cancelled that was accepted while the task was
            cancelled.
    """

    service: JobService
    logger: RunLogger
    runtime_block_name: str | None = None
    patience: RatePatience = field(default_factory=RatePatience)
    cancel_job_on_cancellation: bool = False

    async def submit(
        self,
        request: JobRequest,
        *,
        input_digest: str | None,
        content_digest: str | None = None,
    ) -> Submission:
        """Submit a job, without asking whether it was submitted before.

        Args:
            request: The job.
            input_digest: Digest of its input, for its reference.
            content_digest: Digest of what runs, where the caller chose the other.

        Returns:
            The submitted job.

        Raises:
            SubmissionError: If the service refused the job.
            SubmissionUncertainError: If the answer was lost.
        """
        return await self.patience.submit(
            lambda: self._uninterrupted(self._send(request, input_digest, content_digest)),
            self.logger,
        )

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
            refresh: Submit anew, whatever is known of earlier submissions; one that was cut short
                while it did so is finished instead.

        Returns:
            The job.

        Raises:
            InputError: If the caller chose the digest, and the job ran another input.
            JobError: If the service could not be asked whether there is one; nothing was sent.
            SubmissionError: If the service refused the job.
            SubmissionUncertainError: If the answer was lost, and no job showed up in the search
                within the visibility delay.
        """
        memory = SubmissionMemory(identity, ledger, self.logger)
        async with hold_lock(identity.key):
            lookup = self._lookup(request, identity)
            intent = await memory.outstanding_intent()
            if not refresh or (intent is not None and intent.earlier is not None):
                known = await self._submitted_before(
                    request, identity, memory, lookup, intent, refresh=refresh
                )
                if known is not None:
                    return Submission(known, reused=True)
            earlier = None
            if refresh:
                self.service.prepare(request.backend_name)
                earlier = await _to_be_replaced(memory, lookup)
                lookup = lookup.leaving_out(earlier)
            return await self.patience.submit(
                lambda: self._send_once(request, identity, memory, lookup, earlier), self.logger
            )

    async def find(
        self, request: JobRequest, identity: SubmissionIdentity, ledger: SubmissionLedger
    ) -> JobReference | None:
        """Return the job of a submission that may have been cut short, without submitting one.

        Args:
            request: What is known of the job.
            identity: The names under which the submission is remembered.
            ledger: Where records and intents are kept.

        Returns:
            The job, or None where there is none that can be used.

        Raises:
            JobError: If the service could not be asked.
        """
        memory = SubmissionMemory(identity, ledger, self.logger)
        async with hold_lock(identity.key):
            intent = await memory.outstanding_intent()
            lookup = self._lookup(request, identity)
            return await self._submitted_before(
                request, identity, memory, lookup, intent, refresh=False
            )

    def _lookup(self, request: JobRequest, identity: SubmissionIdentity) -> SubmissionLookup:
        return SubmissionLookup(
            self.service,
            identity.tag,
            request.backend_name,
            None if identity.lifetime is None else datetime.now(UTC) - identity.lifetime,
            self.logger,
            content_tag=None if identity.chosen is None else identity.chosen.required_tag,
        )

    async def _submitted_before(
        self,
        request: JobRequest,
        identity: SubmissionIdentity,
        memory: SubmissionMemory,
        lookup: SubmissionLookup,
        intent: SubmissionIntent | None,
        *,
        refresh: bool,
    ) -> JobReference | None:
        # Where a submission was to replace these jobs and was cut short, they are not its own.
        earlier = [] if intent is None else intent.earlier or []
        own = lookup.leaving_out(earlier)
        recorded = await memory.recorded_job(self.service, lookup.created_after, except_for=earlier)
        if recorded is not None:
            await memory.refuse_other_input(str(recorded.job_id), recorded.content_digest)
            # The answer came and was recorded; only a repeated submission leaves doubts.
            if intent is not None and intent.sent_again:
                return await self._settle(recorded, request, identity, memory, own)
            if intent is not None:
                await memory.clear_intent()
            return recorded
        self.service.prepare(request.backend_name)
        if intent is None:
            found = await lookup.usable_job()
        else:
            self.logger.info("%s; looking for its job for %g s", intent, identity.visibility_delay)
            found = await own.job_that_may_show_up(identity.visibility_delay)
            if found is None and earlier and not refresh:
                # It was never sent, so the jobs that it was to replace still stand.
                await memory.clear_intent()
                recorded = await memory.recorded_job(self.service, lookup.created_after)
                if recorded is not None:
                    await memory.refuse_other_input(str(recorded.job_id), recorded.content_digest)
                    return recorded
                found = await lookup.usable_job()
        if found is None:
            for other in [] if refresh else (*lookup.others, *own.others):
                ran = content_digest_of(request.primitive, other.tags)
                await memory.refuse_other_input(other.job_id, ran)
            return None
        content_digest = content_digest_of(request.primitive, found.tags)
        await memory.refuse_other_input(found.job_id, content_digest)
        return await self._adopt(found, request, identity, memory)

    async def _send_once(
        self,
        request: JobRequest,
        identity: SubmissionIdentity,
        memory: SubmissionMemory,
        lookup: SubmissionLookup,
        earlier: list[str] | None,
    ) -> Submission:
        try:
            submission = await self._uninterrupted(
                self._send_and_record(request, identity, memory, earlier)
            )
        except SubmissionUncertainError as error:
            self.logger.warning(
                "%s Looking for it for %g s: so long may the service take to show a new job",
                error,
                identity.visibility_delay,
            )
            try:
                found = await lookup.job_that_may_show_up(identity.visibility_delay)
            except JobError as unanswered:
                self.logger.warning("The job could not be looked for: %s", unanswered)
                found = None
            if found is None:
                raise
            reference = await self._adopt(found, request, identity, memory)
            return Submission(reference, reused=False)
        if not submission.sent_again:
            return await self._give_way(submission, request, identity, memory, lookup)
        settled = await self._settle(submission.reference, request, identity, memory, lookup)
        return Submission(settled, reused=False)

    async def _give_way(
        self,
        submission: Submission,
        request: JobRequest,
        identity: SubmissionIdentity,
        memory: SubmissionMemory,
        lookup: SubmissionLookup,
    ) -> Submission:
        """Leave the field to a job that another machine sent just before this one."""
        own = submission.reference
        try:
            oldest = await lookup.usable_job_beside(str(own.job_id), identity.visibility_delay)
        except JobError as error:
            self.logger.info(
                "Whether another machine submitted the input of job %s at the same moment could "
                "not be checked: %s",
                own.job_id,
                error,
            )
            return submission
        if oldest is None or oldest.job_id == own.job_id:
            return submission
        return Submission(await self._adopt(oldest, request, identity, memory), reused=True)

    async def _send_and_record(
        self,
        request: JobRequest,
        identity: SubmissionIdentity,
        memory: SubmissionMemory,
        earlier: list[str] | None,
    ) -> Submission:
        await memory.declare_intent(earlier)
        try:
            submission = await self._send(request, identity.input_digest, identity.content_digest)
        except SubmissionUncertainError:
            raise  # the intent stays
        except (SubmissionError, InputError, ConfigurationError):
            await memory.clear_intent()
            raise
        await memory.record(
            submission.reference, settled=not submission.sent_again, earlier=earlier
        )
        return submission

    async def _send(
        self, request: JobRequest, input_digest: str | None, content_digest: str | None
    ) -> Submission:
        # What a reference cannot hold is refused before the job is paid for, not after it.
        draft = self._draft(request, input_digest, content_digest)
        submitted = await self.service.submit(request)
        self.logger.info(
            "Submitted %s job %s to %s, with the client's %s primitives",
            request.primitive,
            submitted.job_id,
            submitted.backend_name,
            request.implementation.replace("_", "-"),
        )
        reference = draft.of_job(
            submitted.job_id,
            backend_name=submitted.backend_name,
            submitted_at=_iso(submitted.submitted_at),
            session_id=submitted.session_id,
            instance=self.service.instance,
        )
        return Submission(reference, reused=False, sent_again=submitted.sent_again)

    async def _uninterrupted(self, submission: Coroutine[Any, Any, Submission]) -> Submission:
        """Finish a submission whatever happens to the caller; a job that was sent is recorded."""
        return await finish_though_cancelled(submission, self._after_cancellation)

    async def _after_cancellation(self, submission: asyncio.Task[Submission]) -> None:
        if not submission.cancelled() and submission.exception() is None:
            await after_cancellation(
                self.service,
                str(submission.result().reference.job_id),
                self.logger,
                during="submission",
                cancel_job=self.cancel_job_on_cancellation,
            )

    async def _settle(
        self,
        known: JobReference,
        request: JobRequest,
        identity: SubmissionIdentity,
        memory: SubmissionMemory,
        lookup: SubmissionLookup,
    ) -> JobReference:
        """Find all jobs of a submission that was sent more than once, and keep one of them."""
        self.logger.warning(
            "The submission of job %s was sent more than once on its way; looking for further jobs "
            "of it for %g s",
            known.job_id,
            identity.visibility_delay,
        )
        try:
            found = await lookup.job_that_may_show_up(identity.visibility_delay)
        except JobError as error:
            self.logger.warning("Further jobs could not be looked for: %s", error)
            return known
        if found is None or found.job_id == known.job_id:
            await memory.clear_intent()
            return known
        return await self._adopt(found, request, identity, memory)

    async def _adopt(
        self,
        found: ListedJob,
        request: JobRequest,
        identity: SubmissionIdentity,
        memory: SubmissionMemory,
    ) -> JobReference:
        draft = self._draft(
            replace(request, tags=found.tags or request.tags),
            identity.input_digest,
            content_digest_of(request.primitive, found.tags),
        )
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
        await memory.record(reference, settled=True)
        return reference

    def _draft(
        self, request: JobRequest, input_digest: str | None, content_digest: str | None
    ) -> JobReference:
        """Return the reference of a job before it has an id, or refuse what it cannot hold."""
        return JobReference(
            primitive=request.primitive,
            program_type=request.program,
            backend_name=request.backend_name,
            runtime_block_name=self.runtime_block_name,
            shots=request.shots,
            precision=request.precision,
            input_digest=input_digest,
            content_digest=content_digest,
            options=dict(plain_mapping(request.options)) or None,
            tags=list(request.tags) or None,
        )


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


async def _to_be_replaced(memory: SubmissionMemory, lookup: SubmissionLookup) -> list[str]:
    """Return the ids of all jobs that a refreshed submission is to replace."""
    recorded = await memory.recorded_id()
    listed = [job.job_id for job in await lookup.listed()]
    # The service need not list the recorded one yet.
    return listed if recorded is None or recorded in listed else [*listed, recorded]
