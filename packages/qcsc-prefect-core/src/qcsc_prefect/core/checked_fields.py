"""Checks the fields of a record when it is made, so that a wrong one is named where it comes from.

A record is kept as JSON. What programs hand over is often a number of numpy: it is made plain, by
what it says of itself and without importing numpy. Everything else that JSON cannot hold is refused
with its path.
"""

from __future__ import annotations

import math
import numbers
import types
import typing
from collections.abc import Mapping
from functools import cache

import msgspec
from msgspec import UNSET, UnsetType

from qcsc_prefect.core.errors import InputError

__all__ = ["check_fields", "plain_field"]

#: Values nested deeper than this are a circle, or nothing that a record should hold.
DEEPEST = 100


def check_fields(record: msgspec.Struct, error_type: type[InputError], what: str) -> None:
    """Check all fields of a record against their types, and replace them by plain values.

    None means "not known" in every record: where such a field is left out, it is made absent.

    Raises:
        InputError: Of the given type, if a field has a wrong type or holds what JSON cannot hold;
            its ``path`` names the bad part.
    """
    for name, default in _defaults(type(record)).items():
        value = getattr(record, name)
        if value is default:
            continue
        if value is None and default is UNSET:
            plain: object = UNSET
        else:
            plain = plain_field(type(record), name, value, error_type, what)
        msgspec.structs.force_setattr(record, name, plain)


def plain_field(
    record_type: type[msgspec.Struct],
    name: str,
    value: object,
    error_type: type[InputError],
    what: str,
) -> object:
    """Return the value of one field as the record keeps it.

    Raises:
        InputError: Of the given type, where the field cannot hold the value.
    """
    expected = _field_types(record_type)[name]
    try:
        if not _holds_records(expected):
            value = _plain(value, name, 0)
        return msgspec.convert(value, expected)
    except InputError as error:
        path, reason = error.path, str(error)
    except msgspec.ValidationError as error:
        # The form of the message, ``... - at `$[1]```, is part of msgspec's documentation.
        reason, _, location = str(error).partition(" - at `$")
        path = name + location.rstrip("`")
    raise error_type(f"{what} refused at {path!r}: {reason}.", path=path)


@cache
def _defaults(record_type: type[msgspec.Struct]) -> dict[str, object]:
    # Looking them up reads all type hints anew: too slow for each of thousands of PUBs.
    return {field.name: field.default for field in msgspec.structs.fields(record_type)}


@cache
def _field_types(record_type: type[msgspec.Struct]) -> dict[str, object]:
    """Return the types of the fields, without None and without the mark of an absent one."""
    found: dict[str, object] = {}
    for name, hint in typing.get_type_hints(record_type, include_extras=True).items():
        members: tuple[object, ...] = (hint,)
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            members = typing.get_args(hint)
        (found[name],) = (kind for kind in members if kind not in (types.NoneType, UnsetType))
    return found


def _holds_records(expected: object) -> bool:
    return any(
        isinstance(item, type) and issubclass(item, msgspec.Struct)
        for item in typing.get_args(expected)
    )


def _plain(value: object, path: str, depth: int) -> object:
    if depth > DEEPEST:
        raise InputError(f"it is nested more than {DEEPEST} levels deep", path=path)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return _plain_real(value, path)
    if isinstance(value, Mapping):
        return _plain_mapping(value, path, depth)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if type(value).__module__ == "numpy" and not isinstance(value, numbers.Number):
        # An array, or a boolean of numpy, which is no number: both say what they are in Python.
        return _plain(value.tolist(), path, depth + 1)  # type: ignore[attr-defined]
    raise InputError(f"JSON cannot hold the type {type(value).__name__}", path=path)


def _plain_real(value: numbers.Real, path: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"JSON cannot hold the number {number}", path=path)
    return number


def _plain_mapping(mapping: Mapping[object, object], path: str, depth: int) -> dict[str, object]:
    plain: dict[str, object] = {}
    for key, item in mapping.items():
        if not isinstance(key, str):
            raise InputError(f"the key {key!r} is no string", path=path)
        plain[str.__str__(key)] = _plain(item, f"{path}.{key}", depth + 1)
    return plain
