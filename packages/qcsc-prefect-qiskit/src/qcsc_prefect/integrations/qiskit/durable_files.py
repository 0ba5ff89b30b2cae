"""Files that are whole or absent, whatever kills the process that writes them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["create_file_once", "write_file_atomically"]


def write_file_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    temporary = _written_beside(path, content)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create_file_once(path: Path, content: bytes) -> bool:
    """Write a file unless it exists, and say whether; of several writers exactly one wins."""
    temporary = _written_beside(path, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _written_beside(path: Path, content: bytes) -> Path:
    # The same folder, because a rename is atomic only within one file system.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
