"""Searches the service for jobs, through the native client's own connection.

``QiskitRuntimeService.jobs()`` cannot be used for this: it drops the state that the service sends
with every job, it searches whichever instance was used last, and it never ends when the service
counts more jobs than its pages hold. The client's connection answers with what the service sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, TypeGuard

from qcsc_prefect.core.engine.job_age import moment_of
from qcsc_prefect.core.engine.service import JobState, JobStatus, ListedJob
from qcsc_prefect.core.errors import JobError
from qcsc_prefect.integrations.qiskit.services.ibm.asking import CLIENT_ERRORS, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from qiskit_ibm_runtime.api.client import RuntimeClient

__all__ = [
    "PAGE",
    "RAN_TOO_LONG",
    "RawJob",
    "creation_time",
    "is_job",
    "list_jobs",
    "list_page",
    "listed_job",
    "read_job",
    "status_of",
]

#: Jobs in one page; the service's own limit.
PAGE = 200
#: Pages that are read at the most; a tag names a handful of jobs.
_MAX_PAGES = 10

_STATES = {
    "QUEUED": JobState.QUEUED,
    "RUNNING": JobState.RUNNING,
    "COMPLETED": JobState.DONE,
    "FAILED": JobState.ERROR,
    "CANCELLED": JobState.CANCELLED,
}
#: The service cancels a job that ran too long, and says so by this code.
RAN_TOO_LONG = 1305


class RawState(TypedDict, total=False):
    """The state of a job in the service's answer."""

    status: str
    reason: str
    reasonCode: int
    reason_code: int


class RawProgram(TypedDict, total=False):
    """The program of a job in the service's answer."""

    id: str


class RawJob(TypedDict, total=False):
    """What the service's answer says about one job, as far as it is used here.

    Of these, `is_job` has looked at ``id`` and ``state`` only; the others may be of any type.
    """

    id: str
    backend: str
    created: str
    tags: list[str]
    state: RawState
    position: int
    position_in_queue: int
    program: RawProgram
    session_id: str | None


def is_job(answer: object) -> TypeGuard[RawJob]:
    """Whether an answer of the service names a job, and the state that it is in."""
    if not isinstance(answer, dict) or not isinstance(answer.get("id"), str):
        return False
    state = answer.get("state")
    return isinstance(state, dict) and isinstance(state.get("status"), str)


def list_page(
    client: RuntimeClient,
    *,
    tag: str | None = None,
    pending: bool | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    skip: int = 0,
) -> tuple[list[object], int]:
    """Search one instance for jobs, and read one page of what it lists; blocks.

    Args:
        client: The native client's connection to the instance.
        tag: Only jobs that carry this tag.
        pending: Only jobs that wait or run (True), or that have ended (False).
        created_after: Only jobs created since then.
        created_before: Only jobs created until then.
        skip: How many jobs to pass over.

    Returns:
        What the service says about the jobs, newest first, and how many it counts. Each of them is
        to be looked at with `is_job`.

    Raises:
        JobError: If the answer is no list of jobs; asking again may help.
    """
    answer = client.jobs_get(
        limit=PAGE,
        skip=skip,
        job_tags=None if tag is None else [tag],
        pending=pending,
        created_after=created_after,
        created_before=created_before,
    )
    if not _is_list_of_jobs(answer):
        raise JobError(
            "Searching for jobs failed: the service's answer is no list of jobs. This may "
            "pass: try again later.",
            retryable=True,
        )
    return answer["jobs"], answer.get("count", 0)


def list_jobs(
    client: RuntimeClient,
    *,
    tag: str | None = None,
    created_after: datetime | None = None,
    at_most: int | None = None,
) -> list[object] | None:
    """Search one instance for jobs, and read all pages of what it lists; blocks.

    Args:
        client: The native client's connection to the instance.
        tag: Only jobs that carry this tag.
        created_after: Only jobs created since then.
        at_most: How many jobs to read, or none at all where there are more; None for as many as
            fit on the pages that are read.

    Returns:
        As `list_page`; None if there are more jobs than ``at_most``.

    Raises:
        JobError: If an answer is no list of jobs; asking again may help.
    """
    found: list[object] = []
    for _ in range(_MAX_PAGES):
        jobs, count = list_page(client, tag=tag, created_after=created_after, skip=len(found))
        found += jobs
        if at_most is not None and count > at_most:
            return None
        if not jobs or len(found) >= count:
            return found
    return found if at_most is None else None


def read_job(client: RuntimeClient, job_id: str) -> RawJob:
    """Ask one instance for one job; blocks.

    Args:
        client: The native client's connection to the instance.
        job_id: The job.

    Returns:
        What the service says about it.

    Raises:
        JobError: If the answer is no job; asking again may help.
    """
    try:
        answer: object = client.job_get(job_id, exclude_params=True)
    except CLIENT_ERRORS:
        raise
    except UNREADABLE:
        answer = None  # the client looks into the answer, and takes it for a mapping
    if not is_job(answer) or answer["id"] != job_id:
        raise JobError(
            f"Asking for job {job_id} failed: the service's answer is no job. This may pass: "
            "try again later; the job itself goes on.",
            job_id=job_id,
            retryable=True,
        )
    return answer


def listed_job(raw: object) -> ListedJob:
    """Read one job of a search.

    Args:
        raw: What the service says about it.

    Returns:
        The job.

    Raises:
        JobError: If that is no job; asking again may help.
    """
    if not is_job(raw):
        raise JobError(
            "Searching for jobs failed: what the service lists is no job. This may pass: try again "
            "later.",
            retryable=True,
        )
    program = raw.get("program")
    tags = raw.get("tags")
    return ListedJob(
        job_id=raw["id"],
        backend_name=_text(raw.get("backend")),
        state=status_of(raw).state,
        created_at=creation_time(raw),
        program=_text(program.get("id")) if isinstance(program, dict) else None,
        session_id=_text(raw.get("session_id")),
        tags=tuple(map(str, tags)) if isinstance(tags, list) else None,
    )


def status_of(raw: RawJob) -> JobStatus:
    """Read where a job stands."""
    state = raw["state"]
    word = state["status"].upper()
    code = _number(state.get("reasonCode")) or _number(state.get("reason_code"))
    return JobStatus(
        state=_STATES.get(word, JobState.UNKNOWN),
        raw_state=word,
        queue_position=_number(raw.get("position_in_queue")) or _number(raw.get("position")),
        message=_text(state.get("reason")),
        ran_too_long=code == RAN_TOO_LONG,
        service_code=code,
        answer=raw,
    )


def creation_time(raw: Mapping[str, object]) -> datetime | None:
    """Return when a job was created, or None where the service does not say so."""
    return moment_of(str(raw.get("created")))


def _is_list_of_jobs(answer: object) -> TypeGuard[dict[str, Any]]:
    return (
        isinstance(answer, dict)
        and isinstance(answer.get("jobs"), list)
        and isinstance(answer.get("count", 0), int)
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
