"""Turns whatever the client lets out over a configuration into an error without credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcsc_prefect.core.error_facts import iter_error_chain
from qcsc_prefect.core.retry import RetryAnswer, advise_retry
from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.errors.client_table import (
    QISKIT_RETRY_RULES,
    stumbled_over_an_answer,
)
from qcsc_prefect.integrations.qiskit.errors.sentences import sentence
from qcsc_prefect.integrations.qiskit.errors.translation import redacted

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["config_failure", "own_backend_failure"]


def config_failure(
    tried: str, cause: Exception, secrets: Sequence[str] = ()
) -> QiskitRuntimeConfigError:
    """Return the error of a service or a backend that could not be had.

    Raise it outside of the ``except`` block: inside, Python would hang the client's error on it
    once more, with all that it holds.

    Args:
        tried: What was tried, as a sentence.
        cause: What the client let out.
        secrets: Texts that must stand nowhere in the error.

    Returns:
        The error. Its cause is what was raised, without the requests that it held; or one that has
        only its words, where a secret stands anywhere else in it.

    Example:
        >>> error = config_failure("Tried it.", OSError("no key-0123"), ["key-0123"])
        >>> str(error.__cause__)
        'OSError: no ********'
    """
    reason = redacted(str(cause).strip(), secrets) or type(cause).__name__
    error = _described(tried, cause, reason)
    error.__cause__ = _without_credentials(cause, secrets)
    return error


def own_backend_failure(
    method: str, cause: Exception, secrets: Sequence[str] = ()
) -> QiskitRuntimeConfigError:
    """Return the error of a backend that somebody's own method did not give.

    Raise it outside of the ``except`` block, as that of `config_failure`.
    """
    reason = redacted(str(cause).strip(), secrets).rstrip(".")
    error = QiskitRuntimeConfigError(
        f"Tried to get the backend by {method}(): {type(cause).__name__}: "
        f"{reason}. Mend that method, or the fields that it reads."
    )
    error.__cause__ = _without_credentials(cause, secrets)
    return error


def _described(tried: str, cause: Exception, reason: str) -> QiskitRuntimeConfigError:
    if stumbled_over_an_answer(cause):
        return QiskitRuntimeConfigError(
            f"{tried} The client could not read an answer of the service "
            f"({type(cause).__name__}: {reason}). This may pass: try again later.",
            retryable=True,
        )
    # The client blames the token for whatever goes wrong while it signs in.
    advice = advise_retry(cause, QISKIT_RETRY_RULES)
    status = "" if advice.status is None else f" Behind it stands HTTP {advice.status}."
    passes = advice.answer is RetryAnswer.RETRY
    next_step = (
        "No usable answer came from the service. This may pass: try again later."
        if passes
        else "Check the configuration's fields, and that the service can be reached from this "
        "machine."
    )
    return QiskitRuntimeConfigError(
        f"{tried} The client answered: {sentence(reason)}{status} {next_step}",
        # A pickle, which crosses to another process, has no cause that would say so.
        retryable=True if passes else None,
    )


def _without_credentials(error: Exception, secrets: Sequence[str]) -> Exception:
    for link in iter_error_chain(error):
        # Requests hold the key in their body or headers; the answers hold the facts.
        answers = (getattr(link, name, None) for name in ("response", "http_response"))
        for holder in (link, *answers):
            if getattr(holder, "request", None) is not None:
                holder.request = None  # type: ignore[union-attr]
    shown = " ".join(f"{link!s} {link!r} {vars(link)!r}" for link in iter_error_chain(error))
    if redacted(shown, secrets) == shown:
        return error
    return RuntimeError(f"{type(error).__name__}: {redacted(str(error), secrets)}")
