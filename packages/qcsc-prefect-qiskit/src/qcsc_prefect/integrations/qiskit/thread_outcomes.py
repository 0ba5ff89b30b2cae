"""Carries what comes of a call in a thread over to those who wait for it elsewhere.

Every bridge between threads and event loops goes through here, because not every exception can
cross one as it is. A future refuses a ``StopIteration``, and whoever waits for it then waits for
ever; a cancellation that comes out of a thread looks like one of the task that waits.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["call_for_others", "settle"]

P = ParamSpec("P")
R = TypeVar("R")

#: To a future or to the task that waits they mean something else than that the call has failed.
_MISUNDERSTOOD = (StopIteration, asyncio.CancelledError, concurrent.futures.CancelledError)


def call_for_others(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function for somebody who waits in another thread.

    Raises:
        RuntimeError: In place of a ``StopIteration`` or a cancellation, which is its cause.

    Example:
        >>> call_for_others(next, iter([]))
        Traceback (most recent call last):
        RuntimeError: next raised StopIteration() in a thread
    """
    try:
        return function(*args, **kwargs)
    except _MISUNDERSTOOD as error:
        name = getattr(function, "__qualname__", type(function).__name__)
        raise RuntimeError(f"{name} raised {error!r} in a thread") from error


def settle(
    outcome: concurrent.futures.Future[R],
    function: Callable[P, R],
    *args: P.args,
    **kwargs: P.kwargs,
) -> None:
    """Call a function and give a future whatever comes of it, ``SystemExit`` and the like too."""
    try:
        value = call_for_others(function, *args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - it belongs to those who wait
        outcome.set_exception(error)
        del outcome  # the error refers to this frame, and would keep itself alive by it
    else:
        outcome.set_result(value)
