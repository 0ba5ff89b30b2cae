"""Learns by how much the clock of the service differs from that of this machine.

A search for the jobs that were created since a moment goes by the service's clock. As long as
nothing is known about it, the search has to begin minutes early, which on a busy instance shows
hundreds of jobs. The first job that was submitted here and is seen there tells more.
"""

from __future__ import annotations

from datetime import datetime, timedelta

__all__ = ["CLOCKS_APART", "ServiceClock"]

#: By so much the clocks may differ as long as nothing is known.
CLOCKS_APART = timedelta(minutes=5)
#: By so much what was learned may be wrong: clocks drift, and some services tell whole seconds.
_UNSURE = timedelta(seconds=10)


class ServiceClock:
    """The clock of one instance, seen from this process; may be used from any thread.

    Example:
        >>> clock, noon = ServiceClock(), datetime.fromisoformat("2026-06-01T12:00:00+00:00")
        >>> clock.earliest(noon).isoformat()
        '2026-06-01T11:55:00+00:00'
        >>> clock.note_submission("a", noon, noon + timedelta(seconds=2))
        >>> clock.note_creation("a", noon + timedelta(hours=1))
        >>> clock.earliest(noon).isoformat()
        '2026-06-01T12:59:48+00:00'
        >>> clock.earliest_creation("a").isoformat()
        '2026-06-01T13:00:00+00:00'
    """

    def __init__(self) -> None:
        self._submitted: dict[str, tuple[datetime, datetime]] = {}
        self._created: dict[str, datetime] = {}
        self._ahead: timedelta | None = None

    def note_submission(self, job_id: str, began: datetime, answered: datetime) -> None:
        """Take note of a job that was submitted here.

        Args:
            job_id: The job.
            began: When its submission began, by this machine's clock.
            answered: When its id was known.
        """
        self._submitted[job_id] = began, answered

    def note_creation(self, job_id: str, created: datetime) -> None:
        """Take note of when a job was created, by the service's clock."""
        self._created[job_id] = created
        submitted = self._submitted.pop(job_id, None)
        if submitted is not None:
            # It was created before its id was known: the clock may be further ahead, never less.
            self._ahead = created - submitted[1]

    def earliest(self, moment: datetime) -> datetime:
        """Return the least that the service's clock showed at a moment of this machine's."""
        if self._ahead is None:
            return moment - CLOCKS_APART
        return moment + self._ahead - _UNSURE

    def earliest_creation(self, job_id: str) -> datetime | None:
        """Return when a job was created at the earliest, by the service's clock.

        Args:
            job_id: The job.

        Returns:
            None for one that was neither submitted here nor seen.
        """
        submitted = self._submitted.get(job_id)
        return self._created.get(job_id) if submitted is None else self.earliest(submitted[0])

    def forget(self, job_id: str) -> None:
        """Take note that nobody will ask for a job any more."""
        self._created.pop(job_id, None)
        self._submitted.pop(job_id, None)
