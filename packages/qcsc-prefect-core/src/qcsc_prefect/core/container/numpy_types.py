"""Value types of numpy: arrays of every dtype and memory order, and scalars.

An array's elements are stored as they lie in memory, in the order of its axes from the one with
the largest steps to the one with the smallest; a Fortran-ordered array is therefore stored
without being rearranged and comes back Fortran-ordered. Elements of arrays of Python objects
are stored one by one, as any other value.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, TypeGuard, TypeVar

import numpy as np

from qcsc_prefect.core.container.codec import StoredBuffer
from qcsc_prefect.core.container.value_types import Buffer, Part, ValueType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["VALUE_TYPES"]

P = TypeVar("P", str, bytes)

# Byte order, kind, size and, for times, the unit: what numpy calls the dtype's string.
_DTYPE_STRING: Final = re.compile(r"[<>|](?:[biufcSUV]\d+|[mM]8(?:\[[\w/]+\])?|O)")

# What "long double" means differs between platforms that agree on its size.
_LONG_DOUBLE: Final = f"{np.finfo(np.longdouble).nmant} bits of mantissa"
_LONG_TYPES: Final = frozenset({np.longdouble, np.clongdouble} - {np.float64, np.complex128})


def _dtype_form(dtype: np.dtype[Any]) -> object:
    """A dtype as plain data."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ["subarray", _dtype_form(base), list(shape)]
    if dtype.names is not None and dtype.fields is not None:
        fields = [(name, *dtype.fields[name]) for name in dtype.names]
        return [
            "struct",
            dtype.itemsize,
            dtype.isalignedstruct,
            [
                [name, _dtype_form(field), offset, rest[0] if rest else None]
                for name, field, offset, *rest in fields
            ],
        ]
    if dtype.type in _LONG_TYPES:
        return ["long", dtype.str, _LONG_DOUBLE]
    if dtype.kind == "T":
        missing = [dtype.na_object] if hasattr(dtype, "na_object") else []
        return ["string", dtype.coerce, missing]  # type: ignore[attr-defined]
    if _DTYPE_STRING.fullmatch(dtype.str):
        return dtype.str
    raise TypeError(f"there is no stored form for the dtype {dtype!r}")


def _dtype_of(form: object) -> np.dtype[Any]:
    match form:
        case str() if _DTYPE_STRING.fullmatch(form):
            return np.dtype(form)
        case ["long", str(name), str(long_double)] if _DTYPE_STRING.fullmatch(name):
            if long_double != _LONG_DOUBLE:
                raise TypeError(
                    f"long doubles with {long_double} were stored, and this machine's have "
                    f"{_LONG_DOUBLE}"
                )
            return np.dtype(name)
        case ["string", bool(coerce), []]:
            return np.dtypes.StringDType(coerce=coerce)
        case ["string", bool(coerce), [missing]]:
            return np.dtypes.StringDType(coerce=coerce, na_object=missing)
        case ["subarray", base, [*shape]]:
            return np.dtype((_dtype_of(base), tuple(shape)))
        case ["struct", int(itemsize), bool(align), [*fields]]:
            return _struct_dtype(itemsize, fields, align=align)
    raise TypeError(f"this is no dtype: {form!r:.80}")


def _struct_dtype(itemsize: int, fields: list[Any], *, align: bool) -> np.dtype[Any]:
    names, formats, offsets, titles = zip(*fields, strict=True) if fields else ((), (), (), ())
    layout: dict[str, object] = {
        "names": list(names),
        "formats": [_dtype_of(form) for form in formats],
        "offsets": list(offsets),
        "itemsize": itemsize,
    }
    if any(title is not None for title in titles):
        layout["titles"] = list(titles)
    return np.dtype(layout, align=align)  # type: ignore[call-overload,no-any-return]


def _axes_by_step(array: np.ndarray[Any, Any]) -> list[int]:
    """The axes from the largest step in memory to the smallest; ties stay in order."""
    if array.flags.c_contiguous:
        return list(range(array.ndim))
    if array.flags.f_contiguous:
        return list(reversed(range(array.ndim)))
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def _raw_bytes(array: np.ndarray[Any, Any]) -> Buffer:
    """The elements of a C-contiguous array, without a copy."""
    if array.nbytes == 0:
        return Buffer(memoryview(bytearray()))
    return Buffer(array.reshape(-1).view(np.uint8).data)


def _array_parts(array: np.ndarray[Any, Any]) -> Iterator[Part]:
    axes = _axes_by_step(array)
    yield Part("", _dtype_form(array.dtype))
    yield Part("", list(array.shape))
    yield Part("", axes)
    in_memory_order = np.ascontiguousarray(array.transpose(axes)) if array.ndim else array
    if not array.dtype.hasobject:
        yield Part("", _raw_bytes(in_memory_order))
        return
    if array.dtype.kind not in "OT":
        raise TypeError(f"there is no stored form for the dtype {array.dtype!r}")
    for index in np.ndindex(array.shape):
        yield Part(f"[{', '.join(map(str, index))}]", array[index])


def _build_array(parts: Sequence[object]) -> np.ndarray[Any, Any]:
    form, shape, axes, *elements = parts
    dtype = _dtype_of(form)
    if not _is_shape(shape) or not _is_shape(axes) or sorted(axes) != list(range(len(shape))):
        raise TypeError("an array is made of a dtype, a shape and an order of its axes")
    if dtype.hasobject and dtype.kind not in "OT":
        raise TypeError(f"there is no stored form for the dtype {dtype!r}")
    _refuse_wrong_count(dtype, math.prod(shape), elements)
    in_memory_order: np.ndarray[Any, Any] = np.ndarray([shape[axis] for axis in axes], dtype)
    array = in_memory_order.transpose([axes.index(axis) for axis in range(len(axes))])
    match elements:
        case [StoredBuffer() as buffer] if not dtype.hasobject:
            buffer.read_into(_raw_bytes(in_memory_order).data)
        case [bytes(raw)] if not dtype.hasobject:
            _raw_bytes(in_memory_order).data[:] = raw
        case _:
            # By way of one axis, because an element may itself be a sequence.
            flat = np.ndarray(len(elements), dtype)
            for index, element in enumerate(elements):
                flat[index] = element
            array[...] = flat.reshape(array.shape)
    return array


def _refuse_wrong_count(dtype: np.dtype[Any], count: int, elements: list[object]) -> None:
    """Refuse elements that do not fill the shape, before memory is set aside for it."""
    match elements:
        case _ if dtype.hasobject:
            fits = len(elements) == count
        case [StoredBuffer(nbytes=stored_size)]:
            fits = stored_size == count * dtype.itemsize
        case [bytes(raw)]:
            fits = len(raw) == count * dtype.itemsize
        case _:
            fits = False
    if not fits:
        raise TypeError(f"the stored elements do not fill {count} places of {dtype!r}")


def _is_shape(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _scalar_parts(scalar: np.generic) -> Iterable[Part]:
    if scalar.dtype.hasobject:
        raise TypeError(f"there is no stored form for a scalar of {scalar.dtype!r}")
    return [Part("", _dtype_form(scalar.dtype)), Part("", scalar.tobytes())]


def _scalar_type(scalar_type: type[np.generic]) -> ValueType[np.generic]:
    def build(parts: Sequence[object]) -> np.generic:
        form, raw = parts
        if not isinstance(raw, bytes):
            raise TypeError("a scalar is made of a dtype and its bytes")
        (scalar,) = np.frombuffer(raw, _dtype_of(form))
        if isinstance(scalar, np.void):
            return scalar.copy()
        # On platforms where two C types have one size, the dtype alone gives either of them.
        return scalar if type(scalar) is scalar_type else scalar_type(scalar)

    return ValueType(f"numpy/{scalar_type.__name__}", scalar_type, _scalar_parts, build)


def _text_type(
    name: str, scalar_type: type[Any], plain_type: type[P], to_plain: Callable[[Any], P]
) -> ValueType[Any]:
    def parts(scalar: object) -> Iterable[Part]:
        return [Part("", to_plain(scalar))]

    def build(stored: Sequence[object]) -> object:
        (plain,) = stored
        if type(plain) is not plain_type:
            raise TypeError(f"{name} is made of one {plain_type.__name__}")
        return scalar_type(plain)

    return ValueType(name, scalar_type, parts, build)


_NUMBER_TYPES: Final = sorted(
    set(np.sctypeDict.values()) - {np.str_, np.bytes_, np.object_}, key=lambda t: t.__name__
)

VALUE_TYPES = (
    ValueType("numpy/ndarray", np.ndarray, _array_parts, _build_array),
    # By way of an array, or of numpy's own str(), trailing zeros would be lost.
    _text_type("numpy/str", np.str_, str, str.__str__),
    _text_type("numpy/bytes", np.bytes_, bytes, bytes),
    *(_scalar_type(scalar_type) for scalar_type in _NUMBER_TYPES),
)
