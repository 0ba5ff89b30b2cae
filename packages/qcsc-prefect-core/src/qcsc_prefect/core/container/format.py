"""The container: one value, with its arrays as raw bytes, in a file format without code.

`encode_container` turns a value into bytes, `decode_container` turns them back. What comes back
is what went in: same types, same order of dicts, tuples as tuples, floats bit for bit, arrays with
their dtype, shape and memory order. Reading never runs anything that the bytes name: types are
looked up among those that installed packages declare (see `value_types`), and a SHA-256
over the whole is compared before anything is parsed. The hash finds damage; it is no signature.

The layout is written down byte by byte in ``docs/result-format.md``.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from qcsc_prefect.core.bounded_files import LIMIT_VARIABLE, record_limit, structure_limit
from qcsc_prefect.core.container.codec import (
    MAX_PIECE_SIZE,
    PIECE_SIZE,
    Codec,
    StoredBuffer,
    piece_compressor,
    piece_decompressor,
    raw_pieces,
)
from qcsc_prefect.core.container.nodes import has_more_nodes
from qcsc_prefect.core.container.tree import MissingTypes, StoredValue, TreeReader, TreeWriter
from qcsc_prefect.core.errors import (
    DamagedRecordError,
    FormatVersionError,
    RecordError,
    UnsupportedTypeError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "FORMAT_VERSION",
    "Codec",
    "DecodedContainer",
    "EncodedContainer",
    "MissingTypes",
    "StoredValue",
    "decode_container",
    "encode_container",
    "read_about",
    "read_container",
]

#: The version of the format that this release writes, and the newest one that it reads.
FORMAT_VERSION: Final = 1

#: The first bytes of every container. The high bit, the line ends and the control-Z make a
#: transfer that treats the file as text show itself at once, as in PNG files.
MAGIC: Final = b"\x89QCSC\r\n\x1a"

# Magic, version, reserved, length of the head, length of the body; the SHA-256 follows.
_PREAMBLE: Final = struct.Struct("<8sHHIQ")
_DIGEST_SIZE: Final = 32
_HEAD_OFFSET: Final = _PREAMBLE.size + _DIGEST_SIZE


class _StoredBufferTable(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One buffer: its size, and the stored size of each of its pieces."""

    raw_size: int
    piece_sizes: list[int]


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    codec: str
    piece_size: int
    buffers: list[_StoredBufferTable]
    about: dict[str, str] = {}


# msgspec lets Python's own error for text that is not UTF-8 through.
_DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decode_head = msgspec.msgpack.Decoder(_Head)
_encode_msgpack = msgspec.msgpack.Encoder()
_decode_tree = msgspec.msgpack.Decoder()


@dataclass(frozen=True, slots=True)
class EncodedContainer:
    """A container as a sequence of chunks, none of which is a copy of a large array.

    Attributes:
        chunks: The bytes, in order.
        nbytes: How many bytes that is.
    """

    chunks: Sequence[bytes | memoryview]
    nbytes: int

    def to_bytes(self) -> bytes:
        """The whole container in one piece."""
        return b"".join(self.chunks)


@dataclass(frozen=True, slots=True)
class DecodedContainer:
    """What was read from a container.

    Attributes:
        value: The value.
        about: The facts about its origin that the writer gave.
        missing_types: Names of the types that are not installed here; their values came back as
            a `StoredValue`, or as another type that they may be read as.
    """

    value: object
    about: dict[str, str]
    missing_types: tuple[str, ...]


def encode_container(
    value: object,
    *,
    codec: Codec = "zlib",
    about: Mapping[str, str] | None = None,
    path: str = "",
) -> EncodedContainer:
    """Write a value as a container.

    The same value, codec and facts give the same bytes.

    Args:
        value: What to store: None, booleans, numbers, text, bytes, lists, tuples, dicts, and
            values of registered types, nested at will.
        codec: How the bytes are compressed: ``none``, ``zlib`` or ``zstd``, both at level 1.
            ``zstd`` is faster and needs the package backports.zstd here and wherever it is read.
        about: Facts about the origin, for example versions; readable without reading the value.
        path: What to call the value in messages.

    Returns:
        The container, in chunks.

    Raises:
        UnsupportedTypeError: The value, or one inside it, has no place in a container; the
            message and the attribute ``path`` say where it stands.
        ConfigurationError: The codec does not exist or its library is not installed.

    Example:
        >>> stored = encode_container({"shots": 4096, "angles": (0.5, 1.25)}).to_bytes()
        >>> decode_container(stored)
        {'shots': 4096, 'angles': (0.5, 1.25)}
    """
    writer = TreeWriter()
    try:
        packed_tree = _encode_msgpack.encode(writer.node(value, path))
    except RecursionError as exc:
        raise UnsupportedTypeError(
            f"{path or 'The value'} is nested too deep for the calls that led here.", path=path
        ) from exc
    compress = piece_compressor(codec)
    body: list[bytes | memoryview] = []
    tables: list[_StoredBufferTable] = []
    for buffer in (memoryview(packed_tree), *writer.buffers):
        pieces = [compress(piece) for piece in raw_pieces(buffer)]
        tables.append(_StoredBufferTable(buffer.nbytes, [len(piece) for piece in pieces]))
        body.extend(pieces)
    head = _encode_msgpack.encode(_Head(codec, PIECE_SIZE, tables, dict(about or {})))
    preamble = _PREAMBLE.pack(MAGIC, FORMAT_VERSION, 0, len(head), sum(map(len, body)))
    digest = _digest([preamble, head, *body])
    chunks = (preamble, digest, head, *body)
    return EncodedContainer(chunks, sum(map(len, chunks)))


def decode_container(
    data: bytes | bytearray | memoryview, *, missing_types: MissingTypes = "refuse"
) -> object:
    """Read the value of a container.

    Args:
        data: The container's bytes, and nothing else.
        missing_types: What to do with a type whose package is not installed: ``refuse`` raises,
            ``keep`` gives a type that it may be read as, or else a `StoredValue`.

    Returns:
        The value that was written. Arrays are new, writable memory.

    Raises:
        DamagedRecordError: These are not the bytes that were written, or no container at all.
        FormatVersionError: A newer release wrote it.
        RecordError: A type or the codec is not installed, or the value would take more memory than
            the environment variable ``QCSC_PREFECT_MAX_RECORD_BYTES`` allows.

    Example:
        >>> decode_container(encode_container((1, "a")).to_bytes())
        (1, 'a')
    """
    return read_container(data, missing_types=missing_types).value


def read_container(
    data: bytes | bytearray | memoryview, *, missing_types: MissingTypes = "refuse"
) -> DecodedContainer:
    """Read a container's value together with the facts about its origin.

    Args:
        data: The container's bytes, and nothing else.
        missing_types: As for `decode_container`.

    Returns:
        The value, the facts, and the names of types that are not installed.

    Raises:
        DamagedRecordError: These are not the bytes that were written, or no container at all.
        FormatVersionError: A newer release wrote it.
        RecordError: A type or the codec is not installed, or the value would take more memory than
            the environment variable ``QCSC_PREFECT_MAX_RECORD_BYTES`` allows.

    Example:
        >>> read_container(encode_container(1, about={"vendor": "imaginary"}).to_bytes()).about
        {'vendor': 'imaginary'}
    """
    view = memoryview(data).cast("B")
    head, body = _checked_head_and_body(view)
    buffers = _stored_buffers(head, body)
    reader = TreeReader(buffers, missing_types)
    try:
        value = reader.value(_tree(buffers[0].to_bytes()))
    except RecursionError as exc:
        raise RecordError("The record is nested too deep for the calls that led here.") from exc
    except MemoryError as exc:
        raise RecordError("The record takes more memory than this process can have.") from exc
    return DecodedContainer(value, head.about, tuple(dict.fromkeys(reader.missing)))


def read_about(data: bytes | bytearray | memoryview) -> dict[str, str]:
    """Read only the facts about a container's origin.

    Args:
        data: The container's bytes, and nothing else.

    Returns:
        The facts that the writer gave.

    Raises:
        DamagedRecordError: These are not the bytes that were written, or no container at all.
        FormatVersionError: A newer release wrote it.

    Example:
        >>> read_about(encode_container(1, about={"vendor": "imaginary"}).to_bytes())
        {'vendor': 'imaginary'}
    """
    head, _ = _checked_head_and_body(memoryview(data).cast("B"))
    return head.about


def _tree(packed: bytes) -> object:
    # A byte may be an empty list, which takes 64: counted before there is any.
    if has_more_nodes(packed, structure_limit()):
        raise _too_large(f"more than {structure_limit()} values")
    try:
        return _decode_tree.decode(packed)
    except _DECODE_ERRORS as exc:
        raise DamagedRecordError(f"The record's structure cannot be read: {exc}.") from exc


def _too_large(what: str) -> RecordError:
    return RecordError(
        f"The record holds {what}, and is not expanded. If it is what was written, set a "
        f"larger {LIMIT_VARIABLE}; it is {record_limit()} now."
    )


def _checked_head_and_body(view: memoryview) -> tuple[_Head, memoryview]:
    if view.nbytes < _HEAD_OFFSET or view[: len(MAGIC)].tobytes() != MAGIC:
        raise DamagedRecordError(
            f"This is no container: it has {view.nbytes} bytes, and they do not begin as one does."
        )
    _, version, _, head_size, body_size = _PREAMBLE.unpack_from(view)
    if view.nbytes != _HEAD_OFFSET + head_size + body_size:
        raise DamagedRecordError(
            f"The record has {view.nbytes} bytes and should have "
            f"{_HEAD_OFFSET + head_size + body_size}."
        )
    digest = _digest([view[: _PREAMBLE.size], view[_HEAD_OFFSET:]])
    if digest != view[_PREAMBLE.size : _HEAD_OFFSET]:
        raise DamagedRecordError("The record's bytes do not match its content hash.")
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"The record is in version {version} of its format, and this release reads up to "
            f"version {FORMAT_VERSION}; a newer qcsc-prefect-core reads it."
        )
    if version < 1:
        raise DamagedRecordError("The record has no version of its format.")
    if head_size > structure_limit():
        raise _too_large(f"a head of {head_size} bytes")
    body_offset = _HEAD_OFFSET + head_size
    try:
        head = _decode_head.decode(view[_HEAD_OFFSET:body_offset])
    except _DECODE_ERRORS as exc:
        raise DamagedRecordError(f"The record's head cannot be read: {exc}.") from exc
    return head, view[body_offset:]


def _stored_buffers(head: _Head, body: memoryview) -> list[StoredBuffer]:
    decompress = piece_decompressor(head.codec)
    if not 0 < head.piece_size <= MAX_PIECE_SIZE or not head.buffers:
        raise DamagedRecordError("The record's table of buffers makes no sense.")
    raw_sizes = [table.raw_size for table in head.buffers]
    if min(raw_sizes) < 0:
        raise DamagedRecordError("The record's table of buffers makes no sense.")
    if sum(raw_sizes) > record_limit():
        raise _too_large(f"{sum(raw_sizes)} bytes")
    buffers: list[StoredBuffer] = []
    offset = 0
    for table in head.buffers:
        pieces: list[memoryview] = []
        for size in table.piece_sizes:
            pieces.append(body[offset : offset + size])
            offset += size
        full_pieces, rest = divmod(table.raw_size, head.piece_size)
        if len(pieces) != full_pieces + (rest > 0) or min(table.piece_sizes, default=1) < 1:
            raise DamagedRecordError("The record's table of buffers makes no sense.")
        buffers.append(StoredBuffer(pieces, table.raw_size, head.piece_size, decompress))
    if offset != body.nbytes:
        raise DamagedRecordError("The record's buffers do not fill its body.")
    return buffers


def _digest(chunks: Sequence[bytes | memoryview]) -> bytes:
    sha256 = hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk)
    return sha256.digest()
