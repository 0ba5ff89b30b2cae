"""Pictures are real PNGs, small enough to store, and only of what a person can read."""

from __future__ import annotations

import base64
import struct

import numpy as np
import pytest
from qiskit.primitives import BitArray, DataBin, PrimitiveResult, PubResult, SamplerPubResult

from qcsc_prefect.integrations.qiskit.presentation.distributions import distributions_of
from qcsc_prefect.integrations.qiskit.presentation.estimates import estimates_of
from qcsc_prefect.integrations.qiskit.presentation.pictures import (
    MOST_BYTES,
    draw_distributions,
    draw_estimates,
    drawable,
    plottable,
)


def _size(uri: str) -> tuple[int, int]:
    """Return width and height from the header of the PNG inside a data URI."""
    assert uri.startswith("data:image/png;base64,")
    png = base64.b64decode(uri.partition(",")[2], validate=True)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def _values(*shapes: tuple[int, ...]) -> PrimitiveResult:
    rng = np.random.default_rng(1)
    return PrimitiveResult(
        [
            PubResult(
                DataBin(
                    evs=rng.normal(size=shape),
                    stds=np.full(shape, 0.1) if shape else 0.1,
                    shape=shape,
                )
            )
            for shape in shapes
        ]
    )


def _random_shots(num_bits: int, shots: int) -> PrimitiveResult:
    array = np.random.default_rng(2).integers(0, 256, (shots, -(-num_bits // 8)), dtype=np.uint8)
    array[:, 0] &= (1 << (1 + (num_bits - 1) % 8)) - 1
    return PrimitiveResult([SamplerPubResult(DataBin(c=BitArray(array, num_bits)))])


def test_bars_and_a_sweep_share_a_picture(ghz, rotation, sample):
    pubs = [ghz, (rotation, np.linspace(0, np.pi, 12))]
    result = sample(pubs, shots=100)
    unknown, _ = distributions_of(result, most=10)
    _size(draw_distributions(unknown, caption="", pub_names=["PUB 0", "PUB 1"]))
    distributions, _ = distributions_of(result, pubs, most=10)
    uri = draw_distributions(distributions, caption="$broken{", pub_names=["PUB 0", "$x"])
    width, height = _size(uri)
    assert 800 < width < 1500
    assert 250 < height < 1000
    assert len(uri) <= MOST_BYTES


def test_wide_registers_get_short_labels():
    array = np.zeros((100, 16), dtype=np.uint8)
    array[::2, 3] = 255
    result = PrimitiveResult([SamplerPubResult(DataBin(c=BitArray(array, 127)))])
    distributions, _ = distributions_of(result, most=1)
    assert drawable(distributions[0])
    uri = draw_distributions(distributions, caption="", pub_names=["PUB 0"])
    assert _size(uri)[0] < 1000


def test_outcomes_that_all_differ_are_not_drawn():
    spread, few = (distributions_of(_random_shots(n, 5000), most=1)[0][0] for n in (127, 3))
    assert not drawable(spread)
    assert drawable(few)


@pytest.mark.parametrize(
    "shapes", [[(5,)], [(3, 20)], [(20, 3)], [(), ()], [(), (4,), (2, 3)], [(2,)] * 9]
)
def test_several_values_are_plotted(shapes):
    estimates = estimates_of(_values(*shapes))
    chosen = plottable(estimates)
    assert len(chosen) == len(shapes)
    names = [f"PUB {index}" for index in range(len(shapes))]
    uri = draw_estimates(chosen, caption="job", pub_names=names)
    assert len(uri) <= MOST_BYTES
    _size(uri)


@pytest.mark.parametrize("shapes", [[()], [(1,)], [(0,)], [(100_000,)], [(30, 30)], [(2, 2, 2)]])
def test_what_a_plot_cannot_show_is_not_plotted(shapes):
    assert plottable(estimates_of(_values(*shapes))) == []


def test_values_that_are_no_number_do_not_stop_the_drawing():
    result = PrimitiveResult(
        [PubResult(DataBin(evs=np.array([1.0, np.nan, 2.0]), stds=np.full(3, np.nan), shape=(3,)))]
    )
    _size(draw_estimates(estimates_of(result), caption="", pub_names=["PUB 0"]))
