"""Options of a primitive, as the client would send them."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from qcsc_prefect.core.errors import UnsupportedTypeError

__all__ = ["options_tree"]

_PLAIN = frozenset({type(None), bool, int, float, str})


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
    client = sys.modules.get("qiskit_ibm_runtime.options.utils")
    # The client's marker of an option without a value; it exists only where the client is loaded.
    return _set_options(options, type(None) if client is None else client.UnsetType)


def _set_options(options: Mapping[str, object], unset: type) -> dict[str, object]:
    tree: dict[str, object] = {}
    for name, value in options.items():
        kind = type(value)
        if kind in _PLAIN:
            tree[name] = value
        elif isinstance(value, Mapping):
            tree[name] = _set_options(value, unset)
        elif kind is not unset:
            tree[name] = value
    return tree
