"""The real service behind the protocol of `qcsc_prefect.integrations.qiskit.jobs.service`.

Everything that reaches the network is the native client; every call of it runs in a thread, and
what it raises is translated into errors that carry facts and no credentials.
"""

from __future__ import annotations

import threading
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from qiskit.exceptions import QiskitError
from qiskit.primitives import PrimitiveResult
from qiskit_ibm_runtime.exceptions import (
    IBMError,
    IBMInputValueError,
    RuntimeInvalidStateError,
)
from requests.exceptions import RequestException

from qcsc_prefect.core.errors import InputError, JobError, ResultUnavailableError
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
    from collections.abc import Iterator, Sequence

    from qiskit_ibm_runtime import IBMBackend, QiskitRuntimeService, RuntimeJobV2
    from qiskit_ibm_runtime.api.client import RuntimeClient

    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.jobs.service import JobRequest, ListedJob

__all__ = ["RuntimeJobService", "runtime_job_service"]

#: What the native client raises; facts about it stand in the translation.
CLIENT_ERRORS = (IBMError, QiskitError, RequestException)
#: Up to this many jobs are asked for one by one, which also tells their place in the queue.
_ONE_BY_ONE = 3

#: States in which the service gives a reason.
_ENDED = {"ERROR", "CANCELLED"}

_services: dict[tuple[tuple[str, str | None], ...], RuntimeJobService] = {}
_services_lock = threading.Lock()


def runtime_job_service(config: QiskitRuntimeConfig) -> RuntimeJobService:
    """Return the job service of a configuration, one for each account in this process."""
    identity = tuple(sorted({**config.identity(), "backend": config.backend_name}.items()))
    with _services_lock:
        if identity not in _services:
            _services[identity] = RuntimeJobService(config)
        return _services[identity]


class RuntimeJobService:
    """Jobs of one account on the real service."""

    def __init__(self, config: QiskitRuntimeConfig) -> None:
        self._config = config
        # Native job objects by id: each knows the instance that has the job.
        self._native_jobs: dict[str, RuntimeJobV2] = {}

    async def submit(self, request: JobRequest) -> SubmittedJob:
        """Hand a job over, once, and return as soon as its id is known."""
        backend = await get_service_pool().backend(self._config, request.backend_name)
        native_job = await run_blocking(_run, backend, request)
        job_id = native_job.job_id()
        self._native_jobs[job_id] = native_job
        return SubmittedJob(job_id, request.backend_name, datetime.now(UTC))

    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        """List the jobs that carry a tag, oldest first."""
        backend = await self._backend()
        return await run_blocking(self._listed, backend, tag, created_after)

    async def status(self, job_id: str) -> JobStatus:
        """Ask once where a job stands."""
        answer = (await self.statuses([job_id]))[job_id]
        if isinstance(answer, JobError):
            raise answer
        return answer

    async def statuses(self, job_ids: Sequence[str]) -> dict[str, JobStatus | JobError]:
        """Ask once where several jobs stand: one search tells which of many still wait."""
        service = await get_service_pool().service(self._config)
        if len(job_ids) <= _ONE_BY_ONE:
            return await run_blocking(self._statuses_one_by_one, service, job_ids)
        return await run_blocking(self._statuses_by_search, service, job_ids)

    async def result(self, job_id: str) -> FetchedResult:
        """Read the result of a job that is done."""
        service = await get_service_pool().service(self._config)
        return await run_blocking(self._result, service, job_id)

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; False where it had ended already."""
        service = await get_service_pool().service(self._config)
        return await run_blocking(self._cancel, service, job_id)

    async def _backend(self) -> IBMBackend:
        return await get_service_pool().backend(self._config, self._config.backend_name or "")

    def _listed(
        self, backend: IBMBackend, tag: str, created_after: datetime | None
    ) -> list[ListedJob]:
        try:
            found = list_jobs(_connection(backend), tag=tag, created_after=created_after)
        except CLIENT_ERRORS as error:
            raise translate_qiskit_error(
                error,
                job_id=None,
                backend_name=self._config.backend_name,
                doing="Looking for a job of this input",
            ) from None
        return [listed_job(raw) for raw in reversed(found)]

    def _statuses_one_by_one(
        self, service: QiskitRuntimeService, job_ids: Sequence[str]
    ) -> dict[str, JobStatus | JobError]:
        return {job_id: self._status_or_error(service, job_id) for job_id in job_ids}

    def _statuses_by_search(
        self, service: QiskitRuntimeService, job_ids: Sequence[str]
    ) -> dict[str, JobStatus | JobError]:
        pending: dict[str, JobStatus] = {}
        for connection in self._connections(job_ids):
            try:
                raw_jobs = list_jobs(connection, pending=True)
            except CLIENT_ERRORS as error:
                failure = translate_qiskit_error(
                    error,
                    job_id=None,
                    backend_name=self._config.backend_name,
                    doing=f"Asking how {len(job_ids)} jobs stand",
                )
                return dict.fromkeys(job_ids, failure)
            pending |= {raw["id"]: status_of(raw) for raw in raw_jobs}
        # A job that is not pending has ended, or is too new or too old for the search to show.
        return {
            job_id: pending[job_id] if job_id in pending else self._status_or_error(service, job_id)
            for job_id in job_ids
        }

    def _connections(self, job_ids: Sequence[str]) -> Iterator[RuntimeClient]:
        seen: set[int] = set()
        for job_id in job_ids:
            native_job = self._native_jobs.get(job_id)
            if native_job is None:
                continue
            connection = native_job._api_client  # noqa: SLF001 - the one of the job's instance
            if id(connection) not in seen:
                seen.add(id(connection))
                yield connection

    def _status_or_error(self, service: QiskitRuntimeService, job_id: str) -> JobStatus | JobError:
        try:
            return _status(self._native_job(service, job_id))
        except CLIENT_ERRORS as error:
            return translate_qiskit_error(
                error,
                job_id=job_id,
                backend_name=self._config.backend_name,
                doing="Reading the status of the job",
            )

    def _native_job(self, service: QiskitRuntimeService, job_id: str) -> RuntimeJobV2:
        if job_id not in self._native_jobs:
            with _services_lock:
                # service.job() changes which instance the service uses, and changes it back never.
                self._native_jobs[job_id] = service.job(job_id)
        return self._native_jobs[job_id]

    def _result(self, service: QiskitRuntimeService, job_id: str) -> FetchedResult:
        backend_name = self._config.backend_name
        try:
            native_job = self._native_job(service, job_id)
            result = native_job.result()
        except CLIENT_ERRORS as error:
            raise translate_qiskit_error(
                error,
                job_id=job_id,
                backend_name=backend_name,
                doing="Fetching the result of the job",
            ) from None
        except (ValueError, KeyError, TypeError, IndexError, EOFError, zlib.error) as error:
            raise _damaged(job_id, backend_name, f"{type(error).__name__}: {error}") from error
        if not isinstance(result, PrimitiveResult):
            # The client hands a body that it cannot decode to the caller as it is.
            raise _damaged(job_id, backend_name, f"a {type(result).__name__} came instead")
        self._native_jobs.pop(job_id, None)
        return FetchedResult(result, _backend_name(native_job), native_job=native_job)

    def _cancel(self, service: QiskitRuntimeService, job_id: str) -> bool:
        try:
            self._native_job(service, job_id).cancel()
        except RuntimeInvalidStateError:
            return False
        except CLIENT_ERRORS as error:
            raise translate_qiskit_error(
                error,
                job_id=job_id,
                backend_name=self._config.backend_name,
                doing="Cancelling the job",
            ) from None
        return True


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


def _damaged(job_id: str, backend_name: str | None, found: str) -> ResultUnavailableError:
    return ResultUnavailableError(
        f"The result of job {job_id} on {backend_name} came back damaged ({found}). The job is "
        "done; fetch it again.",
        job_id=job_id,
        backend_name=backend_name,
    )
