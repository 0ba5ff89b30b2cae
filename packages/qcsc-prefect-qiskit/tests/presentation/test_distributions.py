"""Counting is exact: the same counts as Qiskit's own, for registers of any width."""

from __future__ import annotations

import numpy as np
import pytest
from qiskit.primitives import BitArray, DataBin, PrimitiveResult, SamplerPubResult

from qcsc_prefect.integrations.qiskit.presentation.distributions import (
    MOST_OUTCOMES,
    MOST_SHOTS,
    distributions_of,
)


def _result(**registers: BitArray) -> PrimitiveResult:
    shape = next(iter(registers.values())).shape
    return PrimitiveResult([SamplerPubResult(DataBin(**registers, shape=shape))])


def _random_bits(num_bits: int, *shape: int, few: int | None = None) -> BitArray:
    rng = np.random.default_rng(num_bits)
    num_bytes = -(-num_bits // 8)
    array = rng.integers(0, 256, (*shape, num_bytes), dtype=np.uint8)
    if few is not None:
        array = array.reshape(-1, num_bytes)[rng.integers(0, few, array.size // num_bytes)]
        array = array.reshape(*shape, num_bytes)
    array[..., 0] &= (1 << (1 + (num_bits - 1) % 8)) - 1
    return BitArray(array, num_bits)


@pytest.mark.parametrize("num_bits", [1, 3, 8, 9, 63, 64, 65, 127, 128, 129, 200])
@pytest.mark.parametrize("few", [None, 5])
def test_counts_are_those_of_qiskit(num_bits, few):
    bits = _random_bits(num_bits, 700, few=few)
    expected = bits.get_counts()
    (distribution,), total = distributions_of(_result(meas=bits), most=10)
    assert total == 1
    assert (distribution.shots, distribution.counted) == (700, 700)
    assert distribution.distinct == len(expected)
    assert dict(distribution.top).items() <= expected.items()
    in_order = sorted(expected.items(), key=lambda item: (-item[1], item[0]))
    assert list(distribution.top) == in_order[:MOST_OUTCOMES]
    assert distribution.more == max(0, len(expected) - MOST_OUTCOMES)
    assert distribution.more_shots == sum(count for _, count in in_order[MOST_OUTCOMES:])


def test_a_sweep_is_counted_as_a_whole_and_by_point():
    bits = _random_bits(4, 3, 2, 400)
    (distribution,), _ = distributions_of(_result(c=bits), most=10)
    assert (distribution.shape, distribution.shots) == ((3, 2), 2400)
    assert distribution.by_point.shape == (16, 6)
    for row, (outcome, count) in enumerate(distribution.top):
        assert count == bits.get_counts()[outcome]
        for point, index in enumerate(np.ndindex(3, 2)):
            share = bits.get_counts(index).get(outcome, 0) / 400
            assert distribution.by_point[row, point] == pytest.approx(share)


def test_the_swept_parameter_is_found(ghz, rotation, sample):
    angles = np.linspace(0, np.pi, 5)
    pubs = [ghz, (rotation, angles)]
    result = sample(pubs, shots=100)
    distributions, _ = distributions_of(result, pubs, most=10)
    assert distributions[0].axis is None
    assert distributions[1].axis.parameter == "theta"
    assert distributions[1].axis.values.tolist() == angles.tolist()
    for others in (pubs[:1], [ghz, ghz], [ghz, "no PUB"], [ghz, (rotation, [[0.0] * 7] * 2)]):
        unmatched, _ = distributions_of(result, others, most=10)
        assert unmatched[1].axis is None


def test_of_very_many_shots_the_first_are_counted():
    bits = BitArray(np.zeros((MOST_SHOTS + 1, 1), dtype=np.uint8), 1)
    (distribution,), _ = distributions_of(_result(c=bits), most=10)
    assert (distribution.shots, distribution.counted) == (MOST_SHOTS + 1, MOST_SHOTS)
    assert distribution.top == (("0", MOST_SHOTS),)


def test_several_registers_share_the_shots_that_are_counted():
    bits = BitArray(np.zeros((MOST_SHOTS // 2 + 1, 1), dtype=np.uint8), 1)
    distributions, _ = distributions_of(_result(a=bits, b=bits), most=10)
    assert [item.counted for item in distributions] == [MOST_SHOTS // 2] * 2


def test_registers_are_named_and_only_the_first_are_counted():
    one, two = _random_bits(2, 50), _random_bits(3, 50)
    distributions, total = distributions_of(_result(alpha=one, beta=two), most=1)
    assert [item.register for item in distributions] == ["alpha"]
    assert total == 2


def test_results_without_shots_give_nothing(energy_result):
    empty = BitArray(np.zeros((0, 5, 1), dtype=np.uint8), 3)
    assert distributions_of(energy_result, most=10) == ([], 0)
    assert distributions_of(_result(c=empty), most=10) == ([], 0)
    assert distributions_of(None, most=10) == ([], 0)
    assert distributions_of("damaged", most=10) == ([], 0)
