"""Every public name stands on a page of the reference.

How the page of the native API is laid out is checked by the build of the site, in
``docs/site_tools/reference_layout.py``.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator

import pytest

from .test_pages import ROOT

REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
DIRECTIVE = re.compile(
    r"^::: (?P<path>[\w.]+)\n(?P<options>(?: {4}.*\n|\n(?= {4}))*)", re.MULTILINE
)
NATIVE = "qcsc_prefect.integrations.qiskit"
#: What the packages export, and two modules that are meant to be imported by their own names.
PUBLIC_MODULES = [
    *json.loads((ROOT / "packages/qcsc-prefect-wrappers/tests/public_names.json").read_text()),
    f"{NATIVE}.retry",
    f"{NATIVE}.testing",
]


def documented() -> Iterator[tuple[str, int]]:
    """Yield name and identity of each object on the pages of the reference."""
    for page in REFERENCE:
        for directive in DIRECTIVE.finditer(page.read_text(encoding="utf-8")):
            found = pkgutil.resolve_name(directive["path"])
            yield directive["path"].rpartition(".")[2], id(found)
            if "members: false" not in directive["options"]:
                for name in getattr(found, "__all__", ()):
                    yield name, id(getattr(found, name))


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_every_public_name_stands_in_the_reference(module: str) -> None:
    exporting = importlib.import_module(module)
    shown = set(documented())
    missing = [
        name for name in exporting.__all__ if (name, id(getattr(exporting, name))) not in shown
    ]
    assert missing == []


def test_what_the_page_says_of_imports_is_true() -> None:
    """All names above the last section are exported by the package, those below by ``retry``."""
    text = (ROOT / "docs" / "reference" / "native-qiskit-api.md").read_text(encoding="utf-8")
    native, own_tasks = text.split("\n## Errors Of Your Own Tasks\n")
    for part, module in ((native, NATIVE), (own_tasks, f"{NATIVE}.retry")):
        paths = [directive["path"] for directive in DIRECTIVE.finditer(part)]
        assert paths
        for path in paths:
            exported = getattr(importlib.import_module(module), path.rpartition(".")[2])
            assert exported is pkgutil.resolve_name(path)
