"""The page on moving over from 0.3 names whatever differs."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .published_names import PUBLISHED, Words, differences

PAGE = Path(__file__).parents[2] / "docs/how-to/from-0.3.md"
PACKAGE = "qcsc_prefect.integrations.qiskit"
Offers = dict[str, Any]


@pytest.fixture(scope="module")
def published() -> Offers:
    offers: Offers = json.loads(PUBLISHED.read_text())
    return offers


def test_the_page_on_moving_over_names_whatever_differs(published: Offers) -> None:
    lines = PAGE.read_text().splitlines()
    differing = differences(published)
    missing = [
        words
        for words in differing
        if not any(all(_is_named(word, line) for word in words) for line in lines)
    ]
    assert missing == []
    assert {("load_json",), ("slurm",), ("-result",), ("QiskitRuntimeConfig", "channel")} <= set(
        differing
    )


@pytest.mark.parametrize("name", ["fetch_qiskit_job_result_task", "QCSCSamplerV2"])
def test_what_stays_does_not_differ(published: Offers, name: str) -> None:
    assert not [words for words in differences(published) if name in words]


def _method(offers: Offers) -> Words:
    offers["names"][f"{PACKAGE}.wrappers"]["QCSCSamplerV2"]["members"]["sample"] = {"signature": ""}
    return "QCSCSamplerV2", "sample"


def _attribute(offers: Offers) -> Words:
    offers["names"][f"{PACKAGE}.wrappers"]["QCSCPrimitiveJob"]["members"]["started"] = {}
    return "QCSCPrimitiveJob", "started"


def _default_of_a_method(offers: Offers) -> Words:
    run = offers["names"][f"{PACKAGE}.wrappers"]["QCSCEstimatorV2"]["members"]["run"]
    run["signature"] = run["signature"].replace("precision: float | None=None", "precision=0.1")
    return "QCSCEstimatorV2", "run", "precision"


def _order_of_parameters(offers: Offers) -> Words:
    offers["names"][f"{PACKAGE}.tasks"]["fetch_qiskit_job_result_task"]["signature"] = "job_id"
    return "fetch_qiskit_job_result_task", "job_id"


def _type_of_a_parameter(offers: Offers) -> Words:
    fetch = offers["names"][f"{PACKAGE}.tasks"]["fetch_qiskit_job_result_task"]
    fetch["signature"] = "*, shots: int | str | None=None"
    return "fetch_qiskit_job_result_task", "shots"


def _default_of_a_field(offers: Offers) -> Words:
    fields = offers["names"][f"{PACKAGE}.blocks"]["QiskitRuntimeConfig"]["members"]
    fields["instance"]["field"] = "str | None = 'open'"
    return "QiskitRuntimeConfig", "instance"


def _block_type(offers: Offers) -> Words:
    fields = offers["names"][f"{PACKAGE}.blocks"]["QiskitRuntimeConfig"]["members"]
    fields["_block_type_slug"]["value"] = "'runtime_config'"
    return "QiskitRuntimeConfig", "_block_type_slug"


def _base(offers: Offers) -> Words:
    offers["names"][f"{PACKAGE}.blocks"]["QiskitRuntimeConfigError"]["bases"] = ["OSError"]
    return "QiskitRuntimeConfigError", "OSError"


def _export(offers: Offers) -> Words:
    offers["exports"][PACKAGE].append("classify_qiskit_error")
    return ("classify_qiskit_error",)


def _field_of_a_class_that_is_gone(offers: Offers) -> Words:
    spans = offers["names"][f"{PACKAGE}.metadata"]["QiskitExecutionSpans"]
    spans["members"]["cooling"] = {"field": "float"}
    return "QiskitExecutionSpans", "cooling"


@pytest.mark.parametrize(
    "change",
    [
        _method,
        _attribute,
        _default_of_a_method,
        _order_of_parameters,
        _type_of_a_parameter,
        _default_of_a_field,
        _block_type,
        _base,
        _export,
        _field_of_a_class_that_is_gone,
    ],
)
def test_each_kind_of_difference_is_seen(
    published: Offers, change: Callable[[Offers], Words]
) -> None:
    changed = copy.deepcopy(published)
    words = change(changed)
    assert words not in differences(published)
    assert words in differences(changed)


def _is_named(name: str, line: str) -> bool:
    """Whether a name stands in code in a line, by itself and not as a part of another."""
    return any(
        re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", code)
        or (name.startswith("-") and code.endswith(name))
        for code in re.findall(r"`([^`\n]+)`", line)
    )
