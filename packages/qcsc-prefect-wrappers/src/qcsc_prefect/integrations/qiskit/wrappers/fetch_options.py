"""The fetch task with the options that a call's flags mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcsc_prefect.integrations.qiskit.retry import (
    qiskit_retry_delays,
    should_retry_qiskit_fetch_failure,
)
from qcsc_prefect.integrations.qiskit.tasks import fetch_qiskit_job_result_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

__all__ = ["fetch_task"]


def fetch_task(*, retry_fetch: bool) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Return the fetch task, with retries where they are asked for.

    Args:
        retry_fetch: Retry transient failures; fetching never creates a job.

    Returns:
        The task.
    """
    if not retry_fetch:
        return fetch_qiskit_job_result_task
    delays = qiskit_retry_delays()
    task: Callable[..., Awaitable[dict[str, Any]]] = fetch_qiskit_job_result_task.with_options(
        retries=len(delays),
        retry_delay_seconds=delays,
        retry_condition_fn=should_retry_qiskit_fetch_failure,
    )
    return task
