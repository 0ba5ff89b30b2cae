"""Options of a primitive, as the client would send them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel

from qcsc_prefect.core.errors import UnsupportedTypeError

__all__ = ["options_tree"]

_PLAIN = frozenset({type(None), bool, int, float, str})


def options_tree(options: object) -> dict[str, object]:
    """Return options without those that are explicitly left unset.

    Args:
        options: None, a mapping of options, nested at will, or the client's options object, which
            counts as the mapping of what was set in it.

    Raises:
        UnsupportedTypeError: If `options` is none of these.
    """
    if options is None:
        return {}
    mapping = _fields_of(options) if _is_section(options) else options
    if not isinstance(mapping, Mapping):
        raise UnsupportedTypeError(
            f"options must be a mapping or the client's options object, not a "
            f"{type(options).__qualname__}",
            path="options",
        )
    client = sys.modules.get("qiskit_ibm_runtime.options.utils")
    # The client's marker of an option without a value; it exists only where the client is loaded.
    return _set_options(mapping, type(None) if client is None else client.UnsetType)


def _set_options(options: Mapping[str, object], unset: type) -> dict[str, object]:
    tree: dict[str, object] = {}
    for name, value in options.items():
        kind = type(value)
        if kind in _PLAIN:
            tree[name] = value
        elif isinstance(value, Mapping):
            tree[name] = _set_options(value, unset)
        elif _is_section(value):
            section = _set_options(_fields_of(value), unset)
            if section:  # where nothing is set in it, the object has it all the same
                tree[name] = section
        elif kind is not unset:
            tree[name] = value
    return tree


def _is_section(value: object) -> bool:
    known = type(value).__module__.startswith("qiskit_ibm_runtime.options")
    return known and (isinstance(value, BaseModel) or is_dataclass(value))


def _fields_of(section: object) -> dict[str, object]:
    """Return the fields of an options object that somebody set, and its sections."""
    if isinstance(section, BaseModel):
        values = {name: getattr(section, name) for name in type(section).model_fields}
        return {
            name: value
            for name, value in values.items()
            if name in section.model_fields_set or _is_section(value)
        }
    kind: type[Any] = type(section)
    names = [field.name for field in fields(kind) if not field.name.startswith("_")]
    # It does not keep what was set, so what a new one holds counts as not set.
    new = kind()
    pairs = {name: (getattr(section, name), getattr(new, name)) for name in names}
    return {
        name: value
        for name, (value, default) in pairs.items()
        if _is_section(value) or type(value) is not type(default) or value != default
    }
