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

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from qcsc_prefect.core.engine.cancelling import NO_ANSWER
from qcsc_prefect.core.engine.clock import SYSTEM_CLOCK, Clock
from qcsc_prefect.core.engine.identity import DEFAULT_VISIBILITY_DELAY
from qcsc_prefect.core.engine.job_age import oldest_wanted, submission_time
from qcsc_prefect.core.engine.lookup import SubmissionLookup
from qcsc_prefect.core.engine.memory import SubmissionMemory
from qcsc_prefect.core.engine.sending import Sender
from qcsc_prefect.core.errors import (
    ConfigurationError,
    InputError,
    StorageUnreadableError,
    SubmissionError,
    SubmissionUncertainError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from qcsc_prefect.core.engine.identity import SubmissionIdentity
    from qcsc_prefect.core.engine.ledger import Ledger
    from qcsc_prefect.core.engine.memory import SubmissionIntent
    from qcsc_prefect.core.engine.service import ListedJob
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
class Submitter(Sender[RequestT]):
    """Submits jobs through one service; what a `Sender` is told, it is told too.

    A job is given as a *request*, in the service's own terms, and as a *draft*, its reference
    without a job id. Make the draft first: what a reference cannot hold is refused there, and not
    when the job is paid for. The draft's backend and tags are those that the job is looked for by.

    Attributes:
        clock: Tells the time of day on this machine.
    """

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
            InputError: If the draft lacks a tag or the digest of the identity, or the caller chose
                the digest, and the job ran another input.
            JobError: If the service could not be asked whether there is one; nothing was sent.
            SubmissionError: If the service refused the job.
            SubmissionUncertainError: If the answer was lost, and whether there is a job could not
                be found out.
        """
        async with self._locked(request, draft, identity, ledger) as once:
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
        async with self._locked(request, draft, identity, ledger) as once:
            return await once.find()

    @asynccontextmanager
    async def _locked(
        self,
        request: RequestT,
        draft: JobReference,
        identity: SubmissionIdentity,
        ledger: Ledger,
    ) -> AsyncIterator[_OneSubmission[RequestT]]:
        """Step 1."""
        _refuse_other_names(draft, identity)
        async with ledger.lock(identity.key):
            # Its age counts from now.
            created_after = oldest_wanted(identity.lifetime, await self.service.now())
            lookup = SubmissionLookup(
                self.service,
                identity.tag,
                draft.backend_name,
                created_after,
                self.logger,
                None if identity.chosen is None else identity.chosen.required_tag,
            )
            memory = SubmissionMemory(ledger, self.logger, self.clock)
            yield _OneSubmission(self, request, draft, identity, memory, lookup)


@dataclass(eq=False)
class _OneSubmission(Generic[RequestT]):
    """The submission of one input, with the lock on its key held.

    Attributes:
        submitter: Who sends it.
        request: The job.
        draft: Its reference, which has no job id yet.
        identity: The names under which it is remembered.
        memory: Where records and intents are kept.
        lookup: Finds jobs that can be taken for it.
        is_recorded: Whether what there is to record is recorded.
    """

    submitter: Submitter[RequestT]
    request: RequestT
    draft: JobReference
    identity: SubmissionIdentity
    memory: SubmissionMemory
    lookup: SubmissionLookup
    is_recorded: bool = True

    async def submit(self, *, refresh: bool) -> Submission:
        """Return the job that was submitted before, or submit it; steps 2 to 5."""
        intent = await self.memory.outstanding_intent(self.identity.key)
        if not refresh or (intent is not None and intent.earlier is not None):
            known = await self._submitted_before(intent, refresh=refresh)
            if known is not None:
                return Submission(known, reused=True)
        reference = await self._send(earlier=await self._to_be_replaced() if refresh else None)
        return await self._give_way(reference)

    async def find(self) -> JobReference | None:
        """Return the job that was submitted before; steps 2 and 3."""
        intent = await self.memory.outstanding_intent(self.identity.key)
        return await self._submitted_before(intent, refresh=False)

    async def _submitted_before(
        self, intent: SubmissionIntent | None, *, refresh: bool
    ) -> JobReference | None:
        try:
            recorded = await self._take_recorded(intent)
        except StorageUnreadableError as error:
            # It may name a job that the service does not show yet.
            recorded, intent = None, intent or self.memory.unreadable_intent(error)
        return recorded or await self._adopt_listed(intent, refresh=refresh)

    async def _take_recorded(self, intent: SubmissionIntent | None) -> JobReference | None:
        """Step 2."""
        # Where a submission was to replace these jobs and was cut short, they are not its own.
        earlier = [] if intent is None else intent.earlier or []
        recorded = await self._recorded(except_for=earlier)
        if recorded is None or intent is None:
            return recorded
        # It was killed before it looked for other machines' jobs.
        self.lookup = self.lookup.leaving_out(earlier)
        return (await self._give_way(recorded)).reference

    async def _adopt_listed(
        self, intent: SubmissionIntent | None, *, refresh: bool
    ) -> JobReference | None:
        """Step 3."""
        earlier = [] if intent is None else intent.earlier or []
        own = self.lookup.leaving_out(earlier)
        self.submitter.service.prepare(self.request)
        if intent is None:
            found = await self.lookup.usable_job()
        else:
            delay = self.identity.visibility_delay
            self.submitter.logger.info("%s; looking for its job for %g s", intent, delay)
            found = await own.job_that_may_show_up(delay)
            if found is None and earlier and not refresh:
                # It was never sent, so the jobs that it was to replace still stand.
                await self.memory.clear_intent(self.identity)
                with suppress(StorageUnreadableError):
                    recorded = await self._recorded()
                    if recorded is not None:
                        return recorded
                found = await self.lookup.usable_job()
        if found is None:
            for other in [] if refresh else (*self.lookup.others, *own.others):
                await self._refuse_other_input(other)
            return None
        await self._refuse_other_input(found)
        return await self._adopt(found)

    async def _send(self, *, earlier: list[str] | None) -> JobReference:
        """Step 4, again and again where that may help."""
        was_sent = False

        async def attempt() -> JobReference:
            nonlocal was_sent
            # While this one waited to send it again, another machine may have done so.
            found = await self.lookup.usable_job() if was_sent else None
            if found is not None:
                return await self._adopt(found)
            was_sent = True
            return await self.submitter.uninterrupted(self._send_and_record(earlier))

        return await self.submitter.patience.submit(
            attempt, self._look_for_it, self.submitter.logger
        )

    async def _send_and_record(self, earlier: list[str] | None) -> JobReference:
        await self.memory.declare_intent(self.identity, earlier)
        try:
            reference = await self.submitter.send(self.request, self.draft)
        except SubmissionUncertainError:
            raise  # the intent stays
        except (SubmissionError, InputError, ConfigurationError):
            await self.memory.clear_intent(self.identity)
            raise
        self.is_recorded = await self.memory.record(self.identity.key, reference)
        return reference

    async def _look_for_it(self, error: SubmissionUncertainError) -> JobReference | None:
        found = await self.submitter.look(self.lookup, error, self.identity.visibility_delay)
        return None if found is None else await self._adopt(found)

    async def _give_way(self, own: JobReference) -> Submission:
        """Step 5: leave the field to a job that another machine sent just before this one."""
        try:
            oldest = await self.lookup.usable_job_beside(
                str(own.job_id), submission_time(own), self.identity.visibility_delay
            )
        except NO_ANSWER as error:
            # The intent stays: a rerun looks again.
            self.submitter.logger.info(
                "Whether another machine submitted the input of job %s at the same moment could "
                "not be checked: %s",
                own.job_id,
                error,
            )
            return Submission(own, reused=False)
        if oldest is None or oldest.job_id == own.job_id:
            if self.is_recorded:
                await self.memory.clear_intent(self.identity)
            return Submission(own, reused=False)
        return Submission(await self._adopt(oldest), reused=True)

    async def _recorded(self, *, except_for: list[str] | None = None) -> JobReference | None:
        return await self.memory.usable_job(
            self.identity,
            self.submitter.service,
            self.lookup.created_after,
            except_for=except_for or (),
        )

    async def _to_be_replaced(self) -> list[str]:
        """Leave all jobs out that a refreshed submission is to replace, and return their ids."""
        self.submitter.service.prepare(self.request)
        recorded = await self.memory.recorded(self.identity.key)
        ids = [job.job_id for job in await self.lookup.listed()]
        # The service need not list the recorded one yet.
        if recorded is not None and recorded.job_id is not None and recorded.job_id not in ids:
            ids.append(recorded.job_id)
        self.lookup = self.lookup.leaving_out(ids)
        return ids

    async def _refuse_other_input(self, job: ListedJob) -> None:
        ran = self.identity.content_digest_of(job.tags)
        await self.memory.refuse_other_input(self.identity, job.job_id, ran)

    async def _adopt(self, found: ListedJob) -> JobReference:
        draft = msgspec.structs.replace(
            self.draft,
            tags=list(found.tags) if found.tags else self.draft.tags,
            content_digest=self.identity.content_digest_of(found.tags),
        )
        reference = self.submitter.adopted(found, draft)
        if await self.memory.record(self.identity.key, reference):
            await self.memory.clear_intent(self.identity)
        return reference


def _refuse_other_names(draft: JobReference, identity: SubmissionIdentity) -> None:
    """Refuse a draft whose job would not be found again under the identity's names."""
    if identity.tag not in (draft.tags or ()):
        raise InputError(
            f"draft.tags refused: {draft.tags!r:.200} lacks that of the identity, "
            f"{identity.tag!r}, by which the job is found again. Nothing was sent.",
            path="draft.tags",
        )
    if draft.input_digest != identity.input_digest:
        raise InputError(
            f"draft.input_digest refused: expected the identity's, {identity.input_digest!r:.200}, "
            f"got {draft.input_digest!r:.200}. Nothing was sent.",
            path="draft.input_digest",
        )
