"""What Prefect's result storage remembers of submissions.

A *record* holds the reference of the job that was submitted for a key; it is a genuine Prefect
result record, readable by Prefect's own cache. An *intent* lies beside it while the answer to a
submission may be outstanding. Both are written the moment they are known, outside of Prefect's
transactions, which would hold them back until the outermost task has succeeded.
"""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import msgspec
from prefect.filesystems import LocalFileSystem, NullFileSystem
from prefect.results import ResultStore, get_result_store
from prefect.serializers import JSONSerializer

from qcsc_prefect.core.errors import JobReferenceError
from qcsc_prefect.core.reference import JobReference, parse_job_reference
from qcsc_prefect.integrations.qiskit.blocking_calls import run_blocking
from qcsc_prefect.integrations.qiskit.durable_files import write_file_atomically

if TYPE_CHECKING:
    from datetime import timedelta

    from prefect.types import DateTime

    from qcsc_prefect.integrations.qiskit.task_runs import RunLogger

__all__ = ["SubmissionIntent", "SubmissionLedger"]


class SubmissionIntent(msgspec.Struct, kw_only=True, frozen=True):
    """That somebody is about to submit, or was when the process died.

    Attributes:
        outstanding: Whether the answer may still be missing.
        declared_at: When the submission was about to be sent.
        holder: Host and process that were about to send it.
        schema_version: Version of this schema.
    """

    outstanding: bool
    declared_at: datetime
    holder: str = ""
    schema_version: int = 1


class SubmissionLedger:
    """Records and intents of submissions, by key."""

    def __init__(self, store: ResultStore, logger: RunLogger) -> None:
        changes: dict[str, object] = {
            "serializer": JSONSerializer(),
            "cache_result_in_memory": False,
        }
        if isinstance(store.metadata_storage, NullFileSystem):
            # A flow's own store writes what a record is about into nothing.
            changes["metadata_storage"] = None
        self._store = store.model_copy(update=changes)
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
            Its reference; None where there is none, it has expired, or it cannot be read.
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
        if not await self._store.aexists(key):
            return None
        content = (await self._store.aread(key)).result
        return content if isinstance(content, dict) else None

    async def write_content(
        self, key: str, content: dict[str, object], lifetime: timedelta | None
    ) -> None:
        """Write a record; it is on storage when this returns.

        Args:
            key: Key of the record.
            content: What JSON can hold.
            lifetime: How long the record may be used; None for ever.
        """
        expiration = None if lifetime is None else datetime.now(UTC) + lifetime
        await self._write(key, content, expiration)

    async def write_record(
        self, key: str, reference: JobReference, lifetime: timedelta | None
    ) -> None:
        """Record a submitted job; it is on storage when this returns.

        Args:
            key: The submit key.
            reference: The job.
            lifetime: How long the record may be used; None for ever.
        """
        await self.write_content(key, dict(reference.to_dict()), lifetime)

    async def declare_intent(self, key: str) -> None:
        """Say that a submission is about to be sent."""
        await self._write_intent(key, outstanding=True)

    async def clear_intent(self, key: str) -> None:
        """Say that no answer is outstanding any more."""
        await self._write_intent(key, outstanding=False)

    async def outstanding_intent(self, key: str) -> SubmissionIntent | None:
        """Return the intent whose answer may be outstanding, or None."""
        content = await self.content(_intent_key(key))
        if content is None:
            return None
        intent = msgspec.convert(content, SubmissionIntent, strict=False)
        return intent if intent.outstanding else None

    async def _write_intent(self, key: str, *, outstanding: bool) -> None:
        intent = SubmissionIntent(
            outstanding=outstanding,
            declared_at=datetime.now(UTC),
            holder=f"{socket.gethostname()}:{os.getpid()}",
        )
        await self._write(_intent_key(key), msgspec.to_builtins(intent), None)

    async def _write(self, key: str, content: object, expiration: datetime | None) -> None:
        # Finds the storage of the run; its path decides how the record names itself.
        record = self._store.create_result_record(
            content,
            key=key,
            # Prefect's own type differs between Python versions; its model takes any datetime.
            expiration=cast("DateTime | None", expiration),
        )
        storage = self._store.result_storage
        if not isinstance(storage, LocalFileSystem) or self._store.metadata_storage is not None:
            await self._store.apersist_result_record(record)
            return
        path = storage._resolve_path(key)  # noqa: SLF001 - its write_path is not atomic
        path.parent.mkdir(parents=True, exist_ok=True)
        await run_blocking(write_file_atomically, path, record.serialize())


def _intent_key(key: str) -> str:
    return f"{key}-intent"
