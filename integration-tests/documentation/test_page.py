"""What runs the code of the pages notices what is wrong on one."""

from __future__ import annotations

from pathlib import Path

import pytest

from .page import Page


def run(tmp_path: Path, text: str) -> int:
    """Run a page of this text, in a folder of its own, and return how many blocks it has."""
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    page = Page(path, {}, folder)
    try:
        return page.run()
    finally:
        page.end()


def test_a_wrong_block_is_noticed_on_its_line(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as raised:
        run(tmp_path, "```python\nx = 1\n```\n\ntext\n\n```python\nassert x == 2\n```\n")
    last = raised.traceback[-1]
    assert (Path(last.path), last.lineno + 1) == (tmp_path / "page.md", 8)


def test_a_wrong_output_is_noticed(tmp_path: Path) -> None:
    block = "```sh\necho 12 shots\n```\n\n<!-- prints -->\n```text\n{} shots\n```\n"
    with pytest.raises(AssertionError, match="not printed: 13 shots"):
        run(tmp_path, block.format(13))
    assert run(tmp_path, block.format("…")) == 2


def test_another_output_than_before_is_noticed(tmp_path: Path) -> None:
    block = "```sh\necho x >> file; cat file\n```\n"
    with pytest.raises(AssertionError, match="other output than before"):
        run(tmp_path, f"{block}\n<!-- prints the same -->\n{block}")


def test_a_failing_command_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="status 1"):
        run(tmp_path, "```sh\nfalse\necho done\n```\n")


@pytest.mark.parametrize("fence", ["text", "json", "toml", "ruby", ""])
def test_a_block_that_nothing_is_said_about_is_refused(tmp_path: Path, fence: str) -> None:
    with pytest.raises(ValueError, match=r"page.md:3: nothing says how this block is checked"):
        run(tmp_path, f"Text.\n\n```{fence}\n1\n```\n")
    assert run(tmp_path, f"<!-- not run: nobody could -->\n```{fence}\n1\n```\n") == 1


def test_what_is_exported_stays_for_the_next_commands(tmp_path: Path) -> None:
    first = "```sh\nexport SHOTS='1 2'; OTHER=3\n```\n"
    second = '```sh\ntest "$SHOTS" = "1 2"; test -z "${OTHER-}"\n```\n'
    assert run(tmp_path, f"{first}\n{second}\n{second}") == 3


LATE = "<!-- left running -->\n```sh\nsleep 0.3; echo late; {}\n```\n\n<!-- prints -->\n```text\n"


def test_commands_in_another_terminal_are_waited_for_and_go_on(tmp_path: Path) -> None:
    assert run(tmp_path, LATE.format("sleep 60") + "late\n```\n") == 2
    with pytest.raises(AssertionError, match="ended by itself, status 3"):
        run(tmp_path, LATE.format("exit 3") + "late\n```\n\n```sh\nsleep 0.3\n```\n")


def test_wrong_bytes_are_noticed(tmp_path: Path) -> None:
    block = (
        "```python\nheld = b'ab'\n```\n\n<!-- bytes of held -->\n```text\n61 # a\n  {} # b\n```\n"
    )
    assert run(tmp_path, block.format("62")) == 2
    with pytest.raises(AssertionError, match="other bytes: 6162"):
        run(tmp_path, block.format("63"))
