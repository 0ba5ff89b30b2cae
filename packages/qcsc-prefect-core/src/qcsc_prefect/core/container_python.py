"""Value types of the standard library."""

from __future__ import annotations

import functools
import zoneinfo
from collections import OrderedDict
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from .container_registry import Part, ValueType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["VALUE_TYPES"]

_T = TypeVar("_T")


def _value_type(
    name: str,
    python_type: type[_T],
    take_apart: Callable[[_T], Iterable[object]],
    build: Callable[..., object],
) -> ValueType:
    """A value type whose parts have no paths of their own."""

    def parts(value: Any) -> Iterable[Part]:  # noqa: ANN401 - the registry pairs it with its type
        return (Part("", part) for part in take_apart(value))

    def rebuild(stored: Sequence[object]) -> object:
        return build(*stored)

    return ValueType(f"builtins/{name}", python_type, parts, rebuild)


def _set_items(value: set[object] | frozenset[object]) -> Iterable[object]:
    # Sets have no order of their own; one by type and repr keeps the bytes reproducible.
    return sorted(value, key=lambda item: (type(item).__name__, repr(item)))


@functools.lru_cache(maxsize=1)
def _zone_names() -> set[str]:
    return zoneinfo.available_timezones()


def _zone(name: str) -> zoneinfo.ZoneInfo:
    # ZoneInfo may import a package made from the name, so only names on the list reach it.
    if name not in _zone_names():
        raise ValueError(f"no time zone {name!r:.60} is installed")
    return zoneinfo.ZoneInfo(name)


def _zone_name(zone: zoneinfo.ZoneInfo) -> list[object]:
    if zone.key is None:
        raise TypeError("a time zone that was read from a file has no name to store it by")
    return [zone.key]


def _bytearray(raw: bytes) -> bytearray:
    if not isinstance(raw, bytes):
        raise TypeError("a bytearray is made of bytes")
    return bytearray(raw)


def _datetime(
    year: int,
    month: int,
    day: int,
    hour: int,
    minute: int,
    second: int,
    micro: int,
    zone: Any,
    fold: int,  # noqa: ANN401, E501
) -> datetime:
    return datetime(year, month, day, hour, minute, second, micro, zone, fold=fold)


def _time(hour: int, minute: int, second: int, micro: int, zone: Any, fold: int) -> time:  # noqa: ANN401
    return time(hour, minute, second, micro, zone, fold=fold)


def _timezone(offset: timedelta, name: str | None) -> timezone:
    if name is None:
        return timezone.utc if not offset else timezone(offset)
    return timezone(offset, name)


def _timezone_parts(zone: timezone) -> list[object]:
    # A timezone hands out its arguments only to pickle: (offset,) or (offset, name).
    offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
    return [offset, name[0] if name else None]


VALUE_TYPES = (
    _value_type("set", set, _set_items, lambda *items: set(items)),
    _value_type("frozenset", frozenset, _set_items, lambda *items: frozenset(items)),
    _value_type("bytearray", bytearray, lambda value: [bytes(value)], _bytearray),
    _value_type("slice", slice, lambda value: [value.start, value.stop, value.step], slice),
    _value_type("range", range, lambda value: [value.start, value.stop, value.step], range),
    _value_type("Ellipsis", type(...), lambda _: [], lambda: ...),
    _value_type(
        "OrderedDict",
        OrderedDict,
        lambda value: [list(value.items())],
        lambda items: OrderedDict(items),
    ),
    _value_type("date", date, lambda value: [value.year, value.month, value.day], date),
    _value_type(
        "datetime",
        datetime,
        lambda v: [
            v.year,
            v.month,
            v.day,
            v.hour,
            v.minute,
            v.second,
            v.microsecond,
            v.tzinfo,
            v.fold,
        ],
        _datetime,
    ),
    _value_type(
        "time",
        time,
        lambda v: [v.hour, v.minute, v.second, v.microsecond, v.tzinfo, v.fold],
        _time,
    ),
    _value_type("timedelta", timedelta, lambda v: [v.days, v.seconds, v.microseconds], timedelta),
    _value_type("timezone", timezone, _timezone_parts, _timezone),
    _value_type("ZoneInfo", zoneinfo.ZoneInfo, _zone_name, _zone),
    _value_type("UUID", UUID, lambda value: [value.bytes], lambda raw: UUID(bytes=raw)),
    _value_type("Decimal", Decimal, lambda value: [str(value)], Decimal),
    _value_type("Fraction", Fraction, lambda v: [v.numerator, v.denominator], Fraction),
)
