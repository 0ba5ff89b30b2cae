"""Submissions that were given up while the client's thread goes on; none of them is paid twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from qiskit import QuantumCircuit

from qcsc_prefect.core.errors import JobReferenceError, SubmissionError, SubmissionUncertainError
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.blocking_calls import run_blocking
from qcsc_prefect.integrations.qiskit.execution_modes import ExecutionGroup
from qcsc_prefect.integrations.qiskit.jobs.instances import ConfiguredInstance
from qcsc_prefect.integrations.qiskit.jobs.runtime_service import AnswerLimits, RuntimeJobService
from qcsc_prefect.integrations.qiskit.jobs.service import JobRequest
from qcsc_prefect.integrations.qiskit.pubs import coerce_pubs
from qcsc_prefect.integrations.qiskit.runtime import service_pool
from qcsc_prefect.integrations.qiskit.runtime.client_threads import CALLS_AT_ONCE
from qcsc_prefect.integrations.qiskit.runtime.service_pool import ServicePool, get_service_pool
from qcsc_prefect.integrations.qiskit.submission import Submission, Submitter
from qcsc_prefect.integrations.qiskit.submission_ledger import SubmissionLedger
from qcsc_prefect.integrations.qiskit.submission_memory import SubmissionIdentity, SubmissionMemory
from qcsc_prefect.integrations.qiskit.task_runs import run_logger
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

TAG = "qcsc-prefect-of-this-input"


@pytest.fixture
def emulated() -> Iterator[EmulatedService]:
    with EmulatedService(["fake_manila"], seed=7) as service, service.client_environment():
        yield service
    get_service_pool().clear()


@pytest.fixture
def found(emulated: EmulatedService) -> ConfiguredInstance:
    config = QiskitRuntimeConfig(**emulated.runtime_config_fields())
    return ConfiguredInstance(emulated.instance, config)


def request(*, once: bool = True) -> JobRequest:
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.measure_all()
    return JobRequest(
        "sampler",
        coerce_pubs([circuit], "sampler"),
        "fake_manila",
        shots=10,
        tags=("mine", TAG) if once else ("mine",),
        input_tag=TAG if once else None,
    )


async def submit_once(
    service: RuntimeJobService, *, refresh: bool = False, visibility_delay: float = 0.2
) -> Submission:
    logger = run_logger()
    identity = SubmissionIdentity("a-submit-key", TAG, "digest", None, visibility_delay)
    return await Submitter(service, logger).submit_once(
        request(), identity, SubmissionLedger.current(logger), refresh=refresh
    )


async def test_what_a_reference_cannot_hold_is_refused_before_it_is_paid_for(
    prefect_home: Path, emulated, found
):
    service = RuntimeJobService(found)
    wrong = Submitter(service, run_logger(), runtime_block_name=7)
    ledger = SubmissionLedger.current(run_logger())
    identity = SubmissionIdentity("a-submit-key", TAG, "digest", None, 0.2)
    for submission in (
        wrong.submit(request(), input_digest="digest"),
        wrong.submit_once(request(), identity, ledger, refresh=False),
    ):
        with pytest.raises(JobReferenceError) as refused:
            await submission
        assert refused.value.path == "runtime_block_name"
    assert emulated.count("submit") == 0
    assert await SubmissionMemory(identity, ledger, run_logger()).outstanding_intent() is None


async def warm(service: RuntimeJobService) -> None:
    """Load the backend, which has a limit of its own."""
    await get_service_pool().backend(service._config, "fake_manila")


async def test_a_post_that_the_client_puts_off_is_awaited_and_not_repeated(
    prefect_home: Path, emulated, found, caplog
):
    service = RuntimeJobService(found, AnswerLimits(submission=0.7))
    await warm(service)
    emulated.faults.answer("submit", status=503, retry_after=4)
    with pytest.raises(SubmissionUncertainError):
        await submit_once(service)
    # A later call of this process does not send what the client may still send.
    with pytest.raises(SubmissionUncertainError, match="is not answered yet"):
        await submit_once(service)
    assert len(emulated.jobs) == 0
    service.limits = AnswerLimits(submission=30.0)
    with caplog.at_level(logging.WARNING):
        submission = await submit_once(service)
    assert [job.id for job in emulated.jobs] == [submission.reference.job_id]
    assert submission.reference.job_id in caplog.text
    assert emulated.count("submit") == 2, "the client's own two"
    await asyncio.sleep(0)
    assert (await submit_once(service)).reference.job_id == emulated.jobs[0].id


async def test_a_job_that_came_late_is_known_before_the_search_shows_it(
    prefect_home: Path, emulated, found, caplog
):
    service = RuntimeJobService(found, AnswerLimits(submission=0.7))
    await warm(service)
    emulated.faults.hide_new_jobs(60)
    emulated.faults.delay(2.5, "submit", times=1)
    with caplog.at_level(logging.WARNING):
        with pytest.raises(SubmissionUncertainError):
            await submit_once(service)
        while not emulated.jobs:
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.3)
    job_id = emulated.jobs[0].id
    [warning] = [record for record in caplog.records if job_id in record.getMessage()]
    assert warning.levelno == logging.WARNING
    assert (await submit_once(service)).reference.job_id == job_id
    # Whoever asks for a new one gets a new one.
    fresh = await submit_once(service, refresh=True)
    assert fresh.reference.job_id != job_id
    assert len(emulated.jobs) == 2


@pytest.mark.parametrize("primitives", ["classic", "client_side"])
@pytest.mark.parametrize("endpoint", ["usage", "status"])
async def test_what_hangs_before_it_is_sent_is_never_sent(
    prefect_home: Path, emulated, found, endpoint: str, primitives: str
):
    this = replace(request(), implementation=primitives)
    service = RuntimeJobService(found, AnswerLimits(submission=0.7))
    await warm(service)
    emulated.faults.delay(2.0, endpoint, times=1)
    with pytest.raises(SubmissionError, match="No job was submitted") as caught:
        await service.submit(this)
    assert not isinstance(caught.value, SubmissionUncertainError)
    assert caught.value.retryable is True
    # The next one does not wait for it, and there is one of them in the end.
    service.limits = AnswerLimits(submission=30.0)
    submitted = await service.submit(this)
    await asyncio.sleep(3.0)
    assert [job.id for job in emulated.jobs] == [submitted.job_id]
    assert emulated.count("submit") == 1


async def test_a_session_that_opens_late_gets_the_next_job_only(
    prefect_home: Path, emulated, found
):
    service = RuntimeJobService(found, AnswerLimits(submission=0.7))
    await warm(service)
    group = ExecutionGroup(found.config.model_copy(update={"mode": "session"}))
    in_session = replace(request(), group=group)
    emulated.faults.delay(2.0, "session", times=1)
    with pytest.raises(SubmissionError, match="No job was submitted") as caught:
        await service.submit(in_session)
    assert not isinstance(caught.value, SubmissionUncertainError)
    assert caught.value.retryable is True
    await asyncio.sleep(3.0)
    assert emulated.count("submit") == 0
    service.limits = AnswerLimits(submission=30.0)
    submitted = await service.submit(in_session)
    assert [session.id for session in emulated.sessions] == [submitted.session_id]
    assert [job.id for job in emulated.jobs] == [submitted.job_id]
    await run_blocking(group.close)


async def test_a_late_refusal_lets_the_next_one_through(prefect_home: Path, emulated, found):
    service = RuntimeJobService(found, AnswerLimits(submission=0.7))
    await warm(service)
    emulated.faults.delay(1.5, "submit", times=1)
    emulated.faults.answer("submit", status=400)
    with pytest.raises(SubmissionUncertainError):
        await submit_once(service)
    service.limits = AnswerLimits(submission=30.0)
    submission = await submit_once(service)
    assert [job.id for job in emulated.jobs] == [submission.reference.job_id]


async def test_jobs_that_are_not_submitted_once_do_not_wait_for_each_other(
    prefect_home: Path, emulated, found
):
    service = RuntimeJobService(found, AnswerLimits(submission=0.7))
    await warm(service)
    emulated.faults.delay(3, "submit", times=1)
    with pytest.raises(SubmissionUncertainError):
        await service.submit(request(once=False))
    await service.submit(request(once=False))
    assert len(emulated.jobs) == 1


async def test_what_never_got_its_turn_is_never_sent(prefect_home: Path, emulated, found):
    service = RuntimeJobService(found, AnswerLimits(submission=0.7))
    await warm(service)
    emulated.faults.delay(3, "submit")
    hung = [asyncio.create_task(service.submit(request(once=False))) for _ in range(CALLS_AT_ONCE)]
    while emulated.count("submit") < CALLS_AT_ONCE:
        await asyncio.sleep(0.02)
    with pytest.raises(SubmissionError, match="No job was submitted") as caught:
        await service.submit(request(once=False))
    assert not isinstance(caught.value, SubmissionUncertainError)
    assert caught.value.retryable is True
    outcomes = await asyncio.gather(*hung, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {SubmissionUncertainError}
    emulated.faults.clear()
    while len(emulated.jobs) < CALLS_AT_ONCE:
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)
    assert emulated.count("submit") == len(emulated.jobs) == CALLS_AT_ONCE


async def test_a_backend_that_cannot_be_read_in_time_leaves_no_doubt(
    prefect_home: Path, emulated, found, monkeypatch
):
    pool = ServicePool(answer_seconds=2.0)
    monkeypatch.setattr(service_pool, "_pool", pool)
    await pool.service(found.config)
    emulated.faults.delay(60, "configuration", times=1)
    with pytest.raises(SubmissionError, match="No job was submitted") as caught:
        await RuntimeJobService(found).submit(request())
    assert not isinstance(caught.value, SubmissionUncertainError)
    assert caught.value.retryable is True
    await RuntimeJobService(found).submit(request())
    assert len(emulated.jobs) == 1
