"""Why two inputs have different digests: the first places at which they part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcsc_prefect.core.canonical_arrays import is_numpy_array, is_numpy_scalar
from qcsc_prefect.core.canonical_path import child_path, join_path
from qcsc_prefect.core.canonical_registry import default_registry
from qcsc_prefect.core.digest import digest_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from qcsc_prefect.core.canonical_registry import CanonicalRegistry

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
    found: list[Difference] = []
    for difference in walk.differences(one, other, ""):
        found.append(difference)
        if len(found) >= limit:
            break
    return found


class _Walk:
    def __init__(self, registry: CanonicalRegistry) -> None:
        self._registry = registry

    def differences(self, one: object, other: object, path: str) -> Iterator[Difference]:
        """Yield where two values part; at least one place if their digests do."""
        if self._digest(one) == self._digest(other):
            return
        inside = False
        for difference in self._inside(one, other, path):
            inside = True
            yield difference
        if not inside:
            yield Difference(path, f"{_text(one)} and {_text(other)}")

    def _digest(self, value: object) -> str:
        return digest_value(value, registry=self._registry)

    def _inside(self, one: object, other: object, path: str) -> Iterator[Difference]:
        entry = self._registry.find(type(one))
        if entry is not None and entry is self._registry.find(type(other)):
            if entry.describe is not None:
                yield from self.differences(entry.describe(one), entry.describe(other), path)
        elif isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from self._in_mappings(one, other, path)
        elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
            yield from self._in_sequences(one, other, path)
        elif is_numpy_array(one) and is_numpy_array(other):
            yield Difference(path, _array_reason(one, other))

    def _in_mappings(
        self, one: Mapping[object, object], other: Mapping[object, object], path: str
    ) -> Iterator[Difference]:
        for key, value in one.items():
            here = join_path(path, child_path(key))
            if key in other:
                yield from self.differences(value, other[key], here)
            else:
                yield Difference(here, f"{_text(value)} and nothing")
        for key, value in other.items():
            if key not in one:
                yield Difference(join_path(path, child_path(key)), f"nothing and {_text(value)}")

    def _in_sequences(
        self, one: Sequence[object], other: Sequence[object], path: str
    ) -> Iterator[Difference]:
        for index, (left, right) in enumerate(zip(one, other, strict=False)):
            yield from self.differences(left, right, join_path(path, child_path(index)))
        if len(one) != len(other):
            yield Difference(path, f"{len(one)} and {len(other)} items")


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
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        text = repr(value)
        return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
    return f"a {type(value).__name__}"
