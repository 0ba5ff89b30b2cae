"""The embedded default behind `QiskitJobService`."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from qcsc_prefect.core.engine.service import JobState, JobStatus, ListedJob, SubmittedJob
from qcsc_prefect.core.errors import (
    DamagedRecordError,
    JobError,
    JobFailedError,
    JobNotFoundError,
    RecordError,
    ResultUnavailableError,
)
from qcsc_prefect.core.threads import run_blocking
from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import program_of
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.services.job_service import (
    FetchedResult,
    JobTimes,
    QiskitJobService,
)
from qcsc_prefect.integrations.qiskit.services.local.backends import LocalBackends
from qcsc_prefect.integrations.qiskit.services.local.memory import refuse_what_does_not_fit
from qcsc_prefect.integrations.qiskit.services.local.runner import (
    TRIES,
    LocalRunner,
    decode_result,
    encode_inputs,
)
from qcsc_prefect.integrations.qiskit.services.local.store import (
    LocalJob,
    LocalJobStore,
    LocalOutcome,
)
from qcsc_prefect.integrations.qiskit.services.native_primitives import (
    create_primitive,
    refuse_circuits_not_isa,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from pathlib import Path

    from qcsc_prefect.core.engine.service import AwaitedJob
    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.services.job_service import JobRequest

__all__ = ["LocalJobService", "local_job_service"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_services: dict[tuple[Path, Hashable], LocalJobService] = {}
#: The fake backends of the client and the simulator.
_CLIENTS = LocalBackends()


def local_job_service(config: QiskitRuntimeConfig | None = None) -> LocalJobService:
    """Return this process's service for the jobs below the current ``PREFECT_HOME``.

    Args:
        config: The configuration. One with a ``get_backend`` of its own has a service of its own,
            whose jobs run on that backend.
    """
    store = LocalJobStore.default()
    if config is None or config.own_get_backend() is None:
        return _services.setdefault((store.root, None), LocalJobService(store))
    key = (get_service_pool().key(config), config.backend_name)
    return _services.setdefault((store.root, key), LocalJobService(store, LocalBackends(config)))


class LocalJobService(QiskitJobService):
    """Runs jobs on local backends, in threads of whichever process asks for them."""

    first_pause = 0.05
    shows_jobs_at_once = True

    def __init__(self, store: LocalJobStore, backends: LocalBackends = _CLIENTS) -> None:
        self._store = store
        self._backends = backends
        self._runner = LocalRunner(store, backends)

    async def submit(self, request: JobRequest, tags: Sequence[str] = ()) -> SubmittedJob:
        """Store the job whole, start it, and return its id."""
        job = await run_blocking(self._store_job, request, tags)
        self._runner.start(job.job_id)
        return SubmittedJob(job.job_id, job.backend_name, job.created)

    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        """List the jobs that carry a tag, oldest first."""
        return await run_blocking(self._listed, tag, created_after)

    async def jobs_seen_late(
        self,
        job_id: str,  # noqa: ARG002 - the protocol's
        tag: str,  # noqa: ARG002 - the protocol's
        since: datetime,  # noqa: ARG002 - the protocol's
    ) -> list[ListedJob] | None:
        """Nobody submits to this machine but processes that share its locks."""
        return None

    async def status(self, job_id: str) -> JobStatus:
        """Say where a job stands; one that nobody runs is started again."""
        return await run_blocking(self._status, job_id)

    async def statuses(
        self,
        jobs: Sequence[AwaitedJob],
        *,
        places: bool,  # noqa: ARG002 - there is no queue
    ) -> dict[str, JobStatus | JobError]:
        """Say where several jobs stand."""
        return await run_blocking(
            lambda: {job.job_id: self._status_or_error(job.job_id) for job in jobs}
        )

    async def result(
        self,
        job_id: str,
        *,
        seconds: float | None = None,
        status: JobStatus | None = None,  # noqa: ARG002 - what is stored says it all
    ) -> FetchedResult:
        """Read the result of a job that is done; one that is damaged is made again.

        Args:
            job_id: The job.
            status: How it ended.
            seconds: How long to wait for a job that runs again; None for ever.

        Raises:
            JobFailedError: If the job cannot be run again.
            ResultUnavailableError: If it is not done.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._result_once_whole(job_id)
        except TimeoutError as error:
            raise ResultUnavailableError(
                f"The result of local job {job_id} was damaged, and the job runs again. Fetch it "
                "again later.",
                job_id=job_id,
            ) from error

    async def _result_once_whole(self, job_id: str) -> FetchedResult:
        for _ in range(TRIES):
            try:
                return await run_blocking(self._result, job_id)
            except DamagedRecordError:
                await run_blocking(self._withdraw_damaged, job_id)
            status = await self._final_status(job_id)
            if status.state is not JobState.DONE:
                raise JobFailedError(
                    f"The result of local job {job_id} was damaged, and the job could not be run "
                    f"again: {status.message}. Submit it again.",
                    job_id=job_id,
                )
        raise ResultUnavailableError(
            f"The result of local job {job_id} is damaged whenever it is read. See that the disk "
            "is sound, and fetch it again.",
            job_id=job_id,
        )

    async def _final_status(self, job_id: str) -> JobStatus:
        while True:
            status = await self.status(job_id)
            if status.state.is_final:
                return status
            await asyncio.sleep(self.first_pause)

    async def call(self, function: Callable[[], T]) -> T:
        """Call a blocking function in a thread."""
        return await run_blocking(function)

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; a simulation that runs already goes on, and its result is dropped."""
        return await run_blocking(self._cancel, job_id)

    def _cancel(self, job_id: str) -> bool:
        try:
            job = self._store.job(job_id)
        except RecordError:
            return False  # it counts as failed
        outcome = LocalOutcome(state="CANCELLED", completed=datetime.now(UTC), message="cancelled")
        return self._store.finish(job, outcome)

    def _store_job(self, request: JobRequest, tags: Sequence[str]) -> LocalJob:
        backend = self._backends.backend(request.backend_name)
        # What the native run would refuse is refused here, before anything is stored.
        create_primitive(request.primitive, backend, request.options, request.implementation)
        refuse_circuits_not_isa(request.pubs, backend)
        refuse_what_does_not_fit(request, backend)
        job = LocalJob(
            job_id=self._store.new_job_id(),
            primitive=request.primitive,
            backend_name=request.backend_name,
            created=datetime.now(UTC),
            shots=request.shots,
            precision=request.precision,
            options=dict(request.options),
            tags=list(tags),
            implementation=request.implementation,
        )
        self._store.create(job, encode_inputs(list(request.pubs)))
        return job

    def _listed(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        listed = []
        for job in self._store.jobs():
            if tag not in job.tags or (created_after is not None and job.created < created_after):
                continue
            try:
                state = self._status(job.job_id).state
            except JobNotFoundError:
                continue  # removed since the jobs were read
            program = program_of(job.primitive, job.implementation)
            listed.append(
                ListedJob(
                    job.job_id,
                    job.backend_name,
                    state,
                    job.created,
                    program=program,
                    tags=tuple(job.tags),
                )
            )
        return listed

    def _status(self, job_id: str) -> JobStatus:
        try:
            return self._readable_status(job_id)
        except (RecordError, OSError) as error:
            # It cannot be waited for, nor run again.
            message = f"its files cannot be used: {error}"
            return JobStatus(JobState.ERROR, JobState.ERROR.value, message=message)

    def _readable_status(self, job_id: str) -> JobStatus:
        self._store.job(job_id)
        try:
            outcome = self._store.outcome(job_id)
        except DamagedRecordError:
            outcome = None  # whoever runs it finds that out, and says so
        if outcome is not None:
            return JobStatus(JobState(outcome.state), outcome.state, message=outcome.message)
        if self._runner.is_running(job_id):
            return JobStatus(JobState.RUNNING, JobState.RUNNING.value)
        lock = self._store.run_lock(job_id)
        if not lock.acquire():
            return JobStatus(JobState.RUNNING, JobState.RUNNING.value)
        lock.release()
        reason = self._runner.why_given_up(job_id)
        if reason is not None:
            message = f"it could not be run in {TRIES} tries: {reason}"
            return JobStatus(JobState.ERROR, JobState.ERROR.value, message=message)
        if self._runner.start(job_id):
            logger.warning(
                "Local job %s has not ended and no process runs it: it runs here, from its stored "
                "inputs",
                job_id,
            )
        return JobStatus(JobState.QUEUED, JobState.QUEUED.value)

    def _status_or_error(self, job_id: str) -> JobStatus | JobError:
        try:
            return self._status(job_id)
        except JobError as error:
            return error

    def _result(self, job_id: str) -> FetchedResult:
        try:
            return self._read_result(job_id)
        except DamagedRecordError:
            raise
        except RecordError as error:
            raise ResultUnavailableError(
                f"The result of local job {job_id} cannot be read: {error} Mend that, and fetch it "
                "again.",
                job_id=job_id,
            ) from error

    def _read_result(self, job_id: str) -> FetchedResult:
        job = self._store.job(job_id)
        outcome = self._store.outcome(job_id)
        if outcome is None or outcome.state != JobState.DONE.value:
            raise ResultUnavailableError(
                f"Local job {job_id} on {job.backend_name} is not done; wait for it and fetch "
                "again.",
                job_id=job_id,
                backend_name=job.backend_name,
            )
        result = decode_result(job, self._store.result(job, outcome))
        times = JobTimes(job.created, outcome.started, outcome.completed)
        return FetchedResult(result, job.backend_name, times=times)

    def _withdraw_damaged(self, job_id: str) -> None:
        lock = self._store.run_lock(job_id)
        if not lock.acquire():
            return  # somebody runs it, or does this
        try:
            self._store.withdraw_damaged(self._store.job(job_id))
        except (RecordError, OSError) as error:
            raise ResultUnavailableError(
                f"The result of local job {job_id} is damaged, and cannot be made again: {error}. "
                "Mend that, or submit it again.",
                job_id=job_id,
            ) from error
        finally:
            lock.release()
