"""Finds the jobs that a submission has made, by the tag that it gave them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from qcsc_prefect.core.engine.cancelling import NO_ANSWER
from qcsc_prefect.core.engine.identity import content_tags
from qcsc_prefect.core.engine.service import JobState, ListedJob
from qcsc_prefect.core.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qcsc_prefect.core.engine.log import RunLogger
    from qcsc_prefect.core.engine.service import AnyService

__all__ = ["LOST_WITHIN", "REPEATED_WITHIN", "SubmissionLookup"]

#: Jobs of one tag that were created this close to each other come from machines that began at the
#: same moment; those further apart were asked for one by one, for example with Prefect's
#: refresh_cache.
REPEATED_WITHIN = timedelta(minutes=2)
#: The same where a submission is known to have been sent and its answer to have been lost: it is
#: sent again for ten minutes, and a slow gateway may take minutes to refuse it.
LOST_WITHIN = timedelta(minutes=15)

#: By so much the time of a submission may differ from that which a search shows.
_UNSURE = timedelta(seconds=10)
_NEVER = datetime.max.replace(tzinfo=UTC)
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
#: Seconds after which somebody who waits for a search wants to hear of it again.
_SILENCE = 10.0


@dataclass(eq=False)
class SubmissionLookup:
    """Looks for the jobs of one input on one backend.

    Attributes:
        service: Where to look.
        tag: The tag of the input.
        backend_name: The backend. A digest that the caller made need not hold it, so jobs on
            another one may carry the same tag; they are not this submission's. None for any.
        created_after: How old a job may be. A moment, not an age: a job that this very submission
            makes must not grow too old while it is looked for. None for any age.
        logger: Where to say which jobs were cancelled.
        content_tag: The tag of what is to run, where the caller chose the digest of the input. A
            job that carries another one of this kind ran something else, and does not count. None
            where every job of the tag counts.
        except_for: Ids of jobs that do not count.
        others: Usable jobs that the last search showed and that ran something else.
    """

    service: AnyService
    tag: str
    backend_name: str | None
    created_after: datetime | None
    logger: RunLogger
    content_tag: str | None = None
    except_for: frozenset[str] = frozenset()
    others: list[ListedJob] = field(default_factory=list, init=False)
    _named: set[str] = field(default_factory=set, init=False)  # repetitions that the log has named
    _asked_at: datetime | None = field(default=None, init=False)

    def leaving_out(self, job_ids: Iterable[str]) -> SubmissionLookup:
        """Return the same lookup for which some jobs do not count.

        Args:
            job_ids: Their ids.
        """
        return replace(self, except_for=self.except_for.union(job_ids))

    async def listed(self) -> list[ListedJob]:
        """Return the jobs that the service lists, oldest first, in the same order for everybody.

        Raises:
            JobError: If the service could not be asked.
        """
        asked_at = await self.service.now()
        found = await self.service.jobs_with_tag(self.tag, self.created_after)
        self._asked_at = asked_at
        return self._counted(found)

    def _counted(self, found: Iterable[ListedJob]) -> list[ListedJob]:
        counted = [
            job
            for job in found
            if job.job_id not in self.except_for
            and (
                None in (job.backend_name, self.backend_name)
                or job.backend_name == self.backend_name
            )
        ]
        others = [job for job in counted if self._ran_something_else(job)]
        self.others = [job for job in others if not job.state.has_failed]
        counted = [job for job in counted if job not in others]
        return sorted(counted, key=lambda job: (job.created_at or _NEVER, job.job_id))

    def _ran_something_else(self, job: ListedJob) -> bool:
        known = content_tags(job.tags)
        return self.content_tag is not None and bool(known) and self.content_tag not in known

    async def usable_job(self, repeated_within: timedelta = REPEATED_WITHIN) -> ListedJob | None:
        """Return the oldest job that has not failed, and cancel what repeats it in the queue.

        A repetition that runs already cannot be taken back; the log names it.

        Args:
            repeated_within: How much later than that job another one counts as its repetition.

        Raises:
            JobError: If the service could not be asked.
        """
        return await self._first_usable(await self.listed(), repeated_within)

    async def usable_job_beside(
        self, job_id: str, submitted_at: datetime | None, visibility_delay: float
    ) -> ListedJob | None:
        """Return the oldest usable job after one was submitted, and cancel what repeats it.

        Args:
            job_id: The job that was just submitted.
            submitted_at: When, by the service's clock; None where that is not known.
            visibility_delay: Seconds after which the service shows a new job for certain.

        Raises:
            JobError: If the service could not be asked.
        """
        if self._asked_at is None:
            listed = await self.listed()
        else:
            found = await self.service.jobs_beside(
                job_id,
                self.tag,
                self.created_after,
                since=self._asked_at - timedelta(seconds=visibility_delay),
            )
            listed = self._counted(found)
        oldest = await self._first_usable(listed, REPEATED_WITHIN, own=job_id)
        if oldest is not None and all(job.job_id != job_id for job in listed):
            await self._cancel_unlisted(job_id, submitted_at, oldest)
        return oldest

    async def _cancel_unlisted(
        self, job_id: str, submitted_at: datetime | None, oldest: ListedJob
    ) -> None:
        """Cancel the own job where an older one is taken, and the search does not show it yet."""
        own = ListedJob(job_id, oldest.backend_name, JobState.QUEUED, submitted_at)
        # Of jobs of the same moment it is not known which is the older; who waits settles that.
        if _repeats(own, oldest, REPEATED_WITHIN) and not _repeats(own, oldest, _UNSURE):
            try:
                state = (await self.service.status(job_id)).state
            except NO_ANSWER as error:
                self._say_not_cancelled(own, oldest, error)
            else:
                await self._cancel_duplicate(replace(own, state=state), oldest)

    async def settle_late(self, job_id: str, since: datetime) -> None:
        """Cancel what repeats the oldest job, where the service shows it only now.

        Args:
            job_id: The job that was submitted here some seconds ago.
            since: From when on another one may have been created, by the service's clock.

        Raises:
            JobError: If the service could not be asked.
        """
        found = await self.service.jobs_seen_late(job_id, self.tag, since)
        if found is not None:
            await self._first_usable(self._counted(found), REPEATED_WITHIN, own=job_id)

    async def _first_usable(
        self, listed: list[ListedJob], repeated_within: timedelta, *, own: str | None = None
    ) -> ListedJob | None:
        usable = [job for job in listed if not job.state.has_failed]
        if not usable:
            return None
        first, *others = usable
        # Who trusts a chosen digest takes a job that ran something else, but cancels none for it:
        # others may wait for what the others run.
        ran = content_tags(first.tags)
        repeating = [
            job
            for job in others
            if _repeats(job, first, repeated_within) and content_tags(job.tags) == ran
        ]
        # Its own at once: whoever waits for it is here. The others may be cancelled by theirs too.
        for these in (
            [job for job in repeating if job.job_id == own],
            [job for job in repeating if job.job_id != own],
        ):
            await asyncio.gather(*(self._cancel_duplicate(job, first) for job in these))
        return first

    async def job_repeated_by(self, job_id: str) -> ListedJob | None:
        """Return the oldest usable job that another one was a repetition of, or None.

        Args:
            job_id: The repetition.

        Raises:
            JobError: If the service could not be asked.
        """
        earlier: list[ListedJob] = []
        for job in await self.listed():
            if job.job_id == job_id:
                return next((one for one in earlier if _repeats(job, one, LOST_WITHIN)), None)
            if not job.state.has_failed:
                earlier.append(job)
        return None

    async def job_that_may_show_up(self, visibility_delay: float) -> ListedJob | None:
        """Return the oldest usable job, once there is one or the service must show every job.

        Args:
            visibility_delay: Seconds after which the service shows a new job for certain.

        Returns:
            The job, or None where there is none.

        Raises:
            JobError: If the service could not be asked.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + visibility_delay
        pause, next_word = _FIRST_PAUSE, loop.time() + _SILENCE
        while True:
            # Asked before the search is sent: the last one comes after the deadline.
            is_last = loop.time() >= deadline
            try:
                found = await self.usable_job(LOST_WITHIN)
            except JobError as error:
                if is_last or error.retryable is False:
                    raise
            else:
                if is_last or found is not None:
                    return found
                if loop.time() >= next_word:
                    self.logger.info(
                        "Still looking, for another %.0f s; no job shows so far",
                        max(0.0, deadline - loop.time()),
                    )
                    next_word += _SILENCE
            await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _cancel_duplicate(self, duplicate: ListedJob, kept: ListedJob) -> None:
        if duplicate.job_id in self._named:
            return
        if not duplicate.state.is_waiting:
            self._named.add(duplicate.job_id)
            self.logger.warning(
                "Job %s (%s) is a duplicate of job %s and no longer waits in the queue, so it "
                "was not cancelled",
                duplicate.job_id,
                duplicate.state.value,
                kept.job_id,
            )
            return
        try:
            cancelled = await self.service.cancel(duplicate.job_id)
        except NO_ANSWER as error:
            self._say_not_cancelled(duplicate, kept, error)
            return
        self._named.add(duplicate.job_id)
        self.logger.warning(
            "Cancelled job %s, a duplicate of job %s"
            if cancelled
            # By the other machine, most often.
            else "Job %s, a duplicate of job %s, can no longer be cancelled: it was, or had ended",
            duplicate.job_id,
            kept.job_id,
        )

    def _say_not_cancelled(self, duplicate: ListedJob, kept: ListedJob, error: Exception) -> None:
        self.logger.warning(
            "Job %s is a duplicate of job %s and could not be cancelled: %s",
            duplicate.job_id,
            kept.job_id,
            error,
        )


def _repeats(other: ListedJob, first: ListedJob, within: timedelta) -> bool:
    """Whether a job is there only because the submission of the first one was sent again."""
    if other.created_at is None or first.created_at is None:
        return False
    return other.created_at - first.created_at <= within
