"""Value types of python-dateutil: the time zones of timestamps that it parsed.

The Qiskit Runtime client parses the times in a result with dateutil, so that they carry its
time-zone classes instead of the standard library's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from dateutil import tz  # type: ignore[import-untyped]

from qcsc_prefect.core.container.value_types import Part, ValueType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["VALUE_TYPES"]

# The parts are those of builtins/timezone, so that a reader without dateutil still has the times.


def _utc_parts(_zone: tz.tzutc) -> Iterable[Part]:
    return [Part("", timedelta(0)), Part("", None)]


def _utc(_parts: Sequence[object]) -> tz.tzutc:
    return tz.tzutc()


def _offset_parts(zone: tz.tzoffset) -> Iterable[Part]:
    return [Part("", zone.utcoffset(None)), Part("", zone.tzname(None))]


def _offset(parts: Sequence[object]) -> tz.tzoffset:
    offset, name = parts
    if not isinstance(offset, timedelta) or not isinstance(name, str | None):
        raise TypeError("a time zone is made of an offset and a name")
    return tz.tzoffset(name, offset)


def _local_parts(_zone: tz.tzlocal) -> Iterable[Part]:
    # What "local" meant is kept by each datetime, as its offset.
    return [Part("", timedelta(0)), Part("", None)]


def _local(_parts: Sequence[object]) -> tz.tzlocal:
    return tz.tzlocal()


# dateutil makes these classes through a metaclass that keeps one instance for each offset.
VALUE_TYPES = (
    ValueType("dateutil/tzutc", tz.tzutc, _utc_parts, _utc, ("builtins/timezone",)),
    ValueType("dateutil/tzlocal", tz.tzlocal, _local_parts, _local, ("builtins/timezone",)),
    ValueType("dateutil/tzoffset", tz.tzoffset, _offset_parts, _offset, ("builtins/timezone",)),
)
