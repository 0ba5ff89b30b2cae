"""One thread pool for every call that blocks.

The client's calls wait for the network, and files wait for the disk; none of them may stand on the
event loop. ``asyncio.to_thread`` has as few as six threads on a small machine, and shares them with
everybody else; twenty jobs that are submitted together need a thread each.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_blocking"]

P = ParamSpec("P")
R = TypeVar("R")

_MAX_THREADS = 32


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="qcsc-prefect")


async def run_blocking(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a blocking function in a thread, in a copy of the caller's context.

    Args:
        function: What to call.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        What the function returned; what it raised is raised here.
    """
    context = contextvars.copy_context()
    call = functools.partial(context.run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_pool(), call)
