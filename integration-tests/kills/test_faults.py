"""Every fault on every endpoint, direct and behind a proxy: what is decided, said and stored.

A short selection runs by default; ``QCSC_PREFECT_ALL_FAULTS=1`` runs every case, which takes about
half an hour with ``-n 12``, since most of them wait. Each case runs a flow while a fault strikes,
and once more, in the same process, when it is over: there is one job, its result is right, what
went wrong was said in words that a user can act on, and no credential stands in a file or a log.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcsc_prefect.core.errors import (
    JobWaitTimeoutError,
    QCSCPrefectError,
    SubmissionError,
    SubmissionUncertainError,
)
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.jobs import runtime_service
from qcsc_prefect.integrations.qiskit.jobs.instances import ConfiguredInstance
from qcsc_prefect.integrations.qiskit.jobs.runtime_service import AnswerLimits, RuntimeJobService
from qcsc_prefect.integrations.qiskit.retry import RetryAnswer, classify_qiskit_error
from qcsc_prefect.integrations.qiskit.runtime import service_pool
from qcsc_prefect.integrations.qiskit.runtime.service_pool import ServicePool
from qcsc_prefect.integrations.qiskit.testing import EmulatedService, Endpoint

from .fault_cases import FAULTS, HANGS, NEVER_ASKED, Case, all_cases, short_cases
from .processes import wait_until
from .program import Observed, Program, connected

ALL = bool(os.environ.get("QCSC_PREFECT_ALL_FAULTS"))
LONGEST = 900.0 if ALL else 90.0
#: Seconds after which an answer is given up that never comes; the default is three minutes.
PATIENCE = 4.5
#: Seconds for which a job is waited for while a fault does not end.
MAX_WAIT = 4.0

_numbers = itertools.count(1000)


@pytest.fixture
def config(case: Case, emulated: EmulatedService, tmp_path: Path) -> Iterator[QiskitRuntimeConfig]:
    mode = "session" if case.endpoint is Endpoint.SESSION else "job"
    with connected(emulated, case.way, tmp_path, mode) as config:
        yield config


@pytest.fixture
def short_patience(
    config: QiskitRuntimeConfig, emulated: EmulatedService, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Give up an answer after seconds, not after minutes."""
    pool = ServicePool(answer_seconds=PATIENCE)
    monkeypatch.setattr(service_pool, "_pool", pool)
    patient = RuntimeJobService(
        ConfiguredInstance(emulated.instance, config), AnswerLimits(PATIENCE, PATIENCE, PATIENCE)
    )
    monkeypatch.setitem(runtime_service._services, (pool.key(config), emulated.instance), patient)
    yield
    wait_for_what_hangs(emulated)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.id) for case in (all_cases() if ALL else short_cases())],
)
async def test_a_fault_is_one_job_and_a_clear_word(
    case: Case,
    config: QiskitRuntimeConfig,
    observed: Observed,
    request: pytest.FixtureRequest,
):
    if case.name == "hangs":
        request.getfixturevalue("short_patience")
    service = observed.service
    program = Program(config, service, next(_numbers))
    async with asyncio.timeout(LONGEST):
        error = await run_struck_by(case, program)
    print(f"{type(error).__name__}: {error}" if error else "nothing was noticed")
    struck = {r.endpoint for r in service.requests if r.fault}
    assert case.endpoint in struck or (case.endpoint is None and struck), "no fault struck"
    assert struck.isdisjoint(NEVER_ASKED)
    if error is not None:
        check_the_word(error, case)
    elif case.situation == "cancelling" and observed.paid:
        said = f"The wait of job {observed.paid[0].id} was cancelled, and the job could not be"
        ended = f"The wait of job {observed.paid[0].id} was cancelled; the job had ended already"
        assert said in observed.log or (case.name == "409" and ended in observed.log)

    service.faults.clear()
    async with asyncio.timeout(LONGEST):
        assert await program.run() == program.expected
    if case.name == "hangs":
        await asyncio.to_thread(wait_for_what_hangs, service)
    kept, *others = observed.paid
    assert case.situation == "repeated" or not others, "paid for more than once"
    # What could not be cancelled is not concealed.
    assert all(f"{job.id} is a duplicate of job {kept.id}" in observed.log for job in others)
    assert {"prefect.task_runs", "qiskit_ibm_runtime.api.session"} <= {
        record.name for record in observed.logged.records
    }, "the logs were not listened to"
    assert observed.leaked == {}


async def run_struck_by(case: Case, program: Program) -> QCSCPrefectError | None:
    """Run a program while a fault strikes, and return what it ended with if it was no result."""
    faults = program.service.faults

    def strike() -> None:
        if case.situation == "renewing":
            program.service.revoke_access_tokens()
        if case.situation == "repeated":
            faults.answer("submit", status=504, when="after")
        case.fault.inject(faults, case.endpoint, case.times)

    later = case.situation in {"waiting", "renewing", "ending session"}
    if not later:
        strike()
    ending = None
    if case.times is None and "429" in case.name:
        # Where a job is not accepted for this, it is sent again for an hour.
        ending = asyncio.create_task(end_when_it_has_struck(program.service, 2 * MAX_WAIT))
    try:
        result = await program.run(
            strike if later else lambda: None,
            max_wait=MAX_WAIT if case.times is None else None,
            cancelled=case.situation == "cancelling",
        )
    except QCSCPrefectError as error:
        return error
    except asyncio.CancelledError:
        assert case.situation == "cancelling"
        return None
    finally:
        if ending is not None:
            ending.cancel()
    assert result == program.expected
    return None


async def end_when_it_has_struck(service: EmulatedService, seconds: float) -> None:
    """Take the faults back so many seconds after the first one struck, however late that is."""
    while not any(request.fault for request in service.requests):
        await asyncio.sleep(0.1)
    await asyncio.sleep(seconds)
    service.faults.clear()


def wait_for_what_hangs(service: EmulatedService) -> None:
    """Wait until no request is held back, and see what those do that were given up for it."""
    wait_until(
        lambda: all(r.status is not None for r in service.requests if r.fault == "delay"),
        2 * HANGS,
        "the answers",
    )
    time.sleep(1.0)


def check_the_word(error: QCSCPrefectError, case: Case) -> None:
    message = str(error)
    assert not case.must_succeed, message
    assert message.rstrip().endswith((".", "!")), message
    assert len(message) > 60, message
    if isinstance(error, SubmissionUncertainError):
        assert case.may_be_uncertain, message
        assert "Look for the job on the service" in message
        return
    if isinstance(error, JobWaitTimeoutError):
        assert case.may_outlast_the_wait, message
        assert "it goes on. Fetch it later" in message
        return
    if isinstance(error, SubmissionError):
        assert "no job was " in message.lower()
    answer = classify_qiskit_error(error).answer
    assert (answer is RetryAnswer.RETRY) == (case.answer is RetryAnswer.RETRY), message
    if case.is_named:
        assert f"HTTP {case.fault.status}" in message, message


def test_the_short_form_leaves_nothing_out():
    short, everything = list(short_cases()), list(all_cases())
    assert set(short) <= set(everything)
    assert {(case.way, case.name) for case in short} == {
        (way, name) for way in ("direct", "proxied") for name in FAULTS
    }
    assert {(case.situation, case.endpoint) for case in short} == {
        (case.situation, case.endpoint) for case in everything
    }
    assert {case.endpoint for case in everything} == {*Endpoint, None} - set(NEVER_ASKED)
