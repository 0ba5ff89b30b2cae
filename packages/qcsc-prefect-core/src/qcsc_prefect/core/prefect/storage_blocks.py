"""Prefect's storage blocks: whether one keeps local files, and how any of them is called."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from prefect.filesystems import LocalFileSystem, NullFileSystem

from qcsc_prefect.core.bounded_files import open_regular_file
from qcsc_prefect.core.errors import RecordError

if TYPE_CHECKING:
    from io import BufferedReader

    from prefect.filesystems import WritableFileSystem
    from prefect.results import ResultStore

__all__ = ["call_block", "is_local", "local_path", "metadata_block", "open_local"]


def is_local(block: WritableFileSystem) -> TypeGuard[LocalFileSystem]:
    """Whether a block keeps its files in a folder of this machine, as Prefect's own does."""
    # A subclass may keep its files elsewhere or encrypt them, so it is left to its own methods.
    return type(block) is LocalFileSystem


def local_path(block: LocalFileSystem, key: str) -> Path:
    """Return the path under which Prefect's local file system keeps a key; looks at its folders.

    Raises:
        ValueError: If the key leaves the block's folder.
    """
    return Path(block._resolve_path(key))  # noqa: SLF001


def open_local(block: LocalFileSystem, key: str, limit: int) -> BufferedReader:
    """Open the file that Prefect's local file system keeps under a key.

    Raises:
        FileNotFoundError: If there is none.
        RecordError: If what lies there is no regular file, is too large, or cannot be read.
    """
    try:
        return open_regular_file(local_path(block, key), limit)
    except (FileNotFoundError, RecordError):
        raise
    except (ValueError, RuntimeError) as error:
        # A link that leads out of the folder, or to itself.
        raise RecordError(f"What lies under the key {key} is not read: {error}") from error
    except OSError as error:
        raise RecordError(
            f"What lies under the key {key} cannot be read: {error.strerror}."
        ) from error


def metadata_block(store: ResultStore) -> WritableFileSystem | None:
    """Return the storage in which Prefect keeps the metadata of its records apart, or None."""
    # A flow's own store has the null file system there, which keeps nothing.
    block = store.metadata_storage
    return None if block is None or isinstance(block, NullFileSystem) else block


async def call_block(block: WritableFileSystem, method: str, *arguments: object) -> object:
    """Call a method of a storage block, which is a coroutine function in some and not in others."""
    outcome = getattr(block, method)(*arguments)
    return await outcome if inspect.isawaitable(outcome) else outcome
