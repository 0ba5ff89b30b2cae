"""Prefect's result records, read and written beside the event loop.

Prefect serializes on the event loop, which stands still for most of a second over 50 MB, and
reads a record with whatever serializer the *record* names, pickle too. The two functions here
write and read the same records, under the same keys, so that either side finds what the other
wrote; but they work in a thread and in short pieces, write local files atomically, and read no
record but the serializer's own. They tell a record that was written under another key, too.

A record is the JSON text ``{"metadata":{...},"result":"<base64>"}``.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

import msgspec
from prefect.logging import get_logger

from qcsc_prefect.core.atomic_files import write_chunks_atomically
from qcsc_prefect.core.bounded_files import file_limit
from qcsc_prefect.core.errors import DamagedRecordError, RecordError, StorageUnreadableError
from qcsc_prefect.core.prefect.base64_pieces import TEXT_PIECE
from qcsc_prefect.core.prefect.encoding import (
    KEY_FACT,
    decode_output,
    decode_output_pieces,
    encode_output,
)
from qcsc_prefect.core.prefect.serializer import SERIALIZER_TYPE, PrimitiveResultSerializer
from qcsc_prefect.core.prefect.storage import RunStorage
from qcsc_prefect.core.prefect.storage_blocks import (
    call_block,
    is_local,
    local_path,
    metadata_block,
    open_local,
)
from qcsc_prefect.core.threads import run_blocking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.filesystems import LocalFileSystem, WritableFileSystem
    from prefect.results import ResultStore

    from qcsc_prefect.core.container.format import DecodedContainer

__all__ = ["StoredResult", "aread_result_record", "awrite_result_record"]

_logger = get_logger("qcsc.results")

_BEFORE_METADATA: Final = b'{"metadata":'
_BEFORE_RESULT: Final = b',"result":"'
_AFTER_RESULT: Final = b'"}'
# Prefect's metadata takes a few hundred bytes; a storage key adds a path.
_LONGEST_METADATA: Final = 1 << 16

_DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What a record held.

    Attributes:
        output: The stored output; None is a possible output.
        expiration: When the record stops being valid, or None.
    """

    output: object
    expiration: datetime | None


class _Serializer(msgspec.Struct):
    type: str


class _Metadata(msgspec.Struct):
    serializer: _Serializer
    expiration: datetime | None = None
    storage_key: str | None = None


class _Record(msgspec.Struct):
    metadata: _Metadata
    result: str


async def awrite_result_record(
    store: ResultStore, key: str, output: object, expiration: datetime | None = None
) -> None:
    """Write an output as the record that Prefect would write for it.

    The event loop goes on meanwhile. On Prefect's local file system the record appears whole or
    not at all; on other storage as its block writes.

    Args:
        store: Where to: a task's result store, ``get_result_store()``, or one of your own.
        key: The record's key, as a cache policy would compute it.
        output: What to store; see `PrimitiveResultSerializer`.
        expiration: When the record stops being valid, with its time zone; None for never.

    Raises:
        UnsupportedTypeError: The output, or a value inside it, has no place in a record; nothing
            is written.
        ValueError: The key leaves the storage's folder.
        OSError: A local record cannot be written. Storage of other kinds raises errors of its own.
    """
    storage = await RunStorage(store).block()

    def describe() -> tuple[bytes, str]:
        # In a thread: Prefect looks at every folder of the record's path, repeatedly.
        own_store = store.model_copy(
            update={"result_storage": storage, "serializer": PrimitiveResultSerializer()}
        )
        metadata = own_store.create_result_record(
            None,
            key=key,
            expiration=expiration,  # type: ignore[arg-type]  # pydantic takes any datetime
        ).metadata
        return metadata.dump_bytes(), metadata.storage_key or key

    metadata_storage = metadata_block(store)
    if metadata_storage is None and is_local(storage):
        await run_blocking(
            lambda: _write_file(storage, key, encode_record(output, describe()[0], key))
        )
        return
    metadata, storage_key = await run_blocking(describe)
    if metadata_storage is None:
        await _write(storage, storage_key, encode_record(output, metadata, key))
    else:
        await _write(storage, storage_key, encode_output(output, key))
        await call_block(metadata_storage, "write_path", key, metadata)


async def aread_result_record(store: ResultStore, key: str) -> StoredResult | None:
    """Read the output that lies under a key, or None where there is none that can be used.

    A record that is absent or expired is a miss. So is one that is damaged, was written under
    another key, by a newer release or by another serializer, holds a type that is not installed,
    or would take more memory than ``QCSC_PREFECT_MAX_RECORD_BYTES`` allows; a warning then says
    so. The event loop goes on meanwhile, and nothing that the record names is executed.

    Args:
        store: Where from: a task's result store, ``get_result_store()``, or one of your own.
        key: The record's key.

    Returns:
        The output with its expiration, or None. The output is this caller's own: nobody else
        holds the same object.

    Raises:
        ConfigurationError: ``QCSC_PREFECT_MAX_RECORD_BYTES`` holds no number.
    """
    storage = RunStorage(store)
    try:
        if storage.keeps_metadata_apart:
            return await _read_separately(storage, key)
        block = await storage.block()
        if is_local(block):
            return await run_blocking(_read_local_record, block, key)
        content = await storage.read(key)
        return None if content is None else await run_blocking(_decode_record, content, key)
    except (RecordError, StorageUnreadableError) as exc:
        _logger.warning("The stored result under the key %s is not used: %s", key, exc)
        return None


def encode_record(output: object, metadata: bytes, key: str) -> Iterator[bytes]:
    """The record of an output, in chunks, with Prefect's metadata as JSON text."""
    yield _BEFORE_METADATA + metadata + _BEFORE_RESULT
    yield from encode_output(output, key)
    yield _AFTER_RESULT


def _read_local_record(storage: LocalFileSystem, key: str) -> StoredResult | None:
    """Read a record without ever holding the whole of its text."""
    try:
        with open_local(storage, key, file_limit()) as file:
            beginning = file.read(_LONGEST_METADATA)
            end = file.seek(-len(_AFTER_RESULT), os.SEEK_END) if beginning else 0
            layout = _layout(beginning)
            if layout is None or file.read() != _AFTER_RESULT:
                file.seek(0)
                return _decode_record(file.read(), key)
            metadata, start = layout
            if _is_expired(metadata):
                return None
            file.seek(start)
            pieces = (file.read(min(TEXT_PIECE, end - at)) for at in range(start, end, TEXT_PIECE))
            return _stored_result(metadata, decode_output_pieces(pieces), key)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise RecordError(f"It cannot be read: {exc.strerror}.") from exc


def _decode_record(content: bytes, key: str) -> StoredResult | None:
    layout = _layout(content)
    if layout is not None and content.endswith(_AFTER_RESULT):
        metadata, start = layout
        text = memoryview(content)[start : -len(_AFTER_RESULT)]
    else:
        metadata, text = _parsed_record(content)
    if _is_expired(metadata):
        return None
    return _stored_result(metadata, decode_output(text), key)


def _stored_result(metadata: _Metadata, decoded: DecodedContainer, key: str) -> StoredResult:
    """What a record holds, if it is that of the key."""
    written_as = decoded.about.get(KEY_FACT)
    if written_as is None and metadata.storage_key is not None:
        # Prefect wrote it, and names the path; the folder may have been moved since.
        name = PurePosixPath(metadata.storage_key).name
        written_as = key if name == PurePosixPath(key).name else name
    if written_as not in (None, key):
        raise DamagedRecordError(f"It was written under the key {written_as:.200}.")
    return StoredResult(decoded.value, metadata.expiration)


def _layout(beginning: bytes) -> tuple[_Metadata, int] | None:
    """The metadata and where the result's text starts, where Prefect laid the record out."""
    end = beginning.find(_BEFORE_RESULT, 0, _LONGEST_METADATA)
    if end < 0 or not beginning.startswith(_BEFORE_METADATA):
        return None
    return _checked_metadata(beginning[len(_BEFORE_METADATA) : end]), end + len(_BEFORE_RESULT)


def _parsed_record(content: bytes) -> tuple[_Metadata, memoryview]:
    """A record in any layout of JSON."""
    try:
        record = msgspec.json.decode(content, type=_Record)
    except _DECODE_ERRORS as exc:
        raise DamagedRecordError(f"This is no record of a result: {exc}.") from exc
    _refuse_other_serializer(record.metadata)
    return record.metadata, memoryview(record.result.encode())


def _checked_metadata(packed: bytes) -> _Metadata:
    try:
        metadata = msgspec.json.decode(packed, type=_Metadata)
    except _DECODE_ERRORS as exc:
        raise DamagedRecordError(f"The record's metadata cannot be read: {exc}.") from exc
    _refuse_other_serializer(metadata)
    return metadata


def _refuse_other_serializer(metadata: _Metadata) -> None:
    if metadata.serializer.type != SERIALIZER_TYPE:
        raise RecordError(
            f"It was written with the serializer {metadata.serializer.type!r} instead of "
            f"{SERIALIZER_TYPE!r}, and reading it might run code."
        )


def _is_expired(metadata: _Metadata) -> bool:
    expiration = metadata.expiration
    if expiration is None:
        return False
    if expiration.tzinfo is None:
        expiration = expiration.replace(tzinfo=UTC)
    return expiration <= datetime.now(UTC)


async def _read_separately(storage: RunStorage, key: str) -> StoredResult | None:
    """Read a result whose metadata lie in storage of their own."""
    packed_metadata = await storage.read_metadata(key)
    if packed_metadata is None:
        return None
    metadata = _checked_metadata(packed_metadata)
    if _is_expired(metadata):
        return None
    content = await storage.read(metadata.storage_key or key)
    if content is None:
        return None
    return _stored_result(metadata, await run_blocking(decode_output, content), key)


async def _write(storage: WritableFileSystem, key: str, chunks: Iterator[bytes]) -> None:
    if is_local(storage):
        await run_blocking(_write_file, storage, key, chunks)
    else:
        await call_block(storage, "write_path", key, await run_blocking(_joined, chunks))


def _write_file(storage: LocalFileSystem, key: str, chunks: Iterator[bytes]) -> None:
    write_chunks_atomically(local_path(storage, key), chunks, durable=False)


def _joined(chunks: Iterator[bytes]) -> bytes:
    # b"".join would hold the interpreter's lock for a quarter of a second over 100 MB.
    joined = io.BytesIO()
    for chunk in chunks:
        joined.write(chunk)
    return joined.getvalue()
