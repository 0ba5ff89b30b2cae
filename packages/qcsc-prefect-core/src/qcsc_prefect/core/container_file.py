"""Containers in files: written whole or not at all."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["write_chunks_atomically"]


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
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within one file system; with a name of
    # its own, because a name made from the file's could grow longer than names may be.
    temporary = path.parent / f".qcsc-{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb", buffering=0) as file:
            for chunk in chunks:
                _write_all(file.fileno(), chunk)
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def _write_all(descriptor: int, chunk: bytes | memoryview) -> None:
    left = memoryview(chunk)
    while left:
        left = left[os.write(descriptor, left) :]


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder durable, where the system can open folders at all."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
