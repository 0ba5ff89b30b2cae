"""Why two inputs have different digests: the first places at which they part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from qcsc_prefect.core.canonical.arrays import ITEM_KINDS, is_numpy_array, is_numpy_scalar
from qcsc_prefect.core.canonical.paths import child_path, join_path
from qcsc_prefect.core.canonical.registry import default_registry
from qcsc_prefect.core.digest import digest_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from qcsc_prefect.core.canonical.registry import CanonicalRegistry

__all__ = ["Difference", "explain_difference"]

_LONGEST_TEXT = 80


@dataclass(frozen=True)
class Difference:
    """One place at which two inputs part.

    Attributes:
        path: The place, for example ``options.twirling.enable_gates``; an empty string for the
            inputs as a whole.
        reason: What is there in the one and in the other.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path or 'input'}: {self.reason}"


def explain_difference(
    one: object,
    other: object,
    *,
    registry: CanonicalRegistry | None = None,
    limit: int = 5,
) -> list[Difference]:
    """Name the first places at which two values part.

    Args:
        one: Any value that can be digested.
        other: Another one.
        registry: The types that have a form beyond the built-in ones.
        limit: The most places to name, 1 or more.

    Returns:
        The places in the order of the first value; an empty list exactly if both values have the
        same digest.

    Raises:
        UnsupportedTypeError: If one of the values has no canonical form.

    Example:
        >>> one = {"shots": 100, "options": {"twirling": {"enable_gates": True}}}
        >>> other = {"shots": 100, "options": {"twirling": {}}}
        >>> [difference.path for difference in explain_difference(one, other)]
        ['options.twirling.enable_gates']
    """
    walk = _Walk(default_registry if registry is None else registry)
    return list(islice(walk.differences(one, other), limit))


@dataclass(frozen=True)
class _Pair:
    """What stands at one place in both values."""

    path: str
    one: object
    other: object


@dataclass
class _OpenPair:
    """Two values that part, while what is inside of them is looked at."""

    pair: _Pair
    inside: Iterator[_Pair | Difference]
    is_named: bool = False


class _Walk:
    """Goes down where values part; with a list of what is open, since they may be nested deeply."""

    def __init__(self, registry: CanonicalRegistry) -> None:
        self._registry = registry

    def differences(self, one: object, other: object) -> Iterator[Difference]:
        """Yield where two values part; at least one place if their digests do."""
        opened: list[_OpenPair] = []
        self._open(_Pair("", one, other), opened)
        while opened:
            last = opened[-1]
            found = next(last.inside, None)
            if found is None:
                opened.pop()
                if not last.is_named:
                    pair = last.pair
                    yield Difference(pair.path, f"{_text(pair.one)} and {_text(pair.other)}")
            elif isinstance(found, Difference):
                last.is_named = True
                yield found
            elif self._open(found, opened):
                last.is_named = True

    def _open(self, pair: _Pair, opened: list[_OpenPair]) -> bool:
        if self._digest(pair.one) == self._digest(pair.other):
            return False
        opened.append(_OpenPair(pair, self._inside(pair)))
        return True

    def _digest(self, value: object) -> str:
        return digest_value(value, registry=self._registry)

    def _inside(self, pair: _Pair) -> Iterator[_Pair | Difference]:
        path, one, other = pair.path, pair.one, pair.other
        entry = self._registry.find(type(one))
        if entry is not None and entry is self._registry.find(type(other)):
            if entry.describe is not None:
                yield _Pair(path, entry.describe(one), entry.describe(other))
        elif isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _in_mappings(one, other, path)
        elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
            yield from _in_sequences(one, other, path)
        elif is_numpy_array(one) and is_numpy_array(other):
            if _are_items(one, other):
                yield _Pair(path, one.tolist(), other.tolist())
            else:
                yield Difference(path, _array_reason(one, other))


def _in_mappings(
    one: Mapping[object, object], other: Mapping[object, object], path: str
) -> Iterator[_Pair | Difference]:
    for key, value in one.items():
        here = join_path(path, child_path(key))
        if key in other:
            yield _Pair(here, value, other[key])
        else:
            yield Difference(here, f"{_text(value)} and nothing")
    for key, value in other.items():
        if key not in one:
            yield Difference(join_path(path, child_path(key)), f"nothing and {_text(value)}")


def _in_sequences(
    one: Sequence[object], other: Sequence[object], path: str
) -> Iterator[_Pair | Difference]:
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        yield _Pair(join_path(path, child_path(index)), left, right)
    if len(one) != len(other):
        yield Difference(path, f"{len(one)} and {len(other)} items")


def _are_items(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> bool:
    """Tell whether two arrays hold objects or texts in the same places, to be told one by one."""
    kind = one.dtype.kind
    return kind in ITEM_KINDS - {"M", "m"} and kind == other.dtype.kind and one.shape == other.shape


def _array_reason(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> str:
    if one.dtype.kind != other.dtype.kind or one.dtype.itemsize != other.dtype.itemsize:
        return f"arrays of {one.dtype} and {other.dtype}"
    if one.shape != other.shape:
        return f"arrays of shape {one.shape} and {other.shape}"
    # Bytes, not values: -0.0 and 0.0 part, and a NaN does not part from itself.
    size = one.dtype.itemsize
    left, right = (memoryview(array.tobytes()).cast("B") for array in (one, other))
    places = range(0, len(left), size)
    parted = [at // size for at in places if left[at : at + size] != right[at : at + size]]
    if not parted:
        return f"arrays of {one.dtype} and {other.dtype}"
    flat = parted[0]
    place = []
    for length in reversed(one.shape):
        flat, position = divmod(flat, length)
        place.append(position)
    index = tuple(reversed(place))
    return (
        f"{len(parted)} of {one.size} values, the first at {list(index)}: "
        f"{_text(one[index])} and {_text(other[index])}"
    )


def _text(value: object) -> str:
    """Describe a value in a few words, without showing more of it than a line."""
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if is_numpy_scalar(value):
        return _text(value.item())
    if is_numpy_array(value):
        return f"an array of {value.dtype} and shape {value.shape}"
    if isinstance(value, int) and value.bit_length() > _LONGEST_TEXT:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        text = repr(value)
        return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
    return f"a value of type {type(value).__name__}"
