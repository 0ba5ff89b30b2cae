"""The engine's ledger in Prefect's result storage.

Each record is a genuine Prefect result record, readable by Prefect's own cache. It is written the
moment it is known, outside of Prefect's transactions, which would hold it back until the outermost
task has succeeded.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, TypeVar

import msgspec
from prefect.results import ResultStore, get_result_store
from prefect.serializers import JSONSerializer

from qcsc_prefect.core.bounded_files import structure_limit
from qcsc_prefect.core.errors import StorageUnreadableError
from qcsc_prefect.core.prefect.locks import hold_lock
from qcsc_prefect.core.prefect.storage import RunStorage
from qcsc_prefect.core.threads import run_blocking

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

__all__ = ["PrefectLedger"]

T = TypeVar("T")

_JSON = "json"


class _Serializer(msgspec.Struct):
    type: str


class _Metadata(msgspec.Struct):
    serializer: _Serializer
    storage_key: str | None = None


class _StoredRecord(msgspec.Struct):
    metadata: _Metadata
    result: str


_DECODE_ERRORS = (msgspec.DecodeError, ValueError, RecursionError)


class PrefectLedger:
    """Records of submissions beside the results of a run, as `qcsc_prefect.core.engine` asks for.

    Locks hold between processes that share a ``PREFECT_HOME``.

    Args:
        store: Prefect's result store; None for that of the current run.
    """

    def __init__(self, store: ResultStore | None = None) -> None:
        store = store or get_result_store()
        self._store = store.model_copy(
            update={"serializer": JSONSerializer(), "cache_result_in_memory": False}
        )
        self._storage = RunStorage(store)

    async def read(self, key: str) -> dict[str, object] | None:
        """Return what was written under a key, or None where there is nothing.

        Raises:
            StorageUnreadableError: If something may be there, and cannot be read, or is no record
                of this kind.
        """
        try:
            record = await self._stored_record(key)
            if record is None:
                return None
            if record.metadata.serializer.type != _JSON:
                raise StorageUnreadableError(
                    f"What is stored under the key {key} is no record of a submission."
                )
            content = json.loads(record.result)
            return content if isinstance(content, dict) else {}
        except _DECODE_ERRORS as error:
            raise StorageUnreadableError(
                f"What is stored under the key {key} is damaged: {error}."
            ) from error

    async def write(self, key: str, content: Mapping[str, object]) -> None:
        """Write a record; it is on storage when this returns, and never expires.

        Raises:
            OSError: If local storage cannot be written. Other storage raises errors of its own.
        """
        # Prefect's block for the storage decides by which path the record names itself.
        store = self._store.model_copy(update={"result_storage": await self._storage.block()})
        # Called in a thread: Prefect looks at every folder of that path, repeatedly.
        record = functools.partial(
            store.create_result_record, dict(content), key=key, expiration=None
        )
        if self._storage.keeps_metadata_apart:
            await store.apersist_result_record(await run_blocking(record))
        else:
            await self._storage.write(key, lambda: record().serialize())

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Wait for the lock of a key, and hold it inside the block."""
        return hold_lock(key)

    async def _stored_record(self, key: str) -> _StoredRecord | None:
        limit = structure_limit()
        if not self._storage.keeps_metadata_apart:
            content = await self._storage.read(key, limit)
            return content if content is None else _decode(content, _StoredRecord)
        packed = await self._storage.read_metadata(key, limit)
        if packed is None:
            return None
        metadata = _decode(packed, _Metadata)
        content = await self._storage.read(metadata.storage_key or key, limit)
        return None if content is None else _StoredRecord(metadata, content.decode())


def _decode(content: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(content, type=kind)
