"""What Prefect's result storage remembers of submissions.

A *record* holds the reference of the job that was submitted for a key; it is a genuine Prefect
result record, readable by Prefect's own cache. An *intent* lies beside it while the answer to a
submission may be outstanding. Both are written the moment they are known, outside of Prefect's
transactions, which would hold them back until the outermost task has succeeded. Both are sealed
(see `sealed_json`): what was written under another key, or is not what was written, is not used.
"""

from __future__ import annotations

import functools
import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import msgspec
from prefect.results import ResultStore, get_result_store
from prefect.serializers import JSONSerializer

from qcsc_prefect.core.bounded_files import structure_limit
from qcsc_prefect.core.errors import DamagedRecordError, JobReferenceError
from qcsc_prefect.core.reference import JobReference, parse_job_reference
from qcsc_prefect.integrations.qiskit.blocking_calls import run_blocking
from qcsc_prefect.integrations.qiskit.run_storage import RunStorage, StorageUnreadableError
from qcsc_prefect.integrations.qiskit.sealed_json import sealed, unsealed_json

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.task_runs import RunLogger

__all__ = ["SubmissionIntent", "SubmissionLedger", "UnreadableIntent"]

T = TypeVar("T")

_JSON = "json"


class SubmissionIntent(msgspec.Struct, kw_only=True, frozen=True):
    """That somebody is about to submit, or was when the process died.

    Attributes:
        outstanding: Whether there may be jobs of this submission that nobody knows of.
        declared_at: When the submission was about to be sent.
        holder: Host and process that were about to send it.
        earlier: Ids of the jobs that the submission was to replace; None where it was not asked to
            replace any.
        schema_version: Version of this schema.
    """

    outstanding: bool
    declared_at: datetime
    holder: str = ""
    earlier: list[str] | None = None
    schema_version: int = 1

    def __str__(self) -> str:
        began = self.declared_at.isoformat(timespec="seconds")
        return (
            f"A submission of this input was begun at {began} by {self.holder}, and its answer was "
            "lost"
        )


class UnreadableIntent(SubmissionIntent, kw_only=True, frozen=True):
    """Something in the place of an intent that says nothing; it is never stored.

    Attributes:
        reason: Why it cannot be read.
    """

    reason: str

    def __str__(self) -> str:
        return (
            "Whether the answer to an earlier submission of this input is outstanding is not "
            f"known, because its record cannot be read ({self.reason})"
        )


class _Serializer(msgspec.Struct):
    type: str


class _Metadata(msgspec.Struct):
    serializer: _Serializer
    storage_key: str | None = None


class _StoredRecord(msgspec.Struct):
    metadata: _Metadata
    result: str


_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class SubmissionLedger:
    """Records and intents of submissions, by key.

    Args:
        store: Prefect's result store.
        logger: Where to say that a record cannot be used.
    """

    def __init__(self, store: ResultStore, logger: RunLogger) -> None:
        self._store = store.model_copy(
            update={"serializer": JSONSerializer(), "cache_result_in_memory": False}
        )
        self._storage = RunStorage(store)
        self._logger = logger

    @classmethod
    def current(cls, logger: RunLogger) -> SubmissionLedger:
        """Return the ledger in the result storage of the current run."""
        return cls(get_result_store(), logger)

    async def record(self, key: str) -> JobReference | None:
        """Return the job recorded for a key.

        Args:
            key: The submit key.

        Returns:
            Its reference; None where there is none, or it cannot be read.
        """
        content = await self.content(key)
        if content is None:
            return None
        try:
            return parse_job_reference(content)
        except JobReferenceError as error:
            self._logger.warning("The record of an earlier submission cannot be used: %s", error)
            return None

    async def content(self, key: str) -> dict[str, object] | None:
        """Return what a record holds, or None where there is none that can be used."""
        try:
            return await self._read(key)
        except StorageUnreadableError as error:
            self._logger.warning("A record of an earlier submission is passed over: %s", error)
            return None

    async def write_content(self, key: str, content: dict[str, object]) -> None:
        """Write a record; it is on storage when this returns.

        A record says when its job was made, and never expires: each call has its own limit.

        Args:
            key: Key of the record.
            content: What JSON can hold.
        """
        await self._write(key, content)

    async def write_record(self, key: str, reference: JobReference) -> None:
        """Record a submitted job; it is on storage when this returns.

        Args:
            key: The submit key.
            reference: The job.
        """
        await self._write(key, dict(reference.to_dict()))

    async def declare_intent(self, key: str, *, earlier: list[str] | None = None) -> None:
        """Say that a submission is about to be sent.

        Args:
            key: The submit key.
            earlier: Ids of the jobs that it is to replace.
        """
        await self._write_intent(key, outstanding=True, earlier=earlier)

    async def clear_intent(self, key: str) -> None:
        """Say that no job of a submission is unknown any more."""
        await self._write_intent(key, outstanding=False)

    async def outstanding_intent(self, key: str) -> SubmissionIntent | None:
        """Return the intent whose jobs may not all be known, or None.

        An intent that may be there and cannot be read is one: to heed it costs the visibility
        delay, not to heed it may cost a job.
        """
        try:
            content = await self._read(_intent_key(key))
        except StorageUnreadableError as error:
            self._logger.warning("An intent to submit may be outstanding: %s", error)
            return _unreadable(error)
        if content is None:
            return None
        try:
            intent = msgspec.convert(content, SubmissionIntent, strict=False)
        except msgspec.ValidationError as error:
            self._logger.warning("An intent to submit cannot be read, and is heeded: %s", error)
            return _unreadable(error)
        return intent if intent.outstanding else None

    async def _write_intent(
        self, key: str, *, outstanding: bool, earlier: list[str] | None = None
    ) -> None:
        intent = SubmissionIntent(
            outstanding=outstanding,
            declared_at=datetime.now(UTC),
            holder=f"{socket.gethostname()}:{os.getpid()}",
            earlier=earlier,
        )
        await self._write(_intent_key(key), msgspec.to_builtins(intent))

    async def _write(self, key: str, content: dict[str, object]) -> None:
        # Prefect's block for the storage decides by which path the record names itself.
        store = self._store.model_copy(update={"result_storage": await self._storage.block()})
        # Called in a thread: Prefect looks at every folder of that path, repeatedly.
        record = functools.partial(
            store.create_result_record, sealed(key, content), key=key, expiration=None
        )
        if self._storage.keeps_metadata_apart:
            await store.apersist_result_record(await run_blocking(record))
        else:
            await self._storage.write(key, lambda: record().serialize())

    async def _read(self, key: str) -> dict[str, object] | None:
        """Return what was stored under a key, or None where there is nothing, or not any more.

        Raises:
            StorageUnreadableError: If something may be there, and cannot be read, or is not what
                was written there.
        """
        record = await self._stored_record(key)
        if record is None:
            return None
        if record.metadata.serializer.type != _JSON:
            raise StorageUnreadableError(
                f"What is stored under the key {key} is no record of a submission."
            )
        try:
            return unsealed_json(key, record.result)
        except DamagedRecordError as error:
            raise _damaged(key, error) from error

    async def _stored_record(self, key: str) -> _StoredRecord | None:
        limit = structure_limit()
        try:
            if not self._storage.keeps_metadata_apart:
                content = await self._storage.read(key, limit)
                return content if content is None else _decode(content, _StoredRecord)
            packed = await self._storage.read_metadata(key, limit)
            if packed is None:
                return None
            metadata = _decode(packed, _Metadata)
            content = await self._storage.read(metadata.storage_key or key, limit)
            return None if content is None else _StoredRecord(metadata, content.decode())
        except _DECODE_ERRORS as error:
            raise _damaged(key, error) from error


def _decode(content: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(content, type=kind)


def _damaged(key: str, error: Exception) -> StorageUnreadableError:
    return StorageUnreadableError(f"What is stored under the key {key} is damaged: {error}.")


def _unreadable(error: Exception) -> UnreadableIntent:
    return UnreadableIntent(outstanding=True, declared_at=datetime.now(UTC), reason=str(error))


def _intent_key(key: str) -> str:
    return f"{key}-intent"
