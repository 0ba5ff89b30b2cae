"""The progress artifact follows a job with few calls, and never holds it up."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from qiskit import QuantumCircuit

from qcsc_prefect.integrations.qiskit import (
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.presentation import JobProgress
from qcsc_prefect.integrations.qiskit.presentation.progress import FINISH_SECONDS

pytestmark = pytest.mark.usefixtures("prefect_server")

LOGGER = logging.getLogger("test.progress")


async def _artifacts(key: str) -> list[tuple[float, str]]:
    async with get_client() as client:
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[f"{key}-progress"]))
        )
    return [(artifact.data, artifact.description) for artifact in found]


def _progress(key: str, **arguments) -> JobProgress:
    return JobProgress(
        artifact_key=key, job_id="d1c0", backend_name="ibm_x", logger=LOGGER, **arguments
    )


async def _until(key: str, percent: float) -> str:
    """Wait until the artifact shows so much, and return what it says."""
    for _ in range(100):
        shown = await _artifacts(key)
        if shown and shown[0][0] == percent:
            return shown[0][1]
        await asyncio.sleep(0.05)
    raise AssertionError(f"{percent} is never shown, but {shown}")


async def test_a_job_from_the_queue_to_its_end():
    key = f"p{uuid4().hex[:12]}"

    @flow
    async def experiment() -> None:
        progress = _progress(key, job_url=lambda: "https://platform.test/d1c0", min_interval=0.0)
        await progress.update(state="QUEUED", waited_seconds=0, queue_position=20)
        line = await _until(key, 0)
        assert line.startswith("job d1c0 on ibm_x: QUEUED (position 20) after 0 s")
        assert "(https://platform.test/d1c0)" in line
        await progress.update(state="QUEUED", waited_seconds=60, queue_position=5)
        await _until(key, 37.5)
        await progress.update(state="RUNNING", waited_seconds=90)
        await _until(key, 75)
        await progress.finish(state="DONE", waited_seconds=100)

    await experiment()
    assert await _artifacts(key) == [
        (
            100,
            "job d1c0 on ibm_x: DONE after 1 min 40 s · "
            "[open on the platform](https://platform.test/d1c0)",
        )
    ]


async def test_a_failed_job_does_not_fill_the_bar():
    key = f"p{uuid4().hex[:12]}"

    @flow
    async def experiment() -> None:
        progress = _progress(key)
        await progress.update(state="RUNNING", waited_seconds=1)
        await progress.finish(state="ERROR", waited_seconds=2)

    await experiment()
    assert await _artifacts(key) == [(75, "job d1c0 on ibm_x: ERROR after 2 s")]


async def test_a_late_update_does_not_undo_the_end():
    key = f"p{uuid4().hex[:12]}"

    @flow
    async def experiment() -> None:
        progress = _progress(key)
        progress.note(state="QUEUED", waited_seconds=0)
        late = asyncio.ensure_future(progress.update(state="RUNNING", waited_seconds=1))
        await progress.finish(state="DONE", waited_seconds=2)
        await late
        progress.note(state="QUEUED", waited_seconds=3)
        await asyncio.sleep(0.2)

    await experiment()
    assert await _artifacts(key) == [(100, "job d1c0 on ibm_x: DONE after 2 s")]


async def test_many_updates_are_few_calls(forwarder):
    """A thousand updates of one state: the artifact still shows the first of them."""
    key = f"p{uuid4().hex[:12]}"

    @flow
    async def experiment() -> None:
        progress = _progress(key)
        for second in range(1000):
            await progress.update(state="QUEUED", waited_seconds=second)
        assert await _until(key, 0) == "job d1c0 on ibm_x: QUEUED after 0 s"
        await asyncio.sleep(0.3)
        assert await _until(key, 0) == "job d1c0 on ibm_x: QUEUED after 0 s"
        await progress.finish(state="QUEUED", waited_seconds=1000)

    await experiment()
    assert await _artifacts(key) == [(0, "job d1c0 on ibm_x: QUEUED after 16 min 40 s")]


@pytest.mark.parametrize("fault", ["refuse", "swallow"])
async def test_with_the_api_down_nothing_waits(forwarder, fault):
    @flow
    async def experiment() -> tuple[float, float]:
        progress = _progress("down")
        getattr(forwarder, fault)()
        before = time.monotonic()
        await progress.update(state="QUEUED", waited_seconds=0)
        await asyncio.sleep(0.2)
        await progress.update(state="RUNNING", waited_seconds=1)
        updates = time.monotonic() - before - 0.2
        before = time.monotonic()
        await progress.finish(state="DONE", waited_seconds=2)
        finish = time.monotonic() - before
        forwarder.restore()
        return updates, finish

    updates, finish = await experiment()
    print(f"{fault}: updates {updates:.3f} s, finish {finish:.2f} s")
    assert updates < 0.5
    assert finish < 3


@pytest.mark.emulated_service(queued_seconds=math.inf)
async def test_a_cancelled_fetch_waits_for_no_artifact(forwarder, prefect_home: Path, config):
    """Ctrl-C ends a temporary server too, and the cancellation is to reach it before it is gone."""
    key = f"p{uuid4().hex[:12]}"
    circuit = QuantumCircuit(1)
    circuit.measure_all()
    reference = await submit_sampler_job_task.fn([circuit], runtime_config=config)
    fetch = asyncio.create_task(
        fetch_qiskit_job_result_task.fn(
            job_reference=reference, runtime_config=config, artifact_key=key
        )
    )
    told = await _until(key, 0)
    forwarder.swallow()
    before = time.monotonic()
    fetch.cancel()
    await asyncio.wait([fetch])
    seconds = time.monotonic() - before
    forwarder.restore()
    assert fetch.cancelled()
    assert seconds < FINISH_SECONDS
    assert await _artifacts(key) == [(0, told)]
