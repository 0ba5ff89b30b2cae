"""Finishes what has begun, whatever happens to the caller."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

__all__ = ["finish_though_cancelled"]

T = TypeVar("T")


async def finish_though_cancelled(
    work: Coroutine[Any, Any, T],
    after_cancellation: Callable[[asyncio.Task[T]], Awaitable[None]],
    *,
    seconds: float | None = None,
) -> T:
    """Do some work, and do not let a cancellation of the caller end it in the middle.

    Args:
        work: What to do.
        after_cancellation: Called before the cancellation goes on to the caller, with the task of
            the work; is not cancelled itself.
        seconds: How long a cancelled caller waits for the end of the work; None for ever.

    Returns:
        What the work returned.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task], timeout=seconds)
            if task.done() and not task.cancelled():
                task.exception()  # looked at: nobody else need, and asyncio would complain
            await after_cancellation(task)
        raise
