"""Threads for the calls of one native client, no more of them at work than it has connections.

The client keeps ten connections to the service. An eleventh call at the same moment would open one
more only to throw it away, with a warning for each; and as every request costs the client some
milliseconds of computing, more threads at once would not make it faster, but hold up the event
loop, which waits for the interpreter like any other thread.

Every request has a time limit (see `wire`), so every thread comes back. They belong to no executor
all the same, because the end of the process would wait for an executor's threads. A call that is
given up before it got its turn is never begun.

The threads are started once and wait for calls. Starting one waits until it runs, which among busy
threads takes as long as all their turns with the interpreter; twenty calls that each started a
thread held the event loop up for a quarter of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import weakref
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from qcsc_prefect.core.threads import settle

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CALLS_AT_ONCE", "ClientThreads"]

T = TypeVar("T")

#: The client keeps ten connections to a host, the default of ``requests``; one of them is for the
#: thread that loads backends.
CALLS_AT_ONCE = 9


async def _comes_within(seconds: float, future: Future[T]) -> bool:
    """Wait for a future of another thread, and leave it alone if it takes longer.

    Args:
        seconds: How long to wait.
        future: What to wait for.

    Returns:
        Whether it is done.
    """
    if future.done():
        return True
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def tell(_: Future[T]) -> None:
        # The loop may be closed by then; nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(tell)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await done.wait()
    return future.done()


@dataclass(eq=False)
class _Call(Generic[T]):
    """A call that waits for its turn, or is under way."""

    begun: Future[None]
    outcome: Future[T]
    context: contextvars.Context
    function: Callable[..., T]
    arguments: tuple[object, ...]

    def make(self) -> None:
        if not self.begun.set_running_or_notify_cancel():
            return
        self.begun.set_result(None)
        self.context.run(settle, self.outcome, self.function, *self.arguments)


#: None ends the thread that gets it.
_Calls: TypeAlias = "SimpleQueue[_Call[Any] | None]"


class ClientThreads:
    """Calls blocking functions in threads, a limited number of them at the same time.

    Every method may be called from any event loop. The threads end when nobody refers to this
    object any more and the calls that were begun have ended.

    Args:
        at_once: How many calls may be under way.

    Example:
        >>> asyncio.run(ClientThreads().call(pow, 2, 5, seconds=10.0))
        32
    """

    def __init__(self, at_once: int = CALLS_AT_ONCE) -> None:
        self._calls: _Calls = SimpleQueue()
        # The first one starts the others, so that only one start is waited for here.
        _start_thread(self._calls, others=at_once - 1)
        weakref.finalize(self, _dismiss, self._calls, at_once).atexit = False

    async def call(
        self,
        function: Callable[..., T],
        *arguments: object,
        seconds: float | None = None,
    ) -> T:
        """Call a function in a thread, in a copy of the caller's context.

        Args:
            function: What to call.
            *arguments: Its arguments.
            seconds: How long to wait for its turn, and from then on for its end; None for ever.

        Returns:
            What the function returned; what it raised is raised here.

        Raises:
            TimeoutError: If all threads are taken all that time, and then the function is not
                called; or if it does not end in time, and then it goes on.
        """
        begun: Future[None] = Future()
        outcome: Future[T] = Future()
        # A running future cannot be cancelled: the thread finishes what it began.
        outcome.set_running_or_notify_cancel()
        self._calls.put(_Call(begun, outcome, contextvars.copy_context(), function, arguments))
        try:
            if seconds is None:
                return await asyncio.wrap_future(outcome)
            if not await _comes_within(seconds, begun) and begun.cancel():
                raise TimeoutError(
                    f"earlier calls of the service have not ended for {seconds:g} s, and this one "
                    "was not begun"
                )
            if await _comes_within(seconds, outcome):
                return outcome.result()
            raise TimeoutError(f"the service has not answered for {seconds:g} s")
        finally:
            begun.cancel()  # where the caller was cancelled before its turn


def _start_thread(calls: _Calls, *, others: int = 0) -> None:
    threading.Thread(
        target=_work, args=(calls, others), name="qcsc-prefect-client", daemon=True
    ).start()


def _work(calls: _Calls, others: int) -> None:
    for _ in range(others):
        _start_thread(calls)
    while (call := calls.get()) is not None:
        call.make()
        del call  # or its result would live as long as this thread has nothing to do


def _dismiss(calls: _Calls, threads: int) -> None:
    for _ in range(threads):
        calls.put(None)
