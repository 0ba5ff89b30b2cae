"""Looks for jobs with one search for all submissions of the moment.

Before a submission the service is asked whether a job of the same input is there already, and after
it whether another machine has sent the same input at the same moment. By its tag, that is two
searches for each submission. A search for whatever was created since a moment answers it for all of
them at once, unless that would be more pages than they are.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from qcsc_prefect.integrations.qiskit.services.ibm.listing import (
    PAGE,
    is_job,
    list_jobs,
    listed_job,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qiskit_ibm_runtime.api.client import RuntimeClient

    from qcsc_prefect.core.engine.service import ListedJob
    from qcsc_prefect.integrations.qiskit.services.ibm.listing import RawJob

__all__ = ["RecentJobs", "jobs_created_since"]

#: By so much the service's clock may be wrong as it is known here.
_UNSURE = timedelta(seconds=10)
#: Jobs that were submitted longer ago are not looked for beside a new one: there would be many.
_RECENT = timedelta(minutes=10)
#: Seconds for which a search waits for submissions that are under way, which then share it.
_GATHERING = 0.15
#: For no longer it waits for the one before.
_LONGEST_GATHERING = 2.0
#: Jobs that are read for each submission that shares a search: a page, as its own would be.
_FOR_EACH = PAGE
_EVER = datetime.min.replace(tzinfo=UTC)


def jobs_created_since(
    client: RuntimeClient, moment: datetime | None, *, at_most: int
) -> list[RawJob] | None:
    """List the jobs of an instance that were created since then; blocks.

    Args:
        client: The native client's connection to the instance.
        moment: By the service's clock; None for all there are.
        at_most: How many jobs to read.

    Returns:
        What the service says about the jobs, newest first; None if there are more, or if it does
        not tell their tags.

    Raises:
        JobError: If the answer is no list of jobs.
    """
    found = list_jobs(client, created_after=moment, at_most=at_most)
    jobs = [raw for raw in found or () if is_job(raw) and isinstance(raw.get("tags"), list)]
    return None if found is None or len(jobs) < len(found) else jobs


class _ListSince(Protocol):
    async def __call__(self, moment: datetime | None, *, at_most: int) -> list[RawJob] | None:
        """List jobs as `jobs_created_since` does."""


@dataclass(eq=False)
class _Search:
    """A search that several submissions share."""

    since: datetime
    sharing: int = 1
    answer: Future[list[RawJob] | None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        # A future that runs cannot be cancelled: one impatient task must not fail the others.
        self.answer.set_running_or_notify_cancel()


class _SharedSearch:
    """Answers all who ask at about the same moment, or during a search, with the next search.

    Args:
        list_since: Asks the service.
    """

    def __init__(self, list_since: _ListSince) -> None:
        self._list_since = list_since
        self._lock = threading.Lock()
        self._gathering: _Search | None = None
        self._under_way: Future[None] | None = None

    async def jobs_since(self, moment: datetime) -> list[RawJob] | None:
        """List the jobs that were created since then, as `jobs_created_since` does."""
        with self._lock:
            search = self._gathering
            if search is None:
                mine = self._gathering = _Search(moment)
            else:
                search.since = min(search.since, moment)
                search.sharing += 1
        if search is None:
            return await self._lead(mine)
        return await asyncio.wrap_future(search.answer)

    async def _lead(self, search: _Search) -> list[RawJob] | None:
        over: Future[None] = Future()
        over.set_running_or_notify_cancel()
        try:
            await self._gather(over)
            found = await self._list_since(
                None if search.since == _EVER else search.since,
                at_most=search.sharing * _FOR_EACH,
            )
        except Exception as error:
            search.answer.set_exception(error)
            raise
        except BaseException:
            search.answer.set_result(None)  # cancelled; the others search by themselves
            raise
        finally:
            over.set_result(None)
        search.answer.set_result(found)
        return found

    async def _gather(self, over: Future[None]) -> None:
        try:
            await asyncio.sleep(_GATHERING)
            if self._under_way is not None:
                # Its answer is too old for these; and as long as it takes, others may join them.
                before = asyncio.wrap_future(self._under_way)
                await asyncio.wait([before], timeout=_LONGEST_GATHERING)
        finally:
            with self._lock:
                self._gathering, self._under_way = None, over


class RecentJobs:
    """Jobs of one instance, looked for by several submissions together.

    Every method may be called from any event loop.

    Args:
        list_since: Lists jobs, as `jobs_created_since` does.
    """

    def __init__(self, list_since: _ListSince) -> None:
        self._before = _SharedSearch(list_since)
        self._beside = _SharedSearch(list_since)
        self._lock = threading.Lock()
        self._submissions = 0

    @contextmanager
    def submission(self) -> Iterator[None]:
        """Take note that a submission is under way, which will ask for jobs when it is done."""
        with self._lock:
            self._submissions += 1
        try:
            yield
        finally:
            with self._lock:
                self._submissions -= 1

    async def before(self, tag: str, created_after: datetime | None) -> list[ListedJob] | None:
        """List the jobs that carry a tag, before one is submitted under it.

        Args:
            tag: The tag.
            created_after: From when on, by the service's clock; None for any age.

        Returns:
            The jobs, newest first; None where a search for the tag itself has to tell, and where no
            other submission is under way, so that it costs no more.

        Raises:
            JobError: If the service could not be asked.
        """
        if self._submissions < 2:  # noqa: PLR2004 - this one, and another
            return None
        found = await self._before.jobs_since(created_after or _EVER)
        if found is None:
            return None
        return [
            job
            for job in _listed_under(tag, found)
            if created_after is None or job.created_at is None or job.created_at >= created_after
        ]

    async def beside(
        self, job_id: str, tag: str, since: datetime, *, now: datetime, shared: bool = False
    ) -> list[ListedJob] | None:
        """List the jobs that carry a tag and were created just now, among them a certain one.

        Args:
            job_id: A job that has just been submitted under the tag.
            tag: The tag.
            since: From when on others may have been created, by the service's clock.
            now: The present by the service's clock.
            shared: Whether others ask at this moment, though no submission is under way.

        Returns:
            As `before`; None also where the service does not show the job.

        Raises:
            JobError: If the service could not be asked.
        """
        if now - since > _RECENT or not (self._submissions or shared):
            return None
        found = await self._beside.jobs_since(since - _UNSURE)
        listed = _listed_under(tag, found or ())
        return listed if any(job.job_id == job_id for job in listed) else None


def _listed_under(tag: str, jobs: Iterable[RawJob]) -> list[ListedJob]:
    return [listed_job(raw) for raw in jobs if tag in raw["tags"]]
