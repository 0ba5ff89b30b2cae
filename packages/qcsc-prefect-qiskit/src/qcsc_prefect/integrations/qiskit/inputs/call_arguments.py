"""Checks what a call says beside its PUBs, before anything of it is sent.

What is wrong with an argument of the fetch would otherwise be found out after the job is paid for.
"""

from __future__ import annotations

import functools
import inspect
import math
from datetime import timedelta
from numbers import Real
from reprlib import repr as shortened
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.inputs.nearest_names import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

__all__ = ["checks_arguments", "refuse_bad_arguments"]

P = ParamSpec("P")
R = TypeVar("R")

#: Longest time for which a job that may exist is looked for: no search is behind by a day.
_LONGEST_VISIBILITY_DELAY = 86_400.0
_CHOICES: dict[str, tuple[str | None, ...]] = {
    "cache_scope": ("flow", "global"),
    "cache_granularity": ("job", "pub"),
    "primitive": ("sampler", "estimator", None),
}
_TEXTS = ("artifact_key", "cache_namespace", "input_digest", "job_id", "backend_name")
_FLAGS = (
    "cache_submit",
    "cache_result",
    "retry_fetch",
    "cancel_job_on_cancellation",
    "trust_input_digest",
    "robust",
)


def checks_arguments(
    function: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Let a coroutine function refuse bad arguments before it does anything."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    async def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        refuse_bad_arguments(**signature.bind(*args, **kwargs).arguments)
        return await function(*args, **kwargs)

    # Whoever asks for it, as Prefect does for each call, need not work it out again.
    checked.__signature__ = signature  # type: ignore[attr-defined]
    return checked


def refuse_bad_arguments(**given: object) -> None:
    """Refuse the arguments of a call that it could not honour.

    Raises:
        InputError: If one of them is of a wrong type or out of its range; ``path`` is its name.

    Example:
        >>> refuse_bad_arguments(max_wait=60, cache_scope="flow")
        >>> refuse_bad_arguments(max_wait="60")
        Traceback (most recent call last):
        ...
        qcsc_prefect.core.errors.InputError: max_wait refused: expected seconds, a number above 0, \
or None for no limit, got '60'.
    """
    for name, value in given.items():
        expected = _what_is_expected(name, value)
        if expected is not None:
            raise InputError(
                f"{name} refused: expected {expected}, got {shortened(value)}."
                f"{_advice(name, value)}",
                path=name,
            )


def _what_is_expected(name: str, value: object) -> str | None:
    """Say what an argument should be; None where it is."""
    if name in _CHOICES:
        is_good = isinstance(value, str | None) and value in _CHOICES[name]
        expected = " or ".join(map(repr, _CHOICES[name]))
    elif name in _FLAGS:
        is_good, expected = isinstance(value, bool), "True or False"
    elif name in _TEXTS:
        may_be_blank = name in {"artifact_key", "cache_namespace", "backend_name"}
        is_good = value is None or (_is_text(value) and (may_be_blank or value != ""))
        expected = "a string or None" if may_be_blank else "a string that is not empty, or None"
    elif name == "max_wait":
        is_good = value is None or (0 < _seconds(value) < math.inf)
        expected = "seconds, a number above 0, or None for no limit"
    elif name == "visibility_delay":
        is_good = 0 <= _seconds(value) <= _LONGEST_VISIBILITY_DELAY
        expected = f"seconds, a number from 0 to {_LONGEST_VISIBILITY_DELAY:,.0f}"
    elif name == "cache_expiration":
        is_good = value is None or (isinstance(value, timedelta) and value > timedelta())
        expected = "a timedelta above 0, such as timedelta(days=7), or None for any age"
    else:
        return None
    return None if is_good else expected


def _is_text(value: object) -> bool:
    """Whether a value is text that can be stored and sent: a lone surrogate cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _seconds(value: object) -> float:
    """Return a number as such, and NaN, which is in no range, for everything else."""
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan


def _advice(name: str, value: object) -> str:
    if name in _CHOICES:
        return did_you_mean(str(value).lower(), filter(None, _CHOICES[name]))
    if name in {"max_wait", "visibility_delay"} and isinstance(value, timedelta):
        return f" Write {value.total_seconds():g}."
    if name in _TEXTS and isinstance(value, str) and value:
        return " It holds half of a character, which cannot be encoded."
    return ""
