"""Locks between processes, where the holder has children."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qcsc_prefect.core.prefect.locks import ProcessLock

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


@contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """Run a function in a forked process, which then sleeps until it is killed."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            work()
            time.sleep(60)
        finally:
            os._exit(1)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def until_exists(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"{path.name} has not appeared")


def test_a_released_lock_is_free_though_a_child_was_forked_meanwhile(tmp_path: Path):
    lock, other = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")
    assert lock.acquire()
    with forked(lambda: None):
        assert not other.acquire()
        lock.release()
        assert other.acquire()
        other.release()


def test_a_child_does_not_hold_the_lock_of_a_killed_parent(tmp_path: Path):
    path, is_held = tmp_path / "lock", tmp_path / "held"

    def hold_and_fork() -> None:
        assert ProcessLock(path).acquire()
        if os.fork() == 0:
            signal.alarm(60)
            is_held.write_text(str(os.getpid()))
            time.sleep(60)
            os._exit(1)

    with forked(hold_and_fork):
        until_exists(is_held)
        assert not ProcessLock(path).acquire()
    lock = ProcessLock(path)
    try:
        assert lock.acquire()
    finally:
        os.kill(int(is_held.read_text()), signal.SIGKILL)
        lock.release()


def test_a_child_cannot_free_its_parents_lock(tmp_path: Path):
    lock, other = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")
    has_released = tmp_path / "released"
    assert lock.acquire()

    def release() -> None:
        lock.release()
        has_released.touch()

    with forked(release):
        until_exists(has_released)
        assert not other.acquire()
    lock.release()
    assert other.acquire()
    other.release()
