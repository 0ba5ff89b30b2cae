"""Value types of the standard library."""

from __future__ import annotations

import functools
import zoneinfo
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import EllipsisType
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

from qcsc_prefect.core.container.value_types import Part, ValueType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["VALUE_TYPES"]

T = TypeVar("T")

_ORDERED_TYPES: Final = frozenset({bool, int, str, bytes})


def _value_type(
    name: str,
    python_type: type[T],
    take_apart: Callable[[T], Iterable[object]],
    build: Callable[..., T],
) -> ValueType[T]:
    """A value type whose parts have no paths of their own, and are its constructor's arguments."""

    def parts(value: T) -> Iterable[Part]:
        return (Part("", part) for part in take_apart(value))

    def rebuild(stored: Sequence[object]) -> T:
        return build(*stored)

    return ValueType(f"builtins/{name}", python_type, parts, rebuild)


def _set_items(value: set[object] | frozenset[object]) -> Iterable[object]:
    # Sets have no order of their own; this one keeps the bytes reproducible.
    return sorted(value, key=_set_order)


def _set_order(item: object) -> tuple[str, object]:
    comparable = item if type(item) in _ORDERED_TYPES else repr(item)
    return type(item).__name__, comparable


def _set(*items: object) -> set[object]:
    return set(items)


def _frozenset(*items: object) -> frozenset[object]:
    return frozenset(items)


def _slice_arguments(value: slice | range) -> Iterable[object]:
    return [value.start, value.stop, value.step]


def _bytearray(raw: object) -> bytearray:
    if not isinstance(raw, bytes):
        raise TypeError("a bytearray is made of bytes")
    return bytearray(raw)


def _datetime_parts(value: datetime) -> Iterable[object]:
    return [
        *(value.year, value.month, value.day),
        *(value.hour, value.minute, value.second, value.microsecond),
        value.tzinfo,
        value.fold,
        value.utcoffset(),
    ]


def _datetime(*parts: object) -> datetime:
    *arguments, fold, offset = parts
    value = datetime(*arguments, fold=fold)  # type: ignore[arg-type]
    if isinstance(offset, timedelta) and value.utcoffset() != offset:
        # A zone that means something else here, as "local time" does: keep the instant.
        return value.replace(tzinfo=timezone(offset))
    return value


def _time_parts(value: time) -> Iterable[object]:
    return [value.hour, value.minute, value.second, value.microsecond, value.tzinfo, value.fold]


def _time(*parts: object) -> time:
    *arguments, fold = parts
    return time(*arguments, fold=fold)  # type: ignore[arg-type]


def _timezone_parts(zone: timezone) -> Iterable[object]:
    # A timezone tells its arguments only to pickle: (offset,) or (offset, name).
    offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
    return [offset, name[0] if name else None]


def _timezone(offset: object, name: object) -> timezone:
    if not isinstance(offset, timedelta) or not isinstance(name, str | None):
        raise TypeError("a time zone is made of an offset and a name")
    if name is None:
        return timezone(offset) if offset else UTC
    return timezone(offset, name)


def _zone_parts(zone: zoneinfo.ZoneInfo) -> Iterable[object]:
    return [_listed_zone_name(zone.key)]


def _zone(name: object) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(_listed_zone_name(name))


def _listed_zone_name(name: object) -> str:
    # ZoneInfo may import a package made from the name, so only names on the list reach it.
    if not isinstance(name, str) or name not in _zone_names():
        raise ValueError(f"the time zone {name!r:.60} is none that is installed here by that name")
    return name


@functools.lru_cache(maxsize=1)
def _zone_names() -> set[str]:
    return zoneinfo.available_timezones()


def _ellipsis() -> EllipsisType:
    return ...


VALUE_TYPES = (
    _value_type("set", set, _set_items, _set),
    _value_type("frozenset", frozenset, _set_items, _frozenset),
    _value_type("bytearray", bytearray, lambda value: [bytes(value)], _bytearray),
    _value_type("slice", slice, _slice_arguments, slice),
    _value_type("range", range, _slice_arguments, range),
    _value_type("Ellipsis", EllipsisType, lambda _: [], _ellipsis),
    _value_type("OrderedDict", OrderedDict, lambda value: [list(value.items())], OrderedDict),
    _value_type("date", date, lambda value: [value.year, value.month, value.day], date),
    _value_type("datetime", datetime, _datetime_parts, _datetime),
    _value_type("time", time, _time_parts, _time),
    _value_type("timedelta", timedelta, lambda v: [v.days, v.seconds, v.microseconds], timedelta),
    _value_type("timezone", timezone, _timezone_parts, _timezone),
    _value_type("ZoneInfo", zoneinfo.ZoneInfo, _zone_parts, _zone),
    _value_type("UUID", UUID, lambda value: [value.bytes], lambda raw: UUID(bytes=raw)),
    _value_type("Decimal", Decimal, lambda value: [str(value)], Decimal),
    _value_type("Fraction", Fraction, lambda v: [v.numerator, v.denominator], Fraction),
)
