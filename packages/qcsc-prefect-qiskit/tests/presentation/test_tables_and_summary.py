"""Tables and summaries say what is there, and say it where they leave something out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.primitives import BitArray, DataBin, PrimitiveResult, PubResult, SamplerPubResult

from qcsc_prefect.core.metadata import JobMetadata, PubMetadata
from qcsc_prefect.integrations.qiskit.presentation.distributions import distributions_of
from qcsc_prefect.integrations.qiskit.presentation.estimates import estimates_of
from qcsc_prefect.integrations.qiskit.presentation.summary import summary_markdown
from qcsc_prefect.integrations.qiskit.presentation.tables import outcomes_table, values_table
from qcsc_prefect.integrations.qiskit.presentation.wording import (
    bar,
    duration,
    markdown_code,
    markdown_text,
    with_uncertainty,
)


def _estimator_result(*values: np.ndarray, errors: str | None = "stds") -> PrimitiveResult:
    return PrimitiveResult(
        [
            PubResult(
                DataBin(
                    evs=array,
                    **({errors: np.full(array.shape, 0.01)} if errors else {}),
                    shape=array.shape,
                )
            )
            for array in values
        ]
    )


def test_the_outcomes_of_a_register_sum_up_to_its_shots(ghz_result):
    rows = outcomes_table(distributions_of(ghz_result, most=10)[0])
    assert sum(row["count"] for row in rows) == 500
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=0.01)
    assert {row["outcome"] for row in rows[:2]} == {"000", "111"}
    json.dumps(rows)


def test_many_outcomes_are_cut_with_their_number():
    bits = BitArray(np.arange(200, dtype=np.uint8).reshape(-1, 1), 8)
    result = PrimitiveResult([SamplerPubResult(DataBin(c=bits))])
    rows = outcomes_table(distributions_of(result, most=10)[0])
    assert rows[-1]["outcome"] == "184 more outcomes"
    assert rows[-1]["count"] == 184


def test_values_come_with_the_swept_parameter(energy_pub, energy_result):
    estimates = estimates_of(energy_result, [energy_pub])
    rows, total = values_table(estimates)
    assert total == len(rows) == 9
    assert [row["theta"] for row in rows] == pytest.approx(list(energy_pub[2]), abs=1e-6)
    values = energy_result[0].data.evs
    assert [row["value"] for row in rows] == pytest.approx(list(values), rel=1e-6)
    assert rows[0].keys() == {"PUB", "point", "theta", "value", "standard error"}
    json.dumps(rows)


def test_a_table_of_very_many_values_is_cut():
    rows, total = values_table(estimates_of(_estimator_result(np.zeros((30, 40)))))
    assert (len(rows), total) == (200, 1200)
    assert rows[-1]["point"] == "4, 39"


def test_values_that_are_no_number_are_empty_cells():
    result = _estimator_result(np.array([np.nan, np.inf, 1.0]))
    rows, _ = values_table(estimates_of(result))
    assert [row["value"] for row in rows] == [None, None, 1.0]
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize("errors", ["stds", "ensemble_standard_error", None])
def test_each_kind_of_standard_error_is_found(errors):
    (item,) = estimates_of(_estimator_result(np.array(0.5), errors=errors))
    assert item.standard_error(()) == (0.01 if errors else None)


def test_the_sounder_of_two_standard_errors_is_shown():
    data = DataBin(evs=np.array(0.5), stds=np.array(0.0), ensemble_standard_error=np.array(0.02))
    (item,) = estimates_of(PrimitiveResult([PubResult(data)]))
    assert item.standard_error(()) == 0.02
    rows, _ = values_table([item])
    assert rows[0]["standard error"] == 0.02
    summary = summary_markdown(JobMetadata(primitive="estimator"), estimates=[item])
    assert "0.500 ± 0.020" in summary


@pytest.mark.parametrize(
    "values", [np.array(0.5), np.full(9, np.nan), np.zeros((0, 3)), np.zeros((2, 3, 4))]
)
def test_a_summary_of_any_shape_of_values(values):
    text = summary_markdown(
        JobMetadata(primitive="estimator"), estimates=estimates_of(_estimator_result(values))
    )
    assert "### Expectation values" in text


def test_the_summary_says_what_where_when_how_long_and_what_came_out(
    energy_pub, energy_result, ghz_result
):
    metadata = JobMetadata(
        primitive="estimator",
        resource="ibm_x",
        job_id="d1c0",
        job_url="https://platform.test/d1c0",
        created="2026-01-05T10:00:00Z",
        completed="2026-01-05T10:10:00Z",
        queue_seconds=540.0,
        work_seconds=60.0,
        qpu_seconds=3.5,
        charged_seconds=4.0,
        precision=0.05,
        options={"resilience_level": 1},
        versions={"qiskit": "2.2"},
        pubs=[PubMetadata(circuit_name="ansatz", shape=[9], depth=5, two_qubit_count=1)],
    )
    text = summary_markdown(
        metadata,
        estimates=estimates_of(energy_result, [energy_pub]),
        distributions=distributions_of(ghz_result, most=10)[0],
        notes=["Cut: something."],
    )
    for fact in (
        "## Estimator job on ibm\\_x",
        "| Job | `d1c0` · [open on the platform](https://platform.test/d1c0) |",
        "2026-01-05 10:00:00 UTC",
        "9 min in the queue, 1 min worked on, 3.5 s on the QPU",
        "| Usage charged | 4 s |",
        "lowest, at theta = 0",
        "*9 values*",
        "`000`",
        "> Cut: something.",
        "| 0 | `ansatz` | 9 | 5 | 1 |",
        '**Options** `{"resilience_level": 1}`',
        "qiskit 2.2",
    ):
        assert fact in text


def test_a_summary_of_hundreds_of_pubs_stays_short():
    pubs = [PubMetadata(circuit_name=f"c{i}", depth=i) for i in range(400)]
    text = summary_markdown(
        JobMetadata(primitive="estimator", pubs=pubs, options={"a": "x" * 5000}),
        estimates=estimates_of(_estimator_result(*[np.array(0.1)] * 400)),
    )
    assert "The first 8 of 400 PUBs." in text
    assert "The first 8 of 400 PUBs with values." in text
    assert "(cut)" in text
    assert len(text) < 3000


def test_the_numbers_that_qiskit_gives_to_circuits_are_no_names():
    pubs = [PubMetadata(circuit_name=QuantumCircuit(1).name, depth=2)]
    text = summary_markdown(JobMetadata(primitive="sampler", pubs=pubs))
    assert "| PUB | depth |" in text
    assert "circuit" not in text


def test_names_cannot_break_out_of_their_cell():
    text = summary_markdown(
        JobMetadata(
            primitive="sampler",
            resource="a|b\n| <script>alert(1)</script>",
            job_id="`|`<b>",
            pubs=[PubMetadata(circuit_name="x|y`z\n# heading")],
        )
    )
    assert "<script>" not in text
    assert "\n# heading" not in text
    table = [line for line in text.splitlines() if line.startswith("| 0 |")]
    assert table == ["| 0 | `` x\\|y`z # heading `` |"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.000439, "0 s"),
        (0.25, "0.25 s"),
        (59.97, "1 min"),
        (60, "1 min"),
        (3599, "59 min 59 s"),
        (3600, "1 h"),
        (90061, "1 d 1 h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.123456, 0.00123, "0.1235 ± 0.0012"),
        (-1.5, None, "-1.5"),
        (-1.5, 0.0, "-1.5"),
        (-1.5, float("nan"), "-1.5"),
        (1234.5, 230.0, "1234 ± 230"),
        (12.0, 5.0, "12.0 ± 5.0"),
    ],
)
def test_values_end_where_their_error_begins(value, error, text):
    assert with_uncertainty(value, error) == text


def test_small_wordings():
    assert bar(2) == "█" * 20
    assert bar(-1) == ""
    assert markdown_text("a_b*c") == "a\\_b\\*c"
    assert markdown_code("a`b") == "`` a`b ``"
