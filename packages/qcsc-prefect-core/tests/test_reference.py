"""Job references: what is read, what is refused, and that the format lasts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from qcsc_prefect.core.errors import JobReferenceError
from qcsc_prefect.core.reference import (
    REFERENCE_SCHEMA_VERSION,
    JobReference,
    parse_job_reference,
)

GOLDEN = json.loads((Path(__file__).parent / "golden_references.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["references"], ids=lambda case: case["name"])
def test_references_of_every_version_are_read(case):
    reference = parse_job_reference(case["reference"])
    for field, value in case["reads_as"].items():
        assert getattr(reference, field) == value


def test_a_reference_survives_json():
    reference = JobReference(
        job_id="j-1",
        primitive="sampler",
        backend_name="ibm_kawasaki",
        shots=100,
        options={"default_shots": 100, "environment": {"job_tags": ["a"]}},
        tags=["a"],
        vendor={"anneal": {"reads": 10, "pauses": [0.5, None]}},
        schema_version=REFERENCE_SCHEMA_VERSION,
    )
    assert parse_job_reference(json.loads(json.dumps(reference.to_dict()))) == reference


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ({}, "job_id"),
        ({"job_id": None}, "job_id"),
        ({"job_id": ""}, "job_id"),
        ({"job_id": 7}, "job_id"),
        ({"job_id": "j", "shots": 1.5}, "shots"),
        ({"job_id": "j", "shots": "100"}, "shots"),
        ({"job_id": "j", "precision": "fine"}, "precision"),
        ({"job_id": "j", "options": [1]}, "options"),
        ({"job_id": "j", "options": {"a": {"b": [1, {2}]}}}, "options.a.b[1]"),
        ({"job_id": "j", "options": {"a": {1: 2}}}, "options.a"),
        ({"job_id": "j", "tags": ["a", 1]}, "tags[1]"),
        ({"job_id": "j", "tags": "ab"}, "tags"),
        ({"job_id": "j", "shots": True}, "shots"),
        ({"job_id": "j", "precision": float("nan")}, "precision"),
        ({"job_id": "j", "shots": np.float64(3.0)}, "shots"),
        ({"job_id": "j", "options": {"a": [np.complex128(1j)]}}, "options.a[0]"),
        ({"job_id": "j", "vendor": {"a": {"b": object()}}}, "vendor.a.b"),
        ({"job_id": "j", "schema_version": REFERENCE_SCHEMA_VERSION + 1}, "schema_version"),
        ({"job_id": "j", "schema_version": "1"}, "schema_version"),
    ],
)
def test_a_wrong_reference_names_the_field(reference, path):
    with pytest.raises(JobReferenceError) as caught:
        parse_job_reference(reference)
    assert caught.value.path == path
    assert repr(path) in str(caught.value)
    if path != "job_id" or reference.get("job_id"):
        with pytest.raises(JobReferenceError) as made:
            JobReference(**reference)
        assert str(made.value) == str(caught.value)
    restored = pickle.loads(pickle.dumps(caught.value))
    assert (restored.path, str(restored)) == (path, str(caught.value))


def test_a_reference_without_a_job_is_read_where_none_is_needed():
    assert parse_job_reference({"primitive": "sampler"}, require_job_id=False).job_id is None


@pytest.mark.parametrize("reference", [None, "j-1", ["j-1"]])
def test_what_is_no_mapping_is_refused(reference):
    with pytest.raises(JobReferenceError, match=type(reference).__name__):
        parse_job_reference(reference)


def test_values_of_numpy_are_kept_plain():
    reference = JobReference(
        job_id=np.str_("j"),
        shots=np.int64(3),
        precision=np.float64(0.5),
        tags=("a", np.str_("b")),
        vendor={"sweep": np.linspace(0, 1, 3), "greedy": np.bool_(False)},
    )
    plain = reference.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert {type(plain[name]) for name in ("job_id", "shots", "precision")} == {str, int, float}
    assert plain["tags"] == ["a", "b"]
    assert plain["vendor"] == {"sweep": [0.0, 0.5, 1.0], "greedy": False}


@pytest.mark.parametrize("field", ["shots", "precision"])
def test_a_number_below_zero_is_refused_where_it_is_made_and_left_out_where_it_is_read(
    field: str, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(JobReferenceError, match=f"refused at '{field}'") as caught:
        JobReference(job_id="j", **{field: -3})
    assert caught.value.path == field
    parsed = parse_job_reference({"job_id": "j", field: -3})
    assert parsed.job_id == "j"
    assert getattr(parsed, field) is None
    assert f"{field}=-3" in caplog.text
    assert getattr(JobReference(job_id="j", **{field: 0}), field) == 0


def test_a_circle_is_refused():
    circle: dict[str, object] = {}
    circle["again"] = circle
    with pytest.raises(JobReferenceError, match="levels deep"):
        JobReference(options=circle)


def test_a_paid_job_always_gets_its_reference(caplog):
    draft = JobReference(primitive="anneal", shots=3, backend_name="acme-1")
    reference = draft.of_job(
        7, session_id=np.str_("s"), submitted_at=3.5, backend_name=None, vendor={"a": object()}
    )
    assert reference == JobReference(
        job_id="7", primitive="anneal", shots=3, backend_name="acme-1", session_id="s"
    )
    assert "job 7" in caplog.text
    assert "'submitted_at'" in caplog.text
    assert "'vendor.a'" in caplog.text


@pytest.mark.parametrize("job_id", [None, "", "  ", b"a-7", ["a-7"], True, {"id": "a-7"}])
def test_what_is_no_id_of_a_job_is_refused_and_shown(job_id):
    with pytest.raises(JobReferenceError, match="is no id of a job") as caught:
        JobReference(primitive="anneal").of_job(job_id)
    assert caught.value.path == "job_id"
    assert repr(job_id) in str(caught.value)


@pytest.mark.parametrize("job_id", ["a-7", 7, np.int64(7), np.str_("a-7"), UUID(int=7)])
def test_an_id_of_any_usual_type_is_kept_as_a_text(job_id):
    kept = JobReference(primitive="anneal").of_job(job_id).to_dict()["job_id"]
    assert (type(kept), kept) == (str, str(job_id))
