"""Any text becomes a key that Prefect accepts, and two texts rarely become one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcsc_prefect.integrations.qiskit.presentation import artifact_key_for
from qcsc_prefect.integrations.qiskit.presentation.artifact_keys import MOST_CHARACTERS


@given(st.text())
def test_any_text_becomes_a_valid_key(text):
    for kind in ("summary", "counts-plot"):
        key = artifact_key_for(text, kind)
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", key)
        assert len(key) <= MOST_CHARACTERS
        assert key.endswith(f"-{kind}")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("ghz", "ghz-summary"),
        ("h2-scan", "h2-scan-summary"),
        ("GHZ state_7", "ghz-state-7-summary"),
        ("--a..b/c--", "a-b-c-summary"),
    ],
)
def test_a_readable_key_stays_readable(text, key):
    assert artifact_key_for(text, "summary") == key


@pytest.mark.parametrize(
    ("one", "other"),
    [("θ", "φ"), ("", "!"), ("a+b", "a*b"), ("x" * 300, "x" * 301), ("é", "e")],
)
def test_where_letters_are_lost_two_keys_stay_two(one, other):
    assert artifact_key_for(one, "counts") != artifact_key_for(other, "counts")
