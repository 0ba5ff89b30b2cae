"""A value as a tree of plain nodes, and back.

Nodes are what MessagePack holds natively: nil, booleans, 64-bit integers, floats, text and short
bytes stand for themselves; everything else is an array whose first item is a one-letter tag.
``docs/result-format.md`` lists the tags. Values of registered types are taken apart by their
`ValueType` (see `value_types`); large bytes leave the tree as buffers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from qcsc_prefect.core.container.codec import StoredBuffer
from qcsc_prefect.core.container.value_types import Buffer, value_type_named, value_type_of
from qcsc_prefect.core.errors import DamagedRecordError, RecordError, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qcsc_prefect.core.container.value_types import ValueType

__all__ = ["MissingTypes", "StoredValue"]

#: What to do with a type whose package is not installed: raise, or keep a `StoredValue`.
MissingTypes = Literal["refuse", "keep"]

#: Values may be nested this deep; deeper ones are refused when written.
MAX_DEPTH: Final = 100

_LONG_BYTES: Final = 1 << 12
_SMALLEST_INT: Final = -(1 << 63)
_LARGEST_INT: Final = (1 << 64) - 1


class StoredValue:
    """A value of a type that is not installed here, as it lies in the container.

    It can be looked at, and written again unchanged.

    Attributes:
        type_name: The stable name of its type, for example
            ``qiskit_ibm_runtime/ExecutionSpans``.
        parts: What it was taken apart into; the elements of an array are a `Buffer`.
        reads_as: Other names that the type may be read as.
    """

    __slots__ = ("parts", "reads_as", "type_name")

    def __init__(
        self, type_name: str, parts: Sequence[object], reads_as: Sequence[str] = ()
    ) -> None:
        self.type_name = type_name
        self.parts = tuple(parts)
        self.reads_as = tuple(reads_as)

    def __repr__(self) -> str:
        package = self.type_name.partition("/")[0]
        return f"<{self.type_name}, kept as stored: the package {package} is not installed here>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredValue):
            return NotImplemented
        return (self.type_name, self.reads_as, self.parts) == (
            other.type_name,
            other.reads_as,
            other.parts,
        )

    def __hash__(self) -> int:
        return hash((self.type_name, self.parts))


class TreeWriter:
    """Turns one value into a tree; collects the buffers that leave it.

    Attributes:
        buffers: The buffers so far, in the order in which the tree refers to them.
    """

    def __init__(self) -> None:
        self.buffers: list[memoryview] = []

    def node(self, value: object, path: str, depth: int = 0) -> object:
        """The node of a value.

        Raises:
            UnsupportedTypeError: The value, or one inside it, has no place in a container.
        """
        leaf = _LEAF_NODES.get(type(value))
        if leaf is not None:
            return leaf(value)
        if depth >= MAX_DEPTH:
            raise UnsupportedTypeError(
                f"{path or 'The value'} is nested deeper than {MAX_DEPTH} levels, or contains "
                "itself; make it flatter to store it.",
                path=path,
            )
        return self._composite_node(value, path, depth + 1)

    def _composite_node(self, value: object, path: str, depth: int) -> object:
        match value:
            case list() if type(value) is list:
                return ["l", *self._item_nodes(value, path, depth)]
            case tuple() if type(value) is tuple:
                return ["t", *self._item_nodes(value, path, depth)]
            case dict() if type(value) is dict:
                return self._dict_node(value, path, depth)
            case complex() if type(value) is complex:
                node: object = ["c", value.real, value.imag]
            case bytes() if type(value) is bytes:
                node = self._bytes_node(value)
            case Buffer():
                node = self._buffer_node(value.data)
            case StoredValue():
                node = self._stored_value_node(value, path, depth)
            case _:
                node = self._typed_node(value, path, depth)
        return node

    def _item_nodes(self, items: Sequence[object], path: str, depth: int) -> list[object]:
        nodes: list[object] = []
        for index, item in enumerate(items):
            leaf = _LEAF_NODES.get(type(item))
            nodes.append(leaf(item) if leaf else self.node(item, f"{path}[{index}]", depth))
        return nodes

    def _dict_node(self, value: dict[object, object], path: str, depth: int) -> list[object]:
        nodes: list[object] = ["d"]
        for key, item in value.items():
            leaf = _LEAF_NODES.get(type(key))
            nodes.append(leaf(key) if leaf else self.node(key, f"{path} (a key)", depth))
            leaf = _LEAF_NODES.get(type(item))
            nodes.append(leaf(item) if leaf else self.node(item, _key_path(path, key), depth))
        return nodes

    def _bytes_node(self, value: bytes) -> object:
        if len(value) < _LONG_BYTES:
            return value
        return ["b", self._buffer_node(memoryview(value))]

    def _buffer_node(self, data: memoryview) -> object:
        if data.nbytes < _LONG_BYTES:
            # Thousands of small arrays compress better together, and much faster.
            return data.tobytes()
        self.buffers.append(data)
        # Buffer 0 is the tree itself.
        return ["@", len(self.buffers)]

    def _typed_node(self, value: object, path: str, depth: int) -> list[object]:
        kind = type(value)
        value_type = value_type_of(kind)
        if value_type is None:
            raise UnsupportedTypeError(
                f"{path or 'The value'} is of type {kind.__module__}.{kind.__qualname__}, which "
                "has no place in a stored result. Remove it, replace it by plain data, or register "
                "a value type.",
                path=path,
            )
        try:
            parts = list(value_type.take_apart(value))
        except UnsupportedTypeError:
            raise
        except (TypeError, ValueError, ArithmeticError) as exc:
            raise UnsupportedTypeError(
                f"{path or 'The value'} cannot be stored: {exc}.", path=path
            ) from exc
        nodes = [self.node(part.value, path + part.path, depth) for part in parts]
        return ["x", [value_type.name, *value_type.reads_as], *nodes]

    def _stored_value_node(self, value: StoredValue, path: str, depth: int) -> list[object]:
        parts = [self.node(part, f"{path}.parts[{i}]", depth) for i, part in enumerate(value.parts)]
        return ["x", [value.type_name, *value.reads_as], *parts]


class TreeReader:
    """Turns a tree back into its value.

    Attributes:
        missing: The names of types that were not installed, so far.
    """

    def __init__(self, buffers: Sequence[StoredBuffer], missing_types: MissingTypes) -> None:
        self.missing: list[str] = []
        self._buffers = buffers
        self._named: set[int] = set()
        self._keep_missing = missing_types == "keep"
        self._readers: dict[str, Callable[[list[object], int], object]] = {
            "l": self._list,
            "t": self._tuple,
            "d": self._dict,
            "c": _complex,
            "i": _big_int,
            "b": self._bytes,
            "u": _surrogate_text,
            "x": self._typed,
        }

    def value(self, node: object, depth: int = 0) -> object:
        """The value of a node.

        Raises:
            DamagedRecordError: No writer makes such a node.
            RecordError: A type is not installed and missing types are refused.
        """
        kind = type(node)
        if kind is not list:
            if node is None or kind in _BARE_TYPES:
                return node
            raise DamagedRecordError(
                f"The record holds something of type {kind.__name__}, which no writer makes."
            )
        items: list[object] = node  # type: ignore[assignment]
        tag = items[0] if items else None
        reader = self._readers.get(tag) if isinstance(tag, str) else None
        if reader is None or depth >= MAX_DEPTH:
            raise DamagedRecordError(f"The record holds a node tagged {tag!r:.20}.")
        return reader(items, depth + 1)

    def _list(self, items: list[object], depth: int) -> list[object]:
        return [self.value(item, depth) for item in items[1:]]

    def _tuple(self, items: list[object], depth: int) -> tuple[object, ...]:
        return tuple([self.value(item, depth) for item in items[1:]])

    def _dict(self, items: list[object], depth: int) -> dict[object, object]:
        if len(items) % 2 == 0:
            raise DamagedRecordError("The record holds a dict with a key and no value.")
        values = [self.value(item, depth) for item in items[1:]]
        try:
            return dict(zip(values[::2], values[1::2], strict=True))
        except TypeError as exc:
            raise DamagedRecordError(f"The record holds a dict with a bad key: {exc}.") from exc

    def _bytes(self, items: list[object], depth: int) -> bytes:
        match items:
            case [_, ["@", *_] as buffer]:
                stored = self._part(buffer, depth)
                if isinstance(stored, StoredBuffer):
                    return stored.to_bytes()
        raise DamagedRecordError("The record holds bytes without a buffer.")

    def _part(self, node: object, depth: int) -> object:
        """A part of a typed value: the only place where a buffer may stand."""
        match node:
            case ["@", int(index)] if 0 < index < len(self._buffers):
                if index in self._named:
                    # The memory that reading takes is counted by buffers, each of them once.
                    raise DamagedRecordError(f"The record refers twice to its buffer {index}.")
                self._named.add(index)
                return self._buffers[index]
            case ["@", *_]:
                raise DamagedRecordError("The record refers to a buffer that it does not have.")
        return self.value(node, depth)

    def _typed(self, items: list[object], depth: int) -> object:
        match items:
            case [_, [str(name), *others], *nodes] if all(isinstance(o, str) for o in others):
                reads_as = [str(other) for other in others]
            case _:
                raise DamagedRecordError("The record holds a typed value without a type name.")
        parts = [self._part(part, depth) for part in nodes]
        value_type = self._installed_type(name, reads_as)
        if value_type is None:
            return StoredValue(name, [_kept(part) for part in parts], reads_as)
        try:
            return value_type.build(parts)
        except (RecordError, MemoryError):
            raise
        except Exception as exc:
            # Constructors of other packages refuse forged parts with errors of any kind.
            raise DamagedRecordError(
                f"The record's parts of one {value_type.name} make no such value: {exc}"
            ) from exc

    def _installed_type(self, name: str, reads_as: Sequence[str]) -> ValueType[Any] | None:
        value_type = value_type_named(name)
        if value_type is not None:
            return value_type
        if not self._keep_missing:
            raise RecordError(
                f"The record holds a value of type {name!r}. Install the package "
                f"{name.partition('/')[0]!r}, in a version that has this type, to read it."
            )
        self.missing.append(name)
        for other in reads_as:
            value_type = value_type_named(other)
            if value_type is not None:
                return value_type
        return None


_BARE_TYPES: Final = frozenset({bool, int, float, str, bytes})


def _itself(value: object) -> object:
    return value


def _text_node(value: str) -> object:
    try:
        value.encode()
    except UnicodeEncodeError:
        # A lone surrogate, as file names decoded with surrogateescape hold, is no valid UTF-8.
        return ["u", value.encode("utf-8", "surrogatepass")]
    return value


def _int_node(value: int) -> object:
    if _SMALLEST_INT <= value <= _LARGEST_INT:
        return value
    return ["i", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)]


_LEAF_NODES: Final[dict[type, Callable[[Any], object]]] = {
    type(None): _itself,
    bool: _itself,
    float: _itself,
    str: _text_node,
    int: _int_node,
}


def _kept(part: object) -> object:
    if isinstance(part, StoredBuffer):
        return Buffer(memoryview(part.to_bytes()))
    return part


def _complex(items: list[object], _depth: int) -> complex:
    match items:
        case [_, float(real), float(imag)]:
            return complex(real, imag)
    raise DamagedRecordError("The record holds a complex number without its two parts.")


def _big_int(items: list[object], _depth: int) -> int:
    match items:
        case [_, bytes(raw)]:
            return int.from_bytes(raw, "little", signed=True)
    raise DamagedRecordError("The record holds a large integer without its bytes.")


def _surrogate_text(items: list[object], _depth: int) -> str:
    match items:
        case [_, bytes(raw)]:
            try:
                return raw.decode("utf-8", "surrogatepass")
            except UnicodeDecodeError as exc:
                raise DamagedRecordError("The record holds text that is no text.") from exc
    raise DamagedRecordError("The record holds text without its bytes.")


def _key_path(path: str, key: object) -> str:
    if not path and isinstance(key, str):
        return key
    try:
        shown = repr(key)
    except ValueError:  # an integer of more digits than Python converts
        shown = type(key).__name__
    return f"{path}[{shown:.60}]"
