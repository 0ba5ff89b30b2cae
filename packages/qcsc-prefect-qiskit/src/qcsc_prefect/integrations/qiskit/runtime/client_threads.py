"""Threads for the calls of one native client, no more of them at work than it has connections.

The client keeps ten connections to the service. An eleventh call at the same moment would open one
more only to throw it away, with a warning for each; and as every request costs the client some
milliseconds of computing, more threads at once would not make it faster, but hold up the event
loop, which waits for the interpreter like any other thread.

The client sets no limit on how long it waits for an answer, so a call can hang for ever. Its
thread is then left behind. It belongs to no executor, because the end of the process would wait
for an executor's threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CALLS_AT_ONCE", "ClientThreads"]

T = TypeVar("T")

#: The client keeps ten connections to a host, the default of ``requests``; one of them is for the
#: thread that loads backends.
CALLS_AT_ONCE = 9


class ClientThreads:
    """Calls blocking functions in threads, a limited number of them at the same time.

    Every method may be called from any event loop.

    Args:
        at_once: How many calls may be under way.

    Example:
        >>> asyncio.run(ClientThreads().call(pow, 2, 5, seconds=10.0))
        32
    """

    def __init__(self, at_once: int = CALLS_AT_ONCE) -> None:
        self._free = threading.BoundedSemaphore(at_once)

    async def call(
        self, function: Callable[..., T], *arguments: object, seconds: float | None = None
    ) -> T:
        """Call a function in a thread, in a copy of the caller's context.

        Args:
            function: What to call.
            *arguments: Its arguments.
            seconds: How long to wait for it; None for ever.

        Returns:
            What the function returned; what it raised is raised here.

        Raises:
            TimeoutError: If the time is over. The call goes on, and nobody looks at its outcome.
        """
        outcome: Future[T] = Future()
        # A running future cannot be cancelled: the thread finishes what it began.
        outcome.set_running_or_notify_cancel()
        context = contextvars.copy_context()
        threading.Thread(
            target=self._call,
            args=(outcome, context, function, arguments),
            name="qcsc-prefect-client",
            daemon=True,
        ).start()
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(outcome)
        except TimeoutError:
            if outcome.done():
                raise  # the function's own
        # Not inside the handler, or the one before would stand in this error's chain.
        raise TimeoutError(f"the service has not answered for {seconds:g} s")

    def _call(
        self,
        outcome: Future[T],
        context: contextvars.Context,
        function: Callable[..., T],
        arguments: tuple[object, ...],
    ) -> None:
        with self._free:
            try:
                value = context.run(function, *arguments)
            except BaseException as error:  # noqa: BLE001 - it belongs to the one who waits
                outcome.set_exception(error)
            else:
                outcome.set_result(value)
