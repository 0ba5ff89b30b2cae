"""What is remembered of one submission, and what of it can still be used.

Remembering never fails a submission: a job that was accepted is worth more than its record, so
what goes wrong with the storage goes to the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from qcsc_prefect.core.errors import InputError, JobError, JobNotFoundError
from qcsc_prefect.integrations.qiskit.chosen_digest import content_tag, first_differences
from qcsc_prefect.integrations.qiskit.job_age import age_of, is_recent
from qcsc_prefect.integrations.qiskit.jobs.service import JobState

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from qcsc_prefect.core.prefect.task_runs import RunLogger
    from qcsc_prefect.core.reference import JobReference
    from qcsc_prefect.integrations.qiskit.chosen_digest import ChosenInput
    from qcsc_prefect.integrations.qiskit.jobs.service import JobService
    from qcsc_prefect.integrations.qiskit.submission_ledger import (
        SubmissionIntent,
        SubmissionLedger,
    )

__all__ = ["SubmissionIdentity", "SubmissionMemory"]


@dataclass(frozen=True)
class SubmissionIdentity:
    """Under which names a submission is remembered.

    Attributes:
        key: Key of the record in Prefect's result storage.
        tag: Tag under which the service lists the job.
        input_digest: Digest of the input.
        lifetime: How old a job may be to be taken for this submission; None for any age.
        visibility_delay: Seconds after which the service's search shows a new job for certain.
        chosen: What stands behind the digest, where the caller chose it.
    """

    key: str
    tag: str
    input_digest: str
    lifetime: timedelta | None
    visibility_delay: float
    chosen: ChosenInput | None = None

    @property
    def content_digest(self) -> str | None:
        """The package's own digest of what runs, where the caller chose the input's digest."""
        return None if self.chosen is None else self.chosen.content_digest

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of a job of this submission, besides those that the caller gives it."""
        content = content_tag(self.content_digest)
        return (self.tag,) if content is None else (content, self.tag)


class _StoredOutline(msgspec.Struct, kw_only=True, frozen=True):
    """What the PUBs of a chosen digest were made of, when a job was last sent for it."""

    content_digest: str | None
    pubs: list[dict[str, str]]
    schema_version: int = 1


class SubmissionMemory:
    """The record and the intent of one submission.

    Args:
        identity: Under which names it is remembered.
        ledger: Where records and intents are kept.
        logger: Where to say what cannot be stored or used.
    """

    def __init__(
        self, identity: SubmissionIdentity, ledger: SubmissionLedger, logger: RunLogger
    ) -> None:
        self._identity = identity
        self._ledger = ledger
        self._logger = logger

    async def recorded_id(self) -> str | None:
        """Return the id of the job that was recorded, whatever became of it."""
        reference = await self._ledger.record(self._identity.key)
        return None if reference is None else reference.job_id

    async def recorded_job(
        self,
        service: JobService,
        created_after: datetime | None,
        *,
        except_for: Collection[str] = (),
    ) -> JobReference | None:
        """Return the job that was recorded, unless it is too old, failed or gone.

        The log says which.

        Args:
            service: Where to ask how the job stands.
            created_after: How old the job may be; None for any age.
            except_for: Ids of jobs that do not count.

        Raises:
            JobError: If the service does not let this account see the job.
        """
        reference = await self._ledger.record(self._identity.key)
        if reference is None or reference.job_id is None or reference.job_id in except_for:
            return None
        if not is_recent(reference, created_after):
            self._logger.info(
                "Job %s is recorded for this input, but was submitted at %s and is older than this "
                "call allows; looking for a younger one",
                reference.job_id,
                reference.submitted_at or "an unknown time",
            )
            return None
        try:
            status = await service.status(reference.job_id)
        except JobNotFoundError:
            if age_of(reference, await service.now()) < self._identity.visibility_delay:
                return reference  # the service need not show it yet
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
        if status.state in {JobState.ERROR, JobState.CANCELLED}:
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

    async def refuse_other_input(self, job_id: str, content_digest: str | None) -> None:
        """Refuse a job that a chosen digest leads to, if it ran another input than this one.

        Args:
            job_id: The job.
            content_digest: Digest of what it ran, where that is known.

        Raises:
            InputError: If it ran another input; the message names the first parts that differ.
        """
        chosen = self._identity.chosen
        if chosen is None:
            return
        if content_digest is None and chosen.content_digest is not None and not chosen.is_trusted:
            self._logger.warning(
                "Whether job %s, which is taken for the input_digest %r, ran the same PUBs is not "
                "known",
                job_id,
                self._identity.input_digest,
            )
        if not chosen.is_other(content_digest):
            return
        paths = await self._paths_that_differ(chosen, content_digest)
        where = f" They differ at {', '.join(paths)}." if paths else ""
        raise InputError(
            f"input_digest {self._identity.input_digest!r} refused: it names the input of job "
            f"{job_id}, which ran other PUBs than those of this call.{where} Nothing was sent. "
            "Choose another input_digest for this input, or none; or pass "
            "trust_input_digest=True to take that job all the same.",
            path="input_digest",
        )

    async def _paths_that_differ(
        self, chosen: ChosenInput, content_digest: str | None
    ) -> list[str]:
        content = await self._ledger.content(_outline_key(self._identity.key))
        try:
            earlier = msgspec.convert(content, _StoredOutline)
        except msgspec.ValidationError:
            return []
        # A submission that was never sent may have left it.
        if earlier.content_digest != content_digest:
            return []
        return first_differences(earlier.pubs, chosen.outline)

    async def outstanding_intent(self) -> SubmissionIntent | None:
        """Return the intent whose jobs may not all be known, or None."""
        return await self._ledger.outstanding_intent(self._identity.key)

    async def declare_intent(self, earlier: list[str] | None) -> None:
        """Say that the job is about to be sent.

        Args:
            earlier: Ids of the jobs that it is to replace; None where it is to replace none.
        """
        chosen = self._identity.chosen
        try:
            await self._ledger.declare_intent(self._identity.key, earlier=earlier)
            if chosen is not None:
                outline = _StoredOutline(content_digest=chosen.content_digest, pubs=chosen.outline)
                await self._ledger.write_content(
                    _outline_key(self._identity.key), msgspec.to_builtins(outline)
                )
        except Exception as error:  # noqa: BLE001 - storage blocks raise errors of any kind
            self._logger.warning(
                "The intent to submit could not be stored (%s: %s); if this process dies before "
                "the service answers, a rerun may submit the job again",
                type(error).__name__,
                error,
            )

    async def record(self, reference: JobReference) -> bool:
        """Record a job; one that cannot be recorded is named in the log.

        Args:
            reference: The job.

        Returns:
            Whether it is recorded.
        """
        try:
            await self._ledger.write_record(self._identity.key, reference)
        except Exception as error:  # noqa: BLE001 - storage blocks raise errors of any kind
            self._logger.warning(
                "Job %s on %s was submitted, but its record could not be stored (%s: %s). Keep the "
                "job id: the job can be fetched by it",
                reference.job_id,
                reference.backend_name,
                type(error).__name__,
                error,
            )
            return False
        return True

    async def clear_intent(self) -> None:
        """Say that no job of the submission is unknown any more."""
        try:
            await self._ledger.clear_intent(self._identity.key)
        except Exception as error:  # noqa: BLE001 - storage blocks raise errors of any kind
            self._logger.warning(
                "The intent to submit could not be cleared (%s: %s); a rerun may look for the job "
                "for %g s",
                type(error).__name__,
                error,
                self._identity.visibility_delay,
            )


def _outline_key(key: str) -> str:
    return f"{key}-outline"
