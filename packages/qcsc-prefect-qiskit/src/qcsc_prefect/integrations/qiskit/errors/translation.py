"""Turns what the native client raises into the errors of this project, facts included.

A client exception must not travel on by itself: it may hold the request with its credentials, and
Prefect pickles the exception of a failed task. The errors made here hold facts and text only, and
the text holds no credentials.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from qcsc_prefect.core.engine.failed_posts import translate_submission_error
from qcsc_prefect.core.error_facts import error_type_names, iter_error_chain
from qcsc_prefect.core.errors import (
    JobCancelledError,
    JobError,
    JobFailedError,
    JobNotFoundError,
    JobTimeLimitError,
    JobWaitTimeoutError,
    SubmissionError,
)
from qcsc_prefect.core.retry import RetryAdvice, RetryAnswer, advise_retry
from qcsc_prefect.integrations.qiskit.errors.client_table import (
    NEW_JOB_RULES,
    QISKIT_RETRY_RULES,
    read_service_answer,
    request_method,
    was_sent_before,
)
from qcsc_prefect.integrations.qiskit.errors.sentences import sentence

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["note_secret", "redacted", "translate_qiskit_error", "translate_qiskit_submission_error"]

_CLIENT: Final = "qiskit_ibm_runtime.exceptions"
_RAN_TOO_LONG: Final = 1305
_LONGEST_QUOTE: Final = 500
#: A shorter text is no credential of any service; blacked out, it would take every word apart that
#: it stands in.
_SHORTEST_SECRET: Final = 8

_noted_secrets: set[str] = set()

#: Kinds of text that are credentials wherever they stand.
_CREDENTIALS: Final = (
    re.compile(r"(?i)(?<=bearer )\S+"),
    re.compile(r"(?i)(?<=apikey )\S+"),
    re.compile(r"""(?i)(?<=apikey)["']?\s*[=:]\s*["']?[^\s"',&}]+"""),
    re.compile(r"(?<=://)[^/\s@]+@"),  # user and password of a proxy
    re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+"),  # a JSON web token
)

_STATUS_ADVICE: Final = {
    401: "Check that the API token is valid and has not expired.",
    403: "Check that the account may use this instance and backend.",
    404: "Check the job id, and that account and instance are those that submitted the job.",
    429: "The service limits how often it is asked; ask less often.",
}

#: Those of them that are worth another try, unless the service's code says otherwise.
_PASSING: Final = frozenset({429})


def translate_qiskit_error(
    exc: BaseException,
    *,
    job_id: str | None,
    backend_name: str | None,
    doing: str,
    recently_submitted: bool = False,
    service_code: int | str | None = None,
    job_is_done: bool = False,
    secrets: Iterable[str] = (),
) -> JobError:
    """Return the error of this project that says what a client exception about a job means.

    Raise what is returned ``from exc``, or ``from None`` where the cause is not to be kept.

    Args:
        exc: What the client raised. An error that is translated already is returned as it is.
        job_id: The job that the call was about, where known.
        backend_name: Its backend, where known.
        doing: What was tried, as a phrase that "failed" can follow: ``"Reading the status"``.
        recently_submitted: The job was submitted so short a time ago that the service need not
            show it yet: "no such job" is then worth another try.
        service_code: The service's code of a failed job, where the caller knows it; the client's
            exception holds it in its text only.
        job_is_done: The job is known to have ended with a result.
        secrets: Texts to black out, such as the account's token.

    Returns:
        A `JobFailedError`, `JobCancelledError` or `JobTimeLimitError` for a job that has ended, a
        `JobNotFoundError` for one that the service does not know, a `JobWaitTimeoutError` where
        the client's own timeout was over, else a plain `JobError`; with ``status``,
        ``service_code``, ``retry_after`` and ``retryable`` as far as the chain of the exception
        tells them.

    Example:
        >>> error = translate_qiskit_error(
        ...     ConnectionResetError(104, "Connection reset by peer"),
        ...     job_id="j-1",
        ...     backend_name="ibm_kawasaki",
        ...     doing="Reading the status",
        ... )
        >>> error.retryable
        True
    """
    if isinstance(exc, JobError):
        return exc
    advice = advise_retry(exc, NEW_JOB_RULES if recently_submitted else QISKIT_RETRY_RULES)
    error_type = _job_error_type(exc, advice)
    if error_type is JobTimeLimitError and service_code is None:
        service_code = _RAN_TOO_LONG
    return error_type(
        redacted(
            f"{doing} failed{_about(job_id, backend_name)}: {_what_was_said(exc, advice)} "
            f"{_next_step(exc, error_type, advice, job_id, job_is_done=job_is_done)}",
            secrets,
        ),
        job_id=job_id,
        backend_name=backend_name,
        retryable=_retryable(advice),
        retry_after=advice.retry_after,
        status=advice.status,
        service_code=advice.service_code if service_code is None else service_code,
    )


def translate_qiskit_submission_error(
    exc: BaseException,
    *,
    backend_name: str | None,
    doing: str = "Submitting the job",
    secrets: Iterable[str] = (),
    sent: bool | None = None,
) -> SubmissionError:
    """Return the error that says whether a failed submission may have created a job.

    No job was created where the service refused the one request that was sent (a 4xx), or where
    a read that precedes the submission failed. In every other case a job may exist: a client that
    this package does not look after repeats a POST that is answered by a 5xx, so even a refusal is
    no proof if it is not the first answer.

    Args:
        exc: What the client's ``run`` raised.
        backend_name: The backend that the job was meant for.
        doing: What was tried, as a phrase that "failed" can follow.
        secrets: Texts to black out, such as the account's token.
        sent: Whether the submission may have reached the service; None where only the exception
            can tell.

    Returns:
        A `SubmissionError` where no job can have been created, else a `SubmissionUncertainError`.
        ``retryable`` says whether the same submission may be accepted later; it is None for an
        uncertain one, because asking again could pay twice.
    """
    if isinstance(exc, SubmissionError):
        return exc
    advice = advise_retry(exc, QISKIT_RETRY_RULES)
    return translate_submission_error(
        exc,
        QISKIT_RETRY_RULES,
        not_sent=request_method(exc) in {"GET", "HEAD"} if sent is None else not sent,
        sent_before=was_sent_before(exc),
        backend_name=backend_name,
        doing=doing,
        said=_what_was_said(exc, advice),
        next_step=_next_step(exc, SubmissionError, advice, None),
        redacted=lambda text: redacted(text, secrets),
    )


def note_secret(secret: str) -> None:
    """Let a credential that this process uses stand in no text, whoever it was that found it.

    A token that the native client takes from its environment or from a file with saved accounts
    stands in no configuration.
    """
    _noted_secrets.add(secret)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text with credentials blacked out.

    Args:
        text: Any text, such as a message of the service.
        secrets: Texts that are credentials; one of fewer than eight characters can be none, and is
            left alone. Besides them, those that were noted are blacked out, and whatever looks like
            an authorization header, a JSON web token, or the user and password of a URL.

    Returns:
        The text with ``********`` in their place.

    Example:
        >>> redacted("sent Authorization: Bearer abc.def to https://u:p@host/")
        'sent Authorization: Bearer ******** to https://********host/'
    """
    for secret in (*secrets, *_noted_secrets.copy()):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "********")
    for credential in _CREDENTIALS:
        text = credential.sub("********", text)
    return text


def _job_error_type(exc: BaseException, advice: RetryAdvice) -> type[JobError]:
    names = {name for link in iter_error_chain(exc) for name in error_type_names(link)}
    if f"{_CLIENT}.RuntimeJobMaxTimeoutError" in names:
        return JobTimeLimitError
    if f"{_CLIENT}.RuntimeJobFailureError" in names:
        return JobFailedError
    if f"{_CLIENT}.RuntimeJobTimeoutError" in names:
        return JobWaitTimeoutError
    # The client raises this also for a cancel that comes too late; then an answer stands behind.
    if f"{_CLIENT}.RuntimeInvalidStateError" in names and advice.status is None:
        return JobCancelledError
    if f"{_CLIENT}.RuntimeJobNotFound" in names or advice.status == 404:  # noqa: PLR2004
        return JobNotFoundError
    return JobError


def _retryable(advice: RetryAdvice) -> bool | None:
    return {RetryAnswer.RETRY: True, RetryAnswer.DO_NOT: False}.get(advice.answer)


def _about(job_id: str | None, backend_name: str | None) -> str:
    job = f" for job {job_id}" if job_id else ""
    return f"{job} on {backend_name}" if backend_name else job


def _what_was_said(exc: BaseException, advice: RetryAdvice) -> str:
    """Return the service's own words where it spoke, else those of the error that decided."""
    for link in iter_error_chain(exc):
        answer = read_service_answer(link)
        if answer is not None and answer.message:
            status = "" if advice.status is None else f"HTTP {advice.status}, "
            code = "no code" if answer.code is None else f"code {answer.code}"
            solution = f" {sentence(answer.solution)}" if answer.solution else ""
            return f"the service answered ({status}{code}): {sentence(answer.message)}{solution}"
    if advice.answer is RetryAnswer.RETRY:
        return f"no usable answer came ({_words(_root(exc))})."
    return sentence(_words(exc if advice.decided_by is None else advice.decided_by))


def _root(exc: BaseException) -> BaseException:
    """Return the error furthest back in the chain that speaks for another try."""
    root = exc
    for link in iter_error_chain(exc):
        named = (QISKIT_RETRY_RULES.types.get(name) for name in error_type_names(link))
        if RetryAnswer.RETRY in named:
            root = link
    return root


def _words(error: BaseException) -> str:
    words = " ".join(str(error).split())
    if len(words) > _LONGEST_QUOTE:
        words = f"{words[:_LONGEST_QUOTE]}..."
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _service_advises(exc: BaseException) -> bool:
    answers = (read_service_answer(link) for link in iter_error_chain(exc))
    return any(answer is not None and answer.solution for answer in answers)


def _next_step(
    exc: BaseException,
    error_type: type[JobError],
    advice: RetryAdvice,
    job_id: str | None,
    *,
    job_is_done: bool = False,
) -> str:
    if issubclass(error_type, JobFailedError):
        return "The job has ended: correct its cause and submit a new job."
    if issubclass(error_type, JobWaitTimeoutError):
        return "The job goes on: fetch it later by its job id."
    retry = advice.answer is RetryAnswer.RETRY
    words = []
    fits = advice.status in _STATUS_ADVICE and retry == (advice.status in _PASSING)
    if fits and not _service_advises(exc):
        words.append(_STATUS_ADVICE[cast("int", advice.status)])
    if retry:
        later = (
            f"after the {advice.retry_after:g} s that the service asks for"
            if advice.retry_after
            else "later"
        )
        if job_id is None:
            words.append(f"This may pass: try again {later}.")
        elif job_is_done:
            words.append(f"This may pass: the job is done; fetch it again {later}, by its job id.")
        else:
            words.append(
                f"This may pass: fetch the job again {later}, by its job id; "
                "the job itself goes on."
            )
    elif not words:
        words.append(
            "Trying the same again will not help."
            if advice.answer is RetryAnswer.DO_NOT
            else "It is not known whether trying again helps."
        )
    return " ".join(words)
