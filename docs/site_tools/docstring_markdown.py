"""Turns docstrings, which are written for readers of the source, into Markdown for the site.

- Names between single backticks are linked to their place in the reference. A name is looked up as
  Python would look it up where the docstring stands, in its class, then in its module. What is not
  found, or not part of the reference, stays plain code.
- After ``~`` a name is shown by its last part.
- ``Example:`` becomes the section that is typeset as code.
- ``.. code-block::`` and a final ``::`` are left out: the code below them is indented.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterator

OUR_PACKAGE = "qcsc_prefect"
NAME = re.compile(
    r"(?::(?:class|exc|func|meth|mod|attr|data):)?(?<!`)`(?P<short>~?)(?P<name>[A-Za-z_][\w.]*)`(?!`)"
)
CODE_BLOCK = re.compile(r"\s*\.\. code-block:: \w+")


class DocstringMarkdown(griffe.Extension):
    """Rewrites the docstrings of our packages as they are loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite the docstrings of one package."""
        if pkg.path.split(".")[0] == OUR_PACKAGE:
            rewrite(pkg, done=set())


def rewrite(thing: griffe.Object, done: set[str]) -> None:
    """Rewrite the docstrings of an object and of its members."""
    if thing.path in done:
        return
    done.add(thing.path)
    if thing.docstring is not None:
        thing.docstring.value = "\n".join(markdown_lines(thing.docstring.value, thing))
    for member in thing.members.values():
        if isinstance(member, griffe.Object):
            rewrite(member, done)


def markdown_lines(docstring: str, place: griffe.Object) -> Iterator[str]:
    """Yield a docstring's lines as Markdown, in which deeper indentation is code by itself."""
    code_deeper_than: int | None = None
    for line in docstring.splitlines():
        indent = len(line) - len(line.lstrip())
        if code_deeper_than is not None:
            if not line.strip() or indent > code_deeper_than:
                yield line
                continue
            code_deeper_than = None
        if CODE_BLOCK.fullmatch(line):
            code_deeper_than = indent
        elif line.lstrip().startswith((">>>", "...")):
            yield line
        elif line.endswith("::"):
            code_deeper_than = indent
            yield linked(line[:-1], place)
        elif line.strip() == "Example:":
            yield line.replace("Example:", "Examples:")
        else:
            yield linked(line, place)


def linked(line: str, place: griffe.Object) -> str:
    """Return a line whose names are linked."""
    return NAME.sub(lambda match: link(match["name"], place, short=bool(match["short"])), line)


def link(name: str, place: griffe.Object, *, short: bool) -> str:
    """Return a name as Markdown, linked if it is one of ours."""
    path = resolved(name, place)
    shown = name.rpartition(".")[2] if short else name
    if path is None:
        return f"`{shown}`"
    return f'<autoref optional identifier="{path}"><code>{shown}</code></autoref>'


def resolved(name: str, place: griffe.Object) -> str | None:
    """Return the full path of a name as it is seen from a place, or None if it is not ours."""
    if name.startswith(f"{OUR_PACKAGE}."):
        return name
    first, _, rest = name.partition(".")
    try:
        path = place.resolve(first)
    except griffe.NameResolutionError:
        return None
    if not path.startswith(f"{OUR_PACKAGE}."):
        return None
    return f"{path}.{rest}" if rest else path
