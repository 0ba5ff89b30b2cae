"""What the errors of the native client mean: its exception types, and the service's codes.

Types are named, not imported, so that reading this table costs no import of the client. What was
found out about the client's exceptions, fault by fault, stands in ``docs/retries.md``.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qcsc_prefect.core.error_facts import iter_error_chain, retry_after_seconds
from qcsc_prefect.core.retry import COMMON_RULES, ErrorFacts, RetryAnswer

__all__ = [
    "COME_BACK_LATER",
    "NEW_JOB_RULES",
    "QISKIT_RETRY_RULES",
    "ServiceAnswer",
    "read_service_answer",
    "request_method",
    "stumbled_over_an_answer",
    "was_sent_before",
]

_RETRY, _DO_NOT = RetryAnswer.RETRY, RetryAnswer.DO_NOT
_ASK_THE_CAUSE = RetryAnswer.UNKNOWN

_CLIENT_TYPES: Final = {
    # A job that ended has ended.
    "qiskit_ibm_runtime.exceptions.RuntimeJobFailureError": _DO_NOT,
    "qiskit_ibm_runtime.exceptions.RuntimeJobMaxTimeoutError": _DO_NOT,
    "qiskit_ibm_runtime.exceptions.RuntimeInvalidStateError": _DO_NOT,
    # The caller's own patience is over; the job goes on.
    "qiskit_ibm_runtime.exceptions.RuntimeJobTimeoutError": _DO_NOT,
    "qiskit_ibm_runtime.exceptions.RuntimeJobNotFound": _DO_NOT,
    "qiskit_ibm_runtime.exceptions.RuntimeProgramNotFound": _DO_NOT,
    "qiskit_ibm_runtime.exceptions.IBMInputValueError": _DO_NOT,
    "qiskit_ibm_runtime.accounts.exceptions.AccountNotFoundError": _DO_NOT,
}

_HTTP_LIBRARY_TYPES: Final = {
    "requests.exceptions.ConnectionError": _RETRY,
    "requests.exceptions.Timeout": _RETRY,
    "requests.exceptions.ChunkedEncodingError": _RETRY,
    "requests.exceptions.ContentDecodingError": _RETRY,
    # An answer that is empty, cut, or not what it claims to be.
    "requests.exceptions.JSONDecodeError": _RETRY,
    # The client's own tries were all answered by statuses that it holds to be passing.
    "requests.exceptions.RetryError": _RETRY,
    "requests.exceptions.InvalidHeader": _DO_NOT,
    "requests.exceptions.InvalidSchema": _DO_NOT,
    "requests.exceptions.InvalidURL": _DO_NOT,
    "requests.exceptions.MissingSchema": _DO_NOT,
    "requests.exceptions.TooManyRedirects": _DO_NOT,
    # A broken handshake passes, a wrong certificate does not: the ssl module's error knows.
    "requests.exceptions.SSLError": _ASK_THE_CAUSE,
    "urllib3.exceptions.SSLError": _ASK_THE_CAUSE,
    "urllib3.exceptions.MaxRetryError": _ASK_THE_CAUSE,
    # Why the tries ended; its text holds the status, its type says that it was a passing one.
    "urllib3.exceptions.ResponseError": _RETRY,
    "urllib3.exceptions.DecodeError": _RETRY,
    "urllib3.exceptions.IncompleteRead": _RETRY,
    "urllib3.exceptions.InvalidChunkLength": _RETRY,
    "urllib3.exceptions.PoolError": _RETRY,
    "urllib3.exceptions.ProtocolError": _RETRY,
    "urllib3.exceptions.ProxyError": _RETRY,
    "urllib3.exceptions.TimeoutError": _RETRY,
    "urllib3.exceptions.LocationValueError": _DO_NOT,
}

#: Too many pending jobs, and the rate limit, whatever the status.
COME_BACK_LATER: Final = frozenset({1012, 3458, 1202})

#: Codes of the service as its public material lists them.
_SERVICE_CODES: Final[Mapping[int | str, RetryAnswer]] = {
    **dict.fromkeys((1000, 1006, 1008, 1010, 1011), _RETRY),  # internal errors
    **dict.fromkeys(COME_BACK_LATER, _RETRY),
    1999: _RETRY,  # maintenance
    **dict.fromkeys((1002, 1003, 1005, 1007, 3211, 3220, 3236), _DO_NOT),  # bad job or payload
    **dict.fromkeys((1200, 1201), _DO_NOT),  # not authorized
    **dict.fromkeys((3250, 3302), _DO_NOT),  # no such job
    **dict.fromkeys((1305, 5201, 5202), _DO_NOT),  # ran too long, timed out, cancelled
    4317: _DO_NOT,  # quota used up
    5302: _DO_NOT,  # result too large
    6053: _DO_NOT,  # compiler error
}


#: Functions of the client, and of the one it is built on, that read answers while it signs in.
_READING_ANSWERS: Final = frozenset({"list_instances", "_save_token_info"})
_READERS: Final = ("qiskit_ibm_runtime.", "ibm_cloud_sdk_core.")


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """What the service said in the body of an error's answer.

    Attributes:
        code: Its code of the error.
        message: Its words.
        solution: What it advises to do.
    """

    code: int | None = None
    message: str = ""
    solution: str = ""


def read_service_answer(error: BaseException) -> ServiceAnswer | None:
    """Read the service's own code and words from the response that one error carries.

    Args:
        error: An error of ``requests`` or of the account service's client.

    Returns:
        The answer, or None where the error has no response whose body can be understood.
    """
    body = _json_body(_response(error))
    if body is None:
        return None
    errors = body.get("errors")
    details = errors[0] if isinstance(errors, list) and errors else body.get("error")
    if not isinstance(details, Mapping):
        details = {"code": body.get("errorCode"), "message": body.get("errorMessage")}
    answer = ServiceAnswer(
        code=_code(details.get("code")),
        message=_text(details.get("message")),
        solution=_text(details.get("solution")),
    )
    return answer if answer != ServiceAnswer() else None


def request_method(error: BaseException) -> str | None:
    """Return the HTTP method of the request behind an error, where anything in its chain knows it.

    Args:
        error: An error as the client raised it.

    Returns:
        ``"GET"``, ``"POST"``, ..., or None.
    """
    for link in iter_error_chain(error):
        method = getattr(getattr(link, "request", None), "method", None)
        if isinstance(method, str):
            return method.upper()
    return None


def was_sent_before(error: BaseException) -> bool:
    """Say whether the client had sent the same request before the answer behind an error.

    The client repeats a POST that is answered by a 5xx. If the last answer is a refusal, an
    earlier one of the same request may still have been accepted.

    Args:
        error: An error as the client raised it.

    Returns:
        True where the final answer's record of tries names an earlier one.
    """
    for link in iter_error_chain(error):
        raw = getattr(_response(link), "raw", None)
        history = getattr(getattr(raw, "retries", None), "history", None)
        if history:
            return True
    return False


def stumbled_over_an_answer(error: BaseException) -> bool:
    """Say whether the client failed over an answer of the account service that it cannot read.

    An answer that is no JSON, or is JSON and no object, is read by the client like any other. What
    it raises then looks like a mistake in a program; where it was raised tells them apart.

    Args:
        error: What the client raised while a service object was made.

    Returns:
        True where that happened in a function of the client that reads such an answer.
    """
    return any(
        frame.f_code.co_name in _READING_ANSWERS
        and frame.f_globals.get("__name__", "").startswith(_READERS)
        for link in iter_error_chain(error)
        if isinstance(link, AttributeError | KeyError | TypeError)
        for frame, _ in traceback.walk_tb(link.__traceback__)
    )


def _read_facts(error: BaseException) -> ErrorFacts:
    answer = read_service_answer(error)
    return ErrorFacts(
        service_code=None if answer is None else answer.code,
        retry_after=retry_after_seconds(getattr(_response(error), "headers", None)),
    )


def _response(error: BaseException) -> object:
    """Return the response that an error of requests, or of the account service's client, holds."""
    own = getattr(error, "response", None)
    return getattr(error, "http_response", None) if own is None else own


def _json_body(response: object) -> Mapping[str, object] | None:
    content = getattr(response, "content", None)
    if not isinstance(content, bytes):
        return None
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, Mapping) else None


def _code(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


#: The rules for errors of ``qiskit-ibm-runtime`` and of what it is built on.
QISKIT_RETRY_RULES: Final = COMMON_RULES.extended(
    types={**_CLIENT_TYPES, **_HTTP_LIBRARY_TYPES},
    # Both are also raised by faults that pass: then the fault stands behind them.
    last_resort_types={
        "qiskit_ibm_runtime.exceptions.IBMNotAuthorizedError": _DO_NOT,
        "qiskit_ibm_runtime.exceptions.IBMAccountError": _DO_NOT,
    },
    service_codes=_SERVICE_CODES,
    readers={
        "requests.exceptions.RequestException": _read_facts,
        "ibm_cloud_sdk_core.api_exception.ApiException": _read_facts,
    },
)

#: The same for a job that was submitted a moment ago: the service may not show it yet.
NEW_JOB_RULES: Final = QISKIT_RETRY_RULES.extended(
    types={"qiskit_ibm_runtime.exceptions.RuntimeJobNotFound": _RETRY},
    statuses={404: _RETRY},
    service_codes={3250: _RETRY, 3302: _RETRY},
)
