"""Expectation values of an estimator result, with their standard errors and their sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qiskit.primitives.containers import PrimitiveResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub

from qcsc_prefect.integrations.qiskit.presentation.sweeps import SweepAxis, sweep_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Estimates", "estimates_of"]

#: Names under which results hold the standard errors, the sounder one first: where circuits are
#: twirled, `stds` is the spread over the twirls, of which there may be two or three, or one.
STANDARD_ERRORS = ("ensemble_standard_error", "stds")


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """The expectation values of one PUB.

    Attributes:
        pub: Index of the PUB.
        values: Expectation values, in the shape of the PUB.
        standard_errors: Their standard errors in the same shape, or None where there are none.
        axis: What the sweep changes, or None where that is not one parameter along one axis.
    """

    pub: int
    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64] | None
    axis: SweepAxis | None

    def standard_error(self, index: tuple[int, ...]) -> float | None:
        """Return the standard error of one value, or None."""
        return None if self.standard_errors is None else float(self.standard_errors[index])


def estimates_of(result: object, pubs: Sequence[object] | None = None) -> list[Estimates]:
    """Return the expectation values of each PUB of an estimator result."""
    if not isinstance(result, PrimitiveResult):
        return []
    matching = pubs is not None and len(pubs) == len(result)
    estimates = []
    for index, pub_result in enumerate(result):
        data = dict(pub_result.data.items())
        if "evs" not in data:
            continue
        values = np.asarray(data["evs"], dtype=np.float64)
        errors = next((data[name] for name in STANDARD_ERRORS if name in data), None)
        if errors is not None:
            errors = np.broadcast_to(np.asarray(errors, dtype=np.float64), values.shape)
        axis = _axis(pubs[index], values.shape) if pubs is not None and matching else None
        estimates.append(Estimates(pub=index, values=values, standard_errors=errors, axis=axis))
    return estimates


def _axis(pub: object, shape: tuple[int, ...]) -> SweepAxis | None:
    return sweep_axis(lambda: EstimatorPub.coerce(pub).parameter_values, shape)
