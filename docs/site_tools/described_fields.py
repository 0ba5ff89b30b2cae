"""Shows fields of pydantic models by their default and description, and no attribute's labels."""

from __future__ import annotations

import ast
from typing import Any

import griffe

#: They would stand beside every field of every class.
NOISE = {"class-attribute", "instance-attribute", "module-attribute"}


class DescribedFields(griffe.Extension):
    """Reads ``Field(default=..., description="...")`` of class attributes."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Give the attribute of a field its default as a value, and its description."""
        attr.labels -= NOISE
        field = attr.value
        if not isinstance(field, griffe.ExprCall) or str(field.function) != "Field":
            return
        given = {
            argument.name: argument.value
            for argument in field.arguments
            if isinstance(argument, griffe.ExprKeyword)
        }
        attr.value = given.get("default")
        if attr.docstring is None and "description" in given:
            attr.docstring = griffe.Docstring(
                ast.literal_eval(str(given["description"])), parent=attr
            )
