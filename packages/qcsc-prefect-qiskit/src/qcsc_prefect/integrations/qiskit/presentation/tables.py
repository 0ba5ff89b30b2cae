"""Tables of a result, in the form that a Prefect table artifact takes: plain values in rows."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from qcsc_prefect.integrations.qiskit.presentation.wording import bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcsc_prefect.integrations.qiskit.presentation.distributions import Distribution
    from qcsc_prefect.integrations.qiskit.presentation.estimates import Estimates

__all__ = ["MOST_BITS", "Cell", "outcome_text", "outcomes_table", "values_table"]

Cell = str | int | float | None

#: Outcomes of wider registers are written in hexadecimal.
MOST_BITS = 256

#: Rows of a table of values; a person scrolls through no more.
MOST_ROWS = 200

_SIGNIFICANT_DIGITS = 8
_SHARE_DIGITS = 4


def outcomes_table(distributions: Sequence[Distribution]) -> list[dict[str, Cell]]:
    """Return the top outcomes of each register, one in a row."""
    rows: list[dict[str, Cell]] = []
    for distribution in distributions:
        highest = distribution.top[0][1]
        for outcome, count in distribution.top:
            rows.append(
                {
                    "PUB": distribution.pub,
                    "register": distribution.register,
                    "outcome": outcome_text(outcome),
                    "count": count,
                    "share": _rounded(count / distribution.counted, digits=_SHARE_DIGITS),
                    "standard error": _rounded(distribution.standard_error(count), digits=2),
                    "bar": bar(count / highest),
                }
            )
        if distribution.more:
            rows.append(
                {
                    "PUB": distribution.pub,
                    "register": distribution.register,
                    "outcome": f"{distribution.more:,} more outcomes",
                    "count": distribution.more_shots,
                    "share": _rounded(
                        distribution.more_shots / distribution.counted, digits=_SHARE_DIGITS
                    ),
                    "standard error": None,
                    "bar": "",
                }
            )
    return rows


def values_table(estimates: Sequence[Estimates]) -> tuple[list[dict[str, Cell]], int]:
    """Return rows of an estimator's values, 200 at most, and the number of all values."""
    rows: list[dict[str, Cell]] = []
    parameters = sorted({item.axis.parameter for item in estimates if item.axis is not None})
    swept = any(item.values.ndim for item in estimates)
    for item in estimates:
        left = MOST_ROWS - len(rows)
        for index in islice(np.ndindex(item.values.shape), left):
            row: dict[str, Cell] = {"PUB": item.pub}
            if swept:
                row["point"] = ", ".join(str(step) for step in index)
            for parameter in parameters:
                here = item.axis is not None and item.axis.parameter == parameter
                row[parameter] = _rounded(float(item.axis.values[index])) if here else None  # type: ignore[union-attr]
            error = item.standard_error(index)
            row["value"] = _rounded(float(item.values[index]))
            row["standard error"] = None if error is None else _rounded(error, digits=2)
            rows.append(row)
    return rows, sum(item.values.size for item in estimates)


def outcome_text(outcome: str) -> str:
    """Write an outcome as bits, or in hexadecimal where it is very wide."""
    return (
        outcome if len(outcome) <= MOST_BITS else f"0x{int(outcome, 2):0{-(-len(outcome) // 4)}x}"
    )


def _rounded(value: float, *, digits: int = _SIGNIFICANT_DIGITS) -> float | None:
    """Round to significant digits; JSON has no number that is not finite."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
