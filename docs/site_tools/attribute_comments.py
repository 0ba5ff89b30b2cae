"""Takes the comments `#: ...` above attributes of modules for their docstrings, as Sphinx does."""

from __future__ import annotations

import itertools
from typing import Any

import griffe

MARK = "#:"


class AttributeComments(griffe.Extension):
    """Reads what stands above an attribute that has no docstring below it."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Give the attribute of a module its comment as a docstring."""
        if attr.docstring is not None or attr.lineno is None or not attr.parent.is_module:
            return
        above = reversed(attr.lines_collection[attr.filepath][: attr.lineno - 1])
        comment = list(itertools.takewhile(lambda line: line.startswith(MARK), above))
        if comment:
            text = "\n".join(line.removeprefix(MARK).strip() for line in reversed(comment))
            attr.docstring = griffe.Docstring(text, parent=attr)
