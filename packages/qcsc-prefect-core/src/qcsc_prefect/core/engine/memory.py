"""What is remembered of submissions, and what of it can still be used.

A *record* holds the reference of the job that was submitted for a key. An *intent* lies beside it
while the answer to a submission may be outstanding. All are sealed (see `sealed_json`): what was
written under another key, or is not what was written, is not used.

Remembering never fails a submission: a job that was accepted is worth more than its record, so
what goes wrong with the storage goes to the log.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - msgspec reads the annotations
from typing import TYPE_CHECKING

import msgspec

from qcsc_prefect.core.engine.clock import SYSTEM_CLOCK, Clock
from qcsc_prefect.core.engine.identity import first_differences
from qcsc_prefect.core.engine.job_age import age_of, is_recent
from qcsc_prefect.core.engine.log import ENGINE_LOGGER, RunLogger
from qcsc_prefect.core.engine.sealed_json import sealed, unsealed
from qcsc_prefect.core.errors import (
    DamagedRecordError,
    InputError,
    JobError,
    JobNotFoundError,
    JobReferenceError,
    StorageUnreadableError,
)
from qcsc_prefect.core.reference import JobReference, parse_job_reference

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from qcsc_prefect.core.engine.identity import ChosenInput, SubmissionIdentity
    from qcsc_prefect.core.engine.ledger import Ledger
    from qcsc_prefect.core.engine.service import AnyService

__all__ = ["SubmissionIntent", "SubmissionMemory", "UnreadableIntent"]


class SubmissionIntent(msgspec.Struct, kw_only=True, frozen=True):
    """That somebody is about to submit, or was when the process died.

    Attributes:
        outstanding: Whether there may be jobs of this submission that nobody knows of.
        declared_at: When the submission was about to be sent.
        holder: Host and process that were about to send it.
        earlier: Ids of the jobs that the submission was to replace; None where it was not asked to
            replace any.
        schema_version: Version of this schema.
    """

    outstanding: bool
    declared_at: datetime
    holder: str = ""
    earlier: list[str] | None = None
    schema_version: int = 1

    def __str__(self) -> str:
        began = self.declared_at.isoformat(timespec="seconds")
        return (
            f"A submission of this input was begun at {began} by {self.holder}, and its answer was "
            "lost"
        )


class UnreadableIntent(SubmissionIntent, kw_only=True, frozen=True):
    """Something in the place of an intent that says nothing; it is never stored.

    Attributes:
        reason: Why it cannot be read.
    """

    reason: str

    def __str__(self) -> str:
        return (
            "Whether the answer to an earlier submission of this input is outstanding is not "
            f"known, because its record cannot be read ({self.reason})"
        )


class _StoredOutline(msgspec.Struct, kw_only=True, frozen=True):
    """What the PUBs of a chosen digest were made of, when a job was last sent for it."""

    content_digest: str | None
    pubs: list[dict[str, str]]
    schema_version: int = 1


@dataclass(frozen=True)
class SubmissionMemory:
    """Sealed records of submissions in one ledger.

    Attributes:
        ledger: Where they are kept.
        logger: Where to say what cannot be stored or used.
        clock: Dates the intents.
    """

    ledger: Ledger
    logger: RunLogger = ENGINE_LOGGER
    clock: Clock = SYSTEM_CLOCK

    async def content(self, key: str) -> dict[str, object] | None:
        """Return what was written under a key, or None where there is none that can be used."""
        try:
            return await self._read(key)
        except StorageUnreadableError as error:
            self.logger.warning("A record of an earlier submission is passed over: %s", error)
            return None

    async def write(self, key: str, content: Mapping[str, object]) -> None:
        """Write a record; it is on storage when this returns.

        A record says when its job was made, and never expires: each call has its own limit.

        Args:
            key: Key of the record.
            content: What JSON can hold.

        Raises:
            Exception: Whatever the storage raises.
        """
        await self.ledger.write(key, sealed(key, content))

    async def recorded(self, key: str) -> JobReference | None:
        """Return the job that was recorded for a key, whatever became of it."""
        try:
            return await self._recorded(key)
        except StorageUnreadableError:
            return None

    async def _recorded(self, key: str) -> JobReference | None:
        try:
            content = await self._read(key)
        except StorageUnreadableError as error:
            self.logger.warning("A record of an earlier submission is passed over: %s", error)
            raise
        if content is None:
            return None
        try:
            return parse_job_reference(content)
        except JobReferenceError as error:
            self.logger.warning("The record of an earlier submission cannot be used: %s", error)
            return None

    async def usable_job(
        self,
        identity: SubmissionIdentity,
        service: AnyService,
        created_after: datetime | None,
        *,
        except_for: Collection[str] = (),
    ) -> JobReference | None:
        """Return the job that was recorded, unless it is too old, failed or gone.

        The log says which.

        Args:
            identity: The submission.
            service: Where to ask how the job stands.
            created_after: How old the job may be; None for any age.
            except_for: Ids of jobs that do not count.

        Raises:
            InputError: If the caller chose the digest, and the job ran another input.
            JobError: If the service does not let this account see the job.
            StorageUnreadableError: If one may be recorded, and cannot be read.
        """
        reference = await self._recorded(identity.key)
        if reference is None or reference.job_id is None or reference.job_id in except_for:
            return None
        if not is_recent(reference, created_after):
            self.logger.info(
                "Job %s is recorded for this input, but was submitted at %s and is older than this "
                "call allows; looking for a younger one",
                reference.job_id,
                reference.submitted_at or "an unknown time",
            )
            return None
        if not await self._may_give_a_result(reference, service, identity.visibility_delay):
            return None
        await self.refuse_other_input(identity, reference.job_id, reference.content_digest)
        return reference

    async def _may_give_a_result(
        self, reference: JobReference, service: AnyService, visibility_delay: float
    ) -> bool:
        job_id = str(reference.job_id)
        try:
            status = await service.status(job_id)
        except JobNotFoundError:
            if age_of(reference, await service.now()) < visibility_delay:
                return True  # the service need not show it yet
            self.logger.warning(
                "Job %s is recorded for this input, but the service does not know it any more; "
                "looking for another one",
                job_id,
            )
            return False
        except JobError as error:
            if error.retryable is False:
                raise
            self.logger.info(
                "Job %s is recorded for this input; it could not be checked now: %s", job_id, error
            )
            return True
        if status.state.has_failed:
            self.logger.warning(
                "Job %s is recorded for this input, but it ended as %s (%s); submitting a new one",
                job_id,
                status.raw_state,
                status.message or "no reason given",
            )
            return False
        self.logger.info(
            "Reusing job %s (%s) on %s: the same input was submitted before",
            job_id,
            status.raw_state,
            reference.backend_name,
        )
        return True

    async def refuse_other_input(
        self, identity: SubmissionIdentity, job_id: str, content_digest: str | None
    ) -> None:
        """Refuse a job that a chosen digest leads to, if it ran another input than this one.

        Args:
            identity: The submission.
            job_id: The job.
            content_digest: Digest of what it ran, where that is known.

        Raises:
            InputError: If it ran another input; the message names the first parts that differ.
        """
        chosen = identity.chosen
        if chosen is None:
            return
        if content_digest is None and chosen.content_digest is not None and not chosen.is_trusted:
            self.logger.warning(
                "Whether job %s, which is taken for the input_digest %r, ran the same PUBs is not "
                "known",
                job_id,
                identity.input_digest,
            )
        if not chosen.is_other(content_digest):
            return
        paths = await self._paths_that_differ(identity.key, chosen, content_digest)
        where = f" They differ at {', '.join(paths)}." if paths else ""
        raise InputError(
            f"input_digest {identity.input_digest!r} refused: it names the input of job "
            f"{job_id}, which ran other PUBs than those of this call.{where} Nothing was sent. "
            "Choose another input_digest for this input, or none; or pass "
            "trust_input_digest=True to take that job all the same.",
            path="input_digest",
        )

    async def _paths_that_differ(
        self, key: str, chosen: ChosenInput, content_digest: str | None
    ) -> list[str]:
        content = await self.content(_outline_key(key))
        try:
            earlier = msgspec.convert(content, _StoredOutline)
        except msgspec.ValidationError:
            return []
        # A submission that was never sent may have left it.
        if earlier.content_digest != content_digest:
            return []
        return first_differences(earlier.pubs, chosen.outline)

    async def outstanding_intent(self, key: str) -> SubmissionIntent | None:
        """Return the intent whose jobs may not all be known, or None.

        An intent that may be there and cannot be read is one: to heed it costs the visibility
        delay, not to heed it may cost a job.
        """
        try:
            content = await self._read(_intent_key(key))
        except StorageUnreadableError as error:
            self.logger.warning("An intent to submit may be outstanding: %s", error)
            return self.unreadable_intent(error)
        if content is None:
            return None
        try:
            intent = msgspec.convert(content, SubmissionIntent, strict=False)
        except msgspec.ValidationError as error:
            self.logger.warning("An intent to submit cannot be read, and is heeded: %s", error)
            return self.unreadable_intent(error)
        return intent if intent.outstanding else None

    async def declare_intent(
        self, identity: SubmissionIdentity, earlier: list[str] | None = None
    ) -> None:
        """Say that a job is about to be sent.

        Args:
            identity: The submission.
            earlier: Ids of the jobs that it is to replace; None where it is to replace none.
        """
        try:
            await self._write_intent(identity.key, outstanding=True, earlier=earlier)
        except Exception as error:  # noqa: BLE001 - storage raises errors of any kind
            self.logger.warning(
                "The intent to submit could not be stored (%s: %s); if this process dies before "
                "the service answers, a rerun may submit the job again",
                type(error).__name__,
                error,
            )
        if identity.chosen is not None:
            await self._write_outline(identity.key, identity.chosen)

    async def _write_outline(self, key: str, chosen: ChosenInput) -> None:
        outline = _StoredOutline(content_digest=chosen.content_digest, pubs=chosen.outline)
        try:
            await self.write(_outline_key(key), msgspec.to_builtins(outline))
        except Exception as error:  # noqa: BLE001 - storage raises errors of any kind
            self.logger.warning(
                "What the input consists of could not be stored (%s: %s); another input under the "
                "same input_digest will be refused without the paths that differ",
                type(error).__name__,
                error,
            )

    async def record(self, key: str, reference: JobReference) -> bool:
        """Record a job; one that cannot be recorded is named in the log.

        Args:
            key: The submit key.
            reference: The job.

        Returns:
            Whether it is recorded.
        """
        try:
            await self.write(key, reference.to_dict())
        except Exception as error:  # noqa: BLE001 - storage raises errors of any kind
            self.logger.warning(
                "Job %s on %s was submitted, but its record could not be stored (%s: %s). Keep the "
                "job id: the job can be fetched by it",
                reference.job_id,
                reference.backend_name,
                type(error).__name__,
                error,
            )
            return False
        return True

    async def clear_intent(self, identity: SubmissionIdentity) -> None:
        """Say that no job of a submission is unknown any more."""
        try:
            await self._write_intent(identity.key, outstanding=False)
        except Exception as error:  # noqa: BLE001 - storage raises errors of any kind
            self.logger.warning(
                "The intent to submit could not be cleared (%s: %s); a rerun may look for the job "
                "for %g s",
                type(error).__name__,
                error,
                identity.visibility_delay,
            )

    async def _write_intent(
        self, key: str, *, outstanding: bool, earlier: list[str] | None = None
    ) -> None:
        intent = SubmissionIntent(
            outstanding=outstanding,
            declared_at=self.clock.now(),
            holder=f"{socket.gethostname()}:{os.getpid()}",
            earlier=earlier,
        )
        await self.write(_intent_key(key), msgspec.to_builtins(intent))

    async def _read(self, key: str) -> dict[str, object] | None:
        content = await self.ledger.read(key)
        try:
            return None if content is None else unsealed(key, content)
        except DamagedRecordError as error:
            raise StorageUnreadableError(
                f"What is stored under the key {key} is damaged: {error}."
            ) from error

    def unreadable_intent(self, error: Exception) -> UnreadableIntent:
        """Return the intent that is heeded where nobody knows what lies on storage."""
        return UnreadableIntent(outstanding=True, declared_at=self.clock.now(), reason=str(error))


def _intent_key(key: str) -> str:
    return f"{key}-intent"


def _outline_key(key: str) -> str:
    return f"{key}-outline"
