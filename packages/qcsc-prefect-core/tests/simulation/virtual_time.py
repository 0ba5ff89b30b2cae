"""Event loops whose time is made up: each process has one, and all go by one timeline.

Nothing waits, no thread and no socket is used, and what happens depends on nothing but the order in
which it was asked for. A process that dies is not told: its tasks are never run again.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from asyncio import events
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

__all__ = ["DoesNotEndError", "ProcessLoop", "Timeline"]

#: Timers fire so many seconds late, so that no rounding makes one fire early, again and again.
_LATE = 1e-6


class DoesNotEndError(AssertionError):
    """A schedule took more steps than any that ends."""


class _Handle:
    """A callback that is to be run in one process; what asyncio needs of `asyncio.Handle`."""

    __slots__ = ("_args", "_callback", "_context", "_loop", "_when")

    def __init__(
        self,
        callback: Callable[..., object] | None,
        args: tuple[object, ...],
        loop: ProcessLoop,
        context: Context | None,
        when: float = 0.0,
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context
        self._when = when

    def cancel(self) -> None:
        self._callback = None
        self._args = ()

    def cancelled(self) -> bool:
        return self._callback is None

    def when(self) -> float:
        return self._when

    def run(self) -> None:
        callback, loop = self._callback, self._loop
        if callback is None or not loop.is_alive:
            return
        loop.enter()
        if self._context is None:
            callback(*self._args)
        else:
            self._context.run(callback, *self._args)


class Timeline:
    """What happens when, in all processes and in the world around them.

    Attributes:
        now: Seconds since the beginning.
        steps: Callbacks that have run.
    """

    def __init__(self, most_steps: int = 400_000) -> None:
        self.now = 0.0
        self.steps = 0
        self._most_steps = most_steps
        self._number = 0
        self._ready: deque[_Handle] = deque()
        self._later: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._loop: ProcessLoop | None = None
        self._held: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        #: Which of so many things happens next; with it, these things take no time. None where
        #: the time that each takes decides.
        self.choose: Callable[[int], int] | None = None

    def hold(self, callback: Callable[..., object], *args: object) -> None:
        """Let something happen next, or after others of which the same is said."""
        self._held.append((callback, args))

    def enter(self, loop: ProcessLoop | None) -> None:
        """Let asyncio take a loop for the one that runs."""
        if loop is not self._loop:
            self._loop = loop
            events._set_running_loop(loop)

    def at(self, moment: float, callback: Callable[..., object], *args: object) -> None:
        """Let something happen in the world at a moment."""
        self._number += 1
        heapq.heappush(self._later, (max(moment, self.now), self._number, callback, args))

    def soon(self, handle: _Handle) -> None:
        """Let a process do something now, after what it was to do before."""
        self._ready.append(handle)

    def run(self, until: Callable[[], bool]) -> bool:
        """Let everything happen until a condition holds; false where nothing is left before.

        Raises:
            DoesNotEndError: If it takes too many steps.
        """
        ready, later = self._ready, self._later
        try:
            while True:
                while ready:
                    ready.popleft().run()
                    self.steps += 1
                if until():
                    return True
                if self.steps > self._most_steps:
                    raise DoesNotEndError(
                        f"not at an end after {self.steps} steps, at {self.now:.0f} s"
                    )
                if self._held and (not later or later[0][0] > self.now) and self.choose:
                    self.now += _LATE
                    callback, args = self._held.pop(self.choose(len(self._held)))
                    callback(*args)
                    self.steps += 1
                    continue
                if not later:
                    return False
                moment, _, callback, args = heapq.heappop(later)
                self.now = max(self.now, moment)
                callback(*args)
                self.steps += 1
        finally:
            self.enter(None)


class ProcessLoop(asyncio.AbstractEventLoop):
    """The event loop of one process.

    Args:
        timeline: What all processes go by.
        offset: What this process's clock shows at the beginning, in seconds.
        rate: How fast it goes.
    """

    def __init__(self, timeline: Timeline, *, offset: float = 0.0, rate: float = 1.0) -> None:
        self.is_alive = True
        self.tasks: list[asyncio.Task[Any]] = []
        self._timeline = timeline
        self._offset = offset
        self._rate = rate

    def enter(self) -> None:
        """Let asyncio take this loop for the one that runs."""
        self._timeline.enter(self)

    def die(self) -> None:
        """Run nothing of this process any more."""
        self.is_alive = False

    def dispose(self) -> None:
        """Drop the tasks that never ended; what they do about it reaches nobody."""
        self.is_alive = False
        for task in self.tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with contextlib.suppress(BaseException):
                    task.get_coro().close()  # type: ignore[union-attr]
        self.tasks.clear()

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._timeline.now * self._rate + self._offset

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> _Handle:
        handle = _Handle(callback, args, self, context)
        self._timeline.soon(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: object,
        context: Context | None = None,
    ) -> _Handle:
        handle = _Handle(callback, args, self, context, when)
        moment = (when - self._offset) / self._rate + _LATE
        self._timeline.at(moment, handle.run)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: object,
        context: Context | None = None,
    ) -> _Handle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self.tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self.is_alive

    def is_closed(self) -> bool:
        return not self.is_alive

    def get_task_factory(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Say nothing of tasks that were dropped."""
