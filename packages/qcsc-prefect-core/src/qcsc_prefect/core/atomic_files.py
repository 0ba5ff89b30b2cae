"""Files that are whole or absent, whatever kills the process that writes them."""

from __future__ import annotations

import functools
import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["create_file_once", "write_chunks_atomically", "write_file_atomically"]

#: Who may read a file, before the process's umask takes away from it: everybody, its owner alone.
_EVERYBODY, _OWNER = 0o666, 0o600


def write_chunks_atomically(
    path: Path, chunks: Iterable[bytes | memoryview], *, durable: bool
) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: Where to; an existing file is replaced. Missing folders are made.
        chunks: The content, in order.
        durable: Whether to wait until the content is on the disk and survives a power cut.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
    """
    _write(path, chunks, durable=durable, mode=_EVERYBODY)


def write_file_atomically(path: Path, content: bytes) -> None:
    """Write a durable file that its owner alone can read, as `write_chunks_atomically` does.

    Args:
        path: Where to; an existing file is replaced. Missing folders are made.
        content: What to write.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
    """
    _write(path, (content,), durable=True, mode=_OWNER)


def create_file_once(path: Path, content: bytes) -> bool:
    """Write a durable file unless it exists; of several writers at once exactly one wins.

    Its owner alone can read it.

    Args:
        path: Where to. Missing folders are made.
        content: What to write.

    Returns:
        Whether this call created the file.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
    """
    with _written_beside(path, (content,), durable=True, mode=_OWNER) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    _sync_folder(path.parent)
    return True


def _write(path: Path, chunks: Iterable[bytes | memoryview], *, durable: bool, mode: int) -> None:
    with _written_beside(path, chunks, durable=durable, mode=mode) as temporary:
        temporary.replace(path)
    if durable:
        _sync_folder(path.parent)


@contextmanager
def _written_beside(
    path: Path, chunks: Iterable[bytes | memoryview], *, durable: bool, mode: int
) -> Iterator[Path]:
    """Write a temporary file, which is gone after the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within one file system; with a name of
    # its own, because a name made from the file's could grow longer than names may be.
    temporary = path.parent / f".qcsc-{uuid.uuid4().hex}.tmp"
    try:
        with open(
            temporary, "xb", buffering=0, opener=functools.partial(os.open, mode=mode)
        ) as file:
            for chunk in chunks:
                _write_all(file.fileno(), chunk)
            if durable:
                os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _write_all(descriptor: int, chunk: bytes | memoryview) -> None:
    left = memoryview(chunk)
    while left:
        left = left[os.write(descriptor, left) :]


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable, where the system can open folders at all."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
