"""Options of a primitive, as the client would send them."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from qcsc_prefect.core.canonical_path import child_path, join_path
from qcsc_prefect.core.errors import InputError, UnsupportedTypeError

__all__ = ["options_tree"]


def options_tree(options: object) -> dict[str, object]:
    """Return options without those that are explicitly left unset.

    Args:
        options: None, or a mapping of options, nested at will.

    Raises:
        UnsupportedTypeError: If `options` is neither.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise UnsupportedTypeError(
            f"options must be a mapping, not a {type(options).__qualname__}", path="options"
        )
    return _set_options(options, "options")


def _set_options(options: Mapping[object, object], path: str) -> dict[str, object]:
    tree: dict[str, object] = {}
    for name, value in options.items():
        here = join_path(path, child_path(name))
        if not isinstance(name, str):
            raise InputError(f"{here}: an option is named by a string", path=here)
        if _is_unset(value):
            continue
        tree[name] = _set_options(value, here) if isinstance(value, Mapping) else value
    return tree


def _is_unset(value: object) -> bool:
    # The client's marker of an option without a value; it exists only where the client is loaded.
    client = sys.modules.get("qiskit_ibm_runtime.options.utils")
    return client is not None and isinstance(value, client.UnsetType)
