"""Searches the service for jobs, through the native client's own connection.

``QiskitRuntimeService.jobs()`` cannot be used for this: it drops the state that the service sends
with every job, it searches whichever instance was used last, and it never ends when the service
counts more jobs than its pages hold. The client's connection answers with what the service sent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict

from qcsc_prefect.core.errors import JobError
from qcsc_prefect.integrations.qiskit.jobs.service import JobState, JobStatus, ListedJob

if TYPE_CHECKING:
    from qiskit_ibm_runtime.api.client import RuntimeClient

__all__ = [
    "RAN_TOO_LONG",
    "RawJob",
    "creation_time",
    "list_jobs",
    "listed_job",
    "read_job",
    "status_of",
]

#: Jobs in one page; the service's own limit.
_PAGE = 200
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
    """What the service's answer says about one job, as far as it is used here."""

    id: str
    backend: str
    created: str
    tags: list[str]
    state: RawState
    position: int
    position_in_queue: int
    program: RawProgram
    session_id: str | None


def list_jobs(
    client: RuntimeClient,
    *,
    tag: str | None = None,
    pending: bool | None = None,
    created_after: datetime | None = None,
    at_most: int | None = None,
) -> list[RawJob] | None:
    """Search one instance for jobs; blocks.

    Args:
        client: The native client's connection to the instance.
        tag: Only jobs that carry this tag.
        pending: Only jobs that wait or run (True), or that have ended (False).
        created_after: Only jobs created since then.
        at_most: How many jobs to read; None for as many as fit on the pages that are read.

    Returns:
        What the service says about them, newest first; None if there are more than ``at_most``.

    Raises:
        JobError: If the answer is no list of jobs; asking again may help.
    """
    found: list[RawJob] = []
    for _ in range(_MAX_PAGES):
        answer = client.jobs_get(
            limit=_PAGE,
            skip=len(found),
            job_tags=None if tag is None else [tag],
            pending=pending,
            created_after=created_after,
        )
        if not isinstance(answer, dict) or not isinstance(answer.get("jobs"), list):
            raise JobError(
                "Searching for jobs failed: the service's answer is no list of jobs. This may "
                "pass: try again later.",
                retryable=True,
            )
        found += answer["jobs"]
        if at_most is not None and answer.get("count", 0) > at_most:
            return None
        if not answer["jobs"] or len(found) >= answer.get("count", 0):
            break
    return found


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
    answer: RawJob = client.job_get(job_id, exclude_params=True)
    if not isinstance(answer, dict) or answer.get("id") != job_id:
        raise JobError(
            f"Asking for job {job_id} failed: the service's answer is no job. This may pass: "
            "try again later; the job itself goes on.",
            job_id=job_id,
            retryable=True,
        )
    return answer


def listed_job(raw: RawJob) -> ListedJob:
    """Read one job of a search."""
    return ListedJob(
        job_id=raw["id"],
        backend_name=raw.get("backend"),
        state=status_of(raw).state,
        created_at=creation_time(raw),
        program=raw.get("program", {}).get("id"),
        session_id=raw.get("session_id"),
    )


def status_of(raw: RawJob) -> JobStatus:
    """Read where a job stands."""
    state = raw.get("state", {})
    word = state.get("status", "unknown")
    code = state.get("reasonCode") or state.get("reason_code")
    return JobStatus(
        state=_STATES.get(word.upper(), JobState.UNKNOWN),
        raw_state=word.upper(),
        queue_position=raw.get("position_in_queue") or raw.get("position"),
        message=state.get("reason"),
        ran_too_long=code == RAN_TOO_LONG,
        service_code=code,
    )


def creation_time(raw: RawJob) -> datetime | None:
    """Return when a job was created, or None where the service does not say so."""
    if "created" not in raw:
        return None
    moment = datetime.fromisoformat(raw["created"])
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
