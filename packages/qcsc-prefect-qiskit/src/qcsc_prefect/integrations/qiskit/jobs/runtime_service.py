"""The real service behind the protocol of `qcsc_prefect.integrations.qiskit.jobs.service`.

Everything that reaches the network is the native client; every call of it runs in a thread, and
what it raises is translated into errors that carry facts and no credentials.
"""

from __future__ import annotations

import asyncio
import threading
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from qiskit.exceptions import QiskitError
from qiskit.primitives import PrimitiveResult
from qiskit_ibm_runtime.exceptions import (
    IBMError,
    IBMInputValueError,
    RuntimeInvalidStateError,
)
from requests.exceptions import RequestException

from qcsc_prefect.core.errors import (
    InputError,
    JobError,
    ResultUnavailableError,
    SubmissionError,
)
from qcsc_prefect.integrations.qiskit.blocking_calls import run_blocking
from qcsc_prefect.integrations.qiskit.error_translation import (
    translate_qiskit_error,
    translate_qiskit_submission_error,
)
from qcsc_prefect.integrations.qiskit.jobs.listing import (
    RAN_TOO_LONG,
    list_jobs,
    listed_job,
    status_of,
)
from qcsc_prefect.integrations.qiskit.jobs.service import (
    FetchedResult,
    JobState,
    JobStatus,
    SubmittedJob,
)
from qcsc_prefect.integrations.qiskit.native_primitives import create_primitive
from qcsc_prefect.integrations.qiskit.runtime.service_pool import get_service_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from qiskit_ibm_runtime import IBMBackend, QiskitRuntimeService, RuntimeJobV2
    from qiskit_ibm_runtime.api.client import RuntimeClient

    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.jobs.service import JobRequest, ListedJob

__all__ = ["RuntimeJobService", "runtime_job_service"]

#: What the native client raises; facts about it stand in the translation.
CLIENT_ERRORS = (IBMError, QiskitError, RequestException)
#: Up to this many jobs are asked for one by one, which also tells their place in the queue.
ONE_BY_ONE = 3

#: States in which the service gives a reason.
_ENDED = {"ERROR", "CANCELLED"}

T = TypeVar("T")

_services: dict[Hashable, RuntimeJobService] = {}
_services_lock = threading.Lock()


def runtime_job_service(config: QiskitRuntimeConfig) -> RuntimeJobService:
    """Return the job service of a configuration, one for each account in this process."""
    key = (get_service_pool().key(config), config.backend_name)
    with _services_lock:
        if key not in _services:
            _services[key] = RuntimeJobService(config)
        return _services[key]


class RuntimeJobService:
    """Jobs of one account on the real service."""

    def __init__(self, config: QiskitRuntimeConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        # Native job objects by id: each knows the instance that has the job.
        self._native_jobs: dict[str, RuntimeJobV2] = {}
        self._made_by: QiskitRuntimeService | None = None

    async def submit(self, request: JobRequest) -> SubmittedJob:
        """Hand a job over, once, and return as soon as its id is known."""
        try:
            backend = await get_service_pool().backend(self._config, request.backend_name)
        except JobError as error:
            raise SubmissionError(
                f"{error} No job was submitted.",
                backend_name=request.backend_name,
                retryable=error.retryable,
                retry_after=error.retry_after,
                status=error.status,
                service_code=error.service_code,
            ) from None
        native_job = await run_blocking(_run, backend, request)
        job_id = native_job.job_id()
        self._native_jobs[job_id] = native_job
        return SubmittedJob(job_id, request.backend_name, datetime.now(UTC))

    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        """List the jobs that carry a tag, oldest first."""
        backend = await get_service_pool().backend(self._config, self._config.backend_name or "")
        found = await self._ask(
            lambda _: list_jobs(_connection(backend), tag=tag, created_after=created_after),
            doing="Looking for a job of this input",
        )
        return [listed_job(raw) for raw in reversed(found)]

    async def status(self, job_id: str) -> JobStatus:
        """Ask once where a job stands."""
        return await self._ask(
            lambda service: _status(self._native_job(service, job_id)),
            doing="Reading the status of the job",
            job_id=job_id,
        )

    async def statuses(self, job_ids: Sequence[str]) -> dict[str, JobStatus | JobError]:
        """Ask once where several jobs stand: one search tells which of many still wait."""
        pending: dict[str, JobStatus] = {}
        if len(job_ids) > ONE_BY_ONE:
            try:
                pending = await self._ask(
                    lambda service: self._pending(service, job_ids),
                    doing=f"Asking how {len(job_ids)} jobs stand",
                )
            except JobError as error:
                return dict.fromkeys(job_ids, error)
        # A job that is not pending has ended, or is too new or too old for the search to show.
        others = [job_id for job_id in job_ids if job_id not in pending]
        answers = await asyncio.gather(*(self._status_or_error(job_id) for job_id in others))
        return {**pending, **dict(zip(others, answers, strict=True))}

    async def result(self, job_id: str) -> FetchedResult:
        """Read the result of a job that is done."""
        fetched = await self._ask(
            lambda service: self._result(service, job_id),
            doing="Fetching the result of the job",
            job_id=job_id,
        )
        self._native_jobs.pop(job_id, None)
        return fetched

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; False where it had ended already."""
        return await self._ask(
            lambda service: self._cancel(service, job_id),
            doing="Cancelling the job",
            job_id=job_id,
        )

    async def _ask(
        self,
        question: Callable[[QiskitRuntimeService], T],
        *,
        doing: str,
        job_id: str | None = None,
    ) -> T:
        """Ask the service in a thread, once more with a new one where it refuses the old."""
        try:
            return await get_service_pool().call(self._config, question)
        except CLIENT_ERRORS as error:
            raise translate_qiskit_error(
                error, job_id=job_id, backend_name=self._config.backend_name, doing=doing
            ) from None

    async def _status_or_error(self, job_id: str) -> JobStatus | JobError:
        try:
            return await self.status(job_id)
        except JobError as error:
            return error

    def _pending(
        self, service: QiskitRuntimeService, job_ids: Sequence[str]
    ) -> dict[str, JobStatus]:
        connections: list[RuntimeClient] = []
        for job_id in job_ids:
            connection = self._native_job(service, job_id)._api_client  # noqa: SLF001 - its instance's
            if connection not in connections:
                connections.append(connection)
        wanted = set(job_ids)
        return {
            raw["id"]: status_of(raw)
            for connection in connections
            for raw in list_jobs(connection, pending=True)
            if raw["id"] in wanted
        }

    def _native_job(self, service: QiskitRuntimeService, job_id: str) -> RuntimeJobV2:
        # The lock also because service.job() changes which instance the service uses.
        with self._lock:
            if self._made_by is not None and self._made_by is not service:
                self._native_jobs.clear()  # their connections belong to a service that was refused
            self._made_by = service
            if job_id not in self._native_jobs:
                self._native_jobs[job_id] = service.job(job_id)
            return self._native_jobs[job_id]

    def _result(self, service: QiskitRuntimeService, job_id: str) -> FetchedResult:
        native_job = self._native_job(service, job_id)
        try:
            result = native_job.result()
        except CLIENT_ERRORS:
            raise
        except (ValueError, KeyError, TypeError, IndexError, EOFError, zlib.error) as error:
            raise self._damaged(job_id, f"{type(error).__name__}: {error}") from error
        if not isinstance(result, PrimitiveResult):
            # The client hands a body that it cannot decode to the caller as it is.
            raise self._damaged(job_id, f"a {type(result).__name__} came instead")
        return FetchedResult(result, _backend_name(native_job), native_job=native_job)

    def _cancel(self, service: QiskitRuntimeService, job_id: str) -> bool:
        try:
            self._native_job(service, job_id).cancel()
        except RuntimeInvalidStateError:
            return False
        return True

    def _damaged(self, job_id: str, found: str) -> ResultUnavailableError:
        backend_name = self._config.backend_name
        return ResultUnavailableError(
            f"The result of job {job_id} on {backend_name} came back damaged ({found}). The job is "
            "done; fetch it again.",
            job_id=job_id,
            backend_name=backend_name,
        )


def _run(backend: IBMBackend, request: JobRequest) -> RuntimeJobV2:
    primitive = create_primitive(request.primitive, backend, _options_with_tags(request))
    try:
        return primitive.run(request.pubs, shots=request.shots, precision=request.precision)
    except (IBMInputValueError, ValueError, TypeError) as error:
        raise InputError(
            f"Tried to run {len(request.pubs)} PUBs on {request.backend_name}; the client refused "
            f"them before sending: {error}",
            path="pubs",
        ) from error
    except CLIENT_ERRORS as error:
        raise translate_qiskit_submission_error(
            error,
            backend_name=request.backend_name,
            doing=f"Submitting a {request.primitive} job",
        ) from None


def _options_with_tags(request: JobRequest) -> dict[str, object]:
    options = dict(request.options)
    if request.tags:
        environment = options.get("environment")
        options["environment"] = {
            **(environment if isinstance(environment, dict) else {}),
            "job_tags": list(request.tags),
        }
    return options


def _status(native_job: RuntimeJobV2) -> JobStatus:
    word = native_job.status()
    code = native_job._reason_code  # noqa: SLF001 - public only as a part of a message
    return JobStatus(
        state=JobState(word) if word in JobState.__members__ else JobState.UNKNOWN,
        raw_state=word,
        message=native_job.error_message() or native_job._reason if word in _ENDED else None,  # noqa: SLF001
        ran_too_long=code == RAN_TOO_LONG,
        service_code=code,
    )


def _connection(backend: IBMBackend) -> RuntimeClient:
    connection: RuntimeClient = backend._api_client  # noqa: SLF001 - bound to the backend's instance
    return connection


def _backend_name(native_job: RuntimeJobV2) -> str | None:
    backend = native_job.backend()
    return None if backend is None else str(backend.name)
