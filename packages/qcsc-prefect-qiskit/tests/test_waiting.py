"""Waiting for jobs of the real client on the emulated service."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow
from qiskit import QuantumCircuit

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
from qcsc_prefect.integrations.qiskit.jobs.instances import ConfiguredInstance
from qcsc_prefect.integrations.qiskit.jobs.runtime_service import AnswerLimits, RuntimeJobService
from qcsc_prefect.integrations.qiskit.jobs.service import JobState, JobStatus
from qcsc_prefect.integrations.qiskit.runtime.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.testing import EmulatedService
from qcsc_prefect.integrations.qiskit.waiting import WaitLimits, wait_for_job


@pytest.fixture
def emulated() -> Iterator[EmulatedService]:
    with EmulatedService(["fake_manila"], seed=7) as service, service.client_environment():
        yield service
    get_service_pool().clear()


@pytest.fixture
def config(emulated: EmulatedService) -> QiskitRuntimeConfig:
    return QiskitRuntimeConfig(**emulated.runtime_config_fields())


@pytest.fixture
def service(emulated: EmulatedService, config: QiskitRuntimeConfig) -> RuntimeJobService:
    return RuntimeJobService(ConfiguredInstance(emulated.instance, config))


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
        wait_for_job(service, job_id, WaitLimits(), lambda status, _: told.append(status))
    )
    await asyncio.sleep(1)
    assert [(status.state, status.queue_position) for status in told] == [(JobState.QUEUED, 2)]
    emulated.release_jobs()
    assert (await waiting).state is JobState.DONE
    assert told[-1].state is JobState.DONE
    assert len({(status.state, status.queue_position) for status in told}) == len(told)


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
        asyncio.create_task(wait_for_job(service, job_id, WaitLimits(first_pause=0.3), nothing))
        for job_id in job_ids
    ]
    await asyncio.sleep(3)  # a service that has seen none of the jobs asks for each of them once
    emulated.clear_requests()
    await asyncio.sleep(3)
    assert emulated.count() <= 10
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
        time.sleep(4)
        emulated.clear_requests()
        time.sleep(3)
        assert emulated.count() <= 10
        emulated.release_jobs()
        return [output.result() for output in fetched]

    assert len(experiment()) == 10


async def test_an_unknown_state_is_given_up(prefect_home: Path, emulated, config, service):
    emulated.faults.end_jobs("Meditating")
    job_id = await submit(config)
    limits = WaitLimits(unknown_state=0.5)
    with pytest.raises(ResultUnavailableError, match="'MEDITATING'"):
        await asyncio.wait_for(wait_for_job(service, job_id, limits, nothing), 20)


async def test_an_outage_is_waited_out(prefect_home: Path, emulated, config, service):
    emulated.set_schedule(running_seconds=2)
    job_id = await submit(config)
    emulated.faults.malform("job", times=5)
    status = await wait_for_job(service, job_id, WaitLimits(), nothing)
    assert status.state is JobState.DONE
    assert emulated.faults.pending == ()


async def test_an_outage_without_end_is_an_error_with_its_facts(
    prefect_home: Path, emulated, config, service
):
    emulated.set_schedule(queued_seconds=math.inf)
    job_id = await submit(config)
    emulated.faults.answer("job", status=429, times=None, retry_after=None)
    with pytest.raises(JobError) as caught:
        await asyncio.wait_for(wait_for_job(service, job_id, WaitLimits(outage=0.5), nothing), 20)
    assert (caught.value.status, caught.value.retryable) == (429, True)


async def test_a_service_that_never_answers_is_an_outage(prefect_home: Path, emulated, config):
    emulated.set_schedule(queued_seconds=math.inf)
    job_id = await submit(config)
    service = RuntimeJobService(
        ConfiguredInstance(emulated.instance, config), AnswerLimits(question=0.3)
    )
    emulated.faults.delay(60, "job")
    with pytest.raises(JobError, match="has not answered") as caught:
        await asyncio.wait_for(wait_for_job(service, job_id, WaitLimits(outage=1.0), nothing), 30)
    assert caught.value.retryable is True
    emulated.faults.clear()
    emulated.release_jobs()
    assert (await wait_for_job(service, job_id, WaitLimits(), nothing)).state is JobState.DONE


async def test_revoked_access_is_renewed_while_waiting(
    prefect_home: Path, emulated, config, service
):
    emulated.set_schedule(running_seconds=2)
    job_id = await submit(config)
    waiting = asyncio.create_task(wait_for_job(service, job_id, WaitLimits(), nothing))
    await asyncio.sleep(0.5)
    emulated.revoke_access_tokens()
    assert (await waiting).state is JobState.DONE


async def test_a_job_that_is_not_shown_yet_is_waited_for(
    prefect_home: Path, emulated, config, service
):
    job_id = await submit(config)
    emulated.faults.answer("job", status=404, times=2)
    with pytest.raises(JobNotFoundError):
        await wait_for_job(service, job_id, WaitLimits(), nothing)
    emulated.faults.answer("job", status=404, times=2)
    limits = WaitLimits(not_found=20)
    assert (await wait_for_job(service, job_id, limits, nothing)).state is JobState.DONE


async def test_max_wait_leaves_the_job_alone(prefect_home: Path, emulated, config):
    emulated.set_schedule(queued_seconds=math.inf)
    job_id = await submit(config)
    with pytest.raises(JobWaitTimeoutError, match=job_id):
        await fetch_qiskit_job_result_task(job_id=job_id, runtime_config=config, max_wait=0.5)
    assert emulated.jobs[0].state == "Queued"
    emulated.release_jobs()
    await fetch_qiskit_job_result_task(job_id=job_id, runtime_config=config, max_wait=30)


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
