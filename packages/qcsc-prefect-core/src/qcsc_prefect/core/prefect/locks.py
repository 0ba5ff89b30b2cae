"""A lock between processes that the operating system frees when its holder dies.

Built on ``flock``: it holds on one machine, or on a shared file system whose ``flock`` works. A
holder that is killed frees it at once, because the kernel closes its files. A forked child shares
these files, and would hold the lock with its parent: it closes them, and is no holder.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.settings import PREFECT_HOME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["ProcessLock", "hold_lock", "share_lock"]

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.25


class ProcessLock:
    """An exclusive lock on one file; each instance is one holder.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "lock"
        >>> first, second = ProcessLock(path), ProcessLock(path)
        >>> first.acquire(), second.acquire()
        (True, False)
        >>> first.release()
        >>> second.acquire()
        True
        >>> second.release()
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, *, shared: bool = False) -> bool:
        """Take the lock if it is free, without waiting.

        Args:
            shared: Hold it together with others that share it.

        Returns:
            Whether this instance holds it now.
        """
        if self._descriptor is not None:
            return True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(self)
        return True

    def is_alone(self) -> bool:
        """Whether no other holder shares the lock; if so, nobody can from now on.

        Where another one does, this instance may hold it no more: of two that ask, one is alone.
        """
        if self._descriptor is None:
            return False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Free the lock; does nothing where it is not held."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        _held.discard(self)
        # Closing alone would not free it: a child that C code forked may have the file open.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        # The file stays: whoever removed it could split the waiters over two files.
        os.close(descriptor)

    def close_in_child(self) -> None:
        """Hold the lock no more in a forked child, and leave it to the parent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_held: set[ProcessLock] = set()


def _close_all_in_child() -> None:
    while _held:
        _held.pop().close_in_child()


os.register_at_fork(after_in_child=_close_all_in_child)


@asynccontextmanager
async def hold_lock(key: str, folder: Path | None = None) -> AsyncIterator[None]:
    """Wait for the lock of a key, and hold it inside the block: the ``lock`` of a `Ledger`.

    Args:
        key: What is locked; it may hold any character.
        folder: Where the lock files lie; by default below the current ``PREFECT_HOME``.

    Yields:
        Nothing; it is freed after the block, and as soon as its holder has died.

    Raises:
        OSError: If the lock's file cannot be made.

    Example:
        >>> import asyncio
        >>> async def submit_once():
        ...     async with hold_lock("acme-anneal-1"):
        ...         return "nobody else of this machine is here"
        >>> asyncio.run(submit_once())
        'nobody else of this machine is here'
    """
    lock = _lock(key, folder)
    pause = _FIRST_PAUSE
    while not lock.acquire():
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def share_lock(key: str, folder: Path | None = None) -> Iterator[ProcessLock]:
    """Hold a lock inside the block, together with whoever shares it.

    Where somebody holds it alone the block runs without it; `ProcessLock.is_alone` is then false.

    Args:
        key: What is locked; it may hold any character.
        folder: Where the lock files lie; by default below the current ``PREFECT_HOME``.
    """
    lock = _lock(key, folder)
    lock.acquire(shared=True)
    try:
        yield lock
    finally:
        lock.release()


def _lock(key: str, folder: Path | None) -> ProcessLock:
    if folder is None:
        folder = Path(PREFECT_HOME.value()) / "qcsc-prefect" / "locks"
    return ProcessLock(folder / hashlib.sha256(key.encode()).hexdigest())
