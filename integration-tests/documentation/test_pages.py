"""Runs the code of the README and of every page of the documentation, page by page.

The blocks of one page share a folder, a Prefect home, an account on an emulated service, whose name
is ``emulated_service``, and, if they are Python, their names:

- ``python`` blocks are run; ``await`` may stand at their top level, as in a notebook.
- ``python title="name.py"`` blocks become files, which ``sh`` blocks run.
- ``sh`` blocks are run by bash; what they leave running is ended with the page.
- A ``text`` block after the comment ``<!-- prints -->`` is what the block before it prints, where
  ``…`` stands for anything.
- Commands after the comment ``<!-- prints the same -->`` print what the ones before them printed.
- Blocks inside of an HTML comment are run too, and not shown: they prepare and check.
- A block after a comment ``<!-- not run: REASON -->`` is only compiled.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.testing import EmulatedService

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("packages/*/README.md"),
    ]
)
FENCE = re.compile(r'(?P<language>\w*)(?: title="(?P<title>[^"\n]+)")?[^\n]*\n')
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^>]+) -->\s*\Z")
PRINTS_THE_SAME = re.compile(r"<!-- prints the same -->\s*\Z")
PRINTS = re.compile(r"<!-- prints -->\s*\Z")
SECONDS_OF_ONE_COMMAND = 120


class Page:
    """One page while its blocks are run, in order."""

    def __init__(self, path: Path, environment: dict[str, str], folder: Path) -> None:
        self.path = path
        self.environment = environment
        self.folder = folder
        self.printed = ""
        self.commands: list[subprocess.Popen[bytes]] = []
        self.module = ModuleType("page_" + re.sub(r"\W", "_", path.stem))

    def run(self) -> int:
        """Run every block; return how many were run."""
        sybil = Sybil(parsers=[self.blocks])
        examples = list(sybil.parse(self.path).examples())
        for example in examples:
            example.evaluate()
        return len(examples)

    def blocks(self, document: Document) -> Iterator[Region]:
        """Yield the page's code blocks with what is to be done with each."""
        for region in RawFencedCodeBlockLexer(FENCE)(document):
            before = document.text[: region.start]
            language, title = region.lexemes["language"], region.lexemes["title"]
            if language == "python":
                if NOT_RUN.search(before):
                    region.evaluator = self.compile
                else:
                    region.evaluator = self.write if title else self.execute
            elif language in {"sh", "console"}:
                region.evaluator = self.check_command if NOT_RUN.search(before) else self.command
            elif language in {"toml", "yaml", "json"} and title:
                region.evaluator = self.write
            elif PRINTS.search(before):
                region.evaluator = self.compare
            else:
                continue
            region.parsed = region.lexemes["source"]
            yield region

    def compile(self, example: Example) -> None:
        """Compile a block; its errors name the page and the line."""
        self._code(example)

    def execute(self, example: Example) -> None:
        """Run a block, in the names of the page."""
        code = self._code(example)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            result = eval(code, vars(self.module))
            if inspect.iscoroutine(result):
                asyncio.run(result)
        self.printed = printed.getvalue()

    def write(self, example: Example) -> None:
        """Write a block to the file that its title names."""
        path = self.folder / example.region.lexemes["title"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".py":
            self._code(example)
        path.write_text(str(example.parsed), encoding="utf-8")

    def command(self, example: Example) -> None:
        """Run commands in the page's folder, in a group of processes of their own."""
        number = len(self.commands)
        output = self.folder.parent / f"output-{number}"
        log = self.folder.parent / f"log-{number}"
        # Files, not pipes: what is left running in the background holds them open.
        with output.open("wb") as output_stream, log.open("wb") as log_stream:
            command = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", str(example.parsed)],
                cwd=self.folder,
                env={
                    **os.environ,
                    **self.environment,
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                },
                stdout=output_stream,
                stderr=log_stream,
                start_new_session=True,
            )
        self.commands.append(command)
        status = command.wait(SECONDS_OF_ONE_COMMAND)
        printed = output.read_text(encoding="utf-8")
        place = f"{self.path}:{example.line}"
        assert status == 0, f"{place}: status {status}\n{printed}{log.read_text()}"
        if PRINTS_THE_SAME.search(example.document.text[: example.start]):
            assert printed == self.printed, f"{place}: other output than before"
        self.printed = printed

    def check_command(self, example: Example) -> None:
        """Let the shell read commands without running them."""
        subprocess.run(["bash", "-n", "-c", str(example.parsed)], check=True)

    def compare(self, example: Example) -> None:
        """Compare what was printed last with what the page shows."""
        for line in str(example.parsed).strip().splitlines():
            pattern = ".*".join(re.escape(part) for part in line.strip().split("…"))
            assert re.search(pattern, self.printed), (
                f"{self.path}:{example.line}: not printed: {line}\n{self.printed}"
            )

    def end(self) -> None:
        """End what the page's commands left running."""
        for command in self.commands:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)

    def _code(self, example: Example) -> object:
        # Empty lines before it make the line numbers those of the page.
        source = "\n" * (example.line + example.parsed.line_offset) + str(example.parsed)
        return compile(
            source,
            str(self.path),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_code_of_a_page_runs(
    path: Path,
    page_environment: dict[str, str],
    account: EmulatedService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = Page(path, page_environment, Path.cwd())
    vars(page.module)["emulated_service"] = account
    monkeypatch.setitem(sys.modules, page.module.__name__, page.module)
    try:
        page.run()
    finally:
        page.end()


def test_the_walk_through_the_code_names_modules_that_exist() -> None:
    text = (ROOT / "docs" / "reading-the-code.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.py)`", text))
    assert named, "the page names no module"
    modules = [path.as_posix() for path in ROOT.glob("packages/*/src/**/*.py")]
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in modules)] == []


@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if ROOT / "docs" not in path.parents],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_outside_of_the_site_lead_somewhere(path: Path) -> None:
    # Those of the site are checked by its strict build.
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_a_wrong_block_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\ntext\n\n```python\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as raised:
        Page(page, {}, tmp_path).run()
    last = raised.traceback[-1]
    assert (Path(last.path), last.lineno + 1) == (page, 8)


def test_a_wrong_output_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\necho 12 shots\n```\n\n<!-- prints -->\n```text\n13 shots\n```\n")
    with pytest.raises(AssertionError, match="not printed: 13 shots"):
        Page(page, {}, tmp_path).run()
    page.write_text("```sh\necho 12 shots\n```\n\n<!-- prints -->\n```text\n… shots\n```\n")
    assert Page(page, {}, tmp_path).run() == 2


def test_another_output_than_before_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    folder = tmp_path / "work"
    folder.mkdir()
    block = "```sh\necho x >> file; cat file\n```\n"
    page.write_text(f"{block}\n<!-- prints the same -->\n{block}")
    with pytest.raises(AssertionError, match="other output than before"):
        Page(page, {}, folder).run()


def test_a_failing_command_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nfalse\necho done\n```\n")
    with pytest.raises(AssertionError, match="status 1"):
        Page(page, {}, tmp_path).run()
