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
from itertools import chain, pairwise
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from qcsc_prefect.core.canonical.arrays import (
    ITEM_KINDS,
    array_items,
    array_place,
    is_numpy_array,
    is_numpy_scalar,
    iter_array_blocks,
    iter_typed_array_blocks,
    numpy_scalar_value,
    typed_array_kind,
)
from qcsc_prefect.core.canonical.paths import child_path, join_steps
from qcsc_prefect.core.canonical.registry import default_registry
from qcsc_prefect.core.errors import InputError, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from qcsc_prefect.core.canonical.arrays import NumpyArray
    from qcsc_prefect.core.canonical.registry import CanonicalRegistry

__all__ = ["SCHEMA_VERSION", "CanonicalWriter", "canonical_bytes"]

#: The version of the encoding. It changes whenever the bytes of any built-in type do.
SCHEMA_VERSION = 1

#: Values inside of one another; more of them are taken for a value that contains itself.
MAX_DEPTH = 100_000

_FLUSH_BYTES = 1 << 16
_ITEMS_BETWEEN_FLUSHES = 1024
_SHORT_TEXT = 48

_pack_count = Struct("<Q").pack
_pack_float = Struct("<cd").pack
_pack_complex = Struct("<cdd").pack


#: The parts of a value that are still to be written, each behind the step that leads to it, and
#: what tells such a step in a path.
_Open: TypeAlias = "tuple[Iterator[tuple[Any, object]], Callable[[Any], str]]"

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
        self._diverted: list[tuple[Callable[..., object], bytearray]] = []

    def flush(self) -> None:
        """Hand everything that was written to the sink."""
        if self._buffer:
            self._sink(self._buffer)
            self._buffer.clear()

    def divert(self, sink: Callable[[bytes | bytearray | memoryview], object]) -> None:
        """Hand what follows to another sink, until :meth:`restore` is called.

        Args:
            sink: As for the writer itself.
        """
        self._diverted.append((self._sink, self._buffer))
        self._sink, self._buffer = sink, bytearray()

    def restore(self) -> None:
        """End what the last :meth:`divert` began."""
        self.flush()
        self._sink, self._buffer = self._diverted.pop()

    def write(self, value: object) -> None:
        """Write one value with its tag.

        Args:
            value: None, a bool, int, float, complex, str, bytes-like object, list, tuple, set,
                mapping, numpy scalar or array, or an object of a registered type.

        Raises:
            UnsupportedTypeError: If the value, or one inside it, has no canonical form; `path`
                names it relative to `value`.
            InputError: If a value contains itself.
        """
        # A list of what is open in place of recursion: values may be nested to any depth.
        opened: list[_Open] = [(iter((("", value),)), str)]
        steps: list[object] = []
        try:
            while opened:
                inside = self._write_parts(opened[-1][0], steps)
                if inside is not None:
                    opened.append(inside)
                    if len(opened) > MAX_DEPTH:
                        raise InputError("values are nested without an end, or one contains itself")
                else:
                    opened.pop()
                    if steps:
                        steps.pop()
        except RecursionError:
            error = InputError("the value is nested too deeply for its own type to be read")
            error.path = _path(opened, steps)
            raise error from None
        except InputError as error:
            error.path = join_steps([_path(opened, steps), error.path])
            raise

    def _write_parts(
        self, parts: Iterator[tuple[Any, object]], steps: list[object]
    ) -> _Open | None:
        """Write parts up to one that has an inside, and return it; None after the last part."""
        for step, part in parts:
            kind = type(part)
            if kind is str:
                text = cast("str", part)
                encode = _short_text if len(text) <= _SHORT_TEXT else _encoded_text
                self._buffer += encode(text)
            elif kind is float:
                self._buffer += _pack_float(b"f", part)
            elif kind is int:
                number = cast("int", part)
                self._buffer += _SMALL_INTS.get(number) or _encoded_int(number)
            elif part is None:
                self._buffer += b"N"
            elif kind is bool:
                self._buffer += b"T" if part else b"F"
            else:
                steps.append(step)
                inside = self._open(part)
                if inside is not None:
                    return inside
                steps.pop()
        return None

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

    def _open(self, value: object) -> _Open | None:
        """Write a value that is no plain scalar, or its head; return what is inside of it."""
        if len(self._buffer) >= _FLUSH_BYTES:
            self.flush()
        kind = type(value)
        if kind is dict:
            return self._open_mapping(cast("dict[object, object]", value))
        if kind is list or kind is tuple:
            return self._open_sequence(cast("Sequence[object]", value))
        entry = self._registry.find(kind)
        if entry is not None:
            tag = entry.tag.encode("utf-8")
            self._buffer += b"x" + _pack_count(len(tag)) + tag + _pack_count(entry.version)
            parts = entry.encode(self, value)
            return None if parts is None else (iter(parts), str)
        if is_numpy_array(value):
            return self._open_array(value)
        if is_numpy_scalar(value):
            self.write(numpy_scalar_value(value))
            return None
        return self._open_subclass(value)

    def _open_sequence(self, items: Sequence[object]) -> _Open:
        self._buffer += b"l" + _pack_count(len(items))
        if len(items) <= _ITEMS_BETWEEN_FLUSHES:
            return enumerate(items), child_path
        return chain.from_iterable(self._chunks(items)), child_path

    def _chunks(self, items: Sequence[object]) -> Iterator[Iterator[tuple[int, object]]]:
        for start in range(0, len(items), _ITEMS_BETWEEN_FLUSHES):
            yield enumerate(items[start : start + _ITEMS_BETWEEN_FLUSHES], start)
            if len(self._buffer) >= _FLUSH_BYTES:
                self.flush()

    def _open_mapping(self, items: Mapping[object, object]) -> _Open:
        entries = [
            (
                _short_text(key)
                if type(key) is str and len(key) <= _SHORT_TEXT
                else _encoded_key(key),
                key,
                value,
            )
            for key, value in items.items()
        ]
        entries.sort(key=itemgetter(0))
        if type(items) is not dict:
            _refuse_repeated_keys(entries)
        self._buffer += b"d" + _pack_count(len(entries))
        return self._entries(entries), child_path

    def _entries(
        self, entries: list[tuple[bytes, object, object]]
    ) -> Iterator[tuple[object, object]]:
        for encoded, key, value in entries:
            self._buffer += encoded
            yield key, value

    def _members(self, items: Iterable[object]) -> Iterator[tuple[str, object]]:
        members = []
        for item in items:
            member = bytearray()
            self.divert(member.extend)
            yield "", item
            self.restore()
            members.append(member)
        members.sort()
        self.write_header(b"e", len(members))
        for member in members:
            self.write_raw(member)

    def _open_array(self, values: NumpyArray) -> _Open | None:
        kind = values.dtype.kind
        if kind not in ITEM_KINDS:
            self.write_array(kind, values.dtype.itemsize, values.shape, iter_array_blocks(values))
            return None
        self.write_header(b"o" + kind.encode("ascii"), values.ndim)
        for length in values.shape:
            self._buffer += _pack_count(length)
        return enumerate(array_items(values)), lambda index: array_place(values, index)

    def _write_bytes(self, value: bytes | bytearray | memoryview) -> None:
        view = memoryview(value)
        if view.format not in ("B", "b", "c") or not view.c_contiguous:
            raise UnsupportedTypeError("only a contiguous view of bytes has a canonical form")
        self.write_header(b"b", view.nbytes)
        self.write_raw(view.cast("B"))

    def _open_subclass(self, value: object) -> _Open | None:
        """Write a value of a class derived from a built-in one by the built-in value it holds."""
        if isinstance(value, Mapping):
            return self._open_mapping(value)
        if isinstance(value, (list, tuple)):
            return self._open_sequence(value)
        if isinstance(value, (set, frozenset)):
            return self._members(value), str
        if isinstance(value, str):
            self._buffer += _encoded_text(str.__str__(value))
        elif isinstance(value, int):
            self._buffer += _encoded_int(int.__int__(value))
        elif isinstance(value, float):
            self._buffer += _pack_float(b"f", float.__float__(value))
        elif isinstance(value, complex):
            self._buffer += _pack_complex(b"c", value.real, value.imag)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            self._write_bytes(value)
        elif isinstance(value, array.array):
            blocks = iter_typed_array_blocks(value)
            self.write_array(typed_array_kind(value), value.itemsize, (len(value),), blocks)
        else:
            raise UnsupportedTypeError(
                f"a value of type {_type_name(value)} has no canonical form; use plain values, "
                "containers and arrays, or register the type"
            )
        return None


def _path(opened: list[_Open], steps: list[object]) -> str:
    return join_steps(
        [tell(step) for (_, tell), step in zip(opened, steps, strict=False) if step != ""]
    )


def _encoded_text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return b"s" + _pack_count(len(data)) + data


#: For the names of options and fields, which are the same few again and again.
_short_text = lru_cache(maxsize=2048)(_encoded_text)


def _encoded_int(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"i" + _pack_count(size) + value.to_bytes(size, "little", signed=True)


def _encoded_key(key: object) -> bytes:
    if type(key) is str:
        return _encoded_text(key)
    if key is None or isinstance(key, (str, bytes, int, float)) or is_numpy_scalar(key):
        return canonical_bytes(key)
    raise UnsupportedTypeError(
        f"a mapping's key of type {_type_name(key)} has no canonical form",
        path=child_path(key),
    )


def canonical_bytes(value: object, *, registry: CanonicalRegistry | None = None) -> bytes:
    """Return the canonical form of a value as one byte string.

    Args:
        value: See :meth:`CanonicalWriter.write`.
        registry: The types that have a form beyond the built-in ones.

    Returns:
        The bytes that ``docs/identity.md`` specifies.

    Raises:
        UnsupportedTypeError: If the value, or one inside it, has no canonical form.
        InputError: If a value contains itself.

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
