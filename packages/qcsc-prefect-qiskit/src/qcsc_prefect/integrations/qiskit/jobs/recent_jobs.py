"""Looks at what was submitted just now, with one search for all submissions of the moment.

After each submission the service is asked whether another machine has sent the same input at the
same moment. By its tag, that is a search for each of them. A search for whatever was created in the
last minutes answers it for all of them at once.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from qcsc_prefect.integrations.qiskit.jobs.listing import MOST_LISTED, list_jobs, listed_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import datetime

    from qiskit_ibm_runtime.api.client import RuntimeClient

    from qcsc_prefect.integrations.qiskit.jobs.service import ListedJob

__all__ = ["RecentJobs", "jobs_created_since"]

#: Jobs that were submitted longer ago are not looked for in this way: there would be many.
_RECENT = timedelta(minutes=10)
#: By so much the service's clock may be wrong as it is known here.
_UNSURE = timedelta(seconds=10)
#: Seconds for which a search waits for submissions that are under way, which then share it.
_GATHERING = 0.15


def jobs_created_since(client: RuntimeClient, moment: datetime) -> list[ListedJob] | None:
    """List the jobs of an instance that were created since then; blocks.

    Args:
        client: The native client's connection to the instance.
        moment: By the service's clock.

    Returns:
        The jobs; None if there are many, or if the service does not tell their tags.

    Raises:
        JobError: If the answer is no list of jobs.
    """
    found = list_jobs(client, created_after=moment, at_most=MOST_LISTED)
    listed = [listed_job(raw) for raw in found or ()]
    return None if found is None or any(job.tags is None for job in listed) else listed


@dataclass(eq=False)
class _Search:
    """A search that several submissions share."""

    since: datetime
    answer: Future[list[ListedJob] | None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        # A future that runs cannot be cancelled: one impatient task must not fail the others.
        self.answer.set_running_or_notify_cancel()


class RecentJobs:
    """Jobs of one instance that were created just now.

    Every method may be called from any event loop.

    Args:
        search: Lists the jobs that were created since a moment of the service's clock, as
            `jobs_created_since` does.
    """

    def __init__(
        self,
        search: Callable[[datetime], Awaitable[list[ListedJob] | None]],
    ) -> None:
        self._search = search
        self._lock = threading.Lock()
        self._submissions = 0
        self._gathering: _Search | None = None

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
            The jobs; None where a search for the tag itself has to tell, and where no other
            submission is under way, so that it costs no more.

        Raises:
            JobError: If the service could not be asked.
        """
        if now - since > _RECENT:
            return None
        with self._lock:
            search = self._gathering
            if search is not None:
                search.since = min(search.since, since)
            elif not (self._submissions or shared):
                return None
            else:
                mine = self._gathering = _Search(since)
        if search is None:
            found = await self._lead(mine)
        else:
            found = await asyncio.wrap_future(search.answer)
        own = next((job for job in found or () if job.job_id == job_id), None)
        if found is None or own is None:
            return None
        return [job for job in found if tag in (job.tags or ())]

    async def _lead(self, search: _Search) -> list[ListedJob] | None:
        try:
            await self._gather()
            found = await self._search(search.since - _UNSURE)
        except Exception as error:
            search.answer.set_exception(error)
            raise
        except BaseException:
            search.answer.set_result(None)  # cancelled; the others search by themselves
            raise
        search.answer.set_result(found)
        return found

    async def _gather(self) -> None:
        try:
            await asyncio.sleep(_GATHERING)
        finally:
            with self._lock:
                self._gathering = None
