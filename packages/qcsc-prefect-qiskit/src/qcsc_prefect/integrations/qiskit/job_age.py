"""How long ago a job was submitted, as its reference tells."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcsc_prefect.core.reference import JobReference

__all__ = ["age_of", "is_recent", "submission_time"]


def submission_time(reference: JobReference) -> datetime | None:
    """Return when a job was submitted, or None where its reference does not tell."""
    if reference.submitted_at is None:
        return None
    try:
        moment = datetime.fromisoformat(reference.submitted_at)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def age_of(reference: JobReference, now: datetime) -> float:
    """Return the seconds since a job was submitted; infinite where that is not known.

    Args:
        reference: The job.
        now: The present by the service's clock, which dates the job.
    """
    moment = submission_time(reference)
    return float("inf") if moment is None else (now - moment).total_seconds()


def is_recent(reference: JobReference, created_after: datetime | None) -> bool:
    """Whether a job was submitted since a moment; one of unknown age only where there is none."""
    if created_after is None:
        return True
    moment = submission_time(reference)
    return moment is not None and moment >= created_after
