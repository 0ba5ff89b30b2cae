"""The real service behind `QiskitJobService`.

Everything that reaches the network is the native client; every call of it runs in a thread, and
what it raises is translated into errors that carry facts and no credentials.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from qiskit_ibm_runtime.api.exceptions import RequestsApiError

from qcsc_prefect.core.engine.service import ListedJob, SubmittedJob
from qcsc_prefect.core.errors import (
    JobError,
    ResultUnavailableError,
    SubmissionError,
)
from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.errors.translation import translate_qiskit_error
from qcsc_prefect.integrations.qiskit.inputs.pubs import a_job
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.services.connections.wire import clock_ahead
from qcsc_prefect.integrations.qiskit.services.ibm.asking import ask_service, secrets_of
from qcsc_prefect.integrations.qiskit.services.ibm.job_pages import known_job_url
from qcsc_prefect.integrations.qiskit.services.ibm.listing import list_jobs, listed_job
from qcsc_prefect.integrations.qiskit.services.ibm.native_submission import (
    nothing_submitted,
    submit_natively,
)
from qcsc_prefect.integrations.qiskit.services.ibm.private_results import PrivateResults
from qcsc_prefect.integrations.qiskit.services.ibm.recent_jobs import RecentJobs, jobs_created_since
from qcsc_prefect.integrations.qiskit.services.ibm.result_reading import (
    decode_within,
    download_result,
)
from qcsc_prefect.integrations.qiskit.services.ibm.status_questions import StatusQuestions
from qcsc_prefect.integrations.qiskit.services.job_service import QiskitJobService

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from qiskit_ibm_runtime import IBMBackend, QiskitRuntimeService, RuntimeJobV2
    from qiskit_ibm_runtime.api.client import RuntimeClient

    from qcsc_prefect.core.engine.service import AwaitedJob, JobStatus
    from qcsc_prefect.integrations.qiskit.services.ibm.instances import ConfiguredInstance
    from qcsc_prefect.integrations.qiskit.services.ibm.listing import RawJob
    from qcsc_prefect.integrations.qiskit.services.job_service import FetchedResult, JobRequest

__all__ = ["RuntimeJobService", "runtime_job_service"]

_UNAUTHORIZED = 401
_CONFLICT = 409

T = TypeVar("T")

_services: dict[Hashable, RuntimeJobService] = {}
_services_lock = threading.Lock()


def runtime_job_service(found: ConfiguredInstance) -> RuntimeJobService:
    """Return the job service of an instance, one for each account in this process."""
    key = (get_service_pool().key(found.config), found.crn)
    with _services_lock:
        if key not in _services:
            _services[key] = RuntimeJobService(found)
        return _services[key]


class RuntimeJobService(QiskitJobService):
    """Jobs of one instance on the real service.

    Args:
        found: The instance, with a configuration that leads to it alone.
    """

    #: A second look this soon finds a job that ran at once; jobs take longer on a real device.
    first_pause = 0.3

    def __init__(self, found: ConfiguredInstance) -> None:
        self.instance = found.crn
        self._crn = found.crn
        self._config = found.config
        self._asked = StatusQuestions(found)
        self._recent = RecentJobs(self._created_since)

    async def now(self) -> datetime:
        """Return the present by the service's clock, as its last answer told it."""
        try:
            service = await get_service_pool().service(self._config)
        except (QiskitRuntimeConfigError, TimeoutError):
            return datetime.now(UTC)  # whoever asks the service for more, learns why
        session = self._connection(service)._session  # noqa: SLF001 - the client hides it
        return datetime.now(UTC) + clock_ahead(session)

    async def submit(self, request: JobRequest, tags: Sequence[str] = ()) -> SubmittedJob:
        """Hand a job over, once, and return as soon as its id is known."""
        with self._recent.submission():
            try:
                return await self._submit(request, tags)
            except SubmissionError as error:
                if error.status != _UNAUTHORIZED:
                    raise
            # Nothing was accepted, and an access token may be refused that was good a minute ago.
            get_service_pool().discard(self._config)
            return await self._submit(request, tags)

    async def _submit(self, request: JobRequest, tags: Sequence[str]) -> SubmittedJob:
        try:
            return await get_service_pool().call_backend(
                self._config,
                request.backend_name,
                lambda backend: self._submit_on(backend, request, tags),
            )
        except SubmissionError:
            raise
        except JobError as error:
            reason = error
        except TimeoutError as error:
            reason = translate_qiskit_error(
                error,
                job_id=None,
                backend_name=request.backend_name,
                doing=f"Submitting {a_job(request.primitive)}",
                secrets=secrets_of(self._config),
            )
        raise nothing_submitted(reason, request.backend_name)

    def _submit_on(
        self, backend: IBMBackend, request: JobRequest, tags: Sequence[str]
    ) -> SubmittedJob:
        submitted = submit_natively(backend, request, tags, secrets=secrets_of(self._config))
        return SubmittedJob(
            submitted.job.job_id(),
            request.backend_name,
            datetime.now(UTC) + clock_ahead(backend._api_client._session),  # noqa: SLF001
            submitted.session_id,
        )

    def prepare(self, request: JobRequest) -> None:
        """Begin to load the backend that a submission is about to need."""
        # What goes wrong with it is raised where the backend is needed.
        loading = asyncio.ensure_future(
            get_service_pool().backend(self._config, request.backend_name)
        )
        loading.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        """List the jobs that carry a tag, oldest first."""
        with self._recent.submission():  # most often, one begins with this
            listed = await self._recent.before(tag, created_after)
            if listed is None:
                listed = await self._listed_under(tag, created_after)
        listed.reverse()
        return listed

    async def _listed_under(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        found = await self._ask(
            lambda service: list_jobs(
                self._connection(service), tag=tag, created_after=created_after
            ),
            doing="Looking for a job of this input",
        )
        # A search that passes the filter over would show the jobs of others.
        listed = map(listed_job, found or [])
        return [job for job in listed if job.tags is None or tag in job.tags]

    async def jobs_beside(
        self, job_id: str, tag: str, created_after: datetime | None, *, since: datetime
    ) -> list[ListedJob]:
        """List the jobs that carry the tag of a job which has just been submitted."""
        recent = await self._recent.beside(job_id, tag, since, now=await self.now())
        if recent is None:
            return await self.jobs_with_tag(tag, created_after)
        return [
            job
            for job in recent
            if created_after is None or job.created_at is None or job.created_at >= created_after
        ]

    async def jobs_seen_late(
        self, job_id: str, tag: str, since: datetime
    ) -> list[ListedJob] | None:
        """List the jobs that carry the tag of a job which was submitted some seconds ago."""
        return await self._recent.beside(job_id, tag, since, now=await self.now(), shared=True)

    async def _created_since(self, moment: datetime | None, *, at_most: int) -> list[RawJob] | None:
        return await self._ask(
            lambda service: jobs_created_since(self._connection(service), moment, at_most=at_most),
            doing="Looking for jobs of several inputs",
        )

    async def status(self, job_id: str) -> JobStatus:
        """Ask once where a job stands."""
        return await self._asked.status(job_id)

    async def statuses(
        self, jobs: Sequence[AwaitedJob], *, places: bool
    ) -> dict[str, JobStatus | JobError]:
        """Ask once where several jobs stand: searches tell it of all that they show."""
        return await self._asked.statuses(jobs, places=places)

    async def result(
        self, job_id: str, *, seconds: float | None = None, status: JobStatus | None = None
    ) -> FetchedResult:
        """Read the result of a job that is done, again where it did not come whole."""
        began = time.monotonic()
        native_job = await self._native_job(job_id, status)

        def left() -> float | None:
            return None if seconds is None else max(0.0, seconds - (time.monotonic() - began))

        async def download() -> str:
            try:
                return await self._ask(
                    lambda _: download_result(native_job),
                    doing="Fetching the result of the job",
                    job_id=job_id,
                    job_is_done=True,
                    # What is handed out once would be lost with a download that is given up.
                    seconds=None if native_job.private else left(),
                )
            except JobError as error:
                raise _unavailable_now(error) from None

        if native_job.private:
            # It can be downloaded once: whatever happens from here on must not lose it.
            text = await PrivateResults.current(self._crn).obtain(job_id, download)
            return await decode_within(seconds, native_job, text)
        text = await download()
        try:
            return await decode_within(left(), native_job, text)
        except ResultUnavailableError as damaged:
            if damaged.retryable is not True:
                raise
        return await decode_within(left(), native_job, await download())

    async def call(self, function: Callable[[], T]) -> T:
        """Call a function that may ask the service about a job, in one of its threads."""
        return await get_service_pool().call(self._config, lambda _: function())

    def job_url(self, job_id: str) -> str | None:
        """Return the platform's page of a job; None where the service is not the platform's."""
        return known_job_url(job_id, self._config)

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; False where it had ended already."""
        return await self._ask(
            lambda service: _cancel(self._connection(service), job_id),
            doing="Cancelling the job",
            job_id=job_id,
        )

    async def forget_result_text(self, fetched: FetchedResult) -> None:
        """Take note that a result has been recorded: what was kept to read it again can go."""
        if fetched.native_job is not None and fetched.native_job.private:
            await PrivateResults.current(self._crn).remove(fetched.native_job.job_id())

    async def _ask(
        self,
        question: Callable[[QiskitRuntimeService], T],
        *,
        doing: str,
        job_id: str | None = None,
        job_is_done: bool = False,
        seconds: float | None = None,
    ) -> T:
        return await ask_service(
            self._config,
            question,
            doing=doing,
            job_id=job_id,
            job_is_done=job_is_done,
            seconds=seconds,
        )

    def _connection(self, service: QiskitRuntimeService) -> RuntimeClient:
        connection: RuntimeClient = service._api_clients[self._crn]  # noqa: SLF001
        return connection

    async def _native_job(self, job_id: str, status: JobStatus | None) -> RuntimeJobV2:
        answer = None if status is None else status.answer
        return await self._ask(
            # What the client makes of a job that it is asked for, without asking once more.
            lambda service: (
                service.job(job_id) if answer is None else service._decode_job(dict(answer))  # noqa: SLF001
            ),
            doing="Finding the job",
            job_id=job_id,
            job_is_done=True,
        )


def _unavailable_now(error: JobError) -> JobError:
    """Return what a failed download of a result is called where it may succeed later."""
    if error.retryable is not True:
        return error
    return ResultUnavailableError(
        str(error),
        job_id=error.job_id,
        backend_name=error.backend_name,
        retryable=True,
        retry_after=error.retry_after,
        status=error.status,
        service_code=error.service_code,
    )


def _cancel(client: RuntimeClient, job_id: str) -> bool:
    try:
        client.job_cancel(job_id)
    except RequestsApiError as error:
        if error.status_code != _CONFLICT:
            raise
        return False  # it had ended already
    return True


def _start_anew_in_child() -> None:
    # The threads that would answer the parent's submissions do not exist here.
    global _services_lock  # noqa: PLW0603
    _services_lock = threading.Lock()
    _services.clear()


os.register_at_fork(after_in_child=_start_anew_in_child)
