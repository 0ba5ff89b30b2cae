"""Artifacts as a real Prefect server holds them, and as a broken one does not."""

from __future__ import annotations

import json
import logging
import sys
import time
from uuid import uuid4

import numpy as np
import pytest
from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.context import FlowRunContext
from qiskit.primitives import BitArray, DataBin, PrimitiveResult, PubResult, SamplerPubResult

from qcsc_prefect.integrations.qiskit.fetching.metadata import collect_job_metadata
from qcsc_prefect.integrations.qiskit.presentation import JobOutput, publish_job_artifacts

pytestmark = pytest.mark.usefixtures("prefect_server")


def _output(primitive, result, pubs=None, **facts) -> JobOutput:
    metadata = collect_job_metadata(
        primitive=primitive,
        backend_name="fake_manila",
        job_id="job-1",
        pubs=pubs,
        result=result,
        timestamps={"created": "2026-01-05T10:00:00Z", "started": "2026-01-05T10:00:05Z"},
        **facts,
    )
    return JobOutput(
        primitive=primitive,
        backend_name="fake_manila",
        job_id="job-1",
        result=result,
        metadata=metadata.to_builtins(),
    )


async def _artifacts(prefix: str) -> dict[str, object]:
    async with get_client() as client:
        like = ArtifactFilter(key=ArtifactFilterKey(like_=f"{prefix}-%"))
        found = await client.read_artifacts(artifact_filter=like)
    return {artifact.key.removeprefix(f"{prefix}-"): artifact for artifact in found}


async def _publish(output, **arguments) -> tuple[dict[str, object], str]:
    key = f"t{uuid4().hex[:12]}"

    @flow
    async def experiment() -> str:
        await publish_job_artifacts(output, artifact_key=key, logger=get_run_logger(), **arguments)
        return str(FlowRunContext.get().flow_run.id)

    flow_run_id = await experiment()
    return await _artifacts(key), flow_run_id


async def test_what_a_sampler_job_leaves_in_the_ui(ghz, ghz_result):
    output = _output("sampler", ghz_result, [ghz], shots=500)
    artifacts, flow_run_id = await _publish(output, job_url="https://platform.test/job-1")
    assert artifacts.keys() == {"summary", "counts", "counts-plot"}
    assert {str(artifact.flow_run_id) for artifact in artifacts.values()} == {flow_run_id}
    assert artifacts["counts-plot"].type == "image"
    assert artifacts["counts-plot"].data.startswith("data:image/png;base64,")
    rows = json.loads(artifacts["counts"].data)
    assert {row["outcome"]: row["count"] for row in rows} == ghz_result[0].data.meas.get_counts()
    summary = artifacts["summary"].data
    assert "(https://platform.test/job-1)" in summary
    assert artifacts["counts-plot"].data in summary


async def test_what_an_estimator_job_leaves_in_the_ui(energy_pub, energy_result):
    output = _output("estimator", energy_result, [energy_pub], precision=0.05)
    artifacts, _ = await _publish(output, pubs=[energy_pub])
    assert artifacts.keys() == {"summary", "values", "values-plot"}
    rows = json.loads(artifacts["values"].data)
    assert [row["value"] for row in rows] == pytest.approx(list(energy_result[0].data.evs))
    assert "at theta = " in artifacts["summary"].data


async def test_without_matplotlib_there_are_the_tables_alone(ghz_result, monkeypatch):
    # Python's own way to make an import fail.
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    artifacts, _ = await _publish(_output("sampler", ghz_result))
    assert artifacts.keys() == {"summary", "counts"}
    assert "data:image" not in artifacts["summary"].data


async def test_a_single_value_needs_no_plot(estimate, energy_pub):
    circuit, observable, _ = energy_pub
    pub = (circuit, observable, [0.1])
    artifacts, _ = await _publish(_output("estimator", estimate([pub]), [pub]))
    assert artifacts.keys() == {"summary", "values"}


async def test_shots_that_all_differ_are_cut_in_words_and_not_drawn():
    array = np.random.default_rng(1).integers(0, 256, (20_000, 16), dtype=np.uint8)
    array[:, 0] &= 127
    result = PrimitiveResult([SamplerPubResult(DataBin(c=BitArray(array, 127)))])
    artifacts, _ = await _publish(_output("sampler", result))
    assert artifacts.keys() == {"summary", "counts"}
    assert "19,984 more outcomes" in artifacts["counts"].data
    assert "spread over too many outcomes" in artifacts["summary"].data


async def test_hundreds_of_registers_are_cut_in_words(sample, ghz):
    result = sample([ghz] * 60, shots=20)
    artifacts, _ = await _publish(_output("sampler", result, [ghz] * 60))
    assert len(json.loads(artifacts["counts"].data)) <= 24 * 17
    assert "the first 24 of 60 registers" in artifacts["counts"].description
    assert "The first 8 of 60 PUBs" in artifacts["summary"].data


@pytest.mark.parametrize(
    "metadata", [None, {}, {"schema_version": 99, "primitive": "x"}, {"primitive": 3}, "text"]
)
async def test_an_output_of_another_release_is_still_shown(ghz_result, metadata):
    output = {"primitive": "sampler", "job_id": "j9", "result": ghz_result, "metadata": metadata}
    artifacts, _ = await _publish(output)
    assert "`j9`" in artifacts["summary"].data
    assert artifacts.keys() >= {"counts"}


@pytest.mark.parametrize("fault", ["refuse", "swallow"])
async def test_with_the_api_down_it_costs_five_seconds_and_a_line(
    forwarder, ghz_result, fault, caplog
):
    output = _output("sampler", ghz_result)
    logger = logging.getLogger("test.publishing")

    @flow
    async def experiment() -> float:
        getattr(forwarder, fault)()
        before = time.monotonic()
        await publish_job_artifacts(output, artifact_key="down", logger=logger)
        elapsed = time.monotonic() - before
        forwarder.restore()
        return elapsed

    with caplog.at_level(logging.INFO, logger="test.publishing"):
        elapsed = await experiment()
    lines = [record for record in caplog.records if record.name == "test.publishing"]
    assert len(lines) == 1
    assert "the result is not affected" in lines[0].getMessage()
    print(f"{fault}: {elapsed:.2f} s")
    assert elapsed < 5


async def test_a_result_that_cannot_be_shown_is_a_line_in_the_log(caplog):
    damaged = PrimitiveResult([PubResult(DataBin(evs=np.array(["x", "y"]), shape=(2,)))])
    logger = logging.getLogger("test.publishing")
    with caplog.at_level(logging.INFO, logger="test.publishing"):
        await publish_job_artifacts(
            {"primitive": "estimator", "result": damaged}, artifact_key="damaged", logger=logger
        )
    (line,) = [record for record in caplog.records if record.name == "test.publishing"]
    assert "no artifacts of the job" in line.getMessage()
    assert await _artifacts("damaged") == {}
