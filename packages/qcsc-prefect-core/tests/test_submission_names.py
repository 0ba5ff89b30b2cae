"""Under which names a job is sent: those by which it is found again, or it is not sent."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec
import pytest

from qcsc_prefect.core import InputError, JobReference, SubmissionUncertainError
from qcsc_prefect.core.engine.identity import SubmissionIdentity, job_tag
from qcsc_prefect.core.engine.once import Submitter
from qcsc_prefect.core.engine.patience import SubmissionPatience
from qcsc_prefect.core.engine.service import (
    JobService,
    JobState,
    JobStatus,
    ListedJob,
    SubmittedJob,
)

DIGEST = "acme-input-" + 64 * "0"
IDENTITY = SubmissionIdentity("key", job_tag("anneal", "", DIGEST), DIGEST, visibility_delay=0.2)
DRAFT = JobReference(primitive="anneal", input_digest=DIGEST, tags=[IDENTITY.tag])


class ListOfJobs(JobService[str]):
    """Keeps jobs in a list, and answers with the id it is told."""

    def __init__(self, *, answers: object = "job-0") -> None:
        self.answers = answers
        self.shows = False
        self.made: list[Sequence[str]] = []

    async def submit(self, request: str, tags: Sequence[str]) -> SubmittedJob:
        self.made.append(tags)
        return SubmittedJob(self.answers, "acme-1", await self.now())  # type: ignore[arg-type]

    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        now = await self.now()
        listed = [(f"job-{number}", tags) for number, tags in enumerate(self.made)]
        return [
            ListedJob(job_id, "acme-1", JobState.DONE, now)
            for job_id, tags in listed
            if self.shows and tag in tags
        ]

    async def status(self, job_id: str) -> JobStatus:
        return JobStatus(JobState.DONE, "done")

    async def cancel(self, job_id: str) -> bool:
        return False


class Memory:
    """Records in a dictionary."""

    def __init__(self) -> None:
        self.records: dict[str, Mapping[str, object]] = {}

    async def read(self, key: str) -> Mapping[str, object] | None:
        return self.records.get(key)

    async def write(self, key: str, content: Mapping[str, object]) -> None:
        self.records[key] = content

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[None]:
        yield


@pytest.mark.parametrize(
    ("field", "value"),
    [("tags", None), ("tags", ["another"]), ("input_digest", None), ("input_digest", "another")],
)
async def test_a_draft_without_the_names_of_its_submission_is_not_sent(field: str, value: object):
    service = ListOfJobs()
    draft = msgspec.structs.replace(DRAFT, **{field: value})
    with pytest.raises(InputError) as refused:
        await Submitter(service).submit_once("couplings", draft, IDENTITY, Memory())
    assert refused.value.path == f"draft.{field}"
    assert service.made == []


@pytest.mark.parametrize("answers", ["", None])
async def test_a_job_that_was_accepted_under_no_usable_id_is_found_and_not_sent_again(
    answers: object,
):
    service, memory = ListOfJobs(answers=answers), Memory()
    impatient = Submitter(service, patience=SubmissionPatience(failing=0.0))
    with pytest.raises(SubmissionUncertainError, match="accepted a job"):
        await impatient.submit_once("couplings", DRAFT, IDENTITY, memory)
    service.shows, service.answers = True, "job-1"
    found = await Submitter(service).submit_once("couplings", DRAFT, IDENTITY, memory)
    assert (found.reference.job_id, found.reused, len(service.made)) == ("job-0", True, 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, value) for name in ("key", "tag", "input_digest") for value in ("", None, 1)),
        *(("visibility_delay", value) for value in (None, "2", -1.0, math.nan, math.inf)),
    ],
)
def test_names_under_which_nothing_or_everything_is_found_are_refused(field: str, value: object):
    names: dict[str, object] = {"key": "k", "tag": "t", "input_digest": "d", field: value}
    with pytest.raises(InputError) as refused:
        SubmissionIdentity(**names)  # type: ignore[arg-type]
    assert refused.value.path == field
