"""Fails the build if the page of the native API is not laid out as its contract says.

The contract is the one that the tests of the public API hold the packages to: which names, in which
order, which of them are coroutines and properties, and what classes derive from.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.exceptions import PluginError

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

PAGE = "reference/native-qiskit-api.md"
CONTRACT = Path(__file__).parents[2] / "packages/qcsc-prefect-wrappers/tests/reference_api.json"
HEADING = re.compile(
    r'<h\d id="(?P<path>[\w.]+)" class="doc doc-heading">(?P<text>.*?)</h\d>', re.S
)
LABELS = {"coroutine": "async", "property": "property"}


def on_page_content(content: str, page: Page, **_: object) -> None:
    """Compare the headings of the page with the contract."""
    if page.file.src_uri == PAGE:
        mistakes = deviations(content, json.loads(CONTRACT.read_text())["names"])
        if mistakes:
            raise PluginError(f"{PAGE}: " + "; ".join(mistakes))


def deviations(content: str, contract: list[dict[str, str]]) -> list[str]:
    """Return what the page shows otherwise than the contract says."""
    headings = list(HEADING.finditer(content))
    ends = [heading.start() for heading in headings[1:]] + [len(content)]
    shown = {
        heading["path"]: (heading["text"], plain(content[heading.end() : end]))
        for heading, end in zip(headings, ends, strict=True)
    }
    agreed = [entry["path"] for entry in contract]
    mistakes = [f"{path} is missing" for path in agreed if path not in shown]
    order = [path for path in shown if path in agreed]
    if order != [path for path in agreed if path in shown]:
        mistakes.append(f"names in another order: {', '.join(order)}")
    for entry in contract:
        heading, text = shown.get(entry["path"], ("", ""))
        label = LABELS.get(entry["kind"].split()[0])
        if label is not None and f"doc-label-{label}" not in heading:
            mistakes.append(f"{entry['path']} has no label {label}")
        mistakes += [
            f"{entry['path']} does not name its base {base}"
            for base in entry.get("bases", [])
            if f"Bases: {base}" not in text
        ]
    return mistakes


def plain(content: str) -> str:
    """Return the words of a piece of HTML."""
    return " ".join(html.unescape(re.sub("<[^>]+>", "", content)).split())
