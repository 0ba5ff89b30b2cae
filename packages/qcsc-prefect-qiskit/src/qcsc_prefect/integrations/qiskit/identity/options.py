"""Options of a primitive, as the client would send them."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from qcsc_prefect.integrations.qiskit.native_options import options_mapping

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
    mapping = options_mapping(options)
    if mapping is None:
        return {}
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
        elif kind is not unset:
            tree[name] = value
    return tree
