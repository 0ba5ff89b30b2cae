"""Submissions at the same moment look for those of other machines with one search."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from qiskit import QuantumCircuit

from qcsc_prefect.core.engine.service import ListedJob
from qcsc_prefect.core.errors import JobError
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig, submit_sampler_job_task
from qcsc_prefect.integrations.qiskit.inputs.pubs import coerce_pubs
from qcsc_prefect.integrations.qiskit.services.ibm.listing import PAGE, RawJob
from qcsc_prefect.integrations.qiskit.services.ibm.recent_jobs import RecentJobs
from qcsc_prefect.integrations.qiskit.services.ibm.runtime_service import RuntimeJobService
from qcsc_prefect.integrations.qiskit.services.job_service import JobRequest
from qcsc_prefect.integrations.qiskit.testing import JobEnd

from .machines import another_machine

pytestmark = pytest.mark.emulated_service(queued_seconds=math.inf)

INPUTS = 6


def turned(number: int) -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.rz(number, 0)
    circuit.measure_all()
    return circuit


async def submit_one(config: QiskitRuntimeConfig, number: int) -> dict[str, object]:
    return await submit_sampler_job_task(
        [turned(number)],
        shots=10,
        runtime_config=config,
        cache_submit=True,
        cache_scope="global",
        visibility_delay=1.0,
    )


async def submit_all(config: QiskitRuntimeConfig) -> list[str]:
    references = await asyncio.gather(*(submit_one(config, number) for number in range(INPUTS)))
    return [str(reference["job_id"]) for reference in references]


async def test_they_share_the_searches_before_and_after_them(emulated, service):
    tags = [f"tag-{number}" for number in range(INPUTS)]
    before = await asyncio.gather(*(service.jobs_with_tag(tag, None) for tag in tags))
    assert before == [[]] * INPUTS
    # The first one did not know of the others.
    assert emulated.count("search") == 2
    job_ids = [(await service.submit(REQUEST, [tag])).job_id for tag in tags]
    with service._recent.submission():
        found = await asyncio.gather(
            *(beside(service, job_id, tag) for job_id, tag in zip(job_ids, tags, strict=True))
        )
    assert [[job.job_id for job in jobs] for jobs in found] == [[job_id] for job_id in job_ids]
    assert emulated.count("search") == 3
    later = await asyncio.gather(*(service.jobs_with_tag(tag, None) for tag in tags))
    assert [[job.job_id for job in jobs] for jobs in later] == [[job_id] for job_id in job_ids]


async def test_none_is_older_than_it_may_be(emulated, service):
    for _ in range(2):
        await service.submit(REQUEST, ["a"])
    jobs = await service.jobs_with_tag("a", None)
    since = jobs[1].created_at
    both = await asyncio.gather(*(service.jobs_with_tag("a", since) for _ in range(2)))
    assert both == [jobs[1:]] * 2


async def test_on_an_instance_with_many_jobs_each_is_looked_for_by_its_tag(
    prefect_home: Path, emulated, config
):
    first = await submit_all(config)
    job = emulated._store.find(first[0])
    for _ in range(200 * INPUTS):
        emulated._store.submit(replace(job.submission, tags=("another",)), JobEnd())
    emulated.clear_requests()
    with another_machine(prefect_home / "elsewhere"):
        assert await submit_all(config) == first
    assert emulated.count("search") <= 2 * INPUTS


async def test_the_reference_of_an_adopted_job_tells_its_own_tags(
    prefect_home: Path, emulated, config, tmp_path: Path
):
    job = emulated._store.find(str((await submit_one(config, 1))["job_id"]))
    input_tag, _ = job.tags
    job.tags = (input_tag, f"qcsc-process-{0:016}")
    with another_machine(tmp_path / "elsewhere"):
        reference = await submit_one(config, 1)
    assert (reference["job_id"], reference["tags"]) == (job.id, list(job.tags))


@pytest.mark.parametrize("clock", [0, -3600, 3600], ids=["right", "behind", "ahead"])
async def test_each_gives_way_to_the_job_of_another_machine(
    prefect_home: Path, emulated, config, tmp_path: Path, clock: int
):
    emulated.set_clock(ahead_seconds=clock)
    emulated.faults.hide_new_jobs(3600)
    with another_machine(tmp_path / "elsewhere"):
        theirs = await submit_all(config)
    emulated.clear_requests()
    emulated.faults.delay(0.5, "submit", times=None)  # the searches before it show nothing
    submitting = asyncio.create_task(submit_all(config))
    while emulated.count("submit") < INPUTS:
        await asyncio.sleep(0.01)
    emulated.faults.hide_new_jobs(0)
    assert await submitting == theirs
    assert {job.id for job in emulated.jobs if job.state != "Cancelled"} == set(theirs)
    assert emulated.count("search") < 2 * INPUTS


REQUEST = JobRequest("sampler", coerce_pubs([turned(1)], "sampler"), "fake_manila", shots=10)


async def beside(service: RuntimeJobService, job_id: str, tag: str) -> list[ListedJob]:
    return await service.jobs_beside(job_id, tag, None, since=datetime.now(UTC))


async def test_one_that_is_cancelled_takes_no_answer_from_the_others(
    prefect_home: Path, emulated, service
):
    job_ids = [(await service.submit(REQUEST, [tag])).job_id for tag in ("a", "b", "c")]
    with service._recent.submission():
        asking = [
            asyncio.create_task(beside(service, job_id, tag))
            for job_id, tag in zip(job_ids, "abc", strict=True)
        ]
        await asyncio.sleep(0)  # all have begun, the first to search for all
        asking[0].cancel()
        found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert [[job.job_id for job in jobs] for jobs in found[1:]] == [[job_ids[1]], [job_ids[2]]]
    assert emulated.count("search") == 1, "those two share one as well"


async def test_alone_or_late_it_is_looked_for_by_its_tag(prefect_home: Path, emulated, service):
    job_id = (await service.submit(REQUEST, ["a"])).job_id
    now = await service.now()
    assert await service._recent.beside(job_id, "a", now, now=now) is None
    with service._recent.submission():
        an_hour_ago = now - timedelta(hours=1)
        assert await service._recent.beside(job_id, "a", an_hour_ago, now=now) is None
    assert emulated.count("search") == 0


async def test_what_the_search_does_not_show_is_looked_for_by_its_tag(
    prefect_home: Path, emulated, service
):
    job_id = (await service.submit(REQUEST, ["a"])).job_id
    now = await service.now()
    assert await service.jobs_seen_late("another", "a", now) is None
    [shown] = await service.jobs_seen_late(job_id, "a", now) or []
    assert shown.job_id == job_id


@pytest.mark.parametrize("ahead", [-7200, -100, 0, 100, 7200])
async def test_the_search_begins_by_the_services_clock(
    prefect_home: Path, emulated, service, ahead: int
):
    emulated.set_clock(ahead_seconds=ahead)
    job_id = (await service.submit(REQUEST, ["a"])).job_id
    now = await service.now()
    assert abs(now - datetime.now(UTC) - timedelta(seconds=ahead)) < timedelta(seconds=5)
    emulated.clear_requests()
    [shown] = await service.jobs_seen_late(job_id, "a", now - timedelta(seconds=5)) or []
    assert shown.job_id == job_id
    [search] = emulated.requests
    asked = datetime.fromisoformat(parse_qs(urlsplit(search.path).query)["created_after"][0])
    assert timedelta(0) <= now - asked < timedelta(seconds=20)


@pytest.mark.parametrize("fails", [False, True])
async def test_those_that_ask_during_a_search_share_the_next_one(fails: bool):
    asked: list[int] = []

    async def list_since(_: datetime | None, *, at_most: int) -> list[RawJob]:
        asked.append(at_most)
        await asyncio.sleep(0.5)
        if fails and len(asked) == 1:
            raise JobError("the first one fails")
        return []

    recent = RecentJobs(list_since)

    async def ask(number: int) -> object:
        await asyncio.sleep(0.1 * number)
        with recent.submission(), recent.submission():
            return await recent.before("tag", None)

    answers = await asyncio.gather(*map(ask, range(10)), return_exceptions=True)
    assert len(asked) <= 4
    assert sum(asked) == 10 * PAGE
    assert all(isinstance(answer, JobError) for answer in answers if answer != [])
    assert answers[-1] == []
