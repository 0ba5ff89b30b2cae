"""Storage and locks, as a specification: what is whole, absent, lost, unreadable and locked."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from qcsc_prefect.core.errors import StorageUnreadableError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from .calls import CallRun
    from .processes import Process

__all__ = ["Locks", "SimulatedLedger", "SimulatedStorage"]


class SimulatedStorage:
    """What lies on storage, as text: a write replaces it whole, or not at all."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}

    def write(self, _now: float, key: str, text: bytes) -> None:
        """Replace what lies under a key."""
        self._texts[key] = text

    def read(self, _now: float, key: str) -> dict[str, object] | None:
        """Return what lies under a key."""
        text = self._texts.get(key)
        return None if text is None else msgspec.json.decode(text)

    def holds(self, key: str, text: str) -> bool:
        """Whether a text occurs in what lies under a key."""
        return text.encode() in self._texts.get(key, b"")


class Locks:
    """The locks of one machine: the operating system frees them when their holder dies."""

    def __init__(self) -> None:
        self._holders: dict[str, CallRun] = {}
        self._waiting: dict[str, deque[tuple[CallRun, asyncio.Future[None]]]] = {}

    def take(self, key: str, call: CallRun) -> asyncio.Future[None] | None:
        """Take a lock; return what to wait for where somebody holds it."""
        if key not in self._holders:
            self._holders[key] = call
            return None
        turn: asyncio.Future[None] = call.process.loop.create_future()
        self._waiting.setdefault(key, deque()).append((call, turn))
        return turn

    def free(self, key: str, call: CallRun) -> None:
        """Free a lock, if this call holds it."""
        if self._holders.get(key) is not call:
            return
        del self._holders[key]
        waiting = self._waiting.get(key)
        while waiting:
            other, turn = waiting.popleft()
            if turn.get_loop().is_alive and not turn.done():  # type: ignore[attr-defined]
                self._holders[key] = other
                turn.set_result(None)
                return

    def free_all(self, process: Process) -> None:
        """Free what a process holds that has died."""
        for key, call in list(self._holders.items()):
            if call.process is process:
                self.free(key, call)


class SimulatedLedger:
    """The storage and the locks of a machine, as one call reaches them.

    Args:
        call: The call.
    """

    def __init__(self, call: CallRun) -> None:
        self._call = call
        self._storage = call.process.machine.storage

    async def read(self, key: str) -> Mapping[str, object] | None:
        return await self._call.storing("read", self._storage.read, key)

    async def write(self, key: str, content: Mapping[str, object]) -> None:
        await self._call.storing("write", self._storage.write, key, msgspec.json.encode(content))

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        return _Held(self._call, key)


class _Held:
    def __init__(self, call: CallRun, key: str) -> None:
        self._call = call
        self._key = key

    async def __aenter__(self) -> None:
        await self._call.locking(self._key)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call.unlocked(self._key)


def unreadable(key: str) -> StorageUnreadableError:
    """Return what reading ends with where nobody knows what lies there."""
    return StorageUnreadableError(f"What lies under {key} cannot be read.")
