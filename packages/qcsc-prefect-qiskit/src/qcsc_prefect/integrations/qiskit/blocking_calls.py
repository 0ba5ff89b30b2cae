"""One thread pool for what blocks on this machine: files, and computing over inputs and results.

None of it may stand on the event loop, and ``asyncio.to_thread`` shares its threads with everybody
else, who may keep them all. Calls of the native client have threads of their own, see
`qcsc_prefect.integrations.qiskit.runtime.client_threads`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from qcsc_prefect.integrations.qiskit.thread_outcomes import call_for_others

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

__all__ = ["run_blocking", "run_in_pool"]

P = ParamSpec("P")
R = TypeVar("R")

#: Threads that compute hold each other up, and the event loop with them: with more of them it waits
#: longer for its turn.
_MAX_THREADS = 8


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="qcsc-prefect")


if hasattr(os, "register_at_fork"):
    # A forked process inherits the pool without its threads, and would wait for them for ever.
    os.register_at_fork(after_in_child=_pool.cache_clear)


async def run_blocking(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a blocking function in a thread, in a copy of the caller's context."""
    return await run_in_pool(_pool(), function, *args, **kwargs)


async def run_in_pool(
    pool: Executor, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Call a blocking function in a thread of a certain pool, as `run_blocking` does."""
    call = functools.partial(call_for_others, function, *args, **kwargs)
    in_context = functools.partial(contextvars.copy_context().run, call)
    return await asyncio.get_running_loop().run_in_executor(pool, in_context)
