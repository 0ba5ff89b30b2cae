"""Whether a submission that failed may have made a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcsc_prefect.core.errors import SubmissionError, SubmissionUncertainError
from qcsc_prefect.core.retry import RetryAnswer, advise_retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcsc_prefect.core.retry import RetryAdvice, RetryRules

__all__ = ["translate_submission_error"]

_REQUEST_TIMEOUT = 408
_LONGEST_QUOTE = 500


def translate_submission_error(
    error: BaseException,
    rules: RetryRules,
    *,
    not_sent: bool = False,
    sent_before: bool = False,
    backend_name: str | None = None,
    doing: str = "Submitting the job",
    said: str | None = None,
    next_step: str | None = None,
    redacted: Callable[[str], str] = str,
) -> SubmissionError:
    """Return the error that says whether a failed submission may have created a job.

    No job was created where the service refused the one request that was sent (a 4xx but for 408),
    or where nothing was sent. In every other case a job may exist.

    Args:
        error: What the client raised. A `SubmissionError` is returned as it is.
        rules: What the client's errors mean.
        not_sent: That nothing can have reached the service: an earlier request failed, or no
            connection came about.
        sent_before: That the client had sent the same request before, so that a refusal is no
            proof.
        backend_name: The backend that the job was meant for.
        doing: What was tried, as a phrase that "failed" can follow.
        said: What went wrong, as a sentence; None for the error's own words.
        next_step: What to do about a refusal, as a sentence; None for what the rules advise.
        redacted: Takes credentials out of the message.

    Returns:
        A `SubmissionError` where no job can have been created, else a `SubmissionUncertainError`.
        ``retryable`` says whether the same submission may be accepted later; it is None for an
        uncertain one, because asking again could pay twice.

    Example:
        >>> from qcsc_prefect.core.retry import COMMON_RULES
        >>> lost = translate_submission_error(ConnectionResetError("reset by peer"), COMMON_RULES)
        >>> type(lost).__name__, lost.retryable
        ('SubmissionUncertainError', None)
        >>> refused = ConnectionRefusedError("nobody listens")
        >>> translate_submission_error(refused, COMMON_RULES, not_sent=True).retryable
        True
    """
    if isinstance(error, SubmissionError):
        return error
    advice = advise_retry(error, rules)
    where = f" on {backend_name}" if backend_name else ""
    said = _words(error) if said is None else said
    refused = (
        advice.status is not None
        and 400 <= advice.status < 500  # noqa: PLR2004
        # It says that the server stopped reading, which is no decision about the job.
        and advice.status != _REQUEST_TIMEOUT
        and not sent_before
    )
    if not_sent or refused:
        return SubmissionError(
            redacted(
                f"{doing} failed{where}, no job was created: {said} {next_step or _advised(advice)}"
            ),
            backend_name=backend_name,
            retryable={RetryAnswer.RETRY: True, RetryAnswer.DO_NOT: False}.get(advice.answer),
            retry_after=advice.retry_after,
            status=advice.status,
            service_code=advice.service_code,
        )
    return SubmissionUncertainError(
        redacted(
            f"{doing} failed{where}, and a job may have been created: {said} "
            "Look for the job on the service before submitting again; a rerun of what is submitted "
            "once, with cache_submit=True or submit_once, does so by itself."
        ),
        backend_name=backend_name,
        retry_after=advice.retry_after,
        status=advice.status,
        service_code=advice.service_code,
    )


def _words(error: BaseException) -> str:
    words = " ".join(str(error).split())
    if len(words) > _LONGEST_QUOTE:
        words = f"{words[:_LONGEST_QUOTE]}..."
    named = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return named if named.endswith((".", "!", "?")) else f"{named}."


def _advised(advice: RetryAdvice) -> str:
    if advice.answer is RetryAnswer.RETRY:
        return "This may pass: try again later."
    if advice.answer is RetryAnswer.DO_NOT:
        return "Trying the same again will not help."
    return "It is not known whether trying again helps."
