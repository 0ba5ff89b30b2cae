"""Each block of the how-to on several machines has a test that runs it, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .page_blocks import PAGE, Documented, blocks_of

RUN_ELSEWHERE = re.compile(r"(test_several_machines_\w+\.py) runs it")


def test_every_block_names_the_module_that_runs_it():
    named = {block.line: RUN_ELSEWHERE.fullmatch(block.reason) for block in blocks_of(PAGE)}
    # No fence of the page is overlooked.
    assert 2 * len(named) == PAGE.read_text(encoding="utf-8").count("```") > 0
    assert [line for line, found in named.items() if found is None] == []
    # The fixture sees to it that the module runs the block.
    for module in {found[1] for found in named.values() if found}:
        assert "documented: Documented" in (Path(__file__).parent / module).read_text()


def test_a_block_that_nobody_runs_is_noticed(tmp_path: Path):
    page = tmp_path / "page.md"
    block = "<!-- not run: test_x.py runs it -->\n```console\n{}\n```\n"
    page.write_text(block.format("first lab") + block.format("second lab"))
    documented = Documented(page)
    assert documented("first") == "first lab\n"
    assert documented.left_for("test_y.py") == []
    assert documented.left_for("test_x.py") == ["page.md:6"]
    assert documented("second", {"lab": "here"}) == "second here\n"
    assert documented.left_for("test_x.py") == []


def test_words_that_the_page_does_not_say_are_noticed(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("```console\nfirst\n```\n\n```console\nfirst\n```\n\n```console\nlast\n```\n")
    documented = Documented(page)
    for words in ("first", "third"):
        with pytest.raises(AssertionError, match=words):
            documented(words)
    with pytest.raises(AssertionError, match=r"page\.md:9 does not say: db\.lab"):
        documented("last", {"db.lab": "here"})
