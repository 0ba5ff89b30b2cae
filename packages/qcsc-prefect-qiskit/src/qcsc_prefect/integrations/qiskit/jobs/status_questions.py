"""Asks the real service where jobs stand, and gives each of them an answer of its own."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeVar

from qcsc_prefect.core.errors import JobError
from qcsc_prefect.integrations.qiskit.error_translation import translate_qiskit_error
from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.jobs.asking import ask_service, secrets_of
from qcsc_prefect.integrations.qiskit.jobs.job_statuses import JobStatuses
from qcsc_prefect.integrations.qiskit.jobs.queue_positions import QueuePositions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qiskit_ibm_runtime import QiskitRuntimeService
    from qiskit_ibm_runtime.api.client import RuntimeClient

    from qcsc_prefect.integrations.qiskit.jobs.instances import ConfiguredInstance
    from qcsc_prefect.integrations.qiskit.jobs.service import JobStatus
    from qcsc_prefect.integrations.qiskit.jobs.service_clock import ServiceClock

__all__ = ["StatusQuestions"]

#: Up to so many jobs that are waited for together, their place in the queue is asked for again.
_FEW = 3
#: Of jobs that a search does not show, so many are asked for one by one at the same look.
_AT_ONE_LOOK = 10
_UNAUTHORIZED = 401

T = TypeVar("T")


class StatusQuestions:
    """Where jobs of one instance stand.

    Args:
        found: The instance, with a configuration that leads to it alone.
        clock: The service's clock.
    """

    def __init__(self, found: ConfiguredInstance, clock: ServiceClock) -> None:
        self._crn = found.crn
        self._config = found.config
        self._jobs = JobStatuses(clock, secrets_of(found.config))
        self._positions = QueuePositions()

    async def status(self, job_id: str) -> JobStatus:
        """Ask once where a job stands.

        Args:
            job_id: The job.

        Returns:
            Where it stands.

        Raises:
            JobError: If the service does not say so.
        """
        return await ask_service(
            self._config,
            lambda service: self._jobs.status(self._connection(service), job_id),
            doing="Reading the status of the job",
            job_id=job_id,
        )

    async def statuses(self, job_ids: Sequence[str]) -> dict[str, JobStatus | JobError]:
        """Ask once where several jobs stand: one search tells it of all that it shows.

        Args:
            job_ids: The jobs.

        Returns:
            For each job its status, or the error that asking for it gave; a job whose turn has not
            come yet is left out.
        """
        few = len(job_ids) <= _FEW
        listed: dict[str, JobStatus | None] = {}
        if len(job_ids) > 1:
            found = await self._answer_or_error(
                lambda client: self._positions.added(
                    client, self._jobs.statuses(client, job_ids), again=few
                ),
                doing=f"Asking how {len(job_ids)} jobs stand",
            )
            if not isinstance(found, JobError):
                listed = found
            elif found.retryable is not False or found.status == _UNAUTHORIZED:
                return dict.fromkeys(job_ids, found)
            # Else this account may not search; it may still see its jobs.
        # Some are too new or too old for the search to show; those left out now have their turn
        # at another look.
        others = [job_id for job_id in job_ids if job_id not in listed]
        asked = random.sample(others, min(_AT_ONE_LOOK, len(others)))
        answers = await asyncio.gather(
            *(self._status_or_error(job_id, few=few) for job_id in asked)
        )
        told = {**listed, **dict(zip(asked, answers, strict=True))}
        return {job_id: answer for job_id, answer in told.items() if answer is not None}

    async def _status_or_error(self, job_id: str, *, few: bool) -> JobStatus | JobError | None:
        def ask(client: RuntimeClient) -> JobStatus | None:
            status = self._jobs.status(client, job_id)
            return self._positions.added(client, {job_id: status}, again=few)[job_id]

        return await self._answer_or_error(
            ask, doing="Reading the status of the job", job_id=job_id
        )

    async def _answer_or_error(
        self,
        question: Callable[[RuntimeClient], T],
        *,
        doing: str,
        job_id: str | None = None,
    ) -> T | JobError:
        try:
            return await ask_service(
                self._config,
                lambda service: question(self._connection(service)),
                doing=doing,
                job_id=job_id,
            )
        except JobError as error:
            return error
        except QiskitRuntimeConfigError as error:
            # The service had to be made anew, and the account leads to none any more.
            return translate_qiskit_error(
                error,
                job_id=job_id,
                backend_name=self._config.backend_name,
                doing=doing,
                secrets=secrets_of(self._config),
            )

    def _connection(self, service: QiskitRuntimeService) -> RuntimeClient:
        connection: RuntimeClient = service._api_clients[self._crn]  # noqa: SLF001
        return connection
