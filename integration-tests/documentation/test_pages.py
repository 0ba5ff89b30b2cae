"""Runs the code of the README and of every page of the documentation; `page` says how."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .page import Page

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
EVERY_PAGE = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
FENCED = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<source>.*?)^```$", re.MULTILINE | re.DOTALL)
#: A paragraph, no list and no admonition, and indented lines below it.
INDENTED = re.compile(r"^(?!\s|[-*+] |\d+\. |!!! |\?\?\? )[^\n]+\n\n+ {4}\S[^\n]*", re.MULTILINE)
#: A comment with no code below it, or beside a call of print.
CLAIM = re.compile(r"^[ ]*#[^\n]*(?=\n\s*(?:\n|\Z))|^[ ]*print\([^\n]*\)[ ]+#[^\n]*", re.MULTILINE)
#: A requirement of one of our distributions as an argument of pip, up to the end of the word.
OURS = re.compile(
    r"(?<![\w/.-])qcsc-prefect-(?:core|qiskit|wrappers)(?:\[[\w,]+\])?(?P<bound>[^\s`'\"]*)"
)


@EVERY_PAGE
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


@EVERY_PAGE
def test_no_code_hides_from_what_runs_it(path: Path) -> None:
    text = FENCED.sub("", path.read_text(encoding="utf-8"))
    assert [match[0] for match in INDENTED.finditer(text)] == [], "indented: fence it"


@EVERY_PAGE
def test_no_comment_claims_an_output(path: Path) -> None:
    blocks = FENCED.finditer(path.read_text(encoding="utf-8"))
    sources = [block["source"] for block in blocks if block["language"] == "python"]
    claims = [claim[0] for source in sources for claim in CLAIM.finditer(source)]
    assert claims == [], "nobody checks a comment: show the output in a block that says so"


def installations() -> Iterator[tuple[str, str]]:
    """Yield what each line that installs something installs, and where the line stands."""
    sources = [*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("docs/examples/*.py")]
    for path in [*PAGES, *sources]:
        text = path.read_text(encoding="utf-8")
        for found in re.finditer(r"pip install((?:\\\n|[^\n])*)", text):
            yield f"{path.relative_to(ROOT)}:{text[: found.start()].count(chr(10)) + 1}", found[1]


def test_nobody_is_told_to_install_another_project() -> None:
    """Versions before 0.4 under some of these names are not ours."""
    lines = dict(installations())
    assert len(lines) > 5, "the lines are not where this test looks for them"
    unbound = {
        place: line
        for place, line in lines.items()
        if any(not found["bound"].startswith(">=0.4") for found in OURS.finditer(line))
    }
    assert unbound == {}


def test_a_clone_is_installed_from_core_upwards() -> None:
    """The pip that comes with Python 3.11 looks elsewhere for what stands further to the right."""
    orders = [re.findall(r"\./packages/([\w-]+)", line) for _, line in installations()]
    from_clone = [order for order in orders if order]
    assert from_clone
    upwards = ["qcsc-prefect-core", "qcsc-prefect-qiskit", "qcsc-prefect-wrappers"]
    assert [order for order in from_clone if order != upwards] == []
