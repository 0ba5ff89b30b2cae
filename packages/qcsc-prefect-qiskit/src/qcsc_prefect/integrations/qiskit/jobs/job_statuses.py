"""Learns where many jobs stand from few requests.

A search for all jobs created since the oldest of those that are waited for shows every one of
them, those that have ended too. Only on an instance where many others submit meanwhile would that
be many pages; then a search for the jobs that still wait or run is shorter, and a job that is not
among them is asked for.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from qiskit_ibm_runtime.exceptions import IBMError
from requests.exceptions import RequestException

from qcsc_prefect.integrations.qiskit.jobs.listing import (
    creation_time,
    list_jobs,
    read_job,
    status_of,
)
from qcsc_prefect.integrations.qiskit.jobs.service import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qiskit_ibm_runtime.api.client import RuntimeClient

    from qcsc_prefect.integrations.qiskit.jobs.listing import RawJob
    from qcsc_prefect.integrations.qiskit.jobs.service import JobStatus

__all__ = ["JobStatuses"]

#: Where the service's clock may be behind that of this machine.
_CLOCKS_APART = timedelta(minutes=5)
#: More jobs than this are not read to learn about some of them.
_MOST_LISTED = 400


class JobStatuses:
    """What is known about jobs of one instance that are waited for."""

    def __init__(self) -> None:
        # When each was created at the earliest.
        self._created: dict[str, datetime] = {}

    def note_submission(self, job_id: str) -> None:
        """Take note that a job was created just now."""
        self._created[job_id] = datetime.now(UTC) - _CLOCKS_APART

    def status(self, client: RuntimeClient, job_id: str) -> JobStatus:
        """Ask where one job stands; blocks.

        Args:
            client: The native client's connection to the instance.
            job_id: The job.

        Returns:
            Where it stands.
        """
        return self._noted(client, read_job(client, job_id))

    def with_position(
        self, client: RuntimeClient, statuses: Mapping[str, JobStatus]
    ) -> dict[str, JobStatus]:
        """Add the positions of those jobs that wait in the queue, where the service tells them.

        Args:
            client: The native client's connection to the instance.
            statuses: Where the jobs stand; each that waits costs a request.

        Returns:
            The same, with positions.
        """
        return {
            job_id: replace(status, queue_position=_position(client, job_id))
            if status.state is JobState.QUEUED and status.queue_position is None
            else status
            for job_id, status in statuses.items()
        }

    def statuses(self, client: RuntimeClient, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        """Ask where several jobs stand; blocks.

        Args:
            client: The native client's connection to the instance.
            job_ids: The jobs.

        Returns:
            Where those stand that a search shows.
        """
        wanted = set(job_ids)
        known = [self._created[job_id] for job_id in job_ids if job_id in self._created]
        found: list[RawJob] | None = []
        if known:
            found = list_jobs(client, created_after=min(known), at_most=_MOST_LISTED)
            if found is None:
                found = list_jobs(client, pending=True)
        return {raw["id"]: self._noted(client, raw) for raw in found or () if raw["id"] in wanted}

    def _noted(self, client: RuntimeClient, raw: RawJob) -> JobStatus:
        status = status_of(raw)
        created = creation_time(raw)
        if created is not None:
            self._created[raw["id"]] = created  # by the service's own clock from now on
        if status.state.is_final:
            self._created.pop(raw["id"], None)
        if status.state is JobState.ERROR and not status.message:
            # What the program wrote before it failed; the native job looks for it there too.
            lines = client.job_results(raw["id"]).strip().splitlines()
            status = replace(status, message=lines[-1] if lines else None)
        return status


def _position(client: RuntimeClient, job_id: str) -> int | None:
    try:
        metrics = client.job_metadata(job_id)
    except (IBMError, RequestException):
        return None  # the position is a courtesy
    position = metrics.get("position_in_queue") if isinstance(metrics, dict) else None
    return position if isinstance(position, int) else None
