"""The canonical encoding: one value, one sequence of bytes, on every machine.

Equal contents give equal bytes whatever they are held in; different contents never do, because
every value starts with a tag of its type and every one of variable length with its length. The
encoding is streamed, so a value of any size is never held a second time.
``docs/identity.md`` specifies it byte by byte.
"""

from __future__ import annotations

import array
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, cast

from qcsc_prefect.core.canonical_arrays import (
    is_numpy_array,
    is_numpy_scalar,
    iter_array_blocks,
    iter_typed_array_blocks,
    numpy_scalar_value,
    typed_array_kind,
)
from qcsc_prefect.core.canonical_path import LocatedErrors, child_path, join_path
from qcsc_prefect.core.canonical_registry import default_registry
from qcsc_prefect.core.errors import InputError, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qcsc_prefect.core.canonical_registry import CanonicalRegistry

__all__ = ["SCHEMA_VERSION", "CanonicalWriter", "canonical_bytes"]

#: The version of the encoding. It changes whenever the bytes of any built-in type do.
SCHEMA_VERSION = 1

#: Containers nested deeper than this are refused; one that contains itself is refused by it.
MAX_DEPTH = 200

_FLUSH_BYTES = 1 << 16
_ITEMS_BETWEEN_FLUSHES = 1024
_SHORT_TEXT = 48

_pack_count = Struct("<Q").pack
_pack_float = Struct("<cd").pack
_pack_complex = Struct("<cdd").pack


#: Encodings of integers that occur all the time; a count, an index, a number of shots.
_SMALL_INTS = {
    n: b"i" + _pack_count(size) + n.to_bytes(size, "little", signed=True)
    for n in range(-256, 4097)
    for size in (n.bit_length() // 8 + 1,)
}


class CanonicalWriter:
    """Writes values in their canonical form, in pieces, to wherever the caller wants them.

    Args:
        sink: Called with each piece, a bytes-like object that it must use before it returns.
        registry: The types that have a form beyond the built-in ones; by default
            :data:`~qcsc_prefect.core.default_registry`.

    Example:
        >>> import hashlib
        >>> digest = hashlib.sha256()
        >>> writer = CanonicalWriter(digest.update)
        >>> writer.write({"shots": 1024})
        >>> writer.flush()
    """

    def __init__(
        self,
        sink: Callable[[bytes | bytearray | memoryview], object],
        registry: CanonicalRegistry | None = None,
    ) -> None:
        self._sink = sink
        self._registry = default_registry if registry is None else registry
        self._buffer = bytearray()
        self._depth = 0

    def flush(self) -> None:
        """Hand everything that was written to the sink."""
        if self._buffer:
            self._sink(self._buffer)
            self._buffer.clear()

    def write(self, value: object) -> None:
        """Write one value with its tag.

        Args:
            value: None, a bool, int, float, complex, str, bytes-like object, list, tuple, set,
                mapping, numpy scalar or array, or an object of a registered type.

        Raises:
            UnsupportedTypeError: If the value, or one inside it, has no canonical form; `path`
                names it relative to `value`.
            InputError: If containers are nested too deeply, or one contains itself.
        """
        kind = type(value)
        if kind is str:
            text = cast("str", value)
            encode = _short_text if len(text) <= _SHORT_TEXT else _encoded_text
            self._buffer += encode(text)
        elif kind is float:
            self._buffer += _pack_float(b"f", value)
        elif kind is int:
            self._write_int(cast("int", value))
        elif value is None:
            self._buffer += b"N"
        elif kind is bool:
            self._buffer += b"T" if value else b"F"
        elif kind is dict:
            self._write_mapping(cast("dict[object, object]", value))
        elif kind is list or kind is tuple:
            self._write_sequence(cast("Sequence[object]", value))
        else:
            self._write_other(value)

    def write_field(self, name: str, value: object) -> None:
        """Write one value, and name it in the path of an error inside it.

        Args:
            name: The step from the value that is being written to this one.
            value: See :meth:`write`.
        """
        with LocatedErrors(name):
            self.write(value)

    def write_header(self, tag: bytes, count: int) -> None:
        """Write a one-byte tag and an unsigned 64-bit number; for the forms of registered types.

        Args:
            tag: The tag.
            count: The number, for example how many parts follow.
        """
        self._buffer += tag + _pack_count(count)

    def write_raw(self, data: bytes | bytearray | memoryview) -> None:
        """Write bytes as they are.

        Args:
            data: The bytes; whoever calls this must have written their length before.
        """
        if len(data) < _FLUSH_BYTES:
            self._buffer += data
            if len(self._buffer) >= _FLUSH_BYTES:
                self.flush()
        else:
            self.flush()
            self._sink(data)

    def write_array(
        self, kind: str, item_size: int, shape: Sequence[int], blocks: Iterable[memoryview]
    ) -> None:
        """Write an array whose bytes come in blocks.

        Args:
            kind: ``b``, ``i``, ``u``, ``f`` or ``c``, as in numpy's dtype kinds.
            item_size: Bytes of one item.
            shape: The length of each axis.
            blocks: The items, little-endian and in C order.
        """
        self._buffer += b"a" + kind.encode("ascii") + bytes((item_size,)) + _pack_count(len(shape))
        for length in shape:
            self._buffer += _pack_count(length)
        for block in blocks:
            self.write_raw(block)

    def _write_int(self, value: int) -> None:
        known = _SMALL_INTS.get(value)
        if known is None:
            size = int.bit_length(value) // 8 + 1
            known = b"i" + _pack_count(size) + int.to_bytes(value, size, "little", signed=True)
        self._buffer += known

    def _write_sequence(self, items: Sequence[object]) -> None:
        count = len(items)
        self._buffer += b"l" + _pack_count(count)
        self._descend()
        position = 0
        write = self.write
        try:
            for start in range(0, count, _ITEMS_BETWEEN_FLUSHES):
                position = start
                for item in items[start : start + _ITEMS_BETWEEN_FLUSHES]:
                    write(item)
                    position += 1
                if len(self._buffer) >= _FLUSH_BYTES:
                    self.flush()
        except InputError as error:
            error.path = join_path(child_path(position), error.path)
            raise
        self._depth -= 1

    def _write_mapping(self, items: Mapping[object, object]) -> None:
        entries = [(self._encoded_key(key), key, value) for key, value in items.items()]
        entries.sort(key=itemgetter(0))
        if type(items) is not dict:
            _refuse_repeated_keys(entries)
        self._buffer += b"d" + _pack_count(len(entries))
        self._descend()
        write = self.write
        key: object = None
        try:
            for encoded, entry_key, value in entries:
                key = entry_key
                self._buffer += encoded
                write(value)
            if len(self._buffer) >= _FLUSH_BYTES:
                self.flush()
        except InputError as error:
            error.path = join_path(child_path(key), error.path)
            raise
        self._depth -= 1

    def _encoded_key(self, key: object) -> bytes:
        if type(key) is str:
            return _short_text(key) if len(key) <= _SHORT_TEXT else _encoded_text(key)
        if key is None or isinstance(key, (str, bytes, int, float)) or is_numpy_scalar(key):
            return canonical_bytes(key)
        raise UnsupportedTypeError(
            f"a mapping's key of type {_type_name(key)} has no canonical form",
            path=child_path(key),
        )

    def _write_set(self, items: Iterable[object]) -> None:
        members = sorted(canonical_bytes(item, registry=self._registry) for item in items)
        self._buffer += b"e" + _pack_count(len(members))
        for member in members:
            self.write_raw(member)

    def _write_other(self, value: object) -> None:
        entry = self._registry.find(type(value))
        if entry is not None:
            tag = entry.tag.encode("utf-8")
            self._buffer += b"x" + _pack_count(len(tag)) + tag + _pack_count(entry.version)
            self._descend()
            entry.encode(self, value)
            self._depth -= 1
        elif is_numpy_array(value):
            blocks = iter_array_blocks(value)
            self.write_array(value.dtype.kind, value.dtype.itemsize, value.shape, blocks)
        elif is_numpy_scalar(value):
            self.write(numpy_scalar_value(value))
        elif isinstance(value, (bytes, bytearray, memoryview)):
            self._write_bytes(value)
        else:
            self._write_subclass(value)

    def _write_bytes(self, value: bytes | bytearray | memoryview) -> None:
        view = memoryview(value)
        if view.format not in ("B", "b", "c") or not view.c_contiguous:
            raise UnsupportedTypeError("only a contiguous view of bytes has a canonical form")
        self.write_header(b"b", view.nbytes)
        self.write_raw(view.cast("B"))

    def _write_subclass(self, value: object) -> None:
        """Write a value of a class derived from a built-in one by the built-in value it holds."""
        if isinstance(value, str):
            self.write(str.__str__(value))
        elif isinstance(value, int):
            self._write_int(int.__int__(value))
        elif isinstance(value, float):
            self.write(float.__float__(value))
        elif isinstance(value, complex):
            self._buffer += _pack_complex(b"c", value.real, value.imag)
        elif isinstance(value, Mapping):
            self._write_mapping(value)
        elif isinstance(value, (list, tuple)):
            self._write_sequence(value)
        elif isinstance(value, (set, frozenset)):
            self._write_set(value)
        elif isinstance(value, array.array):
            blocks = iter_typed_array_blocks(value)
            self.write_array(typed_array_kind(value), value.itemsize, (len(value),), blocks)
        else:
            raise UnsupportedTypeError(
                f"a value of type {_type_name(value)} has no canonical form; use plain values, "
                "containers and arrays, or register the type"
            )

    def _descend(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InputError(f"containers are nested more than {MAX_DEPTH} deep")


def _encoded_text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return b"s" + _pack_count(len(data)) + data


#: For the names of options and fields, which are the same few again and again.
_short_text = lru_cache(maxsize=2048)(_encoded_text)


def canonical_bytes(value: object, *, registry: CanonicalRegistry | None = None) -> bytes:
    """Return the canonical form of a value as one byte string.

    Args:
        value: See :meth:`CanonicalWriter.write`.
        registry: The types that have a form beyond the built-in ones.

    Returns:
        The bytes that ``docs/identity.md`` specifies.

    Raises:
        UnsupportedTypeError: If the value, or one inside it, has no canonical form.
        InputError: If containers are nested too deeply.

    Example:
        >>> canonical_bytes({"b": 1, "a": 2}) == canonical_bytes({"a": 2, "b": 1})
        True
        >>> canonical_bytes(1) == canonical_bytes(True)
        False
    """
    pieces = bytearray()
    writer = CanonicalWriter(pieces.extend, registry)
    writer.write(value)
    writer.flush()
    return bytes(pieces)


def _refuse_repeated_keys(entries: list[tuple[bytes, object, object]]) -> None:
    for (one, _, _), (other, key, _) in pairwise(entries):
        if one == other:
            raise InputError("a mapping holds this key twice", path=child_path(key))


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
