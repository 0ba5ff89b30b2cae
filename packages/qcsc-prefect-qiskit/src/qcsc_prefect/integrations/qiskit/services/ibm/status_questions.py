"""Asks the real service where jobs stand, and gives each of them an answer of its own."""

from __future__ import annotations

import asyncio
import functools
import random
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from qcsc_prefect.core.engine.service import JobState, JobStatus
from qcsc_prefect.core.errors import JobError
from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.errors.translation import redacted, translate_qiskit_error
from qcsc_prefect.integrations.qiskit.retry import RetryAnswer, classify_qiskit_error
from qcsc_prefect.integrations.qiskit.services.ibm.asking import (
    CLIENT_ERRORS,
    ask_service,
    secrets_of,
)
from qcsc_prefect.integrations.qiskit.services.ibm.listing import list_page, read_job, status_of
from qcsc_prefect.integrations.qiskit.services.ibm.status_search import search_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from qiskit_ibm_runtime import QiskitRuntimeService
    from qiskit_ibm_runtime.api.client import RuntimeClient

    from qcsc_prefect.core.engine.service import AwaitedJob
    from qcsc_prefect.integrations.qiskit.services.ibm.instances import ConfiguredInstance
    from qcsc_prefect.integrations.qiskit.services.ibm.listing import RawJob

__all__ = ["StatusQuestions"]

#: Of jobs that a search does not show, so many are asked for one by one at the same look. With a
#: look a second, 2,000 jobs on an instance that may not be searched have their turn in a minute.
_AT_ONE_LOOK = 60
_UNAUTHORIZED = 401

T = TypeVar("T")


class StatusQuestions:
    """Where jobs of one instance stand.

    Args:
        found: The instance, with a configuration that leads to it alone.
    """

    def __init__(self, found: ConfiguredInstance) -> None:
        self._crn = found.crn
        self._config = found.config

    async def status(self, job_id: str) -> JobStatus:
        """Ask once where a job stands.

        Args:
            job_id: The job.

        Returns:
            Where it stands.

        Raises:
            JobError: If the service does not say so.
        """
        answer = (await self._ask_for_each({job_id: _read_status}))[job_id]
        if isinstance(answer, JobError):
            raise answer
        return self._without_secrets(answer)

    async def statuses(
        self, jobs: Sequence[AwaitedJob], *, places: bool
    ) -> dict[str, JobStatus | JobError]:
        """Ask once where several jobs stand: searches tell it of all that they show.

        Args:
            jobs: The jobs.
            places: Whether to ask for the places in the queue of those that wait there.

        Returns:
            For each job its status, or the error that asking for it gave; a job whose turn has not
            come yet is left out.
        """
        by_id = {job.job_id: job for job in jobs}
        found: dict[str, RawJob] = {}
        failure = await self._search(by_id, found)
        told: dict[str, JobStatus | JobError] = {
            job_id: status_of(found[job_id]) for job_id in by_id if job_id in found
        }
        others = [job_id for job_id in by_id if job_id not in found]
        if failure is None or (failure.retryable is False and failure.status != _UNAUTHORIZED):
            # Some are too new for a search to show, or this account may not search at all.
            asked = others[:_AT_ONE_LOOK]
            told |= await self._ask_for_each(dict.fromkeys(asked, _read_status))
        else:
            told |= dict.fromkeys(others, failure)
        told |= await self._ask_for_each(_what_is_lacking(told, by_id, places=places))
        return {
            job_id: status if isinstance(status, JobError) else self._without_secrets(status)
            for job_id, status in told.items()
        }

    def _without_secrets(self, status: JobStatus) -> JobStatus:
        """Black out credentials in the words of the service, which go into errors and the log."""
        secrets = secrets_of(self._config)
        return replace(
            status,
            message=redacted(status.message or "", secrets),
            raw_state=redacted(status.raw_state, map(str.upper, secrets)),
        )

    async def _search(
        self, jobs: Mapping[str, AwaitedJob], found: dict[str, RawJob]
    ) -> JobError | None:
        async def page(
            *, tag: str | None, pending: bool | None, created_before: datetime | None
        ) -> list[object]:
            jobs_and_count = await self._ask(
                lambda client: list_page(
                    client, tag=tag, pending=pending, created_before=created_before
                ),
                doing=f"Asking how {len(jobs)} jobs stand",
            )
            return jobs_and_count[0]

        try:
            await search_for(jobs.values(), page, found)
        except JobError as error:
            return error
        return None

    async def _ask_for_each(
        self, questions: Mapping[str, Callable[[RuntimeClient, str], JobStatus]]
    ) -> dict[str, JobStatus | JobError]:
        async def answer(job_id: str) -> JobStatus | JobError:
            try:
                return await self._ask(
                    lambda client: questions[job_id](client, job_id),
                    doing="Reading the status of the job",
                    job_id=job_id,
                )
            except JobError as error:
                return error

        return dict(zip(questions, await asyncio.gather(*map(answer, questions)), strict=True))

    async def _ask(
        self,
        question: Callable[[RuntimeClient], T],
        *,
        doing: str,
        job_id: str | None = None,
    ) -> T:
        try:
            return await ask_service(
                self._config,
                lambda service: question(self._connection(service)),
                doing=doing,
                job_id=job_id,
            )
        except QiskitRuntimeConfigError as error:
            # The service had to be made anew, and the account leads to none any more.
            raise translate_qiskit_error(
                error,
                job_id=job_id,
                backend_name=self._config.backend_name,
                doing=doing,
                secrets=secrets_of(self._config),
            ) from None

    def _connection(self, service: QiskitRuntimeService) -> RuntimeClient:
        connection: RuntimeClient = service._api_clients[self._crn]  # noqa: SLF001
        return connection


def _what_is_lacking(
    told: dict[str, JobStatus | JobError], jobs: Mapping[str, AwaitedJob], *, places: bool
) -> dict[str, Callable[[RuntimeClient, str], JobStatus]]:
    """Return what is to be asked for besides: why jobs failed, and their places in the queue.

    The service says a job's place in its metrics, for each job alone. So it is asked for when the
    job is first seen in the queue, and from then on for one job at a look.
    """
    lacking: dict[str, Callable[[RuntimeClient, str], JobStatus]] = {}
    placed: dict[str, JobStatus] = {}
    for job_id, status in told.items():
        if isinstance(status, JobError):
            continue
        if _is_unexplained(status):
            lacking[job_id] = functools.partial(_explained, status)
        elif status.state is JobState.QUEUED and status.queue_position is None:
            last = jobs[job_id].last
            if last is not None and last.queue_position is not None:
                told[job_id] = placed[job_id] = replace(status, queue_position=last.queue_position)
            elif places:
                lacking[job_id] = functools.partial(_placed, status)
    again = random.sample(sorted(placed), 1) if places and placed else []
    return lacking | {job_id: functools.partial(_placed, placed[job_id]) for job_id in again}


def _read_status(client: RuntimeClient, job_id: str) -> JobStatus:
    status = status_of(read_job(client, job_id))
    return _explained(status, client, job_id) if _is_unexplained(status) else status


def _is_unexplained(status: JobStatus) -> bool:
    return status.state is JobState.ERROR and not status.message


def _explained(status: JobStatus, client: RuntimeClient, job_id: str) -> JobStatus:
    """Add what a program wrote before it failed; the native job looks for it there too."""
    try:
        lines = client.job_results(job_id).strip().splitlines()
    except CLIENT_ERRORS as error:
        if classify_qiskit_error(error).answer is RetryAnswer.RETRY:
            raise
        return status
    return replace(status, message=lines[-1]) if lines else status


def _placed(status: JobStatus, client: RuntimeClient, job_id: str) -> JobStatus:
    try:
        metrics = client.job_metadata(job_id)
    except CLIENT_ERRORS:
        return status  # the position is a courtesy
    position = metrics.get("position_in_queue") if isinstance(metrics, dict) else None
    return replace(status, queue_position=position) if isinstance(position, int) else status
