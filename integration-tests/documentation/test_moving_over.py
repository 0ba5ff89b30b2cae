"""The page on moving over from 0.3 names whatever differs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from .published_names import PUBLISHED, differences

PAGE = Path(__file__).parents[2] / "docs/how-to/from-0.3.md"


def test_the_page_on_moving_over_names_whatever_differs() -> None:
    page = PAGE.read_text()
    differing = differences(json.loads(PUBLISHED.read_text()))
    missing = [name for name in differing if not _is_named(name, page)]
    assert missing == []
    assert {"load_json", "slurm", "-result", "run-qiskit-sampler"} <= set(differing)


@pytest.mark.parametrize("name", ["fetch_qiskit_job_result_task", "QCSCSamplerV2"])
def test_what_stays_does_not_differ(name: str) -> None:
    assert name not in differences(json.loads(PUBLISHED.read_text()))


def _is_named(name: str, page: str) -> bool:
    """Whether a name stands in code on the page, by itself and not as a part of another."""
    return any(
        re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", code)
        or (name.startswith("-") and code.endswith(name))
        for code in re.findall(r"`([^`\n]+)`", page)
    )
