"""Tasks for another vendor's paid jobs, on qcsc_prefect.core alone.

The vendor is imaginary; docs/custom-vendor.md explains the program part by part. Start the vendor,
and run this twice in another terminal: the second run submits nothing::

    uv run docs/examples/acme_server.py
    uv run docs/examples/custom_vendor.py
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import httpx
import msgspec
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from qcsc_prefect.core import (
    COMMON_RULES,
    ErrorFacts,
    JobError,
    JobReference,
    RetryAnswer,
    build_input_digest,
    build_result_cache_key,
    build_submit_cache_key,
    parse_job_reference,
)
from qcsc_prefect.core.engine.failed_posts import translate_submission_error
from qcsc_prefect.core.engine.failed_questions import translate_job_error
from qcsc_prefect.core.engine.finishing import finished_job
from qcsc_prefect.core.engine.identity import SubmissionIdentity, job_tag
from qcsc_prefect.core.engine.once import Submitter
from qcsc_prefect.core.engine.service import (
    JobService,
    JobState,
    JobStatus,
    ListedJob,
    SubmittedJob,
)
from qcsc_prefect.core.prefect import cached_result, current_flow_name, retry_condition
from qcsc_prefect.core.prefect.ledger import PrefectLedger

T = TypeVar("T")
Couplings = dict[str, float]


class AcmeJob(msgspec.Struct):
    """A job as Acme shows it."""

    id: str
    machine: str
    state: str
    created: datetime
    tags: tuple[str, ...] = ()
    reason: str | None = None


STATES = {
    "waiting": JobState.QUEUED,
    "annealing": JobState.RUNNING,
    "cold": JobState.DONE,
    "cracked": JobState.ERROR,
    "withdrawn": JobState.CANCELLED,
}


def state_of(job: AcmeJob) -> JobState:
    """Return the state that Acme's own word stands for."""
    return STATES.get(job.state, JobState.UNKNOWN)


class Refusal(msgspec.Struct):
    """What Acme says where it does not do what it was asked."""

    code: str


def read_acme_code(error: BaseException) -> ErrorFacts:
    """Read the code in the body of an answer, as ``{"code": "ACME-BUSY"}``."""
    with suppress(msgspec.DecodeError):
        if isinstance(error, httpx.HTTPStatusError):
            refusal = msgspec.json.decode(error.response.content, type=Refusal)
            return ErrorFacts(service_code=refusal.code)
    return ErrorFacts()


ACME_RULES = COMMON_RULES.extended(
    # A status of 409 means a mistake by the common rules; with this code it passes.
    service_codes={"ACME-BUSY": RetryAnswer.RETRY},
    # An answer that was cut is no JSON of the right shape, and comes whole the next time.
    types={"msgspec.DecodeError": RetryAnswer.RETRY},
    readers={"httpx.HTTPStatusError": read_acme_code},
)
NO_GOOD_ANSWER = (httpx.HTTPError, msgspec.DecodeError)
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)


@dataclass(frozen=True)
class AcmeService(JobService[Couplings]):
    """Acme's jobs, as the engine asks for them."""

    url: str

    async def submit(self, request: Couplings, tags: Sequence[str]) -> SubmittedJob:
        """Hand a job over, once."""
        body = {"couplings": request, "tags": list(tags)}
        try:
            job = await self._call("POST", "/jobs", AcmeJob, json=body)
        except NO_GOOD_ANSWER as error:
            not_sent = isinstance(error, NOT_SENT)
            raise translate_submission_error(error, ACME_RULES, not_sent=not_sent) from error
        return SubmittedJob(job.id, job.machine, job.created)

    async def jobs_with_tag(self, tag: str, created_after: datetime | None) -> list[ListedJob]:
        """List the jobs that carry a tag."""
        since = {} if created_after is None else {"since": created_after.isoformat()}
        jobs = await self._ask("GET", "/jobs", list[AcmeJob], params={"tag": tag, **since})
        return [ListedJob(j.id, j.machine, state_of(j), j.created, tags=j.tags) for j in jobs]

    async def status(self, job_id: str) -> JobStatus:
        """Ask once where a job stands."""
        job = await self._ask("GET", f"/jobs/{job_id}", AcmeJob, job_id)
        return JobStatus(state_of(job), job.state, message=job.reason)

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; False where it had ended already."""
        try:
            await self._ask("POST", f"/jobs/{job_id}/cancel", AcmeJob, job_id)
        except JobError as error:
            if error.service_code == "ACME-ENDED":
                return False
            raise
        return True

    async def result(self, job_id: str) -> dict[str, Any]:
        """Return the spins of lowest energy."""
        return await self._ask("GET", f"/jobs/{job_id}/result", dict[str, Any], job_id)

    async def _call(self, method: str, path: str, answer: type[T], **request: Any) -> T:
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            response = await client.request(method, path, **request)
        return msgspec.json.decode(response.raise_for_status().content, type=answer)

    async def _ask(
        self, method: str, path: str, answer: type[T], job_id: str | None = None, **request: Any
    ) -> T:
        try:
            return await self._call(method, path, answer, **request)
        except NO_GOOD_ANSWER as error:
            doing = f"{method} {path}"
            raise translate_job_error(error, ACME_RULES, doing=doing, job_id=job_id) from error


def anneal_identity(couplings: Couplings, url: str) -> SubmissionIdentity:
    """Name a job by what it computes, by who computes it, and by the flow that asks for it."""
    digest = build_input_digest(
        "acme-anneal-input", {"couplings": couplings}, flow_name=current_flow_name()
    )
    key = build_submit_cache_key("acme-anneal", input_digest=digest, configuration=url)
    # Acme's search shows a new job within two seconds.
    return SubmissionIdentity(key, job_tag("anneal", "", digest), digest, visibility_delay=2.0)


@task(cache_policy=NO_CACHE, persist_result=False)
async def submit_anneal(couplings: Couplings, url: str) -> dict[str, Any]:
    """Submit a job once, and return its reference. It has no timeout and no retries."""
    identity = anneal_identity(couplings, url)
    draft = JobReference(
        primitive="anneal",
        input_digest=identity.input_digest,
        tags=[identity.tag],
        vendor={"couplings": len(couplings)},
    )
    submitter = Submitter(AcmeService(url), get_run_logger())
    submission = await submitter.submit_once(couplings, draft, identity, PrefectLedger())
    return submission.reference.to_dict()


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=3,
    retry_delay_seconds=[0.1, 60, 300],
    retry_condition_fn=retry_condition(ACME_RULES),
)
async def fetch_anneal(job_reference: Mapping[str, Any], url: str) -> dict[str, Any]:
    """Wait for a job and fetch its result; this creates no job and may be repeated."""
    job, service = parse_job_reference(job_reference), AcmeService(url)

    async def download() -> dict[str, Any]:
        done = await finished_job(service, job, logger=get_run_logger())
        return await service.result(str(done.job_id))

    key = build_result_cache_key("acme-result", job_id=str(job.job_id), configuration=url)
    return await cached_result(key, download)


@flow(name="anneal")
async def anneal(couplings: Couplings, url: str) -> dict[str, Any]:
    """Find the spins of lowest energy, and pay for it once."""
    reference = await submit_anneal(couplings, url)
    return {"job_id": reference["job_id"], **await fetch_anneal(reference, url)}


if __name__ == "__main__":
    frustrated = {"a b": 1.0, "b c": 1.0, "a c": 1.0}
    print(asyncio.run(anneal(frustrated, url="http://127.0.0.1:8765")))
