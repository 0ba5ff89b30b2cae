"""Waits for a job to its end, wherever the same input was submitted as well."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from qcsc_prefect.core.engine.job_age import submission_time
from qcsc_prefect.core.engine.late import kept_in_its_place, settle_late
from qcsc_prefect.core.engine.log import ENGINE_LOGGER
from qcsc_prefect.core.engine.service import AwaitedJob, JobState
from qcsc_prefect.core.engine.waiting import WaitLimits, wait_for_job
from qcsc_prefect.core.errors import JobCancelledError, JobFailedError, JobTimeLimitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcsc_prefect.core.engine.log import RunLogger
    from qcsc_prefect.core.engine.service import AnyService, JobStatus
    from qcsc_prefect.core.reference import JobReference

__all__ = ["finished_job"]

_PATIENT: Final = WaitLimits()


async def finished_job(
    service: AnyService,
    reference: JobReference,
    limits: WaitLimits = _PATIENT,
    logger: RunLogger = ENGINE_LOGGER,
    on_change: Callable[[JobStatus, float], None] = lambda *_: None,
) -> JobReference:
    """Wait until a job is done, or the one that another machine kept in its place.

    Args:
        service: Where the job runs.
        reference: The job.
        limits: How patiently to wait.
        logger: Where to say which jobs were cancelled as duplicates.
        on_change: Called with the status and the seconds waited, whenever the status changes.

    Returns:
        The job whose result is to be fetched.

    Raises:
        JobFailedError: If the job ended without a result.
        JobWaitTimeoutError: If the limit of the wait is over; the job goes on.
        JobError: If the service does not answer, or does not know the job.
    """
    job_id = str(reference.job_id)
    awaited = AwaitedJob(job_id, reference.tags or (), submission_time(reference))
    settling = asyncio.create_task(settle_late(service, reference, logger))
    try:
        status = await wait_for_job(service, awaited, limits, on_change)
    finally:
        settling.cancel()
    if status.state is JobState.DONE:
        return reference
    kept = await kept_in_its_place(service, reference, status, logger)
    if kept is not None:
        return await finished_job(service, kept, limits, logger, on_change)
    if status.ran_too_long:
        error_type: type[JobFailedError] = JobTimeLimitError
    else:
        is_cancelled = status.state is JobState.CANCELLED
        error_type = JobCancelledError if is_cancelled else JobFailedError
    raise error_type(
        f"Job {job_id} on {reference.backend_name or 'its backend'} ended as {status.raw_state}: "
        f"{status.message or 'the service gave no reason'}. Mend that, and submit it again.",
        job_id=job_id,
        backend_name=reference.backend_name,
        service_code=status.service_code,
    )
