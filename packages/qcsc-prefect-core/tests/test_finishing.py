"""Waiting for a job to its end, where another machine may have sent the same one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "docs" / "examples"))
from acme_server import AcmeServer
from custom_vendor import AcmeService

from qcsc_prefect.core import COMMON_RULES, JobCancelledError, JobReference
from qcsc_prefect.core.conformance.callers import Caller
from qcsc_prefect.core.engine.failed_questions import translate_job_error
from qcsc_prefect.core.engine.finishing import finished_job
from qcsc_prefect.core.errors import JobError, JobNotFoundError


class Missing(Exception):
    status_code = 404


@pytest.fixture
def acme() -> Iterator[AcmeServer]:
    with AcmeServer() as running:
        running.held = True
        yield running


def submit_from(machine: Path, acme: AcmeServer):
    factory = partial(AcmeService, acme.url)
    return Caller(factory, {"a b": 1.0}, "an-input", machine, 1.0).submit_once()


async def test_who_waits_for_a_duplicate_gets_the_job_that_is_kept(
    acme: AcmeServer, tmp_path: Path
):
    acme.shown_after = 60.0  # neither machine sees the other's job
    jobs = await asyncio.gather(
        submit_from(tmp_path / "one", acme), submit_from(tmp_path / "two", acme)
    )
    assert len({job.job_id for job in jobs}) == 2
    acme.shown_after = 0.0
    waits = [asyncio.create_task(finished_job(AcmeService(acme.url), job)) for job in jobs]
    async with asyncio.timeout(60):
        while {job["state"] for job in acme.jobs.values()} != {"waiting", "withdrawn"}:
            await asyncio.sleep(0.05)
    kept = next(job for job in acme.jobs.values() if job["state"] == "waiting")
    kept["state"] = "cold"
    assert [job.job_id for job in await asyncio.gather(*waits)] == [kept["id"]] * 2
    assert kept["id"] == "acme-1"


async def test_a_job_that_was_cancelled_and_that_no_other_replaces_is_named(
    acme: AcmeServer, tmp_path: Path
):
    job = await submit_from(tmp_path / "one", acme)
    acme.jobs[job.job_id] |= {"state": "withdrawn", "reason": "asked for by phone"}
    with pytest.raises(JobCancelledError, match="withdrawn: asked for by phone") as cancelled:
        await finished_job(AcmeService(acme.url), job)
    assert (cancelled.value.job_id, cancelled.value.retryable) == (job.job_id, False)


async def test_a_reference_without_tags_is_waited_for_too(acme: AcmeServer):
    acme.held = False
    submitted = await AcmeService(acme.url).submit({"a b": 1.0}, ())
    job = JobReference(job_id=submitted.job_id)
    assert await finished_job(AcmeService(acme.url), job) == job


def test_only_a_certain_job_is_missing():
    told = translate_job_error(Missing(), COMMON_RULES, doing="Asking", job_id="a-7")
    assert (type(told), told.job_id, told.status) == (JobNotFoundError, "a-7", 404)
    told = translate_job_error(Missing(), COMMON_RULES, doing="Searching")
    assert (type(told), told.status) == (JobError, 404)
    assert translate_job_error(told, COMMON_RULES, doing="Asking") is told


def test_credentials_are_taken_out_of_the_message():
    error = ConnectionResetError("https://acme?token=SECRET")
    told = translate_job_error(
        error, COMMON_RULES, doing="Asking", redacted=lambda text: text.replace("SECRET", "***")
    )
    assert "SECRET" not in str(told)
    assert told.retryable is True
