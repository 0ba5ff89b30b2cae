"""Keeps the submitted jobs and runs their programs in worker threads."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit.testing.jobs import (
    FINAL_STATES,
    INTERNAL_ERROR,
    Job,
    JobEnd,
    JobState,
    Schedule,
    Submission,
)
from qcsc_prefect.integrations.qiskit.testing.programs import ProgramFailedError

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.testing.backends import EmulatedBackend
    from qcsc_prefect.integrations.qiskit.testing.exchange import JSONValue
    from qcsc_prefect.integrations.qiskit.testing.jobs import JobRecord
    from qcsc_prefect.integrations.qiskit.testing.runner import Simulation

logger = logging.getLogger(__name__)

_WITHOUT_RESULT = FINAL_STATES - {JobState.COMPLETED}


class JobStore:
    """Every job of one emulated service, in memory only.

    Args:
        simulation: How programs are simulated.
        schedule: How long jobs stay in their first two states.
        workers: How many threads run programs.
    """

    def __init__(self, simulation: Simulation, schedule: Schedule, workers: int) -> None:
        self.schedule = schedule
        self.clock_ahead = timedelta()
        self._simulation = simulation
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="emulated-qpu")
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def submit(self, submission: Submission, end: JobEnd | None = None) -> Job:
        """Create a job and start its program.

        Args:
            submission: What was posted.
            end: How the job ends without running its program, or None to run it.
        """
        job = Job(submission, self.schedule, end or JobEnd(), self.clock_ahead)
        self._start(job, end)
        return job

    def restore(self, record: JobRecord, backend: EmulatedBackend) -> None:
        """Take a job that another store had, and run its program again unless it failed.

        Args:
            record: The job.
            backend: Where it runs.

        Raises:
            ConfigurationError: There is a job with this id.
        """
        if self.find(record.id) is not None:
            raise ConfigurationError(f"The emulated service has a job {record.id} already.")
        end = None
        if record.state in _WITHOUT_RESULT:
            end = JobEnd(record.state, record.reason, record.reason_code)
        submission = Submission(
            program=record.program,
            backend=backend,
            params=cast("dict[str, JSONValue]", record.params),
            user_id=record.user_id,
            instance=record.instance,
            tags=record.tags,
            private=record.private,
            session_id=record.session_id,
            cost=record.cost,
        )
        job = Job(submission, self.schedule, end or JobEnd(), timedelta())
        job.resume(record)
        self._start(job, end)

    def _start(self, job: Job, end: JobEnd | None) -> None:
        with self._lock:
            self._jobs[job.id] = job
        if end is None:
            running = self._workers.submit(self._run, job)
            running.add_done_callback(lambda ended: self._fail_after_crash(job, ended))
        else:
            self._finish(job, end.reason or "")

    def find(self, job_id: str) -> Job | None:
        """Return the job with this id, or None."""
        with self._lock:
            return self._jobs.get(job_id)

    def all(self) -> list[Job]:
        """Return all jobs, the oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def cancel(self, job: Job) -> bool:
        """Cancel a job; return False where it had already ended."""
        with self._lock:
            if job.state in FINAL_STATES:
                return False
            job.cancel()
            return True

    def delete(self, job: Job) -> None:
        """Forget a job."""
        with self._lock:
            self._jobs.pop(job.id, None)

    def take_output(self, job: Job) -> str | None:
        """Return what a finished job has to download, or None.

        The result of a private job is handed out once, that of any other as often as asked for.
        """
        with self._lock:
            output = job.output
            if output is None or (job.submission.private and job.result_reads):
                return None
            job.result_reads += 1
            return output

    def release(self, job_id: str | None = None) -> None:
        """Let one job, or all jobs there are, end as soon as their programs have run."""
        for job in self.all():
            if job_id in (None, job.id):
                job.release()

    def queue(self, backend_name: str) -> list[Job]:
        """Return the jobs that wait for a backend, the oldest first."""
        return [
            job
            for job in self.all()
            if job.submission.backend.name == backend_name and job.state == JobState.QUEUED
        ]

    def close(self) -> None:
        """Start no further program; one that is being simulated runs to its end."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Job) -> None:
        submission = job.submission
        if job.state in FINAL_STATES:
            return
        try:
            output = self._simulation.run(submission.program, submission.params, submission.backend)
        except ProgramFailedError as failure:
            end = JobEnd(JobState.FAILED, failure.message, failure.code)
            self._finish(job, failure.message, end)
        else:
            self._finish(job, output)

    def _fail_after_crash(self, job: Job, running: Future[None]) -> None:
        """Let a job fail whose program ended with an error that nobody foresaw."""
        error = None if running.cancelled() else running.exception()
        if error is not None:
            logger.error("The simulation of job %s crashed.", job.id, exc_info=error)
            reason = f"{type(error).__name__}: {error}"
            self._finish(job, reason, JobEnd(JobState.FAILED, reason, INTERNAL_ERROR))

    def _finish(self, job: Job, output: str, end: JobEnd | None = None) -> None:
        with self._lock:
            job.finish(output, end)
