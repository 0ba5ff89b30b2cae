"""Every fault on every endpoint, direct and behind a proxy: what is decided, said and stored.

A short selection runs by default; ``QCSC_PREFECT_ALL_FAULTS=1`` runs every case, which takes twenty
minutes with ``-n 12``, since many of them wait. Each case runs a flow while a fault strikes, and
once more, in the same process, when it is over: there is one job, its result is right, what went
wrong was said in words that a user can act on, and no credential stands in a file or a log.

How long a fault is waited out is set by each case: one that passes costs an error only where the
program does not wait at all, and one without end is given up soon.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcsc_prefect.core.errors import (
    JobCancelledError,
    JobWaitTimeoutError,
    QCSCPrefectError,
    SubmissionError,
    SubmissionUncertainError,
)
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.retry import RetryAnswer, classify_qiskit_error
from qcsc_prefect.integrations.qiskit.testing import EmulatedService, Endpoint

from .fault_cases import FAULTS, NEVER_ASKED, Case, all_cases, short_cases
from .program import Observed, Program, connected, set_limits

ALL = bool(os.environ.get("QCSC_PREFECT_ALL_FAULTS"))
LONGEST = 300.0 if ALL else 90.0
#: Seconds for which a job is waited for while a fault does not end.
MAX_WAIT = 2.0

_numbers = itertools.count(1000)


@pytest.fixture
def config(
    case: Case, emulated: EmulatedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[QiskitRuntimeConfig]:
    set_limits(
        monkeypatch,
        answer=2.0 if case.name == "hangs" else 30.0,
        patience=0.3 if case.times is None else 30.0,
    )
    mode = "session" if case.endpoint is Endpoint.SESSION else "job"
    with connected(emulated, case.way, tmp_path, mode=mode) as config:
        yield config


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.id) for case in (all_cases() if ALL else short_cases())],
)
async def test_a_fault_is_one_job_and_a_clear_word(
    case: Case, config: QiskitRuntimeConfig, observed: Observed, tmp_path: Path
):
    service = observed.service
    program = Program(config, service, next(_numbers))
    async with asyncio.timeout(LONGEST):
        error = await run_struck_by(case, program, tmp_path / "elsewhere")
    print(f"{type(error).__name__}: {error}" if error else "nothing was noticed")
    struck = {r.endpoint for r in service.requests if r.fault}
    assert case.endpoint in struck or (case.endpoint is None and struck), "no fault struck"
    assert struck.isdisjoint(NEVER_ASKED)
    if error is not None:
        check_the_word(error, case, observed)
    elif case.situation == "cancelling" and observed.paid:
        said = f"The wait of job {observed.paid[0].id} was cancelled, and the job could not be"
        ended = f"The wait of job {observed.paid[0].id} was cancelled; the job had ended already"
        assert said in observed.log or (case.name == "409" and ended in observed.log)

    service.faults.clear()
    async with asyncio.timeout(LONGEST):
        assert await program.run() == program.expected
    kept, *others = observed.paid
    assert case.situation == "beaten" or not others, "paid for more than once"
    # What could not be cancelled is not concealed.
    assert all(
        re.search(rf"{job.id}( \(\w+\))? is a duplicate of job {kept.id}", observed.log)
        for job in others
    )
    assert observed.intents == [], "nothing is left to be found out"
    assert {"prefect.task_runs", "qiskit_ibm_runtime.api.session"} <= {
        record.name for record in observed.logged.records
    }, "the logs were not listened to"
    assert observed.leaked == {}


async def run_struck_by(case: Case, program: Program, elsewhere: Path) -> QCSCPrefectError | None:
    """Run a program while a fault strikes, and return what it ended with if it was no result."""
    faults = program.service.faults

    def strike() -> None:
        if case.situation == "renewing":
            program.service.revoke_access_tokens()
        if case.situation == "replaced":
            faults.hide_new_jobs(0)
        case.fault.inject(faults, case.endpoint, case.times)

    meanwhile: list[asyncio.Task[None]] = []
    if case.situation in {"beaten", "replaced"}:
        await program.submit_elsewhere(elsewhere)
    if case.situation == "beaten":
        meanwhile.append(asyncio.create_task(show_when_submitted(program.service)))
    if case.situation == "replaced":
        faults.end_jobs("Cancelled")
    later = case.situation in {"waiting", "renewing", "replaced", "ending session"}
    if not later:
        strike()
    if case.times is None and "429" in case.name:
        # Where a job is not accepted for this, it is sent again for an hour.
        meanwhile.append(asyncio.create_task(end_when_it_has_struck(program.service, MAX_WAIT)))
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
        for task in meanwhile:
            task.cancel()
    assert result == program.expected
    return None


async def show_when_submitted(service: EmulatedService) -> None:
    """Show another machine's job when this one has sent its own, and not before."""
    service.faults.delay(0.3, Endpoint.SUBMIT, when="after")
    submitted = service.count(Endpoint.SUBMIT)
    while service.count(Endpoint.SUBMIT) == submitted:
        await asyncio.sleep(0.005)
    service.faults.hide_new_jobs(0)


async def end_when_it_has_struck(service: EmulatedService, seconds: float) -> None:
    """Take the faults back so many seconds after the first one struck, however late that is."""
    while not any(request.fault for request in service.requests):
        await asyncio.sleep(0.1)
    await asyncio.sleep(seconds)
    service.faults.clear()


def check_the_word(error: QCSCPrefectError, case: Case, observed: Observed) -> None:
    message = str(error)
    assert not case.must_succeed, message
    assert message.rstrip().endswith((".", "!")), message
    assert len(message) > 60, message
    if isinstance(error, SubmissionUncertainError):
        assert case.may_be_uncertain, message
        assert "Look for the job on the service" in message
        assert len(observed.intents) == 1, "a rerun would not look for it"
        return
    if isinstance(error, JobCancelledError):
        assert case.may_lose_the_kept_job, message
        assert f"Job {observed.jobs[-1].id}" in message
        assert "another job of the same input is kept could not be checked" in observed.log
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
