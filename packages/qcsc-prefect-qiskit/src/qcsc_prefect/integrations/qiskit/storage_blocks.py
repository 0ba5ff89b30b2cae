"""Prefect's storage blocks: whether one keeps local files, and how any of them is called."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from prefect.filesystems import LocalFileSystem

if TYPE_CHECKING:
    from prefect.filesystems import WritableFileSystem

__all__ = ["call_block", "is_local", "local_path"]


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


async def call_block(block: WritableFileSystem, method: str, *arguments: object) -> object:
    """Call a method of a storage block, which is a coroutine function in some and not in others."""
    outcome = getattr(block, method)(*arguments)
    return await outcome if inspect.isawaitable(outcome) else outcome
