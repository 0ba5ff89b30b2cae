"""Annotations of boxes: directives to twirl, to inject noise, to change a basis."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qiskit.circuit import Annotation

__all__ = ["annotation_tree"]


def annotation_tree(annotation: Annotation) -> dict[str, object]:
    """Return an annotation as its namespace, its type's name and the values of its attributes.

    Attributes whose name starts with an underscore count like the others: an annotation is custom
    data, and nothing tells which of it a service reads. A value without a canonical form is
    refused when the tree is written.
    """
    names = _attribute_names(annotation) - {"namespace"}
    values = {name: _plain(getattr(annotation, name)) for name in names}
    kind = type(annotation).__name__
    return {"namespace": annotation.namespace, "class": kind, "attributes": values}


def _attribute_names(annotation: Annotation) -> set[str]:
    names: set[str] = set()
    for base in type(annotation).__mro__:
        slots = vars(base).get("__slots__", ())
        names.update((slots,) if isinstance(slots, str) else slots)
    names.discard("__dict__")
    names.discard("__weakref__")
    names = {name for name in names if hasattr(annotation, name)}
    if hasattr(annotation, "__dict__"):
        names.update(vars(annotation))
    return names


def _plain(value: object) -> object:
    """Replace members of enumerations by their values, which is what their serializers write."""
    return value.value if isinstance(value, enum.Enum) else value
