"""Calls that block, and the threads in which they do not hold up the event loop.

One thread pool serves what blocks on this machine: files, and computing over inputs and results.
None of it may stand on the event loop, and ``asyncio.to_thread`` shares its threads with everybody
else, who may keep them all.

Every bridge between threads and event loops goes through `call_for_others`, because not every
exception can cross one as it is. A future refuses a ``StopIteration``, and whoever waits for it
then waits for ever; a cancellation that comes out of a thread looks like one of the task that
waits.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import os
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["call_for_others", "run_blocking", "run_in_pool", "settle"]

P = ParamSpec("P")
R = TypeVar("R")

#: Threads that compute hold each other up, and the event loop with them: with more of them it waits
#: longer for its turn.
_MAX_THREADS = 8
#: To a future or to the task that waits they mean something else than that the call has failed.
_MISUNDERSTOOD = (StopIteration, asyncio.CancelledError, concurrent.futures.CancelledError)


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="qcsc-prefect")


# A forked process inherits the pool without its threads, and would wait for them for ever.
os.register_at_fork(after_in_child=_pool.cache_clear)


async def run_blocking(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a blocking function in a thread, in a copy of the caller's context.

    Args:
        function: What to call.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        What the function returned; what it raised is raised here, as `call_for_others` says.
    """
    return await run_in_pool(_pool(), function, *args, **kwargs)


async def run_in_pool(
    pool: concurrent.futures.Executor, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Call a blocking function in a thread of a certain pool, as `run_blocking` does.

    Args:
        pool: The pool.
        function: What to call.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        As `run_blocking` does.
    """
    call = functools.partial(call_for_others, function, *args, **kwargs)
    in_context = functools.partial(contextvars.copy_context().run, call)
    return await asyncio.get_running_loop().run_in_executor(pool, in_context)


def call_for_others(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function for somebody who waits in another thread.

    Args:
        function: What to call.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        What the function returned; what it raised is raised here.

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
    """Call a function and give a future whatever comes of it, ``SystemExit`` and the like too.

    Args:
        outcome: The future; nobody else settles it.
        function: What to call.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.
    """
    try:
        value = call_for_others(function, *args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - it belongs to those who wait
        outcome.set_exception(error)
        del outcome  # the error refers to this frame, and would keep itself alive by it
    else:
        outcome.set_result(value)
