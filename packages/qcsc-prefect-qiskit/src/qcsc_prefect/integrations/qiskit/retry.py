"""Retrying the fetch of a result: when, how often, and when not.

The two functions that a Prefect task takes::

    @task(
        retries=len(qiskit_retry_delays()),
        retry_delay_seconds=qiskit_retry_delays(),
        retry_condition_fn=should_retry_qiskit_fetch_failure,
    )
    async def fetch(job_reference): ...

Submitting is never retried by them: after a submission whose answer was lost, asking again could
pay for the same job twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcsc_prefect.core.prefect.retries import retry_condition
from qcsc_prefect.core.retry import RetryAdvice, RetryAnswer, advise_retry
from qcsc_prefect.integrations.qiskit.errors.client_table import NEW_JOB_RULES, QISKIT_RETRY_RULES
from qcsc_prefect.integrations.qiskit.errors.translation import (
    translate_qiskit_error,
    translate_qiskit_submission_error,
)

if TYPE_CHECKING:
    from typing import Any

    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun

__all__ = [
    "RetryAdvice",
    "RetryAnswer",
    "classify_qiskit_error",
    "qiskit_retry_delays",
    "should_retry_qiskit_fetch_failure",
    "translate_qiskit_error",
    "translate_qiskit_submission_error",
]

_is_worth_a_retry = retry_condition(QISKIT_RETRY_RULES)


def qiskit_retry_delays() -> list[int]:
    """Return conservative retry delays, in seconds, for Qiskit fetch tasks.

    The first minute passes what a restart of a gateway takes, the last quarter of an hour a short
    maintenance; together they wait for 48 minutes. The job itself goes on meanwhile.

    Returns:
        Seconds before the first, second, ... repetition; a new list at each call.

    Example:
        >>> qiskit_retry_delays()
        [60, 120, 300, 600, 900]
    """
    return [60, 120, 300, 600, 900]


def classify_qiskit_error(error: BaseException, *, recently_submitted: bool = False) -> RetryAdvice:
    """Answer whether a failed call of the native client may succeed later.

    Works on what the client raises, on the errors of this package, and on any wrapping of them.
    The answer comes from types, statuses and codes, never from a message.

    Args:
        error: What was raised.
        recently_submitted: The call was about a job that was submitted so short a time ago that
            the service need not show it yet: then "no such job" may pass.

    Returns:
        The answer, the fact that decided, and status, service code and Retry-After where known.

    Example:
        >>> from qcsc_prefect.core.errors import JobError
        >>> classify_qiskit_error(JobError("refused", service_code=1999, status=403)).because
        'service code 1999'
    """
    return advise_retry(error, NEW_JOB_RULES if recently_submitted else QISKIT_RETRY_RULES)


def should_retry_qiskit_fetch_failure(
    _task: Task[..., Any], _task_run: TaskRun, state: State[Any]
) -> bool:
    """Return True when a failed fetch state appears transient and retryable.

    Made for ``retry_condition_fn`` of a task; works in Prefect's synchronous and asynchronous
    engines. An error about which nothing is known is not retried: a mistake in a program would
    otherwise be repeated for most of an hour before its author sees it. Nor is the end of the
    caller's own ``max_wait``, nor any failure to submit, however they are wrapped.

    Args:
        _task: The task; not used.
        _task_run: Its run; not used.
        state: The failed state, as Prefect hands it over before it is stored.

    Returns:
        True where the error in the state carries facts that speak for another try. Never raises.
    """
    return _is_worth_a_retry(_task, _task_run, state)
