"""Bytes in the result storage of a Prefect run, written the moment they are known.

Prefect's own writing is held back until the outermost task or transaction has succeeded, and on
local storage a crash in the middle of it leaves half a file. What is written here is on storage
when the call returns, and on local storage it is whole or absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.logging import get_logger
from prefect.results import aget_default_result_storage, get_result_store

from qcsc_prefect.core.atomic_files import write_file_atomically
from qcsc_prefect.core.bounded_files import file_limit
from qcsc_prefect.core.errors import RecordError, StorageUnreadableError
from qcsc_prefect.core.prefect.storage_blocks import (
    call_block,
    is_local,
    local_path,
    metadata_block,
    open_local,
)
from qcsc_prefect.core.retry import COMMON_RULES, RetryAnswer, advise_retry
from qcsc_prefect.core.threads import run_blocking

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.filesystems import LocalFileSystem, WritableFileSystem
    from prefect.results import ResultStore

__all__ = ["RunStorage"]

_logger = get_logger("qcsc.storage")

#: Which errors of storage mean that it cannot be reached, and not that a key is absent.
_OUTAGES = COMMON_RULES.extended(
    types={
        "botocore.exceptions.HTTPClientError": RetryAnswer.RETRY,
        "google.api_core.exceptions.ServerError": RetryAnswer.RETRY,
        "azure.core.exceptions.ServiceRequestError": RetryAnswer.RETRY,
        "azure.core.exceptions.ServiceResponseError": RetryAnswer.RETRY,
    }
)


class RunStorage:
    """The storage in which a run keeps its results.

    Args:
        store: The run's result store; None for that of the current run.
    """

    def __init__(self, store: ResultStore | None = None) -> None:
        self._store = store or get_result_store()

    async def block(self) -> WritableFileSystem:
        """Return Prefect's block for the storage."""
        return self._store.result_storage or await aget_default_result_storage()

    @property
    def keeps_metadata_apart(self) -> bool:
        """Whether Prefect puts the metadata of its records into a storage of their own."""
        return metadata_block(self._store) is not None

    async def write(self, key: str, content: Callable[[], bytes]) -> None:
        """Write; on storage when this returns.

        Args:
            key: Where to.
            content: Makes what is written, in the thread that writes.

        Raises:
            OSError: If local storage cannot be written. Other storage raises errors of its own.
        """
        block = await self.block()
        if is_local(block):
            await run_blocking(_write_file, block, key, content)
        else:
            await call_block(block, "write_path", key, await run_blocking(content))

    async def read(self, key: str, limit: int | None = None) -> bytes | None:
        """Read what lies under a key.

        Args:
            key: Where from.
            limit: The largest size in bytes; None for that of any file.

        Returns:
            The content; None where there is none. Storage that is not local says in errors of its
            own kind that a key is absent, so every error of it is taken for that, unless it is
            known to mean an outage.

        Raises:
            StorageUnreadableError: If nobody knows whether something lies there, or what lies there
                is no regular file, or is too large.
        """
        return await _read(await self.block(), key, limit)

    async def read_metadata(self, key: str, limit: int | None = None) -> bytes | None:
        """Read the metadata of a record that Prefect keeps apart, as `read` does."""
        block = metadata_block(self._store)
        return None if block is None else await _read(block, key, limit)

    async def remove(self, key: str) -> None:
        """Remove what lies under a key; storage that is not local is left with an empty entry."""
        block = await self.block()
        if is_local(block):
            await run_blocking(_remove_file, block, key)
        else:
            await call_block(block, "write_path", key, b"")


def _write_file(block: LocalFileSystem, key: str, content: Callable[[], bytes]) -> None:
    write_file_atomically(local_path(block, key), content())


async def _read(block: WritableFileSystem, key: str, limit: int | None) -> bytes | None:
    limit = file_limit() if limit is None else limit
    if is_local(block):
        return await run_blocking(_read_file, block, key, limit)
    try:
        content = await call_block(block, "read_path", key)
    except Exception as error:
        if advise_retry(error, _OUTAGES).answer is RetryAnswer.RETRY:
            raise _unreadable(key, error) from error
        _logger.info("Nothing is stored under the key %s: %r", key, error)
        return None
    if not isinstance(content, bytes):
        return None
    if len(content) > limit:
        too_large = RecordError(f"it has {len(content)} bytes, and no more than {limit} are read")
        raise _unreadable(key, too_large)
    return content


def _read_file(block: LocalFileSystem, key: str, limit: int) -> bytes | None:
    try:
        with open_local(block, key, limit) as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (RecordError, OSError) as error:
        raise _unreadable(key, error) from error


def _remove_file(block: LocalFileSystem, key: str) -> None:
    local_path(block, key).unlink(missing_ok=True)


def _unreadable(key: str, error: Exception) -> StorageUnreadableError:
    return StorageUnreadableError(
        f"Reading what is stored under the key {key} failed ({type(error).__name__}: {error}). "
        "Whether something lies there is not known; see that the storage can be reached and read."
    )
