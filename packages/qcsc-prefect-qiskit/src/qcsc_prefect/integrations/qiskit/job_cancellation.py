"""What becomes of a job whose task was cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from qcsc_prefect.integrations.qiskit.errors import NO_ANSWER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qcsc_prefect.core.prefect.task_runs import RunLogger

__all__ = ["after_cancellation"]


async def after_cancellation(
    cancel: Callable[[], Awaitable[bool]],
    job_id: str,
    logger: RunLogger,
    *,
    during: str,
    cancel_job: bool,
) -> None:
    """Leave a job alone or cancel it, and say which in the log; not cancelled itself.

    Args:
        cancel: Cancels the job; says whether that was in time.
        job_id: The job.
        logger: Logger of the task run.
        during: What was cancelled, as a noun: ``"wait"``.
        cancel_job: Whether to cancel the job.
    """
    if not cancel_job:
        logger.warning(
            "The %s of job %s was cancelled; the job goes on and can be fetched later",
            during,
            job_id,
        )
        return
    try:
        with anyio.CancelScope(shield=True):
            cancelled = await cancel()
    except NO_ANSWER as error:
        logger.warning(
            "The %s of job %s was cancelled, and the job could not be cancelled with it: %s",
            during,
            job_id,
            error,
        )
        return
    logger.warning(
        "The %s of job %s was cancelled; the job %s",
        during,
        job_id,
        "was cancelled with it" if cancelled else "had ended already",
    )
