"""The stored form of job metadata: what is absent stays absent, and old records stay readable."""

from __future__ import annotations

import json
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcsc_prefect.core.errors import FormatVersionError, InputError, RecordError
from qcsc_prefect.core.metadata import METADATA_SCHEMA_VERSION, JobMetadata, PubMetadata

#: A record of schema version 1 as it lies in storage. It is never changed.
STORED_IN_VERSION_1 = """{
  "primitive": "sampler", "schema_version": 1, "program_type": "executor", "resource": "ring_1",
  "input_digest": "qiskit-sampler-input-00", "job_id": "d1c0", "job_url": "https://x.test/d1c0",
  "session_id": "s1", "instance": "crn:1", "tags": ["a", "b"],
  "created": "2026-01-05T10:00:00Z", "started": "2026-01-05T10:01:00Z",
  "completed": "2026-01-05T10:02:30.500000Z",
  "queue_seconds": 60.0, "work_seconds": 90.5, "qpu_seconds": 3.25, "charged_seconds": 4,
  "shots": 4096, "precision": 0.01, "options": {"a": {"b": [1, null, true, "x", 1.5]}},
  "versions": {"qiskit": "2.2.0"},
  "pubs": [
    {"circuit_name": "ghz", "num_qubits": 3, "depth": 4, "size": 6, "two_qubit_count": 2,
     "shape": [2, 3], "shots": 4096, "shots_asked": 4000, "precision": 0.5,
     "started": "2026-01-05T10:01:10Z",
     "completed": "2026-01-05T10:01:20Z", "execution_seconds": 9.5, "job_id": "d1c1"},
    {}
  ],
  "vendor": {"annealing_time": 20.5, "chains": [[0, 4], [1, 5]]}
}"""


def test_a_record_of_version_1_is_read_and_written_as_it_was():
    stored = json.loads(STORED_IN_VERSION_1)
    record = JobMetadata.from_builtins(stored)
    assert record.to_builtins() == stored
    # Every field takes part: one that is renamed or dropped is noticed.
    assert set(stored) == set(JobMetadata.__struct_fields__)
    assert set(stored["pubs"][0]) == set(PubMetadata.__struct_fields__)


def test_what_is_not_known_is_not_stored():
    assert JobMetadata(primitive="sampler", pubs=[PubMetadata(depth=3)]).to_builtins() == {
        "primitive": "sampler",
        "schema_version": METADATA_SCHEMA_VERSION,
        "pubs": [{"depth": 3}],
    }


def test_a_later_version_is_refused_with_its_number():
    with pytest.raises(FormatVersionError, match=f"schema version {METADATA_SCHEMA_VERSION + 1}"):
        JobMetadata.from_builtins(
            {"primitive": "sampler", "schema_version": METADATA_SCHEMA_VERSION + 1}
        )


@pytest.mark.parametrize(
    ("stored", "path"),
    [
        ({}, "primitive"),
        ({"primitive": "sampler", "shots": "many"}, r"\$\.shots"),
        ({"primitive": "sampler", "pubs": [{}, {"shape": [1, "x"]}]}, r"pubs\[1\]|pubs\[\.\.\.\]"),
        ({"primitive": "sampler", "pubs": [{}, 7]}, r"\$\.pubs\[1\]"),
        ({"primitive": "sampler", "pubs": [{"depth": "x"}]}, r"\$\.pubs\[0\]\.depth"),
        ({"primitive": "sampler", "versions": {"qiskit": 2}}, r"versions"),
    ],
)
def test_a_wrong_field_is_named(stored, path):
    with pytest.raises(RecordError, match=path):
        JobMetadata.from_builtins(stored)


def test_fields_of_a_release_between_are_left_out():
    record = JobMetadata.from_builtins({"primitive": "sampler", "colour": "blue"})
    assert record == JobMetadata(primitive="sampler")


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(string.printable), inner),
    max_leaves=10,
)


@given(options=st.dictionaries(st.text(), plain), seconds=st.floats(0, allow_infinity=False))
def test_any_plain_options_come_back_equal(options, seconds):
    record = JobMetadata(primitive="estimator", options=options, work_seconds=seconds)
    assert JobMetadata.from_builtins(record.to_builtins()) == record


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"shots": 1.5}, "shots"),
        ({"shots": True}, "shots"),
        ({"tags": ["a", 7]}, "tags[1]"),
        ({"tags": "ab"}, "tags"),
        ({"qpu_seconds": float("inf")}, "qpu_seconds"),
        ({"options": {"a": [1, {2}]}}, "options.a[1]"),
        ({"vendor": {"a": float("nan")}}, "vendor.a"),
        ({"vendor": {1: 2}}, "vendor"),
        ({"vendor": [1]}, "vendor"),
        ({"pubs": [7]}, "pubs[0]"),
        ({"shots": -3}, "shots"),
        ({"precision": -0.1}, "precision"),
        *[({name: -1.0}, name) for name in ("queue_seconds", "work_seconds", "charged_seconds")],
        *[
            ({"created": time}, "created")
            for time in (
                "yesterday",
                "2026-01-05",
                "2026-01-05T10:00:00",
                "2026-01-05T10:00:00+09:00",
                "2026-13-05T10:00:00Z",
                "2026-01-05T24:00:00Z",
                "2026-01-05T10:00:00Z ",
            )
        ],
    ],
)
def test_a_wrong_field_is_refused_when_a_record_is_made(fields, path):
    with pytest.raises(InputError) as caught:
        JobMetadata(primitive="sampler", **fields)
    assert caught.value.path == path
    assert repr(path) in str(caught.value)


def test_values_of_numpy_are_kept_plain():
    record = JobMetadata(
        primitive=np.str_("sampler"),
        shots=np.int64(3),
        precision=np.float64(0.5),
        options={"a": np.float32(0.5), "b": np.arange(2), "c": np.bool_(True), "d": np.array(1)},
        pubs=[PubMetadata(shape=(np.int64(2),), precision=np.float64(0.25))],
    )
    assert json.loads(json.dumps(record.to_builtins())) == {
        "primitive": "sampler",
        "schema_version": 1,
        "shots": 3,
        "precision": 0.5,
        "options": {"a": 0.5, "b": [0, 1], "c": True, "d": 1},
        "pubs": [{"shape": [2], "precision": 0.25}],
    }


def test_none_means_not_known():
    record = JobMetadata(primitive="sampler", tags=None, vendor=None)
    assert record.to_builtins() == {"primitive": "sampler", "schema_version": 1}
    assert JobMetadata.from_builtins({**record.to_builtins(), "tags": None}) == record


@pytest.mark.parametrize(
    "fields",
    [{"depth": -1}, {"shots_asked": -1}, {"execution_seconds": -0.5}, {"started": "yesterday"}],
)
def test_numbers_below_zero_and_what_is_no_time_are_refused_in_a_pub(fields):
    with pytest.raises(InputError) as caught:
        PubMetadata(**fields)
    assert caught.value.path == next(iter(fields))
    with pytest.raises(RecordError, match=rf"pubs\[0\]\.{caught.value.path}"):
        JobMetadata.from_builtins({"primitive": "sampler", "pubs": [fields]})
