"""Waiting for jobs of the real client on the emulated service."""

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
from prefect.client.schemas.objects import Artifact
from prefect.context import FlowRunContext
from qiskit import QuantumCircuit

from qcsc_prefect.core.engine.service import AwaitedJob, JobState, JobStatus
from qcsc_prefect.core.engine.waiting import JobWatcher, WaitLimits, wait_for_job
from qcsc_prefect.core.errors import (
    JobError,
    JobFailedError,
    JobNotFoundError,
    JobTimeLimitError,
    JobWaitTimeoutError,
    ResultUnavailableError,
)
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.fetching import fetch as fetching
from qcsc_prefect.integrations.qiskit.services.ibm import result_reading
from qcsc_prefect.integrations.qiskit.services.ibm.instances import ConfiguredInstance
from qcsc_prefect.integrations.qiskit.services.ibm.runtime_service import RuntimeJobService
from qcsc_prefect.integrations.qiskit.testing import ACCOUNT_NAME, EmulatedService, JobEnd


def circuit() -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.measure_all()
    return circuit


async def submit(config: QiskitRuntimeConfig) -> str:
    reference = await submit_sampler_job_task([circuit()], shots=10, runtime_config=config)
    return reference["job_id"]


def nothing(status: JobStatus, waited: float) -> None:
    pass


async def test_each_change_is_told_once_with_the_position_in_the_queue(
    prefect_home: Path, emulated, config, service
):
    emulated.set_schedule(queued_seconds=math.inf)
    await submit(config)
    job_id = await submit(config)
    told: list[JobStatus] = []
    waiting = asyncio.create_task(
        wait_for_job(
            service, AwaitedJob(job_id), WaitLimits(), lambda status, _: told.append(status)
        )
    )
    await asyncio.sleep(1)
    assert [(status.state, status.queue_position) for status in told] == [(JobState.QUEUED, 2)]
    emulated.release_jobs()
    assert (await waiting).state is JobState.DONE
    assert told[-1].state is JobState.DONE
    assert len({(status.state, status.queue_position) for status in told}) == len(told)


async def test_of_many_jobs_each_is_told_once_with_its_position(
    prefect_home: Path, emulated, config, service
):
    emulated.set_schedule(queued_seconds=math.inf)
    job_ids = [await submit(config) for _ in range(14)]
    told: dict[str, list[JobStatus]] = {job_id: [] for job_id in job_ids}
    waits = [
        asyncio.create_task(
            wait_for_job(
                service,
                AwaitedJob(job_id),
                WaitLimits(first_pause=0.3),
                lambda status, _, job_id=job_id: told[job_id].append(status),
            )
        )
        for job_id in job_ids
    ]
    async with asyncio.timeout(30):
        while not all(told.values()):
            await asyncio.sleep(0.1)
    await asyncio.sleep(2)
    for position, job_id in enumerate(job_ids, start=1):
        assert [(status.state, status.queue_position) for status in told[job_id]] == [
            (JobState.QUEUED, position)
        ]
    # One request for each, but for the first ones, which were looked at before the others came.
    assert emulated.count("metrics") <= len(job_ids) + 6
    emulated.release_jobs()
    await asyncio.gather(*waits)


async def test_jobs_that_do_not_queue_are_asked_for_no_position(
    prefect_home: Path, emulated, config, service
):
    emulated.set_schedule(running_seconds=1)
    job_ids = [await submit(config) for _ in range(5)]
    waits = [wait_for_job(service, AwaitedJob(job_id), AT_ONCE, nothing) for job_id in job_ids]
    await asyncio.gather(*waits)
    assert emulated.count("metrics") == 0


@pytest.mark.parametrize("primitives", ["classic", "auto"])
async def test_each_run_is_told_of_its_own_job(
    prefect_home: Path, emulated, config, primitives: str
):
    config = config.model_copy(update={"primitives": primitives})
    emulated.set_schedule(queued_seconds=math.inf)
    keys = [f"p{uuid4().hex[:12]}" for _ in range(2)]
    job_ids = [await submit(config) for _ in keys]

    @flow
    async def fetches(job_id: str, key: str) -> tuple[object, dict]:
        output = await fetch_qiskit_job_result_task(
            job_id=job_id, runtime_config=config, artifact_key=key
        )
        context = FlowRunContext.get()
        assert context is not None
        return context.flow_run.id, output

    async def progress(key: str) -> list[Artifact]:
        async with get_client() as client:
            return await client.read_artifacts(
                artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[f"{key}-progress"]))
            )

    fetching_both = asyncio.gather(*map(fetches, job_ids, keys))
    async with asyncio.timeout(60):
        while not all([await progress(key) for key in keys]):
            await asyncio.sleep(0.1)
    emulated.release_jobs()
    for key, (flow_run_id, output) in zip(keys, await fetching_both, strict=True):
        [artifact] = await progress(key)
        assert (artifact.flow_run_id, artifact.data) == (flow_run_id, 100)
        assert "COMPLETED" in artifact.description
        # The emulated service is none of the platform's, though no configuration says so.
        assert "platform" not in artifact.description
        assert "job_url" not in output["metadata"]


async def test_a_state_change_is_one_line_in_the_log(prefect_home: Path, emulated, config, caplog):
    emulated.set_schedule(queued_seconds=1, running_seconds=1)
    job_id = await submit(config)
    with caplog.at_level(logging.INFO):
        await fetch_qiskit_job_result_task(job_id=job_id, runtime_config=config)
    lines = [record.getMessage() for record in caplog.records if job_id in record.getMessage()]
    for state in ("QUEUED", "RUNNING"):
        assert sum(state in line for line in lines) == 1, lines


async def test_fifty_jobs_wait_on_the_requests_of_one(
    prefect_home: Path, emulated, config, service
):
    emulated.set_schedule(queued_seconds=math.inf)
    job_ids = await asyncio.gather(*(submit(config) for _ in range(50)))
    waits = [
        asyncio.create_task(
            wait_for_job(service, AwaitedJob(job_id), WaitLimits(first_pause=0.3), nothing)
        )
        for job_id in job_ids
    ]
    await asyncio.sleep(3)  # each is asked for once, since nothing is said here of any
    emulated.clear_requests()
    await asyncio.sleep(3)
    assert 1 <= emulated.count() <= 10
    assert emulated.count("metrics") == 0, "the places of so many are of no interest"
    emulated.release_jobs()
    assert {status.state for status in await asyncio.gather(*waits)} == {JobState.DONE}


def test_tasks_with_event_loops_of_their_own_share_one_poller(prefect_home: Path, emulated, config):
    emulated.set_schedule(queued_seconds=math.inf)

    @flow
    def experiment() -> list[dict]:
        references = [
            submit_sampler_job_task.submit([circuit()], shots=10, runtime_config=config)
            for _ in range(10)
        ]
        fetched = [
            fetch_qiskit_job_result_task.submit(
                job_reference=reference.result(), runtime_config=config
            )
            for reference in references
        ]
        deadline = time.monotonic() + 60
        while emulated.count("metrics") < 10 and time.monotonic() < deadline:
            time.sleep(0.1)  # each is asked for its place once
        time.sleep(4)  # they are looked at less often with time
        emulated.clear_requests()
        time.sleep(3)
        asked.extend(record.endpoint for record in emulated.requests)
        emulated.release_jobs()  # or the flow would wait for its tasks without end
        return [output.result() for output in fetched]

    asked: list[str] = []
    assert len(experiment()) == 10
    assert len(asked) <= 10, asked


async def test_an_unknown_state_is_given_up(prefect_home: Path, emulated, config, service):
    emulated.faults.end_jobs("Meditating")
    job_id = await submit(config)
    limits = WaitLimits(unknown_state=0.5)
    with pytest.raises(ResultUnavailableError, match="'MEDITATING'"):
        await asyncio.wait_for(wait_for_job(service, AwaitedJob(job_id), limits, nothing), 20)


async def test_an_outage_is_waited_out(prefect_home: Path, emulated, config, service):
    emulated.set_schedule(running_seconds=2)
    job_id = await submit(config)
    emulated.faults.malform("job", times=5)
    status = await wait_for_job(service, AwaitedJob(job_id), WaitLimits(), nothing)
    assert status.state is JobState.DONE
    assert emulated.faults.pending == ()


async def test_no_look_comes_before_the_service_asks_for_it(
    prefect_home: Path, emulated, config, service
):
    job_id = await submit(config)
    emulated.faults.answer("job", status=408, retry_after=2)
    await wait_for_job(service, AwaitedJob(job_id), AT_ONCE, nothing)
    asked = [record.time for record in emulated.requests if record.endpoint == "job"]
    assert (asked[1] - asked[0]).total_seconds() >= 2


async def test_a_request_that_is_put_off_does_not_end_the_wait(
    prefect_home: Path, emulated, config, service
):
    job_id = await submit(config)
    emulated.faults.answer("job", status=429, retry_after=4)  # longer than the patience
    status = await asyncio.wait_for(
        wait_for_job(service, AwaitedJob(job_id), WaitLimits(), nothing), 15
    )
    assert status.state is JobState.DONE


async def test_an_outage_without_end_is_an_error_with_its_facts(
    prefect_home: Path, emulated, config, service
):
    emulated.set_schedule(queued_seconds=math.inf)
    job_id = await submit(config)
    emulated.faults.answer("job", status=429, times=None, retry_after=None)
    with pytest.raises(JobError) as caught:
        await asyncio.wait_for(
            wait_for_job(service, AwaitedJob(job_id), WaitLimits(outage=0.5), nothing), 20
        )
    assert (caught.value.status, caught.value.retryable) == (429, True)


async def test_a_service_that_never_answers_is_an_outage(
    prefect_home: Path, emulated, config, monkeypatch
):
    monkeypatch.setenv("QCSC_PREFECT_ANSWER_SECONDS", "0.5")
    emulated.set_schedule(queued_seconds=math.inf)
    job_id = await submit(config)
    service = RuntimeJobService(ConfiguredInstance(emulated.instance, config))
    emulated.faults.delay(60, "job")
    with pytest.raises(JobError, match="timed out") as caught:
        await asyncio.wait_for(
            wait_for_job(service, AwaitedJob(job_id), WaitLimits(outage=1.0), nothing), 30
        )
    assert caught.value.retryable is True
    emulated.faults.clear()
    emulated.release_jobs()
    assert (
        await wait_for_job(service, AwaitedJob(job_id), WaitLimits(), nothing)
    ).state is JobState.DONE


async def test_a_search_that_is_refused_leaves_asking_for_each_job(
    prefect_home: Path, emulated, config, service
):
    emulated.set_schedule(running_seconds=1.5)
    job_ids = [await submit(config) for _ in range(3)]
    emulated.faults.answer("search", status=403, times=None)
    waits = [wait_for_job(service, AwaitedJob(job_id), WaitLimits(), nothing) for job_id in job_ids]
    statuses = await asyncio.wait_for(asyncio.gather(*waits), 30)
    assert {status.state for status in statuses} == {JobState.DONE}


def running(job_id: str, **more: object) -> dict:
    return {"id": job_id, "state": {"status": "Running"}, **more}


ODD_JOBS = {
    "null": lambda job_id: None,
    "text": lambda job_id: job_id,
    "no id": lambda job_id: {"state": {"status": "Running"}},
    "no state": lambda job_id: {"id": job_id},
    "null state": lambda job_id: {"id": job_id, "state": None},
    "state in a word": lambda job_id: {"id": job_id, "state": "Running"},
    "number for a state": lambda job_id: {"id": job_id, "state": {"status": 5}},
    "odd time": lambda job_id: running(job_id, created="yesterday"),
    "odd number of a time": lambda job_id: running(job_id, created=5),
    "odd place in the queue": lambda job_id: running(job_id, position=[1]),
    "odd session": lambda job_id: running(job_id, program=None, session_id=5),
}


async def until_answered(emulated: EmulatedService) -> None:
    """Wait until every injected fault has met its request."""
    async with asyncio.timeout(30):
        while emulated.faults.pending:
            await asyncio.sleep(0.05)


#: Looks one after the other, without slowing down.
AT_ONCE = WaitLimits(first_pause=0.05, growth=0.0)


async def test_an_odd_answer_for_one_job_ends_no_wait(
    prefect_home: Path, emulated, config, service
):
    emulated.set_schedule(queued_seconds=math.inf)
    job_ids = [await submit(config) for _ in range(2)]
    for odd in ODD_JOBS.values():
        body = {"jobs": [running(job_ids[0]), odd(job_ids[1])], "count": 2}
        emulated.faults.replace_body("search", body)
    waits = [
        asyncio.create_task(wait_for_job(service, AwaitedJob(job_id), AT_ONCE, nothing))
        for job_id in job_ids
    ]
    await until_answered(emulated)
    assert not any(wait.done() for wait in waits)
    emulated.release_jobs()
    assert {status.state for status in await asyncio.gather(*waits)} == {JobState.DONE}


async def test_an_odd_answer_for_a_job_alone_is_an_outage(
    prefect_home: Path, emulated, config, service
):
    job_id = await submit(config)
    for odd in ODD_JOBS.values():
        emulated.faults.replace_body("job", odd(job_id))
    status = await wait_for_job(service, AwaitedJob(job_id), AT_ONCE, nothing)
    assert status.state is JobState.DONE
    assert emulated.faults.pending == ()


async def test_an_odd_answer_to_a_search_is_an_outage(
    prefect_home: Path, emulated, config, service
):
    emulated.set_schedule(queued_seconds=math.inf)
    job_ids = [await submit(config) for _ in range(2)]
    bodies = (None, [], "jobs", {"jobs": None}, {"jobs": [], "count": "two"})
    for body in bodies:
        emulated.faults.replace_body("search", body)
    waits = [
        asyncio.create_task(wait_for_job(service, AwaitedJob(job_id), AT_ONCE, nothing))
        for job_id in job_ids
    ]
    await until_answered(emulated)
    assert emulated.count("job") == 2, "before the search was possible, and never because it failed"
    assert not any(wait.done() for wait in waits)
    emulated.release_jobs()
    assert {status.state for status in await asyncio.gather(*waits)} == {JobState.DONE}


async def test_an_odd_answer_for_ever_is_an_error_of_that_job(
    prefect_home: Path, emulated, config, service
):
    job_id = await submit(config)
    emulated.faults.replace_body("job", {"id": job_id, "state": None}, times=None)
    with pytest.raises(JobError, match=f"Asking for job {job_id} failed") as caught:
        await asyncio.wait_for(
            wait_for_job(service, AwaitedJob(job_id), WaitLimits(outage=0.5), nothing), 20
        )
    assert caught.value.retryable is True


@pytest.mark.parametrize("status", [403, 429])
async def test_a_reason_that_cannot_be_read_ends_no_other_wait(
    prefect_home: Path, emulated, config, service, status: int
):
    emulated.set_schedule(queued_seconds=math.inf)
    going_on = await submit(config)
    emulated.set_schedule()
    emulated.faults.plan_ends([JobEnd("Failed")])
    failed = await submit(config)
    emulated.faults.answer("result", status=status, times=3)
    waits = [
        asyncio.create_task(wait_for_job(service, AwaitedJob(job_id), WaitLimits(), nothing))
        for job_id in (going_on, failed)
    ]
    assert (await asyncio.wait_for(waits[1], 20)).state is JobState.ERROR
    assert not waits[0].done()
    emulated.release_jobs()
    assert (await waits[0]).state is JobState.DONE


async def test_an_account_that_leads_nowhere_any_more_ends_each_wait_with_its_own_error(
    prefect_home: Path, emulated, tmp_path: Path, monkeypatch
):
    for name in emulated.environment:
        monkeypatch.delenv(name)
    file = emulated.account_file(tmp_path / "accounts.json")
    config = QiskitRuntimeConfig(
        account_name=ACCOUNT_NAME, filename=str(file), backend_name="fake_manila"
    )
    service = RuntimeJobService(ConfiguredInstance(emulated.instance, config))
    emulated.set_schedule(queued_seconds=math.inf)
    job_ids = [await submit(config) for _ in range(2)]
    emulated.faults.answer("instances", status=403, times=None)
    emulated.revoke_access_tokens()
    waits = [wait_for_job(service, AwaitedJob(job_id), WaitLimits(), nothing) for job_id in job_ids]
    errors = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 20)
    for error in errors:
        assert isinstance(error, JobError)
        assert (error.retryable, error.status) == (False, 403)


async def test_nobody_waits_for_a_poller_that_has_ended(
    prefect_home: Path, emulated, config, service
):
    emulated.set_schedule(queued_seconds=math.inf)
    job_ids = [await submit(config) for _ in range(2)]
    watcher = JobWatcher(service)

    def stumble(status: JobStatus, waited: float) -> None:
        raise ZeroDivisionError

    waits = [
        watcher.wait(AwaitedJob(job_id), WaitLimits(), on_change)
        for job_id, on_change in zip(job_ids, (nothing, stumble), strict=True)
    ]
    errors = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 20)
    assert [type(error) for error in errors] == [ZeroDivisionError, ZeroDivisionError]


async def test_revoked_access_is_renewed_while_waiting(
    prefect_home: Path, emulated, config, service
):
    emulated.set_schedule(running_seconds=2)
    job_id = await submit(config)
    waiting = asyncio.create_task(wait_for_job(service, AwaitedJob(job_id), WaitLimits(), nothing))
    await asyncio.sleep(0.5)
    emulated.revoke_access_tokens()
    assert (await waiting).state is JobState.DONE


async def test_a_job_that_is_not_shown_yet_is_waited_for(
    prefect_home: Path, emulated, config, service
):
    job_id = await submit(config)
    emulated.faults.answer("job", status=404, times=2)
    with pytest.raises(JobNotFoundError):
        await wait_for_job(service, AwaitedJob(job_id), WaitLimits(), nothing)
    emulated.faults.answer("job", status=404, times=2)
    limits = WaitLimits(not_found=20)
    assert (await wait_for_job(service, AwaitedJob(job_id), limits, nothing)).state is JobState.DONE


async def test_max_wait_leaves_the_job_alone(prefect_home: Path, emulated, config):
    emulated.set_schedule(queued_seconds=math.inf)
    job_id = await submit(config)
    with pytest.raises(JobWaitTimeoutError, match=job_id):
        await fetch_qiskit_job_result_task(job_id=job_id, runtime_config=config, max_wait=0.5)
    assert emulated.jobs[0].state == "Queued"
    emulated.release_jobs()
    await fetch_qiskit_job_result_task(job_id=job_id, runtime_config=config, max_wait=30)


async def test_max_wait_bounds_the_download_too(prefect_home: Path, emulated, config, monkeypatch):
    monkeypatch.setattr(fetching, "SHORTEST_DOWNLOAD", 1.0)
    job_id = await submit(config)
    emulated.faults.delay(60, "result")
    with pytest.raises(
        JobError, match=f"Fetching the result.*{job_id}.*has not answered"
    ) as caught:
        await asyncio.wait_for(
            fetch_qiskit_job_result_task(job_id=job_id, runtime_config=config, max_wait=2), 30
        )
    assert caught.value.retryable is True
    emulated.faults.clear()
    # However short the wait, a download has its time.
    monkeypatch.setattr(fetching, "SHORTEST_DOWNLOAD", 30.0)
    emulated.faults.delay(2.5, "result")
    await fetch_qiskit_job_result_task(job_id=job_id, runtime_config=config, max_wait=2)


async def test_max_wait_bounds_what_the_client_makes_of_the_download(
    prefect_home: Path, emulated, config, monkeypatch
):
    monkeypatch.setattr(fetching, "SHORTEST_DOWNLOAD", 2.0)
    job_id = await submit(config)
    with (
        result_reading._decoding,  # as if another result were decoded all that time
        pytest.raises(JobWaitTimeoutError, match=f"{job_id} is done and its result was downloaded"),
    ):
        await asyncio.wait_for(
            fetch_qiskit_job_result_task(job_id=job_id, runtime_config=config, max_wait=1), 30
        )
    await fetch_qiskit_job_result_task(job_id=job_id, runtime_config=config)


async def test_a_result_does_not_wait_for_its_description(
    prefect_home: Path, emulated, config, monkeypatch, caplog
):
    monkeypatch.setattr(fetching, "METADATA_SECONDS", 0.2)
    job_id = await submit(config)
    emulated.faults.delay(3, "metrics")
    output = await fetch_qiskit_job_result_task(
        job_reference={"job_id": job_id, "primitive": "sampler", "shots": 10},
        runtime_config=config,
    )
    assert output["result"][0].data.meas.get_counts() == {"1": 10}
    assert (output["metadata"]["job_id"], output["metadata"]["shots"]) == (job_id, 10)
    assert f"The metadata of job {job_id} are incomplete" in caplog.text


async def test_the_download_that_cannot_be_repeated_is_not_cut_short(
    prefect_home: Path, emulated, config, monkeypatch
):
    monkeypatch.setattr(fetching, "SHORTEST_DOWNLOAD", 1.0)
    reference = await submit_sampler_job_task(
        [circuit()],
        shots=10,
        runtime_config=config,
        options={"environment": {"private": True}},
    )
    emulated.faults.delay(2.5, "result")
    output = await fetch_qiskit_job_result_task(
        job_reference=reference, runtime_config=config, max_wait=2
    )
    assert output["result"][0].data.meas.get_counts() == {"1": 10}


@pytest.mark.parametrize("cancel_job", [False, True])
async def test_cancelling_the_wait(prefect_home: Path, emulated, config, caplog, cancel_job: bool):
    emulated.set_schedule(queued_seconds=math.inf)
    job_id = await submit(config)

    @flow
    async def experiment() -> None:
        waiting = asyncio.create_task(
            fetch_qiskit_job_result_task(
                job_id=job_id, runtime_config=config, cancel_job_on_cancellation=cancel_job
            )
        )
        while not emulated.count("job"):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        emulated.faults.delay(0.5, "cancel")
        waiting.cancel()
        with pytest.raises(BaseException):  # noqa: B017, PT011 - Prefect decides which
            await waiting

    with caplog.at_level(logging.WARNING):
        await experiment()
    assert emulated.jobs[0].state == ("Cancelled" if cancel_job else "Queued")
    assert ("was cancelled with it" if cancel_job else "the job goes on") in caplog.text


async def test_a_job_that_fails_or_runs_too_long_says_why(prefect_home: Path, emulated, config):
    emulated.faults.end_jobs("Failed", reason="The fridge is warm", code=1008)
    with pytest.raises(JobFailedError, match="The fridge is warm") as failed:
        await fetch_qiskit_job_result_task(job_id=await submit(config), runtime_config=config)
    assert failed.value.service_code == 1008
    emulated.faults.stop_jobs()
    with pytest.raises(JobTimeLimitError, match="Ran too long") as stopped:
        await fetch_qiskit_job_result_task(job_id=await submit(config), runtime_config=config)
    assert stopped.value.service_code == 1305
    assert failed.value.retryable is stopped.value.retryable is False
