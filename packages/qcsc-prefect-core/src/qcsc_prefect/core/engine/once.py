"""Submits a job, and where asked to, sees to it that it is submitted once.

The order of the steps is the promise; `docs/paying-once.md` tells what each kind of crash leaves.

1. A lock on the submit key lets one caller in; it is free as soon as that one dies.
2. A usable record in the ledger is taken.
3. Else a job that carries the digest's tag is looked up on the service and adopted. Where an
   intent says that an earlier answer may be outstanding, the lookup is repeated until the service
   has had time to show the job.
4. Else an intent is written, the job is sent, and its reference is recorded. Where the answer is
   lost the job is looked for, and sent again only when the service shows none.
5. The service is searched once more: no lock reaches another machine, which may have sent the same
   input meanwhile. All of them settle on the oldest job, and later ones in the queue are cancelled.
   Then the intent is cleared.

A process that is killed between any two of these steps leaves behind what the next one needs:
before the intent nothing was sent; after it the lookup finds what was.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from qcsc_prefect.core.engine.cancelling import (
    NO_ANSWER,
    Shield,
    after_cancellation,
    finish_though_cancelled,
)
from qcsc_prefect.core.engine.clock import SYSTEM_CLOCK, Clock
from qcsc_prefect.core.engine.identity import DEFAULT_VISIBILITY_DELAY
from qcsc_prefect.core.engine.job_age import oldest_wanted, submission_time
from qcsc_prefect.core.engine.log import ENGINE_LOGGER, RunLogger
from qcsc_prefect.core.engine.lookup import SubmissionLookup
from qcsc_prefect.core.engine.memory import SubmissionMemory
from qcsc_prefect.core.engine.patience import SubmissionPatience
from qcsc_prefect.core.errors import (
    ConfigurationError,
    InputError,
    StorageUnreadableError,
    SubmissionError,
    SubmissionUncertainError,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine
    from datetime import datetime
    from typing import Any

    from qcsc_prefect.core.engine.identity import SubmissionIdentity
    from qcsc_prefect.core.engine.ledger import Ledger
    from qcsc_prefect.core.engine.memory import SubmissionIntent
    from qcsc_prefect.core.engine.service import JobService, ListedJob
    from qcsc_prefect.core.reference import JobReference

__all__ = ["Submission", "Submitter"]

RequestT = TypeVar("RequestT")


@dataclass(frozen=True)
class Submission:
    """A submitted job, and how it came about.

    Attributes:
        reference: The job.
        reused: Whether it had been submitted before.
    """

    reference: JobReference
    reused: bool


@dataclass
class Submitter(Generic[RequestT]):
    """Submits jobs through one service.

    A job is given as a *request*, in the service's own terms, and as a *draft*, its reference
    without a job id. Make the draft first: what a reference cannot hold is refused there, and not
    when the job is paid for. The draft's backend and tags are those that the job is looked for by.

    Attributes:
        service: Where to.
        logger: Where to say what becomes of the jobs.
        patience: How long to go on where the service does not take a job.
        cancel_job_on_cancellation: Whether a job is cancelled that was accepted while its caller
            was cancelled.
        remark: What to add to the line of the log that names a submitted job.
        shield: What a cancelled caller waits in until its job is recorded.
        clock: Tells the time of day on this machine.
    """

    service: JobService[RequestT]
    logger: RunLogger = ENGINE_LOGGER
    patience: SubmissionPatience = field(default_factory=SubmissionPatience)
    cancel_job_on_cancellation: bool = False
    remark: str = ""
    shield: Shield = nullcontext
    clock: Clock = SYSTEM_CLOCK

    async def submit(
        self,
        request: RequestT,
        draft: JobReference,
        *,
        tag: str | None,
        visibility_delay: float = DEFAULT_VISIBILITY_DELAY,
    ) -> Submission:
        """Submit a job, without asking whether it was submitted before.

        Args:
            request: The job.
            draft: Its reference, which has no job id yet.
            tag: One of its tags that no other job carries, by which it is found if the answer is
                lost; None where it has none, and then that is left to the caller.
            visibility_delay: Seconds after which the service's search shows a new job for certain.

        Returns:
            The submitted job.

        Raises:
            SubmissionError: If the service refused the job.
            SubmissionUncertainError: If the answer was lost, and the job could not be found.
        """

        async def look_for_it(error: SubmissionUncertainError) -> JobReference | None:
            if tag is None:
                raise error
            lookup = SubmissionLookup(self.service, tag, draft.backend_name, None, self.logger)
            found = await self.look(lookup, error, visibility_delay)
            return None if found is None else self.adopted(found, draft)

        reference = await self.patience.submit(
            lambda: self.uninterrupted(self.send(request, draft)), look_for_it, self.logger
        )
        return Submission(reference, reused=False)

    async def submit_once(
        self,
        request: RequestT,
        draft: JobReference,
        identity: SubmissionIdentity,
        ledger: Ledger,
        *,
        refresh: bool = False,
    ) -> Submission:
        """Return the job that was submitted for this input, submitting it if there is none.

        Args:
            request: The job.
            draft: Its reference, which has no job id yet; its tags hold those of the identity.
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
            SubmissionUncertainError: If the answer was lost, and whether there is a job could not
                be found out.
        """
        async with ledger.lock(identity.key):
            once = await _OneSubmission.begun(self, request, draft, identity, ledger)
            return await once.submit(refresh=refresh)

    async def find_submitted(
        self,
        request: RequestT,
        draft: JobReference,
        identity: SubmissionIdentity,
        ledger: Ledger,
    ) -> JobReference | None:
        """Return the job of a submission that may have been cut short, without submitting one.

        Args:
            request: What is known of the job.
            draft: Its reference, which has no job id yet.
            identity: The names under which the submission is remembered.
            ledger: Where records and intents are kept.

        Returns:
            The job, or None where there is none that can be used.

        Raises:
            JobError: If the service could not be asked.
        """
        async with ledger.lock(identity.key):
            once = await _OneSubmission.begun(self, request, draft, identity, ledger)
            return await once.find()

    async def send(self, request: RequestT, draft: JobReference) -> JobReference:
        """Send a job, once, and return its reference."""
        submitted = await self.service.submit(request, draft.tags or ())
        self.logger.info(
            "Submitted %s job %s to %s%s",
            draft.primitive,
            submitted.job_id,
            submitted.backend_name,
            self.remark,
        )
        return draft.of_job(
            submitted.job_id,
            backend_name=submitted.backend_name,
            submitted_at=_iso(submitted.submitted_at),
            session_id=submitted.session_id,
            instance=self.service.instance,
        )

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


class _OneSubmission(Generic[RequestT]):
    """The submission of one input, with the lock on its key held.

    Args:
        submitter: Who sends it.
        request: The job.
        draft: Its reference, which has no job id yet.
        identity: The names under which it is remembered.
        ledger: Where records and intents are kept.
        created_after: How old a job may be to be taken for this one; None for any age.
    """

    def __init__(
        self,
        submitter: Submitter[RequestT],
        request: RequestT,
        draft: JobReference,
        identity: SubmissionIdentity,
        ledger: Ledger,
        created_after: datetime | None,
    ) -> None:
        self._submitter = submitter
        self._service = submitter.service
        self._logger = submitter.logger
        self._request = request
        self._draft = draft
        self._identity = identity
        self._memory = SubmissionMemory(ledger, submitter.logger, submitter.clock)
        self._lookup = SubmissionLookup(
            submitter.service,
            identity.tag,
            draft.backend_name,
            created_after,
            submitter.logger,
            content_tag=None if identity.chosen is None else identity.chosen.required_tag,
        )
        self._is_recorded = True  # as far as there is anything to record

    @classmethod
    async def begun(
        cls,
        submitter: Submitter[RequestT],
        request: RequestT,
        draft: JobReference,
        identity: SubmissionIdentity,
        ledger: Ledger,
    ) -> _OneSubmission[RequestT]:
        """Return the submission of an input, whose age counts from now."""
        created_after = oldest_wanted(identity.lifetime, await submitter.service.now())
        return cls(submitter, request, draft, identity, ledger, created_after)

    async def submit(self, *, refresh: bool) -> Submission:
        """Return the job that was submitted before, or submit it; steps 2 to 5."""
        intent = await self._memory.outstanding_intent(self._identity.key)
        if not refresh or (intent is not None and intent.earlier is not None):
            known = await self._submitted_before(intent, refresh=refresh)
            if known is not None:
                return Submission(known, reused=True)
        reference = await self._send(earlier=await self._to_be_replaced() if refresh else None)
        return await self._give_way(reference)

    async def find(self) -> JobReference | None:
        """Return the job that was submitted before; steps 2 and 3."""
        intent = await self._memory.outstanding_intent(self._identity.key)
        return await self._submitted_before(intent, refresh=False)

    async def _submitted_before(
        self, intent: SubmissionIntent | None, *, refresh: bool
    ) -> JobReference | None:
        try:
            recorded = await self._take_recorded(intent)
        except StorageUnreadableError as error:
            # It may name a job that the service does not show yet.
            recorded, intent = None, intent or self._memory.unreadable_intent(error)
        return recorded or await self._adopt_listed(intent, refresh=refresh)

    async def _take_recorded(self, intent: SubmissionIntent | None) -> JobReference | None:
        """Step 2."""
        # Where a submission was to replace these jobs and was cut short, they are not its own.
        earlier = [] if intent is None else intent.earlier or []
        recorded = await self._recorded(except_for=earlier)
        if recorded is None or intent is None:
            return recorded
        # It was killed before it looked for other machines' jobs.
        self._lookup = self._lookup.leaving_out(earlier)
        return (await self._give_way(recorded)).reference

    async def _adopt_listed(
        self, intent: SubmissionIntent | None, *, refresh: bool
    ) -> JobReference | None:
        """Step 3."""
        earlier = [] if intent is None else intent.earlier or []
        own = self._lookup.leaving_out(earlier)
        self._service.prepare(self._request)
        if intent is None:
            found = await self._lookup.usable_job()
        else:
            delay = self._identity.visibility_delay
            self._logger.info("%s; looking for its job for %g s", intent, delay)
            found = await own.job_that_may_show_up(delay)
            if found is None and earlier and not refresh:
                # It was never sent, so the jobs that it was to replace still stand.
                await self._memory.clear_intent(self._identity)
                with suppress(StorageUnreadableError):
                    recorded = await self._recorded()
                    if recorded is not None:
                        return recorded
                found = await self._lookup.usable_job()
        if found is None:
            for other in [] if refresh else (*self._lookup.others, *own.others):
                await self._refuse_other_input(other)
            return None
        await self._refuse_other_input(found)
        return await self._adopt(found)

    async def _send(self, *, earlier: list[str] | None) -> JobReference:
        """Step 4, again and again where that may help."""
        return await self._submitter.patience.submit(
            lambda: self._submitter.uninterrupted(self._send_and_record(earlier)),
            self._look_for_it,
            self._logger,
        )

    async def _send_and_record(self, earlier: list[str] | None) -> JobReference:
        await self._memory.declare_intent(self._identity, earlier)
        try:
            reference = await self._submitter.send(self._request, self._draft)
        except SubmissionUncertainError:
            raise  # the intent stays
        except (SubmissionError, InputError, ConfigurationError):
            await self._memory.clear_intent(self._identity)
            raise
        self._is_recorded = await self._memory.record(self._identity.key, reference)
        return reference

    async def _look_for_it(self, error: SubmissionUncertainError) -> JobReference | None:
        found = await self._submitter.look(self._lookup, error, self._identity.visibility_delay)
        return None if found is None else await self._adopt(found)

    async def _give_way(self, own: JobReference) -> Submission:
        """Step 5: leave the field to a job that another machine sent just before this one."""
        try:
            oldest = await self._lookup.usable_job_beside(
                str(own.job_id), submission_time(own), self._identity.visibility_delay
            )
        except NO_ANSWER as error:
            # The intent stays: a rerun looks again.
            self._logger.info(
                "Whether another machine submitted the input of job %s at the same moment could "
                "not be checked: %s",
                own.job_id,
                error,
            )
            return Submission(own, reused=False)
        if oldest is None or oldest.job_id == own.job_id:
            if self._is_recorded:
                await self._memory.clear_intent(self._identity)
            return Submission(own, reused=False)
        return Submission(await self._adopt(oldest), reused=True)

    async def _recorded(self, *, except_for: list[str] | None = None) -> JobReference | None:
        return await self._memory.usable_job(
            self._identity,
            self._service,
            self._lookup.created_after,
            except_for=except_for or (),
        )

    async def _to_be_replaced(self) -> list[str]:
        """Leave all jobs out that a refreshed submission is to replace, and return their ids."""
        self._service.prepare(self._request)
        recorded = await self._memory.recorded(self._identity.key)
        ids = [job.job_id for job in await self._lookup.listed()]
        # The service need not list the recorded one yet.
        if recorded is not None and recorded.job_id is not None and recorded.job_id not in ids:
            ids.append(recorded.job_id)
        self._lookup = self._lookup.leaving_out(ids)
        return ids

    async def _refuse_other_input(self, job: ListedJob) -> None:
        ran = self._identity.content_digest_of(job.tags)
        await self._memory.refuse_other_input(self._identity, job.job_id, ran)

    async def _adopt(self, found: ListedJob) -> JobReference:
        draft = msgspec.structs.replace(
            self._draft,
            tags=list(found.tags) if found.tags else self._draft.tags,
            content_digest=self._identity.content_digest_of(found.tags),
        )
        reference = self._submitter.adopted(found, draft)
        if await self._memory.record(self._identity.key, reference):
            await self._memory.clear_intent(self._identity)
        return reference


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
