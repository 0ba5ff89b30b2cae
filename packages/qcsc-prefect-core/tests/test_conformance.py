"""The kit for vendors: Acme passes it, and each mistake that is planted in Acme is named."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "docs" / "examples"))
from acme_server import AcmeServer
from check_custom_vendor import AcmeFaults, check
from custom_vendor import AcmeJob, AcmeService, Couplings

from qcsc_prefect.core.conformance import ConformanceReport, Faults, Finding, check_vendor
from qcsc_prefect.core.engine.service import JobState, JobStatus, ListedJob, SubmittedJob
from qcsc_prefect.core.errors import (
    JobError,
    JobNotFoundError,
    SubmissionError,
    SubmissionUncertainError,
)


@pytest.fixture
def acme() -> Iterator[AcmeServer]:
    with AcmeServer() as running:
        yield running


async def test_the_vendor_of_the_page_passes(acme: AcmeServer):
    assert await check(acme) == "19 right, 0 not right, 0 not checked"
    assert len(acme.jobs) < 30


# ---- mistakes ----


class RepeatsThePost(AcmeService):
    async def submit(self, request: Couplings, tags: Sequence[str]) -> SubmittedJob:
        try:
            return await super().submit(request, tags)
        except SubmissionUncertainError:
            return await super().submit(request, tags)


class CallsLostAnswersRefused(AcmeService):
    async def submit(self, request: Couplings, tags: Sequence[str]) -> SubmittedJob:
        try:
            return await super().submit(request, tags)
        except SubmissionUncertainError as error:
            raise SubmissionError("Acme did not take the job.", retryable=False) from error


class CallsRefusalsUncertain(AcmeService):
    async def submit(self, request: Couplings, tags: Sequence[str]) -> SubmittedJob:
        try:
            return await super().submit(request, tags)
        except SubmissionError as error:
            raise SubmissionUncertainError("Who knows?") from error


class ForgetsRetryAfter(AcmeService):
    async def submit(self, request: Couplings, tags: Sequence[str]) -> SubmittedJob:
        try:
            return await super().submit(request, tags)
        except SubmissionError as error:
            error.retry_after = None
            raise


class ForgetsTheTag(AcmeService):
    async def submit(self, request: Couplings, tags: Sequence[str]) -> SubmittedJob:
        return await super().submit(request, ())


class SearchesWithoutTheTag(AcmeService):
    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        jobs = await self._ask("GET", "/jobs", list[AcmeJob])
        return [ListedJob(job.id, job.machine, JobState.DONE, job.created) for job in jobs]


class SearchesWithoutTheDate(AcmeService):
    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        return await super().jobs_with_tag(tag, None)


class FindsNothing(AcmeService):
    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        return []


class TakesSilenceForNoJobs(AcmeService):
    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        try:
            return await super().jobs_with_tag(tag, created_after)
        except JobError:
            return []


class DatesJobsAnHourOff(AcmeService):
    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        jobs = await super().jobs_with_tag(tag, created_after)
        return [replace(job, created_at=job.created_at + timedelta(hours=1)) for job in jobs]


class DatesNoJobs(AcmeService):
    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        jobs = await super().jobs_with_tag(tag, created_after)
        return [replace(job, created_at=None) for job in jobs]


class NamesAnotherBackend(AcmeService):
    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        jobs = await super().jobs_with_tag(tag, created_after)
        return [replace(job, backend_name="ACME 1") for job in jobs]


class RaisesWhatNobodyKnows(AcmeService):
    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        raise KeyError("created")


class TellsFailedAsDone(AcmeService):
    async def status(self, job_id: str) -> JobStatus:
        status = await super().status(job_id)
        return replace(status, state=JobState.DONE) if status.state.has_failed else status


class TellsMissingAsUnknown(AcmeService):
    async def status(self, job_id: str) -> JobStatus:
        try:
            return await super().status(job_id)
        except JobNotFoundError:
            return JobStatus(JobState.UNKNOWN, "gone")


class TakesSilenceForMissing(AcmeService):
    async def status(self, job_id: str) -> JobStatus:
        try:
            return await super().status(job_id)
        except JobError as error:
            raise JobNotFoundError("No such job.", job_id=job_id) from error


class LiesAboutCancelling(AcmeService):
    async def cancel(self, job_id: str) -> bool:
        return True


class NeverCancels(AcmeService):
    async def cancel(self, job_id: str) -> bool:
        return False


MISTAKES = [
    (RepeatsThePost, "answer dropped", "jobs made: 1", "2", 2),
    (RepeatsThePost, "answer cut", "jobs made: 1", "2", 2),
    (RepeatsThePost, "answered 504", "jobs made: 1", "2", 2),
    (CallsLostAnswersRefused, "answer dropped", "is found", "SubmissionError: Acme did not", 1),
    (CallsRefusalsUncertain, "refused", "SubmissionError", "SubmissionUncertainError", 0),
    (ForgetsRetryAfter, "too many requests", "2 s or more: True", "False", 1),
    (ForgetsTheTag, "listed under its tag", "its tag shows the job: ['acme-1']", "[]", 1),
    (ForgetsTheTag, "killed after acceptance", "jobs made: 1", "2", 2),
    (ForgetsTheTag, "hostile records", "jobs made: 1", "2", 2),
    (SearchesWithoutTheTag, "listed under its tag", "under another tag: []", "acme-1", 1),
    (SearchesWithoutTheDate, "listed under its tag", "since tomorrow: []", "acme-1", 1),
    (FindsNothing, "answer dropped and listed late", "jobs made: 1", "2", 2),
    (TakesSilenceForNoJobs, "questions unanswered", "the search: ['acme-1']", "[]", 1),
    (DatesJobsAnHourOff, "listed under its tag", "dated at about", "datetime", 1),
    (DatesNoJobs, "two machines at once", "not cancelled: {", "acme-2", 2),
    (NamesAnotherBackend, "listed under its tag", "one backend: {'acme-1'}", "ACME 1", 1),
    (RaisesWhatNobodyKnows, "hostile records", "found by its tag", "KeyError: 'created'", 0),
    (TellsFailedAsDone, "failed", "JobState.DONE has failed: True", "False", 1),
    (TellsMissingAsUnknown, "vanished", "its status: JobNotFoundError", "JobStatus", 1),
    (TakesSilenceForMissing, "questions unanswered", "is unknown: False", "True", 1),
    (LiesAboutCancelling, "cancelled in the queue", "left in truth: set()", "acme-1", 1),
    (LiesAboutCancelling, "done", "what cancel() says: False", "True", 1),
    (LiesAboutCancelling, "two machines at once", "not cancelled: {", "acme-2", 2),
    (NeverCancels, "cancelled in the queue", "what cancel() says: True", "False", 1),
]


@pytest.mark.parametrize(
    ("service", "scenario", "expected", "seen", "jobs_made"),
    MISTAKES,
    ids=[f"{service.__name__}, {scenario}" for service, scenario, *_ in MISTAKES],
)
async def test_a_mistake_is_named(
    acme: AcmeServer,
    service: type[AcmeService],
    scenario: str,
    expected: str,
    seen: str,
    jobs_made: int,
):
    report = await checked(acme, partial(service, acme.url), scenario)
    [finding] = report.findings
    assert finding.scenario == scenario
    assert expected in finding.expected
    assert seen in finding.seen
    assert finding.jobs_made == jobs_made
    assert str(finding) in str(report)


async def test_half_a_result_is_named(acme: AcmeServer):
    class ReadsHalfResults(AcmeFaults):
        async def fetch(self, job_id: str) -> object:
            async with httpx.AsyncClient(base_url=acme.url) as client:
                answer = await client.get(f"/jobs/{job_id}/result")
                busy = answer.status_code == httpx.codes.CONFLICT
                return await self.fetch(job_id) if busy else answer.text

    report = await check_vendor(
        partial(AcmeService, acme.url),
        {"a b": 1.0},
        ReadsHalfResults(acme),
        only=["result cut"],
    )
    [finding] = report.findings
    assert (finding.scenario, finding.jobs_made) == ("result cut", 1)


# ---- the report ----


async def test_what_cannot_be_made_to_happen_is_not_checked(acme: AcmeServer):
    class OnlyJobs(Faults):
        def jobs(self) -> Mapping[str, JobState]:
            return AcmeFaults(acme).jobs()

        def clear(self) -> None:
            pass

    report = await check_vendor(
        partial(AcmeService, acme.url),
        {"a b": 1.0},
        OnlyJobs(),
        visibility_delay=0.5,
        processes=False,
    )
    assert report.is_right
    assert report.passed == (
        "listed under its tag",
        "the same input again",
        "done",
        "killed after acceptance",
        "two processes at once",
        "hostile records",
    )
    assert len(report.not_checked) == 13
    assert "refused\n    not checked" in str(report)


async def test_a_scenario_without_an_end_is_named(acme: AcmeServer):
    acme_faults = AcmeFaults(acme)
    acme_faults.clear = lambda: None
    acme_faults.hold()
    report = await check_vendor(
        partial(AcmeService, acme.url), {"a b": 1.0}, acme_faults, seconds=1.0, only=["done"]
    )
    [finding] = report.findings
    assert finding.seen.startswith("TimeoutError")


def test_the_report_is_readable():
    finding = Finding("refused", "no job", "one job", 1)
    report = ConformanceReport(("done",), (finding,), ("failed",))
    assert not report.is_right
    assert str(report).splitlines() == [
        "1 right, 1 not right, 1 not checked",
        "refused",
        "    expected: no job",
        "    seen:     one job",
        "    jobs made: 1",
        "failed",
        "    not checked",
    ]


async def checked(acme: AcmeServer, factory: partial[AcmeService], scenario: str):
    return await check_vendor(
        factory,
        {"a b": 1.0},
        AcmeFaults(acme),
        visibility_delay=0.5,
        processes=False,
        only=[scenario],
    )
