"""Runs the code of one page of the documentation, block by block.

The blocks of a page share a folder, a Prefect home, an account on an emulated service, whose name
is ``emulated_service``, and, if they are Python, their names:

- ``python`` blocks are run; ``await`` may stand at their top level, as in a notebook.
- Blocks with a title, such as ``python title="name.py"``, become files, which ``sh`` blocks use.
- ``sh`` blocks are run by bash, one after another as in one terminal: what one exports the next
  ones have. What they leave in the background is ended with the page.
- Commands after the comment ``<!-- left running -->`` are those of another terminal. They must run
  until the page ends.
- A block after the comment ``<!-- prints -->`` is what the block before it prints, where ``…``
  stands for anything.
- Commands after the comment ``<!-- prints the same -->`` print what the ones before them printed.
- A block after ``<!-- bytes of NAME -->`` shows the bytes that have this name on the page: hex
  digits, and remarks after a ``#``.
- Blocks inside of an HTML comment are run too, and not shown: they prepare and check.
- A block after a comment ``<!-- not run: REASON -->`` is only compiled, if it is code.

Any other block is an error: nobody would notice if it were wrong.
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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

FENCE = re.compile(r'(?P<language>\w*)(?: title="(?P<title>[^"\n]+)")?[^\n]*\n')
MARK = re.compile(r"<!-- (?P<mark>[^<>\n]+) -->\s*\Z")
SHELLS = {"sh", "console"}
SECONDS_OF_ONE_COMMAND = 120
SECONDS_UNTIL_PRINTED = 60
#: Variables of the shell itself, which say nothing about what its commands have exported.
OF_THE_SHELL = {"_", "OLDPWD", "PWD", "SHLVL"}


class Page:
    """One page while its blocks are run, in order."""

    def __init__(self, path: Path, environment: dict[str, str], folder: Path) -> None:
        self.path = path
        self.environment = dict(environment)
        self.folder = folder
        self.commands: list[subprocess.Popen[bytes]] = []
        self.left_running: dict[str, subprocess.Popen[bytes]] = {}
        self.module = ModuleType("page_" + re.sub(r"\W", "_", path.stem))
        #: Returns what the last block has printed so far, and until when it may print more.
        self.printed: Callable[[], str] = str
        self.prints_until = 0.0

    def run(self) -> int:
        """Run every block; return how many were run."""
        sybil = Sybil(parsers=[self.blocks])
        examples = list(sybil.parse(self.path).examples())
        for example in examples:
            example.evaluate()
        for place, command in self.left_running.items():
            assert command.poll() is None, f"{place}: ended by itself, status {command.poll()}"
        return len(examples)

    def blocks(self, document: Document) -> Iterator[Region]:
        """Yield the page's code blocks with what is to be done with each."""
        for region in RawFencedCodeBlockLexer(FENCE)(document):
            mark = MARK.search(document.text[: region.start])
            evaluator = self._evaluator(
                region.lexemes["language"], region.lexemes["title"], mark["mark"] if mark else ""
            )
            if evaluator is None:
                line = document.text[: region.start].count("\n") + 1
                raise ValueError(f"{self.path}:{line}: nothing says how this block is checked")
            region.evaluator = evaluator
            region.parsed = region.lexemes["source"]
            yield region

    def _evaluator(
        self, language: str, title: str | None, mark: str
    ) -> Callable[[Example], None] | None:
        if mark.startswith("not run: "):
            return {"python": self.compile, "sh": self.read, "console": self.read}.get(
                language, self.show
            )
        if mark == "prints":
            return self.compare
        if mark.startswith("bytes of "):
            return self.compare_bytes
        if title:
            return self.write
        if language == "python":
            return self.execute
        if language in SHELLS:
            return self.leave_running if mark == "left running" else self.command
        return None

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
        self.printed, self.prints_until = printed.getvalue, 0.0

    def write(self, example: Example) -> None:
        """Write a block to the file that its title names."""
        path = self.folder / example.region.lexemes["title"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".py":
            self._code(example)
        path.write_text(str(example.parsed), encoding="utf-8")

    def command(self, example: Example) -> None:
        """Run commands, and keep what they export for the next ones."""
        exported = self.folder.parent / "exported"
        source = f"{example.parsed}\nenv -0 > {exported}"
        before = self.printed()
        command, output, log = self._start(source)
        status = command.wait(SECONDS_OF_ONE_COMMAND)
        self.printed, self.prints_until = output.read_text, 0.0
        place = self._place(example)
        assert status == 0, f"{place}: status {status}\n{self.printed()}{log.read_text()}"
        if example.document.text[: example.start].rstrip().endswith("<!-- prints the same -->"):
            assert self.printed() == before, f"{place}: other output than before"
        variables = exported.read_text().rstrip("\0").split("\0")
        self.environment = {
            name: value
            for name, _, value in (variable.partition("=") for variable in variables)
            if name not in OF_THE_SHELL
            and (name in self.environment or value != os.environ.get(name))
        }

    def leave_running(self, example: Example) -> None:
        """Start commands that run until the page ends, and wait for none of them."""
        command, output, _ = self._start(str(example.parsed))
        self.left_running[self._place(example)] = command
        self.printed = output.read_text
        self.prints_until = time.monotonic() + SECONDS_UNTIL_PRINTED

    def read(self, example: Example) -> None:
        """Let the shell read commands without running them."""
        subprocess.run(["bash", "-n", "-c", str(example.parsed)], check=True)

    def show(self, example: Example) -> None:
        """Do nothing with a block that is no code."""

    def compare(self, example: Example) -> None:
        """Compare what was printed last with what the page shows."""
        for line in str(example.parsed).strip().splitlines():
            pattern = ".*".join(re.escape(part) for part in line.strip().split("…"))
            while not re.search(pattern, self.printed()) and time.monotonic() < self.prints_until:
                time.sleep(0.1)
            assert re.search(pattern, self.printed()), (
                f"{self._place(example)}: not printed: {line}\n{self.printed()}"
            )

    def compare_bytes(self, example: Example) -> None:
        """Compare bytes that the page holds with their hex digits."""
        mark = MARK.search(example.document.text[: example.start])
        assert mark is not None
        lines = str(example.parsed).splitlines()
        shown = bytes.fromhex("".join(line.partition("#")[0] for line in lines))
        held = vars(self.module)[mark["mark"].removeprefix("bytes of ")]
        assert shown == held, f"{self._place(example)}: other bytes: {held.hex()}"

    def end(self) -> None:
        """End what the page's commands left running."""
        for command in self.commands:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)

    def _start(self, source: str) -> tuple[subprocess.Popen[bytes], Path, Path]:
        """Start commands in the page's folder, in a group of processes of their own."""
        number = len(self.commands)
        output = self.folder.parent / f"output-{number}"
        log = self.folder.parent / f"log-{number}"
        # Files, not pipes: what is left running in the background holds them open.
        with output.open("wb") as output_stream, log.open("wb") as log_stream:
            command = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", source],
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
        return command, output, log

    def _place(self, example: Example) -> str:
        return f"{self.path}:{example.line}"

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
