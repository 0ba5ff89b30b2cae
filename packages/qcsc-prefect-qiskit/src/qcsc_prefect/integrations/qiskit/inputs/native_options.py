"""Takes the client's own options objects wherever options are taken, as plain mappings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from numbers import Real
from typing import Any

from pydantic import BaseModel

from qcsc_prefect.core.errors import InputError, UnsupportedTypeError

__all__ = ["options_mapping"]

_NATIVE = "qiskit_ibm_runtime.options"  # and options_models, of the client-side primitives
_SCALARS = frozenset({type(None), bool, int, float, str})


def options_mapping(options: object) -> dict[str, Any] | None:
    """Return options as a plain mapping, whatever they were written as.

    Raises:
        UnsupportedTypeError: If it is none of these.
        InputError: If the default shots or precision are not above 0.

    Example:
        >>> from qiskit_ibm_runtime import SamplerOptions
        >>> options = SamplerOptions(default_shots=100)
        >>> options.dynamical_decoupling.enable = True
        >>> options_mapping(options)
        {'default_shots': 100, 'dynamical_decoupling': {'enable': True}}
    """
    if options is None:
        return None
    if not isinstance(options, Mapping) and not _is_native(options):
        raise UnsupportedTypeError(
            f"options refused: expected a mapping or the client's options object, got "
            f"{type(options).__name__}. Pass a dict such as {{'default_shots': 1024}}.",
            path="options",
        )
    plain: dict[str, Any] = _plain(options)
    for name in ("default_shots", "default_precision"):
        value = plain.get(name)
        if isinstance(value, Real) and not float(value) > 0:
            raise InputError(
                f"options.{name} refused: expected a number above 0, got {value!r}.",
                path=f"options.{name}",
            )
    return plain


def _is_native(value: object) -> bool:
    return type(value).__module__.startswith(_NATIVE) and (
        isinstance(value, BaseModel) or dataclasses.is_dataclass(value)
    )


def _is_unset(value: object) -> bool:
    """Whether this is the client's marker of an option without a value."""
    kind = type(value)
    return kind.__name__ == "UnsetType" and kind.__module__.startswith(_NATIVE)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: item if type(item) in _SCALARS else _plain(item)
            for name, item in value.items()
            if type(item) in _SCALARS or not _is_unset(item)
        }
    return _what_was_set(value) if _is_native(value) else value


def _what_was_set(value: Any) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        parts = {name: getattr(value, name) for name in type(value).model_fields}
        return {
            name: plain
            for name, part in parts.items()
            if (plain := _plain(part)) != {}
            and (_is_native(part) or name in value.model_fields_set)
        }
    untouched = type(value)()
    found = {}
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        if _is_native(part):
            if inner := _what_was_set(part):
                found[field.name] = inner
        elif not _same(part, getattr(untouched, field.name)):
            found[field.name] = _plain(part)
    return found


def _same(value: object, default: object) -> bool:
    """Whether an option was left alone; arrays and the like were not, and compare in parts."""
    if value is default or _is_unset(value):
        return True
    return isinstance(value, str | int | float | list | dict) and value == default
