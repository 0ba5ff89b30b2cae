"""Runs a coroutine from a synchronous flow or task."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

__all__ = ["run_synchronously"]

R = TypeVar("R")


def run_synchronously(coroutine: Coroutine[Any, Any, R], *, instead: str) -> R:
    """Run a coroutine to its end, in the context of the flow or task that calls.

    Args:
        coroutine: What to run.
        instead: Name of the method to await where an event loop runs already.

    Returns:
        What the coroutine returned.

    Raises:
        RuntimeError: If an event loop runs in this thread; waiting here would block it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    coroutine.close()
    raise RuntimeError(
        f"Tried to call '{instead}_sync' where an event loop runs, which it would block. Write "
        f"'await {instead}(...)' in an 'async def' or a notebook; call a function that stays a "
        "plain 'def' through 'await asyncio.to_thread(function)'."
    )
