"""What it costs in requests to wait for thousands of jobs, however many others there are."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from qiskit import QuantumCircuit
from qiskit.primitives import PrimitiveResult
from qiskit_ibm_runtime import RuntimeJobV2

from qcsc_prefect.core.engine.service import AwaitedJob, JobState, JobStatus
from qcsc_prefect.core.engine.waiting import WaitLimits, wait_for_job
from qcsc_prefect.core.errors import JobError
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.inputs.pubs import coerce_pubs
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.services.ibm.runtime_service import RuntimeJobService
from qcsc_prefect.integrations.qiskit.services.job_service import PROCESS_TAG, JobRequest
from qcsc_prefect.integrations.qiskit.testing import EmulatedService, JobEnd
from qcsc_prefect.integrations.qiskit.testing.jobs import Job, Submission

pytestmark = pytest.mark.emulated_service(queued_seconds=math.inf)


@pytest.fixture
async def service(config: QiskitRuntimeConfig, service: RuntimeJobService) -> RuntimeJobService:
    """The same with a client that is there already, so that no request of its start is counted."""
    await get_service_pool().service(config)
    return service


def another(emulated: EmulatedService, *tags: str) -> Job:
    """Let a job be there that waits in the queue, and nothing of it be simulated."""
    submission = Submission(
        program="sampler",
        backend=emulated._backends["fake_manila"],
        params={},
        user_id="somebody",
        instance=emulated.instance,
        tags=tags,
    )
    return emulated._store.submit(submission, JobEnd())


def others(emulated: EmulatedService, number: int, *, ended: bool = False) -> None:
    for _ in range(number):
        job = another(emulated, "another-flow")
        if ended:
            job.release()


def awaited(job: Job) -> AwaitedJob:
    """What a reference of the job says."""
    return AwaitedJob(job.id, job.tags, job.created)


def submitted(
    emulated: EmulatedService, number: int, *, tag: str = PROCESS_TAG, with_others: int = 0
) -> list[Job]:
    """Submit jobs, and let others submit some after each of them."""
    jobs = []
    for _ in range(number):
        jobs.append(another(emulated, f"qcsc-prefect-{secrets.token_hex(32)}", tag))
        others(emulated, with_others)
    return jobs


async def look(
    service: RuntimeJobService, jobs: list[AwaitedJob]
) -> dict[str, JobStatus | JobError]:
    told = await service.statuses(jobs, places=False)
    for job in jobs:
        status = told.get(job.job_id)
        if isinstance(status, JobStatus):
            job.last = status
    return told


@contextmanager
def at_most(emulated: EmulatedService, requests: int) -> Iterator[None]:
    emulated.clear_requests()
    yield
    assert emulated.count() <= requests, [record.path for record in emulated.requests[:30]]


def of_state(told: dict[str, JobStatus | JobError], state: JobState) -> int:
    return sum(isinstance(status, JobStatus) and status.state is state for status in told.values())


@pytest.mark.parametrize("with_others", [0, 5], ids=["alone", "among 10,000 others"])
async def test_two_thousand_jobs_cost_a_page_for_two_hundred_of_them(
    emulated, service, with_others: int
):
    jobs = submitted(emulated, 2000, with_others=with_others)
    waits = [awaited(job) for job in jobs]
    for _ in range(2):  # by what their references say, and by what the service said
        with at_most(emulated, 11):
            assert of_state(await look(service, waits), JobState.QUEUED) == 2000
    emulated.release_jobs()
    with at_most(emulated, 12):
        assert of_state(await look(service, waits), JobState.DONE) == 2000


async def test_those_that_ended_long_ago_cost_nothing(emulated, service):
    jobs = submitted(emulated, 5000)
    waiting = set(random.Random(7).sample(range(5000), 100))
    for index, job in enumerate(jobs):
        if index not in waiting:
            job.release()
    waits = [awaited(job) for job in jobs if job.state == "Queued"]
    with at_most(emulated, 1):
        assert of_state(await look(service, waits), JobState.QUEUED) == 100
    jobs[min(waiting)].release()
    with at_most(emulated, 2):
        told = await look(service, waits)
    assert (of_state(told, JobState.QUEUED), of_state(told, JobState.DONE)) == (99, 1)


async def test_a_few_jobs_cost_one_request_whether_they_have_ended_or_not(emulated, service):
    jobs = submitted(emulated, 20)
    waits = [awaited(job) for job in jobs]
    for released in (0, 7, 20):
        for job in jobs[:released]:
            job.release()
        with at_most(emulated, 1):
            assert of_state(await look(service, waits), JobState.DONE) == released


@pytest.mark.parametrize("tags", ["none", "many"])
async def test_jobs_of_nobody_knows_where_cost_no_more_than_one_by_one(
    emulated, service, tags: str
):
    jobs = []
    for number in range(300):
        tag = f"qcsc-process-{number:016x}" if tags == "many" else "mine"
        jobs.append(another(emulated, tag))
        others(emulated, 10, ended=number % 2 == 0)
    waits = [awaited(job) for job in jobs]
    emulated.release_jobs(jobs[0].id)
    with at_most(emulated, 50):
        told = await look(service, waits)
    assert (of_state(told, JobState.QUEUED), of_state(told, JobState.DONE)) == (299, 1)


async def test_jobs_that_are_known_by_their_ids_alone_are_asked_for_once(emulated, service):
    jobs = submitted(emulated, 150)
    waits = [AwaitedJob(job.id) for job in jobs]
    while any(job.last is None for job in waits):
        with at_most(emulated, 61):
            await look(service, [job for job in waits if job.last is None])
    with at_most(emulated, 1):
        assert len(await look(service, waits)) == 150


@pytest.mark.parametrize("told", ["whole seconds", "the wrong hour", "nothing"])
async def test_a_service_that_tells_the_time_badly_tells_of_all_jobs(
    emulated, service, monkeypatch, told: str
):
    jobs = submitted(emulated, 450)
    at = {
        "whole seconds": lambda job: job.created.replace(microsecond=0),
        "the wrong hour": lambda job: job.created.replace(year=2020),
        "nothing": lambda job: None,
    }[told]
    waits = [AwaitedJob(job.id, job.tags, at(job)) for job in jobs]
    looks = 0
    while any(job.last is None for job in waits):
        await look(service, [job for job in waits if job.last is None])
        looks += 1
    assert looks <= 8


async def test_those_that_a_search_may_not_show_have_their_turns(emulated, service):
    emulated.faults.answer("search", status=403, times=None)
    jobs = submitted(emulated, 200)
    waits = [
        asyncio.create_task(
            wait_for_job(service, awaited(job), WaitLimits(longest_pause=30.0), lambda *_: None)
        )
        for job in jobs
    ]
    async with asyncio.timeout(30):
        while len({record.path for record in emulated.requests if record.endpoint == "job"}) < 200:
            await asyncio.sleep(0.1)
    emulated.release_jobs()
    statuses = await asyncio.wait_for(asyncio.gather(*waits), 30)
    assert {status.state for status in statuses} == {JobState.DONE}


async def test_all_that_end_together_are_noticed_together(emulated, service):
    jobs = submitted(emulated, 2000, with_others=1)
    waits = [
        asyncio.create_task(
            wait_for_job(service, awaited(job), WaitLimits(first_look=3.0), lambda *_: None)
        )
        for job in jobs
    ]
    emulated.release_jobs()
    with at_most(emulated, 25):
        statuses = await asyncio.wait_for(asyncio.gather(*waits), 60)
    assert {status.state for status in statuses} == {JobState.DONE}


def turned(number: int) -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.rz(number, 0)
    circuit.measure_all()
    return circuit


async def submit(service: RuntimeJobService, number: int) -> str:
    pubs = coerce_pubs([turned(number)], "sampler")
    request = JobRequest("sampler", pubs, "fake_manila", shots=10)
    job_id = (await service.submit(request, [f"memory-{number}"])).job_id
    await service.jobs_beside(job_id, f"memory-{number}", None, since=datetime.now(UTC))
    return job_id


def kept_by_us() -> list[object]:
    """Return what is alive of the native client's and of this package's objects of jobs."""
    gc.collect()
    of_jobs = (RuntimeJobV2, PrimitiveResult, AwaitedJob, JobStatus, JobRequest)
    return [kept for kept in gc.get_objects() if type(kept) in of_jobs]


@pytest.fixture
def of_others() -> list[object]:
    """What other tests of this process have left, which somebody may still hold."""
    return kept_by_us()


async def test_nothing_is_kept_of_jobs_that_nobody_fetches(service, of_others):
    for number in range(10):
        await submit(service, number)
    await all_freed(of_others)


async def test_a_result_is_freed_when_the_caller_lets_go(emulated, service, of_others):
    emulated.set_schedule()
    job = AwaitedJob(await submit(service, 0))
    status = await wait_for_job(service, job, WaitLimits(), lambda *_: None)
    emulated.clear_requests()
    fetched = await service.result(job.job_id, status=status)
    assert emulated.count("job") == 0, "the last look told enough"
    assert fetched.result in kept_by_us()
    del fetched, status, job
    await all_freed(of_others)


async def all_freed(of_others: list[object]) -> None:
    earlier = {id(other) for other in of_others}
    # A thread may not yet have let go of what it has handed over.
    async with asyncio.timeout(30):
        while any(id(kept) not in earlier for kept in kept_by_us()):
            await asyncio.sleep(0.1)
