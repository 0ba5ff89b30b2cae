"""Outputs and references read well, and stay the plain dicts that they are."""

from __future__ import annotations

import copy
import json
import pickle
from html.parser import HTMLParser

import cloudpickle
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.utilities.collections import visit_collection

from qcsc_prefect.integrations.qiskit.presentation import (
    JobOutput,
    JobReferenceDict,
    html_repr,
    job_page_url,
    short_repr,
    state_line,
)

REFERENCE = {
    "primitive": "sampler",
    "backend_name": "ibm_x",
    "job_id": "d1c0",
    "shots": 1024,
    "options": {"default_shots": 5},
}


class _Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_data(self, data):
        self.text += data


def _read(html: str) -> _Collector:
    collector = _Collector()
    collector.feed(html)
    collector.close()
    return collector


@pytest.mark.parametrize("kind", [JobOutput, JobReferenceDict])
def test_they_are_the_plain_dict_to_everything_else(kind):
    value = kind(REFERENCE)
    assert value == REFERENCE
    assert value == REFERENCE
    assert json.loads(json.dumps(value)) == REFERENCE
    assert msgspec.json.decode(msgspec.json.encode(value)) == REFERENCE
    for back in (pickle.loads(pickle.dumps(value)), cloudpickle.loads(cloudpickle.dumps(value))):
        assert back == REFERENCE
        assert type(back) is kind
    assert copy.deepcopy(value) == REFERENCE
    visited = visit_collection(value, visit_fn=lambda item: item, return_data=True)
    assert visited == REFERENCE


def test_the_repr_is_short(ghz_result):
    output = JobOutput(REFERENCE, result=ghz_result, metadata={"options": {"x": "y" * 1000}})
    assert repr(output) == "<JobOutput: sampler job d1c0 on ibm_x, DONE, shots=1024, PUBs=1>"
    assert repr(JobReferenceDict()) == "<JobReferenceDict: job, SUBMITTED>"


def test_the_html_shows_state_backend_job_and_link():
    html = JobOutput(
        REFERENCE, metadata={"job_url": "https://platform.test/?a=1&b=2"}
    )._repr_html_()
    read = _read(html)
    assert read.links == ["https://platform.test/?a=1&b=2"]
    for fact in ("DONE", "ibm_x", "d1c0", "1024", "Sampler job"):
        assert fact in read.text


@given(texts=st.lists(st.text(), min_size=5, max_size=5))
def test_no_value_becomes_markup(texts):
    primitive, state, backend, job, fact = texts
    html = html_repr(
        primitive=primitive + "<script>",
        state=state + "<img onerror=x>",
        backend_name=backend + '"<iframe>',
        job_id=job + "</code><svg>",
        job_url="https://x.test/'\"><script>",
        facts={fact + "<b1>": fact + "<b2>"},
    )
    expected = {"div", "b", "span", "table", "tr", "th", "td", "code", "a"}
    assert _read(html).tags == expected


@pytest.mark.parametrize("url", ["javascript:alert(1)", "http://x.test", "data:text/html,x", ""])
def test_only_https_becomes_a_link(url):
    html = html_repr(primitive="sampler", state="DONE", backend_name="b", job_id="j", job_url=url)
    assert _read(html).links == []


def test_state_lines():
    line = state_line(
        job_id="abc123",
        backend_name="ibm_x",
        state="QUEUED",
        waited_seconds=180,
        queue_position=12,
    )
    assert line == "job abc123 on ibm_x: QUEUED (position 12) after 3 min"
    line = state_line(job_id="a", backend_name=None, state="DONE", waited_seconds=0.5)
    assert line == "job a: DONE after 0.5 s"


def test_a_handle_without_facts_still_has_a_repr():
    assert (
        short_repr("Handle", primitive=None, state=None, backend_name=None, job_id=None)
        == "<Handle: job>"
    )


@pytest.mark.parametrize(
    ("channel", "service_url", "linked"),
    [
        ("ibm_quantum_platform", None, True),
        ("ibm_cloud", "https://cloud.ibm.com", True),
        ("ibm_cloud", "https://eu-de.quantum.cloud.ibm.com/api/v1", True),
        ("ibm_cloud", "http://127.0.0.1:8080/experimental", False),
        ("ibm_cloud", "https://cloud.ibm.com.evil.test", False),
        ("local", None, False),
        (None, None, False),
    ],
)
def test_only_jobs_of_the_public_service_have_a_page(channel, service_url, linked):
    url = job_page_url("d1/c?0", channel=channel, service_url=service_url)
    assert (url is not None) == linked
    if url is not None:
        assert url == "https://quantum.cloud.ibm.com/workloads?search=d1%2Fc%3F0"
