"""Arrays and buffers as raw little-endian C-order bytes.

Numpy is not imported here: where an array is met, whoever made it has imported numpy already.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from qcsc_prefect.core.errors import UnsupportedTypeError

if TYPE_CHECKING:
    import array
    from collections.abc import Iterator
    from types import ModuleType

    import numpy as np
    import numpy.typing as npt

__all__ = [
    "ARRAY_KINDS",
    "ITEM_KINDS",
    "NumpyArray",
    "array_items",
    "array_place",
    "is_numpy_array",
    "is_numpy_scalar",
    "iter_array_blocks",
    "iter_typed_array_blocks",
    "numpy_scalar_value",
    "typed_array_kind",
]

NumpyArray: TypeAlias = "npt.NDArray[np.generic]"

#: dtype kinds with a canonical form: bool, signed and unsigned integers, floats, complex numbers.
ARRAY_KINDS = frozenset("biufc")

#: dtype kinds whose items are written one by one: objects, texts, bytes, dates and durations.
ITEM_KINDS = frozenset("OUSMm")

#: The most bytes that are copied at a time where an array is not little-endian and C-ordered.
BLOCK_BYTES = 1 << 18

#: Item sizes of each kind that have the same meaning on every machine.
_ITEM_SIZES = {"b": {1}, "i": {1, 2, 4, 8}, "u": {1, 2, 4, 8}, "f": {2, 4, 8}, "c": {8, 16}}


def _numpy() -> ModuleType | None:
    return sys.modules.get("numpy")


def is_numpy_array(value: object) -> TypeGuard[NumpyArray]:
    """Tell whether a value is a plain numpy array, without importing numpy.

    A subclass, such as a masked array, may mean something else by the same bytes, and is refused.
    """
    numpy = _numpy()
    return numpy is not None and type(value) in (numpy.ndarray, numpy.memmap)


def is_numpy_scalar(value: object) -> TypeGuard[np.generic]:
    """Tell whether a value is a numpy scalar, without importing numpy."""
    numpy = _numpy()
    return numpy is not None and isinstance(value, numpy.generic)


def numpy_scalar_value(value: np.generic) -> bool | int | float | complex | str | bytes:
    """Return the Python scalar that equals a numpy scalar.

    Raises:
        UnsupportedTypeError: If there is none, as for dates, records and extended precision.
    """
    plain = value.item()
    extended = value.dtype.kind in "fc" and value.dtype.itemsize not in _ITEM_SIZES["f"] | {16}
    if extended or type(plain) not in (bool, int, float, complex, str, bytes):
        raise UnsupportedTypeError(f"a numpy scalar of dtype {value.dtype} has no canonical form")
    return plain  # type: ignore[no-any-return]


def array_items(values: NumpyArray) -> list[object]:
    """Return the items of an array of one of ``ITEM_KINDS`` in C order.

    Dates and durations are counts of their unit, which stands in front of them; "not a time" is the
    smallest count.
    """
    if values.dtype.kind not in "Mm":
        return values.ravel().tolist()
    unit = values.dtype.newbyteorder("=").name.partition("[")[2].rstrip("]")
    return [unit, *values.astype(values.dtype.newbyteorder("=")).ravel().view("i8").tolist()]


def array_place(values: NumpyArray, number: int) -> str:
    """Return the path from an array to one of its items, by the item's number in C order."""
    place: list[int] = []
    for length in reversed(values.shape):
        number, position = divmod(number, length)
        place.append(position)
    return "".join(f"[{position}]" for position in reversed(place))


def iter_array_blocks(values: NumpyArray) -> Iterator[memoryview]:
    """Yield the bytes of an array, little-endian and in C order.

    An array that is stored so already is yielded as it lies in memory, in one piece; any other
    is copied in blocks of at most ``BLOCK_BYTES``, except that a single innermost row is one block.

    Raises:
        UnsupportedTypeError: If the dtype has no canonical form.
    """
    kind, item_size = values.dtype.kind, values.dtype.itemsize
    if item_size not in _ITEM_SIZES.get(kind, ()):
        raise UnsupportedTypeError(
            f"an array of dtype {values.dtype} has no canonical form; use booleans, or integers, "
            "floats or complex numbers of a standard width"
        )
    if values.size == 0:
        return
    little = values.dtype.newbyteorder("<")
    if values.flags.c_contiguous and values.dtype == little:
        yield _raw(values)
        return
    for block in _blocks(values):
        yield _raw(block.astype(little, order="C"))


def _blocks(values: NumpyArray) -> Iterator[NumpyArray]:
    if values.nbytes <= BLOCK_BYTES or values.ndim == 0:
        yield values
        return
    row_bytes = values.nbytes // values.shape[0]
    if row_bytes > BLOCK_BYTES:
        for row in values:
            yield from _blocks(row)
        return
    rows = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, values.shape[0], rows):
        yield values[start : start + rows]


def _raw(values: NumpyArray) -> memoryview:
    return memoryview(values.reshape(-1).view("u1").data)


def typed_array_kind(values: array.array[float]) -> str:
    """Return the kind of an :class:`array.array`: ``i``, ``u`` or ``f``.

    Raises:
        UnsupportedTypeError: If the array holds characters.
    """
    if values.typecode in "bhilq":
        return "i"
    if values.typecode in "BHILQ":
        return "u"
    if values.typecode in "fd":
        return "f"
    raise UnsupportedTypeError(
        f"an array.array of typecode {values.typecode!r} has no canonical form"
    )


def iter_typed_array_blocks(values: array.array[float]) -> Iterator[memoryview]:
    """Yield the bytes of an :class:`array.array`, little-endian."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    if len(values):
        yield memoryview(values).cast("B")
