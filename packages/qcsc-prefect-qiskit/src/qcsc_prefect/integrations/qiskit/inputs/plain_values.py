"""Turn values from numpy and Qiskit into those that JSON can hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from datetime import date
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from qcsc_prefect.core.metadata import PlainValue

__all__ = ["plain_mapping"]

#: Arrays and lists of more numbers than this belong into the result, not into its description.
MOST_ITEMS = 1000


class _Absent:
    """The type of the mark for values that have no plain form."""


_ABSENT: Final = _Absent()


def plain_mapping(mapping: Mapping[str, object] | Mapping[object, object]) -> dict[str, PlainValue]:
    """Return a mapping with text keys and plain values.

    Numpy numbers become Python's, arrays lists, enumeration members their values, dates ISO
    8601 text and dataclasses dicts. What has no plain form (a callback, Qiskit's ``Unset``, a
    number that is not finite) is left out, and so is a sequence of more than a thousand items.

    Example:
        >>> plain_mapping({"default_shots": 1024, "callback": print})
        {'default_shots': 1024}
    """
    plain = {str(key): _plain(value) for key, value in mapping.items()}
    return {key: value for key, value in plain.items() if not isinstance(value, _Absent)}


def _plain(value: object) -> PlainValue | _Absent:
    import numpy as np

    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist()) if value.size <= MOST_ITEMS else _ABSENT
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _ABSENT
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return plain_mapping(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return plain_mapping({field.name: getattr(value, field.name) for field in fields})
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        return _plain_list(value) if len(value) <= MOST_ITEMS else _ABSENT
    return _ABSENT


def _plain_list(values: Sequence[object] | set[object] | frozenset[object]) -> PlainValue | _Absent:
    items: list[PlainValue] = []
    for value in values:
        item = _plain(value)
        if isinstance(item, _Absent):
            # A list with a hole would be wrong: its other items would move up.
            return _ABSENT
        items.append(item)
    return items
