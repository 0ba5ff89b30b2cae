"""Parameter values: one array whose last axis runs over the circuit's parameters.

However the values were given, they are written as float64 in the order in which the circuit's
encoding numbers its parameters, block by block, so that a large sweep is not copied as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
from qiskit.circuit import Parameter
from qiskit.primitives.containers.bindings_array import BindingsArray

from qcsc_prefect.core.canonical.arrays import iter_array_blocks
from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.inputs.canonical.registry import identity_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qcsc_prefect.core.canonical.writer import CanonicalWriter
    from qcsc_prefect.integrations.qiskit.inputs.canonical.circuits import CircuitScope

__all__ = ["BoundValues", "bound_values"]

#: Bytes of values that are put in order at a time.
BLOCK_BYTES = 1 << 20

FLOAT_BYTES = 8

RealArray = npt.NDArray[np.float64] | npt.NDArray[np.integer] | npt.NDArray[np.bool_]


@dataclass(frozen=True)
class BoundValues:
    """The parameter values of a PUB.

    Attributes:
        scope: The circuit, with the numbers of its parameters; complete once it has been written.
        parameters: The circuit's parameters in its own order.
        names: Their names.
        shape: The shape of the sweep.
        arrays: For each group of parameter names an array of shape `shape` plus an axis over
            the group.
    """

    scope: CircuitScope
    parameters: tuple[Parameter, ...]
    names: tuple[str, ...]
    shape: tuple[int, ...]
    arrays: tuple[tuple[tuple[str, ...], RealArray], ...]

    def ordered_names(self) -> list[str]:
        """Return the names of the circuit's parameters in the order of their numbers."""
        numbers = self.scope.numbers_by_name
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if name not in numbers:
                self.scope.number(parameter)
        return sorted(self.names, key=numbers.__getitem__)

    def blocks(self) -> Iterator[npt.NDArray[np.float64]]:
        """Yield rows of values, each row in the order of the parameters' numbers."""
        ordered = self.ordered_names()
        arrays = [array for _, array in self.arrays]
        if len(arrays) == 1 and ordered == list(self.arrays[0][0]):
            yield from _float_blocks(arrays[0])
            return
        columns = {name: column for column, name in enumerate(ordered)}
        places = [[columns[name] for name in names] for names, _ in self.arrays]
        for parts in _row_blocks(arrays):
            rows = math.prod(parts[0].shape[:-1])
            block = np.empty((rows, len(columns)), np.float64)
            for place, part in zip(places, parts, strict=True):
                block[:, place] = part.reshape(rows, part.shape[-1])
            yield block


def bound_values(values: object, scope: CircuitScope) -> BoundValues:
    """Take parameter values in any form that a PUB accepts.

    Args:
        values: None, a :class:`~qiskit.primitives.BindingsArray`, a mapping from parameters,
            tuples of parameters, parameter vectors or names to arrays, or an array whose last axis
            runs over ``circuit.parameters``.
        scope: The circuit that they are for.

    Raises:
        InputError: If the values are not real numbers, or not one for each parameter.
    """
    parameters = tuple(scope.circuit.parameters)
    names = tuple(parameter.name for parameter in parameters)
    if values is None:
        shape: tuple[int, ...] = ()
        arrays: list[tuple[tuple[str, ...], RealArray]] = []
    elif isinstance(values, BindingsArray):
        shape, arrays = values.shape, list(values.data.items())
    else:
        if isinstance(values, Mapping):
            pairs = [(_names(key), _real_array(array)) for key, array in values.items()]
        else:
            pairs = [(names, _real_array(values))]
        shape = _common_shape(pairs)
        arrays = [(group, _with_axis(group, array, shape)) for group, array in pairs]
    given = tuple(name for group, _ in arrays for name in group)
    if given != names and sorted(given) != sorted(names):
        missing = sorted(set(names) - set(given))
        unknown = sorted(set(given) - set(names))
        raise InputError(
            f"{len(given)} values for {len(names)} parameters; "
            f"without a value: {missing[:5]}, not in the circuit: {unknown[:5]}"
        )
    return BoundValues(scope, parameters, names, shape, tuple(arrays))


def _names(key: object) -> tuple[str, ...]:
    if isinstance(key, str):
        return (key,)
    if isinstance(key, Parameter):
        return (key.name,)
    if not isinstance(key, Iterable):
        raise InputError(
            f"a parameter must be named or given itself, not by the type {type(key).__name__}"
        )
    return tuple(name for item in key for name in _names(item))


def _real_array(values: object) -> RealArray:
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return values
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":
            array = np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"parameter values must be an array of real numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"parameter values must be real numbers, not {array.dtype}")
    return array


def _common_shape(pairs: Sequence[tuple[tuple[str, ...], RealArray]]) -> tuple[int, ...]:
    """Return the shape of the sweep; an array for one parameter may lack the axis over it."""
    shapes = set()
    for names, array in pairs:
        has_axis = len(names) != 1 or (array.ndim > 0 and array.shape[-1] == 1)
        shapes.add(array.shape[:-1] if has_axis else array.shape)
    if len(shapes) > 1:
        raise InputError(f"the arrays of values have the shapes {sorted(shapes)}; they must agree")
    return shapes.pop() if shapes else ()


def _with_axis(names: tuple[str, ...], array: RealArray, shape: tuple[int, ...]) -> RealArray:
    if array.shape == (*shape, len(names)):
        return array
    if len(names) == 1 and array.shape == shape:
        return array[..., np.newaxis]
    raise InputError(f"values of shape {array.shape} do not fit {len(names)} parameters")


def _float_blocks(values: RealArray) -> Iterator[npt.NDArray[np.float64]]:
    if values.dtype.kind == "f" and values.dtype.itemsize == FLOAT_BYTES:
        yield cast("npt.NDArray[np.float64]", values)
        return
    for (block,) in _row_blocks([values]):
        yield block.astype(np.float64)


def _row_blocks(arrays: Sequence[RealArray]) -> Iterator[list[RealArray]]:
    """Yield the same leading indices of all arrays together, in C order."""
    leading = arrays[0].shape[:-1]
    row_bytes = FLOAT_BYTES * sum(array.shape[-1] for array in arrays)
    if math.prod(leading) * row_bytes <= BLOCK_BYTES or not leading:
        yield list(arrays)
        return
    item_bytes = math.prod(leading[1:]) * row_bytes
    if item_bytes > BLOCK_BYTES and len(leading) > 1:
        for index in range(leading[0]):
            yield from _row_blocks([array[index] for array in arrays])
        return
    step = max(1, BLOCK_BYTES // item_bytes)
    for start in range(0, leading[0], step):
        yield [array[start : start + step] for array in arrays]


def _encode_values(writer: CanonicalWriter, values: BoundValues) -> None:
    width = len(values.parameters)
    shape = (*values.shape, width)
    pieces = values.blocks() if math.prod(shape) else ()
    writer.write_array(
        "f", FLOAT_BYTES, shape, (data for piece in pieces for data in iter_array_blocks(piece))
    )


def _describe_values(values: BoundValues) -> object:
    width = len(values.parameters)
    blocks = [block.reshape(-1, width) for block in values.blocks()] if width else []
    flat = np.concatenate(blocks) if blocks else np.empty(0)
    return flat.reshape((*values.shape, width)).astype(np.float64)


identity_registry.register(
    BoundValues,
    tag="qiskit.parameter_values",
    version=1,
    encode=_encode_values,
    describe=_describe_values,
)
