"""Count the outcomes of sampler registers, for tables and pictures.

``BitArray.get_counts()`` makes a Python string of each shot; a million shots of 127 bits take
it seconds. Here the shots are sorted as machine words, and only the few outcomes that are shown
become text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qiskit.primitives.containers import BitArray, PrimitiveResult
from qiskit.primitives.containers.sampler_pub import SamplerPub

from qcsc_prefect.integrations.qiskit.presentation.sweeps import SweepAxis, sweep_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Distribution", "distributions_of"]

#: Outcomes that are kept by name; the others are counted together.
MOST_OUTCOMES = 16

#: Shots that are counted, shared equally among the registers. Sorting so many of 127 bits takes
#: about four seconds.
MOST_SHOTS = 4_000_000

#: Sweeps of more points than this are shown as a whole only.
MOST_POINTS = 200


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """How often each outcome of one classical register came.

    Attributes:
        pub: Index of the PUB.
        register: Name of the classical register.
        num_bits: Its width.
        shape: Shape of the PUB's sweep; an empty tuple for one point.
        shots: All shots, those of every point of the sweep together.
        counted: The shots that were counted: all, or the first ones of very many.
        distinct: Number of different outcomes among those.
        top: The most frequent outcomes with their counts; highest bit first, as Qiskit writes
            them.
        by_point: Share of each of these outcomes at each point of the sweep, of shape
            ``(len(top), number of points)``; None for one point, and for very many.
        axis: What the sweep changes, or None where that is not one parameter along one axis.
    """

    pub: int
    register: str
    num_bits: int
    shape: tuple[int, ...]
    shots: int
    counted: int
    distinct: int
    top: tuple[tuple[str, int], ...]
    by_point: NDArray[np.float64] | None
    axis: SweepAxis | None

    @property
    def more(self) -> int:
        """Number of outcomes that are not among the top ones."""
        return self.distinct - len(self.top)

    @property
    def more_shots(self) -> int:
        """Number of counted shots that gave them."""
        return self.counted - sum(count for _, count in self.top)

    def standard_error(self, count: int) -> float:
        """Standard error of an outcome's share, from the binomial distribution."""
        share = count / self.counted
        return math.sqrt(share * (1 - share) / self.counted)


def distributions_of(
    result: object, pubs: Sequence[object] | None = None, *, most: int
) -> tuple[list[Distribution], int]:
    """Count the outcomes of each register of a sampler result."""
    registers = [
        (index, name, item)
        for index, pub_result in enumerate(result if isinstance(result, PrimitiveResult) else ())
        for name, item in pub_result.data.items()
        if isinstance(item, BitArray) and item.array.size
    ]
    shown = registers[:most]
    share = MOST_SHOTS // max(1, len(shown))
    matching = isinstance(result, PrimitiveResult) and pubs is not None and len(pubs) == len(result)
    counted = [
        _distribution(
            index,
            name,
            bits,
            most_shots=share,
            axis=_axis(pubs[index], bits.shape) if pubs is not None and matching else None,
        )
        for index, name, bits in shown
    ]
    return counted, len(registers)


def _axis(pub: object, shape: tuple[int, ...]) -> SweepAxis | None:
    return sweep_axis(lambda: SamplerPub.coerce(pub).parameter_values, shape)


def _distribution(
    pub: int, register: str, bits: BitArray, *, most_shots: int, axis: SweepAxis | None
) -> Distribution:
    shots = bits.size * bits.num_shots
    rows = bits.array.reshape(-1, bits.array.shape[-1])[:most_shots]
    outcomes, inverse, counts = _unique_rows(rows)
    # By count, then by value: equal counts stand in a fixed order.
    order = np.argsort(-counts, kind="stable")[:MOST_OUTCOMES]
    top = tuple((_bitstring(outcomes[i], bits.num_bits), int(counts[i])) for i in order)
    by_point = None
    if 1 < bits.size <= MOST_POINTS and len(rows) == shots:
        inverse = inverse.reshape(bits.size, bits.num_shots)
        by_point = np.stack([(inverse == i).mean(axis=1) for i in order])
    return Distribution(
        pub=pub,
        register=register,
        num_bits=bits.num_bits,
        shape=tuple(int(length) for length in bits.shape),
        shots=shots,
        counted=len(rows),
        distinct=len(counts),
        top=top,
        by_point=by_point,
        axis=axis,
    )


def _unique_rows(
    rows: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[np.intp]]:
    """Return the different rows in ascending order, the row of each shot, and their counts."""
    words = _as_words(rows)
    order = (
        np.argsort(words[:, 0], kind="stable") if words.shape[1] == 1 else np.lexsort(words.T[::-1])
    )
    ordered = words[order]
    first = np.ones(len(rows), dtype=bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.flatnonzero(first)
    inverse = np.empty(len(rows), dtype=np.intp)
    inverse[order] = np.cumsum(first) - 1
    counts = np.diff(np.append(starts, len(rows)))
    return rows[order[starts]], inverse, counts


def _as_words(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the bytes of each row, highest first, as 64-bit words."""
    num_bytes = rows.shape[1]
    num_words = max(1, -(-num_bytes // 8))
    padded = np.zeros((len(rows), num_words * 8), dtype=np.uint8)
    padded[:, num_words * 8 - num_bytes :] = rows
    return padded.view(">u8").astype(np.uint64)


def _bitstring(row: NDArray[np.uint8], num_bits: int) -> str:
    return format(int.from_bytes(row.tobytes(), "big"), f"0{num_bits}b") if num_bits else ""
