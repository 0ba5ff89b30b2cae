"""What the sweep of a PUB changes, for the axis of a plot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qiskit.exceptions import QiskitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from qiskit.primitives.containers.bindings_array import BindingsArray

__all__ = ["SweepAxis", "sweep_axis"]


@dataclass(frozen=True, kw_only=True)
class SweepAxis:
    """The one parameter that a PUB's sweep changes.

    Attributes:
        parameter: The parameter's name.
        values: Its value at each point.
    """

    parameter: str
    values: NDArray[np.float64]


def sweep_axis(
    read_bindings: Callable[[], BindingsArray], shape: tuple[int, ...]
) -> SweepAxis | None:
    """Find the parameter that a sweep changes.

    Args:
        read_bindings: Reads the PUB's parameter values; called for a sweep of one dimension only.
        shape: The shape of its result.

    Returns:
        The parameter and its values, or None where not exactly one parameter changes along a
        sweep of one dimension, and where what was handed in is no PUB of this primitive.
    """
    if len(shape) != 1:
        return None
    try:
        bindings = read_bindings()
    except (TypeError, ValueError, QiskitError):
        return None
    if bindings.shape != shape:
        return None
    names = [name for key in bindings.data for name in key]
    columns = [np.reshape(array, (*shape, -1)) for array in bindings.data.values()]
    values = np.concatenate(columns, axis=-1)
    varying = np.flatnonzero((values != values[:1]).any(axis=0))
    if len(varying) != 1:
        return None
    column = int(varying[0])
    return SweepAxis(parameter=names[column], values=values[:, column].astype(np.float64))
