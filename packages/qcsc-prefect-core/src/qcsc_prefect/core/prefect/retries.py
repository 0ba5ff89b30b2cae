"""Tells Prefect whether running a task again may help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcsc_prefect.core.error_facts import is_error, iter_error_chain
from qcsc_prefect.core.errors import JobWaitTimeoutError, SubmissionError
from qcsc_prefect.core.retry import COMMON_RULES, RetryAnswer, RetryRules, advise_retry

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun

__all__ = ["retry_condition"]

#: The caller's own limit, and what might be paid for a second time.
_NEVER_REPEATED = (JobWaitTimeoutError, SubmissionError)


def retry_condition(
    rules: RetryRules = COMMON_RULES,
) -> Callable[[Task[..., Any], TaskRun, State[Any]], bool]:
    """Make the function that a task's ``retry_condition_fn`` takes, of a vendor's rules.

    It says yes to a failed state whose error carries facts that speak for another try, as
    `advise_retry` answers. An error about which nothing is known is not retried: a mistake in a
    program would otherwise be repeated until its author sees it. Nor is a `JobWaitTimeoutError`,
    the end of the caller's own limit, nor any `SubmissionError`, however they are wrapped.

    Args:
        rules: What types, statuses and codes of the vendor's client mean.

    Returns:
        A plain function of the task, its run and the failed state; it never raises.

    Example:
        >>> from prefect import task
        >>> from qcsc_prefect.core import COMMON_RULES, RetryAnswer
        >>> rules = COMMON_RULES.extended(service_codes={"ACME-BUSY": RetryAnswer.RETRY})
        >>> @task(retries=2, retry_delay_seconds=60, retry_condition_fn=retry_condition(rules))
        ... async def fetch(job_id): ...
    """

    def is_worth_a_retry(_task: Task[..., Any], _task_run: TaskRun, state: State[Any]) -> bool:
        error = getattr(state, "data", None)
        if not is_error(error):
            return False
        links = iter_error_chain(error, with_members=True)
        if any(is_error(link, _NEVER_REPEATED) for link in links):
            return False
        return advise_retry(error, rules).answer is RetryAnswer.RETRY

    return is_worth_a_retry
