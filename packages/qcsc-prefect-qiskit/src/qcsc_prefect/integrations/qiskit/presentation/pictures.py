"""Pictures of a result, drawn with matplotlib.

matplotlib is an extra of this package (``pip install 'qcsc-prefect-qiskit[plot]>=0.4'``). Only its
figure and its Agg canvas are used, never pyplot, so a thread can draw and no window or global
state is touched.
"""

from __future__ import annotations

import base64
import importlib.util
import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from qcsc_prefect.integrations.qiskit.presentation.distributions import Distribution
    from qcsc_prefect.integrations.qiskit.presentation.estimates import Estimates

__all__ = ["draw_distributions", "draw_estimates", "drawable", "matplotlib_installed", "plottable"]

#: Panels of one picture.
MOST_PANELS = 6

#: Values of one panel; more of them with error bars merge into a band.
MOST_VALUES = 1000

#: Curves of one panel, for sweeps over observables as well as parameters.
MOST_CURVES = 8

#: If the outcomes that can be named make up less than this share, bars of them show nothing.
LEAST_SHARE = 0.05

#: Longest data URI that is stored: the Prefect server keeps it in a row of its database.
MOST_BYTES = 300_000

_DOTS_PER_INCH = 110
_BLUE = "#2f6db5"
_GREY = "#b9bec7"
_GREY_TEXT = "#6b7280"
_INK = "#1f2933"
_MOST_LABEL_BITS = 20
_MOST_LABEL_CHARACTERS = 22


def matplotlib_installed() -> bool:
    """Tell whether pictures can be drawn here, without importing matplotlib."""
    return importlib.util.find_spec("matplotlib") is not None


def drawable(distribution: Distribution) -> bool:
    """Tell whether a picture of the distribution would show a person something."""
    named = sum(count for _, count in distribution.top)
    return named >= LEAST_SHARE * distribution.counted and distribution.num_bits > 0


def plottable(estimates: Sequence[Estimates]) -> list[Estimates]:
    """Return those of the estimates that belong into a plot; none for a single value."""
    if sum(item.values.size for item in estimates) <= 1:
        return []
    return [
        item
        for item in estimates
        if item.values.ndim in {0, 1, 2}
        and 1 <= item.values.size <= MOST_VALUES
        and (item.values.ndim < 2 or min(item.values.shape) <= MOST_CURVES)  # noqa: PLR2004
    ]


def draw_distributions(
    distributions: Sequence[Distribution], *, caption: str, pub_names: Sequence[str]
) -> str | None:
    """Draw a panel of bars for each register, or of shares along its sweep."""
    panels = distributions[:MOST_PANELS]
    heights = [len(item.top) + bool(item.more) for item in panels]
    figure, axes = _figure(caption, len(panels), heights=heights)
    for axis, item in zip(axes, panels, strict=True):
        if item.by_point is None:
            _draw_bars(axis, item)
        else:
            _draw_sweep(figure, axis, item, item.by_point)
        title = f"{pub_names[item.pub]} · {item.register} · {item.shots:,} shots"
        if item.by_point is not None and item.more:
            title += f" · {item.more:,} more outcomes"
        axis.set_title(title, loc="left", fontsize=10, color=_INK, parse_math=False)
    return _data_uri(figure)


def draw_estimates(
    estimates: Sequence[Estimates], *, caption: str, pub_names: Sequence[str]
) -> str | None:
    """Draw expectation values with their standard errors.

    PUBs of one value each share a panel; a PUB with a sweep has a panel of its own.
    """
    single = [item for item in estimates if item.values.size == 1]
    swept = [item for item in estimates if item.values.size > 1][: MOST_PANELS - bool(single)]
    panels = len(swept) + bool(single)
    figure, axes = _figure(caption, panels, heights=[9] * panels)
    for axis, item in zip(axes, swept, strict=False):
        _draw_curves(axis, item)
        title = f"{pub_names[item.pub]} · {item.values.size:,} values"
        axis.set_title(title, loc="left", fontsize=10, color=_INK, parse_math=False)
    if single:
        _draw_single_values(axes[-1], single)
    return _data_uri(figure)


def _figure(caption: str, panels: int, *, heights: Sequence[int]) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = 1 if panels == 1 else 2
    rows = -(-panels // columns)
    row_inches = [
        1.2 + 0.27 * max(3, *heights[row * columns : (row + 1) * columns]) for row in range(rows)
    ]
    figure = Figure(
        figsize=(7.5 if columns == 1 else 11, sum(row_inches)),
        dpi=_DOTS_PER_INCH,
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08),
        facecolor="white",
    )
    figure.suptitle(caption, x=0.01, ha="left", fontsize=8, color=_GREY_TEXT, parse_math=False)
    ratios = {"height_ratios": row_inches}
    axes = list(figure.subplots(rows, columns, squeeze=False, gridspec_kw=ratios).flat)
    for unused in axes[panels:]:
        unused.set_axis_off()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(colors=_INK, labelsize=9)
    return figure, axes[:panels]


def _draw_bars(axis: Axes, item: Distribution) -> None:
    labels = [_label(outcome) for outcome, _ in item.top]
    shares = [count / item.counted for _, count in item.top]
    errors = [item.standard_error(count) for _, count in item.top]
    colours = [_BLUE] * len(labels)
    if item.more:
        labels.append(f"{item.more:,} more")
        shares.append(item.more_shots / item.counted)
        errors.append(0.0)
        colours.append(_GREY)
    places = [float(place) for place in range(len(labels))]
    axis.barh(places, shares, color=colours, height=0.72)
    # Two outcomes do not make bars as thick as a beam.
    margin = 0.6 + max(0, 3 - len(labels)) / 2
    axis.set_ylim(len(labels) - 1 + margin, -margin)
    named = slice(0, len(item.top))
    axis.errorbar(
        shares[named], places[named], xerr=errors[named], fmt="none", ecolor=_INK, elinewidth=1
    )
    right = max(share + error for share, error in zip(shares, errors, strict=True))
    for place, share, error in zip(places, shares, errors, strict=True):
        text = f"{share:.1%}" if share >= 0.001 else f"{share:.2g}"  # noqa: PLR2004
        axis.text(share + error + 0.015 * right, place, text, va="center", fontsize=8, color=_INK)
    axis.set_yticks(places, labels, family="monospace")
    axis.set_xlim(0, 1.16 * right)
    axis.set_xlabel("share of shots", color=_INK)


def _draw_sweep(
    figure: Figure, axis: Axes, item: Distribution, by_point: NDArray[np.float64]
) -> None:
    from matplotlib.ticker import MaxNLocator

    rows = np.arange(len(item.top) + 1) - 0.5
    if item.axis is not None and (np.diff(item.axis.values) > 0).all():
        columns, swept = _edges(item.axis.values), item.axis.parameter
    else:
        columns, swept = np.arange(by_point.shape[1] + 1) - 0.5, "point of the sweep"
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    mesh = axis.pcolormesh(columns, rows, by_point, cmap="Blues", vmin=0)
    axis.invert_yaxis()
    axis.set_yticks(
        np.arange(len(item.top)), [_label(outcome) for outcome, _ in item.top], family="monospace"
    )
    axis.set_xlabel(swept, color=_INK, parse_math=False)
    bar = figure.colorbar(mesh, ax=axis, pad=0.02)
    bar.set_label("share of shots", color=_INK)
    bar.outline.set_visible(False)


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the edges of cells around ascending centres: half way to each neighbour."""
    between = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - between[0], 2 * centres[-1] - between[-1]
    return np.concatenate([[first], between, [last]])


def _draw_curves(axis: Axes, item: Estimates) -> None:
    from matplotlib.ticker import MaxNLocator

    values, errors = item.values, item.standard_errors
    # The longer axis of a two-dimensional sweep runs along the panel.
    if values.ndim == 2 and values.shape[0] > values.shape[1]:  # noqa: PLR2004
        values, errors = values.T, None if errors is None else errors.T
    curves = np.atleast_2d(values)
    curve_errors = None if errors is None else np.atleast_2d(errors)
    places = np.arange(curves.shape[1]) if item.axis is None else item.axis.values
    order = np.argsort(places, kind="stable")
    for number, curve in enumerate(curves):
        axis.errorbar(
            places[order],
            curve[order],
            yerr=None if curve_errors is None else curve_errors[number][order],
            color=_BLUE if len(curves) == 1 else None,
            ecolor=_INK if len(curves) == 1 else None,
            fmt="o-",
            markersize=3,
            linewidth=1,
            capsize=2.5,
            label=str(number),
        )
    if len(curves) > 1:
        axis.legend(title="row", fontsize=8, title_fontsize=8, frameon=False)
    if item.axis is None:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    # A name with a "$" in it is no formula, and a broken one would end the drawing.
    swept = "point of the sweep" if item.axis is None else item.axis.parameter
    axis.set_xlabel(swept, color=_INK, parse_math=False)
    axis.set_ylabel("expectation value", color=_INK)
    axis.grid(visible=True, color="#e6e8ec", linewidth=0.7)


def _draw_single_values(axis: Axes, single: Sequence[Estimates]) -> None:
    from matplotlib.ticker import MaxNLocator

    places = [item.pub for item in single]
    values = [float(item.values.flat[0]) for item in single]
    errors = [
        0.0 if item.standard_errors is None else float(item.standard_errors.flat[0])
        for item in single
    ]
    axis.errorbar(
        places, values, yerr=errors, fmt="o", color=_BLUE, markersize=5, linewidth=1, capsize=3
    )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("PUB", color=_INK)
    axis.set_ylabel("expectation value", color=_INK)
    axis.grid(visible=True, color="#e6e8ec", linewidth=0.7)
    if len(single) == 1:
        axis.set_xticks(places)
    title = "1 PUB" if len(single) == 1 else f"{len(single):,} PUBs"
    axis.set_title(f"{title} of one value", loc="left", fontsize=10, color=_INK)


def _label(outcome: str) -> str:
    text = outcome
    if len(outcome) > _MOST_LABEL_BITS:
        text = f"0x{int(outcome, 2):0{-(-len(outcome) // 4)}x}"
    if len(text) <= _MOST_LABEL_CHARACTERS:
        return text
    return f"{text[: _MOST_LABEL_CHARACTERS // 2]}…{text[-_MOST_LABEL_CHARACTERS // 2 :]}"


def _data_uri(figure: Figure) -> str | None:
    png = io.BytesIO()
    figure.savefig(png, format="png")  # a bare Figure draws on the Agg canvas
    text = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")
    return text if len(text) <= MOST_BYTES else None
