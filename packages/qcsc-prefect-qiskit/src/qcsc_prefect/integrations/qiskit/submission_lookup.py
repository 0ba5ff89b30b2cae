"""Finds the jobs that a submission has made, by the tag that it gave them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from qcsc_prefect.core.errors import JobError
from qcsc_prefect.integrations.qiskit.jobs.service import JobState

if TYPE_CHECKING:
    from collections.abc import Collection

    from qcsc_prefect.integrations.qiskit.jobs.service import JobService, ListedJob
    from qcsc_prefect.integrations.qiskit.task_runs import RunLogger

__all__ = ["REPEATED_WITHIN", "SubmissionLookup"]

#: Jobs of one tag that were created this close to each other come from one submission that was
#: sent again, by the client or by a machine that began at the same moment; those further apart were
#: asked for one by one, for example with Prefect's refresh_cache. The client's own repetitions of a
#: POST end after 15 s of answers, each of which may take a while.
REPEATED_WITHIN = timedelta(minutes=2)

_NEVER = datetime.max.replace(tzinfo=UTC)
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0


class SubmissionLookup:
    """Looks for the jobs of one input.

    Args:
        service: Where to look.
        tag: The tag of the input.
        lifetime: How old a job may be; None for any age.
        logger: Where to say which jobs were cancelled.
        except_for: Ids of jobs that do not count.
    """

    def __init__(
        self,
        service: JobService,
        tag: str,
        lifetime: timedelta | None,
        logger: RunLogger,
        except_for: Collection[str] = (),
    ) -> None:
        self._service = service
        self._tag = tag
        self._lifetime = lifetime
        self._logger = logger
        self._except_for = frozenset(except_for)

    async def listed(self) -> list[ListedJob]:
        """Return the jobs that the service lists, oldest first, in the same order for everybody.

        Raises:
            JobError: If the service could not be asked.
        """
        oldest = None if self._lifetime is None else datetime.now(UTC) - self._lifetime
        found = await self._service.jobs_with_tag(self._tag, oldest)
        counted = [job for job in found if job.job_id not in self._except_for]
        return sorted(counted, key=lambda job: (job.created_at or _NEVER, job.job_id))

    async def usable_job(self) -> ListedJob | None:
        """Return the oldest job that has not failed, and cancel what repeats it in the queue.

        Raises:
            JobError: If the service could not be asked.
        """
        usable = [
            job
            for job in await self.listed()
            if job.state not in {JobState.ERROR, JobState.CANCELLED}
        ]
        if not usable:
            return None
        first, *others = usable
        for other in others:
            if _repeats(other, first):
                await self._cancel_duplicate(other, first)
        return first

    async def job_that_may_show_up(self, visibility_delay: float) -> ListedJob | None:
        """Return the oldest usable job once the service must show every job there is.

        Nobody knows how often a submission was sent whose answer was lost, so the first job that
        shows up need not be the only one.

        Args:
            visibility_delay: Seconds after which the service shows a new job for certain.

        Returns:
            The job, or None where there is none.

        Raises:
            JobError: If the service could not be asked.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + visibility_delay
        pause = _FIRST_PAUSE
        while True:
            # Asked before the search is sent: the last one comes after the deadline.
            is_last = loop.time() >= deadline
            try:
                found = await self.usable_job()
            except JobError as error:
                if is_last or error.retryable is False:
                    raise
            else:
                if is_last:
                    return found
            await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
            pause = min(2 * pause, _LONGEST_PAUSE)

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


def _repeats(other: ListedJob, first: ListedJob) -> bool:
    """Whether a job waits in the queue only because a submission was sent more than once."""
    if other.state not in {JobState.INITIALIZING, JobState.QUEUED}:
        return False
    if other.created_at is None or first.created_at is None:
        return False
    return other.created_at - first.created_at <= REPEATED_WITHIN
