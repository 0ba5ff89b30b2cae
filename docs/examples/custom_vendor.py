"""Tasks for another vendor's paid jobs, on qcsc_prefect.core alone.

The vendor is imaginary; docs/custom-vendor.md explains the program part by part. Run it twice: the
second run submits nothing::

    uv run docs/examples/custom_vendor.py
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import Task, flow, task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_HOME
from prefect.transactions import CommitMode, transaction

from qcsc_prefect.core import (
    COMMON_RULES,
    JobReference,
    RetryAnswer,
    SubmissionUncertainError,
    advise_retry,
    build_input_digest,
    build_submit_cache_key,
    parse_job_reference,
)

Couplings = dict[str, float]


class AcmeError(Exception):
    """What the vendor's client raises."""

    def __init__(self, message: str, service_code: str, status: int | None = None) -> None:
        # All of them: what is pickled, on the way to another process, is made anew from these.
        super().__init__(message, service_code, status)
        self.service_code = service_code
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


class AcmeClient:
    """The vendor's client: anneals in a folder, and is busy the first time a result is fetched."""

    def __init__(self, account: Path) -> None:
        self._account = account

    def submit(self, couplings: Couplings) -> str:
        """Take a job, which is paid for from now on, and return its id."""
        self._account.mkdir(parents=True, exist_ok=True)
        job_id = f"acme-{len(list(self._account.glob('*.json')))}"
        job = {"couplings": couplings, "fetched": 0}
        (self._account / f"{job_id}.json").write_text(json.dumps(job))
        return job_id

    def result(self, job_id: str) -> dict[str, Any]:
        """Return the spins of lowest energy."""
        file = self._account / f"{job_id}.json"
        if not file.exists():
            raise AcmeError(f"no job {job_id}", service_code="ACME-404", status=404)
        job = json.loads(file.read_text())
        job["fetched"] += 1
        file.write_text(json.dumps(job))
        if job["fetched"] == 1:
            raise AcmeError("come back later", service_code="ACME-BUSY", status=409)
        return lowest_energy(job["couplings"])


def lowest_energy(couplings: Couplings) -> dict[str, Any]:
    """Try all spins; a coupling ``"a b"`` of strength J costs J times a times b."""
    names = sorted({name for pair in couplings for name in pair.split()})
    best: dict[str, Any] = {}
    for values in itertools.product([1, -1], repeat=len(names)):
        spins = dict(zip(names, values, strict=True))
        pairs = ((pair.split(), strength) for pair, strength in couplings.items())
        energy = sum(strength * spins[a] * spins[b] for (a, b), strength in pairs)
        if not best or energy < best["energy"]:
            best = {"energy": energy, "spins": spins}
    return best


def anneal_digest(couplings: Couplings) -> str:
    """Name a job by what it computes, and by the flow that asks for it."""
    context = FlowRunContext.get()
    flow_name = context.flow.name if context is not None and context.flow is not None else None
    return build_input_digest("acme-anneal-input", {"couplings": couplings}, flow_name=flow_name)


def anneal_cache_key(_context: object, parameters: Mapping[str, Any]) -> str:
    """Return the key under which Prefect keeps the reference of a submitted job."""
    return build_submit_cache_key(
        "acme-anneal",
        input_digest=anneal_digest(parameters["couplings"]),
        configuration=str(parameters["account"]),
    )


ACME_RULES = COMMON_RULES.extended(
    # A status of 409 means a mistake by the common rules; with this code it passes.
    service_codes={"ACME-BUSY": RetryAnswer.RETRY, "ACME-404": RetryAnswer.DO_NOT},
)


def is_worth_a_retry(_task: Task[..., Any], _task_run: TaskRun, state: State[Any]) -> bool:
    """Tell Prefect whether fetching again may help."""
    return advise_retry(state.data, ACME_RULES).answer is RetryAnswer.RETRY


@task(
    cache_policy=CacheKeyFnPolicy(cache_key_fn=anneal_cache_key),
    # Keeps the reference as JSON. Prefect's own choice is pickle, which runs what it reads.
    result_serializer="json",
)
def submit_anneal(couplings: Couplings, account: Path) -> dict[str, Any]:
    """Submit a job and return its reference. It has no timeout and no retries."""
    # Made before the job is paid for: what a reference cannot hold is refused now.
    draft = JobReference(
        primitive="anneal",
        backend_name="acme-1",
        input_digest=anneal_digest(couplings),
        vendor={"couplings": len(couplings)},
    )
    try:
        job_id = AcmeClient(account).submit(couplings)
    except (AcmeError, OSError) as error:
        if advise_retry(error, ACME_RULES).answer is RetryAnswer.DO_NOT:
            raise  # a refusal: there is no job
        # The answer was lost, or is that of a gateway. Rules answer LOOK_FIRST to this error.
        raise SubmissionUncertainError(
            "Acme may have taken the job. Look for it there before you run this again."
        ) from error
    return draft.of_job(job_id).to_dict()


@task(retries=3, retry_delay_seconds=[0.1, 60, 300], retry_condition_fn=is_worth_a_retry)
def fetch_anneal(job_reference: Mapping[str, Any], account: Path) -> dict[str, Any]:
    """Fetch a job's result; fetching creates no job and may be repeated."""
    job = parse_job_reference(job_reference)
    return AcmeClient(account).result(str(job.job_id))


@flow(name="anneal")
def anneal(couplings: Couplings, account: Path) -> dict[str, Any]:
    """Find the spins of lowest energy, and pay for it once."""
    # Without this the record of the job is written only when a task around this one succeeds.
    with transaction(commit_mode=CommitMode.EAGER):
        reference = submit_anneal(couplings, account)
    return {"job_id": reference["job_id"], **fetch_anneal(reference, account)}


if __name__ == "__main__":
    frustrated = {"a b": 1.0, "b c": 1.0, "a c": 1.0}
    print(anneal(frustrated, account=PREFECT_HOME.value() / "acme"))
