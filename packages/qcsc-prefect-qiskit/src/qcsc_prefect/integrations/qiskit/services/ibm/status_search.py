"""Finds many jobs with few searches, however many others there are.

The service lists jobs by the time of their creation, 200 a page, and takes no list of ids. Each
search here begins at the newest job that is still sought, so it shows at least that one: never are
there more searches than jobs. Jobs that one process submitted share a tag, by which a search passes
over everybody else's; those that wait or run are listed apart from those that have ended, of which
there may be many more.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from qcsc_prefect.integrations.qiskit.services.ibm.listing import PAGE, creation_time, is_job

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qcsc_prefect.core.engine.service import AwaitedJob
    from qcsc_prefect.integrations.qiskit.services.ibm.listing import RawJob

__all__ = ["ListPage", "search_for"]

_PROCESS_TAG = re.compile(r"qcsc-process-[0-9a-f]{16}")

#: By so much a reference may be wrong about when its job was created, by the service's clock.
_UNSURE = timedelta(minutes=5)
#: So many jobs that share no tag are sought together; fewer are asked for one by one.
_WORTH_A_SEARCH = 4
#: Among so few jobs one search most often finds all, whether they have ended or not.
_FEW = 20


class ListPage(Protocol):
    """Asks for one page of jobs, newest first."""

    async def __call__(
        self, *, tag: str | None, pending: bool | None, created_before: datetime | None
    ) -> list[object]:
        """Return what the service lists."""


class _Sought:
    """A job, and between which moments of the service's clock it was created."""

    def __init__(self, job: AwaitedJob, earliest: datetime, latest: datetime) -> None:
        self.job_id = job.job_id
        self.tag = _process_tag_of(job)
        self.earliest = earliest
        self.latest = latest


async def search_for(
    jobs: Iterable[AwaitedJob], list_page: ListPage, found: dict[str, RawJob]
) -> None:
    """Search for jobs of which it is known when they were created.

    Args:
        jobs: The jobs.
        list_page: Asks the service.
        found: Takes what the service says of each job that a search shows; it keeps what was found
            before a search failed.

    Raises:
        JobError: If a search failed.
    """
    for tag, group in _groups([sought for job in jobs if (sought := _sought(job))]):
        left = group
        if len(left) <= _FEW:
            left = await _scan(left, list_page, found, tag, at_most=1)
        # In this order: what ends between the two is shown by the second.
        for pending in (True, False):
            left = await _scan(left, list_page, found, tag, pending=pending)


async def _scan(
    left: list[_Sought],
    list_page: ListPage,
    found: dict[str, RawJob],
    tag: str | None,
    *,
    pending: bool | None = None,
    at_most: int | None = None,
) -> list[_Sought]:
    """List jobs where some are sought, and return those that were not found."""
    to_come = sorted(left, key=lambda sought: sought.latest, reverse=True)
    before, searches = None, 0
    # A single one is asked for by its id.
    while len(to_come) > 1 and searches != at_most:
        latest = _rounded_up(to_come[0].latest)
        before = latest if before is None else min(latest, before)
        page = await list_page(tag=tag, pending=pending, created_before=before)
        searches += 1
        shown = [raw for raw in page if is_job(raw)]
        found.update((raw["id"], raw) for raw in shown)
        created = [moment for raw in shown if (moment := creation_time(raw)) is not None]
        if len(page) < PAGE or not created:
            break
        before = _rounded_up(min(created))
        # Those that are younger than the last one shown would have been shown.
        to_come = [
            sought
            for sought in to_come[1:]
            if sought.job_id not in found and sought.earliest <= before
        ]
    return [sought for sought in left if sought.job_id not in found]


def _groups(sought: Sequence[_Sought]) -> Iterable[tuple[str | None, list[_Sought]]]:
    by_tag: defaultdict[str | None, list[_Sought]] = defaultdict(list)
    for one in sought:
        by_tag[one.tag].append(one)
    others = by_tag.pop(None, [])
    for tag, group in by_tag.items():
        if len(group) == 1:
            others += group
        else:
            yield tag, group
    if len(others) >= _WORTH_A_SEARCH:
        yield None, others


def _sought(job: AwaitedJob) -> _Sought | None:
    created = None if job.last is None else creation_time(job.last.answer or {})
    if created is not None:
        return _Sought(job, created, created)
    if job.submitted_at is None:
        return None
    return _Sought(job, job.submitted_at - _UNSURE, job.submitted_at + _UNSURE)


def _process_tag_of(job: AwaitedJob) -> str | None:
    tags: object = job.tags
    if job.last is not None and job.last.answer is not None:
        tags = job.last.answer.get("tags")
    named = tags if isinstance(tags, (list, tuple)) else ()
    return next((tag for tag in map(str, named) if _PROCESS_TAG.fullmatch(tag)), None)


def _rounded_up(moment: datetime) -> datetime:
    """Return a moment as late as it may have been: some services tell seconds or milliseconds."""
    if moment.microsecond == 0:
        return moment + timedelta(seconds=1)
    return moment + timedelta(milliseconds=1 if moment.microsecond % 1000 == 0 else 0)
