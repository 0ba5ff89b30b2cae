"""When a job was made, and how long ago, as its reference or the service tells."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from qcsc_prefect.core.reference import JobReference

__all__ = ["age_of", "is_recent", "moment_of", "oldest_wanted", "submission_time"]

#: Before it there was no job, and no clock shows more than the other; between them one can count.
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def moment_of(text: str) -> datetime | None:
    """Read when a job was made; None where that is no time at which one can have been made.

    Example:
        >>> moment_of("2026-01-05T10:00:00").isoformat()
        '2026-01-05T10:00:00+00:00'
        >>> moment_of("0001-01-01T00:00:00") is None
        True
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return moment if _FIRST <= moment <= _LAST else None


def oldest_wanted(lifetime: timedelta | None, now: datetime) -> datetime | None:
    """Return since when a job must have been made that is no older than this; None for any age."""
    return None if lifetime is None or lifetime >= now - _FIRST else now - lifetime


def submission_time(reference: JobReference) -> datetime | None:
    """Return when a job was submitted, or None where its reference does not tell."""
    return None if reference.submitted_at is None else moment_of(reference.submitted_at)


def age_of(reference: JobReference, now: datetime) -> float:
    """Return the seconds since a job was submitted; infinite where that is not known."""
    moment = submission_time(reference)
    return float("inf") if moment is None else (now - moment).total_seconds()


def is_recent(reference: JobReference, created_after: datetime | None) -> bool:
    """Whether a job was submitted since a moment; one of unknown age only where there is none."""
    if created_after is None:
        return True
    moment = submission_time(reference)
    return moment is not None and moment >= created_after
