"""When a job was made, as others say it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from qcsc_prefect.core.engine.job_age import age_of, oldest_wanted, submission_time
from qcsc_prefect.core.reference import JobReference

NOW = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "told",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59-14:00",
        "soon",
    ],
)
def test_a_moment_from_which_none_can_be_counted_is_not_known(told: str) -> None:
    reference = JobReference(
        primitive="sampler",
        backend_name="b",
        job_id="j",
        submitted_at=told,
    )
    assert submission_time(reference) is None
    assert age_of(reference, NOW) == float("inf")


@pytest.mark.parametrize("days", [1, 365, 365 * 50, 365 * 80, 365 * 3000, timedelta.max.days])
def test_any_age_can_be_asked_for(days: int) -> None:
    since = oldest_wanted(timedelta(days=days), NOW)
    assert since == (NOW - timedelta(days=days) if days <= 365 * 50 else None)
