"""What is said of a job where its service could not be asked about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcsc_prefect.core.errors import JobError, JobNotFoundError
from qcsc_prefect.core.retry import RetryAnswer, advise_retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcsc_prefect.core.retry import RetryRules

__all__ = ["translate_job_error"]

_NOT_FOUND = 404


def translate_job_error(
    error: BaseException,
    rules: RetryRules,
    *,
    doing: str,
    job_id: str | None = None,
    redacted: Callable[[str], str] = str,
) -> JobError:
    """Return the error for a question about a job that was not answered.

    For submissions, which may have made a job, see `translate_submission_error`.

    Args:
        error: What the client raised. A `JobError` is returned as it is.
        rules: What the client's errors mean.
        doing: What was tried, as a phrase that "failed" can follow.
        job_id: The job; None where the question was about no certain one.
        redacted: Takes credentials out of the message.

    Returns:
        A `JobNotFoundError` where a certain job was answered by 404, else a `JobError`.

    Example:
        >>> from qcsc_prefect.core.retry import COMMON_RULES
        >>> cut = ConnectionResetError("reset by peer")
        >>> translate_job_error(cut, COMMON_RULES, doing="Asking for job a-7").retryable
        True
    """
    if isinstance(error, JobError):
        return error
    advice = advise_retry(error, rules)
    is_missing = advice.status == _NOT_FOUND and job_id is not None
    return (JobNotFoundError if is_missing else JobError)(
        redacted(f"{doing} failed: {type(error).__name__}: {error} ({advice.because})."),
        job_id=job_id,
        retryable={RetryAnswer.RETRY: True, RetryAnswer.DO_NOT: False}.get(advice.answer),
        retry_after=advice.retry_after,
        status=advice.status,
        service_code=advice.service_code,
    )
