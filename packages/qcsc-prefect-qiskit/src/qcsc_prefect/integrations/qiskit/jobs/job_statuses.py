"""Learns where many jobs stand from few requests.

A search for all jobs created since the oldest of those that are waited for shows every one of
them, those that have ended too. Only on an instance where many others submit meanwhile would that
be many pages; then a search for the jobs that still wait or run is shorter, and a job that is not
among them is asked for.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from qcsc_prefect.integrations.qiskit.error_translation import redacted
from qcsc_prefect.integrations.qiskit.jobs.asking import CLIENT_ERRORS
from qcsc_prefect.integrations.qiskit.jobs.listing import (
    MOST_LISTED,
    creation_time,
    is_job,
    list_jobs,
    read_job,
    status_of,
)
from qcsc_prefect.integrations.qiskit.jobs.service import JobState
from qcsc_prefect.integrations.qiskit.retry import RetryAnswer, classify_qiskit_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qiskit_ibm_runtime.api.client import RuntimeClient

    from qcsc_prefect.integrations.qiskit.jobs.listing import RawJob
    from qcsc_prefect.integrations.qiskit.jobs.service import JobStatus
    from qcsc_prefect.integrations.qiskit.jobs.service_clock import ServiceClock

__all__ = ["JobStatuses"]


class JobStatuses:
    """What is known about jobs of one instance that are waited for.

    Args:
        clock: The service's clock.
        secrets: Texts that are credentials; what the service says may quote them.
    """

    def __init__(self, clock: ServiceClock, secrets: Iterable[str]) -> None:
        self._clock = clock
        self._secrets = tuple(secrets)

    def status(self, client: RuntimeClient, job_id: str) -> JobStatus:
        """Ask where one job stands; blocks.

        Args:
            client: The native client's connection to the instance.
            job_id: The job.

        Returns:
            Where it stands.
        """
        return self._noted(client, read_job(client, job_id))

    def statuses(self, client: RuntimeClient, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        """Ask where several jobs stand; blocks.

        Args:
            client: The native client's connection to the instance.
            job_ids: The jobs.

        Returns:
            Where those stand that a search shows; not those about which its answer is unreadable.
        """
        wanted = set(job_ids)
        known = [
            created
            for job_id in job_ids
            if (created := self._clock.earliest_creation(job_id)) is not None
        ]
        found: list[object] | None = []
        if known:
            found = list_jobs(client, created_after=min(known), at_most=MOST_LISTED)
            if found is None:
                found = list_jobs(client, pending=True)
        statuses: dict[str, JobStatus] = {}
        for raw in found or ():
            if is_job(raw) and raw["id"] in wanted:
                # What one job's reason costs is no fault of the others.
                with suppress(*CLIENT_ERRORS):
                    statuses[raw["id"]] = self._noted(client, raw)
        return statuses

    def _noted(self, client: RuntimeClient, raw: RawJob) -> JobStatus:
        status = status_of(raw, self._secrets)
        created = creation_time(raw)
        if created is not None:
            self._clock.note_creation(raw["id"], created)
        if status.state.is_final:
            self._clock.forget(raw["id"])
        if status.state is JobState.ERROR and not status.message:
            words = _last_words(client, raw["id"])
            status = replace(status, message=redacted(words, self._secrets))
        return status


def _last_words(client: RuntimeClient, job_id: str) -> str:
    """Return what a program wrote before it failed; the native job looks for it there too."""
    try:
        lines = client.job_results(job_id).strip().splitlines()
    except CLIENT_ERRORS as error:
        if classify_qiskit_error(error).answer is RetryAnswer.RETRY:
            raise
        return ""
    return lines[-1] if lines else ""
