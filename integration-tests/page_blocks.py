"""The blocks of the how-to on several machines, which its tests run as they stand there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .environments import ROOT

PAGE = ROOT / "docs" / "how-to" / "several-machines.md"

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]*) -->\n)?"
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]*)")?\n'
    r"(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code, and what the page says of it.

    Attributes:
        line: The line of the page on which it begins.
        reason: Why the page's own test does not run it: it names the module that does.
        title: The file that it is.
        text: The code.
    """

    line: int
    reason: str
    title: str
    text: str


def blocks_of(path: Path) -> list[Block]:
    """Return the blocks of a page, in their order."""
    page = path.read_text(encoding="utf-8")
    return [
        Block(
            line=page.count("\n", 0, found.start("language")) + 1,
            reason=found["reason"] or "",
            title=found["title"] or "",
            text=found["text"],
        )
        for found in _BLOCK.finditer(page)
    ]


class Documented:
    """Hands out the blocks of a page to be run, and knows which are left."""

    def __init__(self, path: Path = PAGE) -> None:
        self._path = path
        self._blocks = blocks_of(path)
        self._taken: set[Block] = set()

    def __call__(self, words: str, names: Mapping[str, str] | None = None) -> str:
        """Return the one block that holds these words.

        Args:
            words: Words of the block.
            names: What the page's names of machines and accounts are here; all must be there.
        """
        found = [block for block in self._blocks if words in block.text]
        assert len(found) == 1, f"{self._path.name}: {len(found)} blocks say: {words}"
        self._taken.update(found)
        text = found[0].text
        for name, here in (names or {}).items():
            assert name in text, f"{self._path.name}:{found[0].line} does not say: {name}"
            text = text.replace(name, here)
        return text

    def write(self, title: str, folder: Path) -> None:
        """Write the block with this title to the file that it is."""
        (block,) = [block for block in self._blocks if block.title == title]
        self._taken.add(block)
        (folder / title).write_text(block.text, encoding="utf-8")

    def left_for(self, module: str) -> list[str]:
        """Return the places of the blocks that a module should have run and has not."""
        return [
            f"{self._path.name}:{block.line}"
            for block in self._blocks
            if module in block.reason and block not in self._taken
        ]
