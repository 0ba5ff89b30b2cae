"""Faults that come together, and those that are no answer of one endpoint.

An answer is lost while nobody can be asked what became of the job; new jobs are shown late; the
service takes so many requests in a minute; jobs end badly, or in a state that nobody knows.
``QCSC_PREFECT_ALL_FAULTS=1`` runs all combinations.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect import flow, get_run_logger, task

from qcsc_prefect.core.errors import (
    JobCancelledError,
    JobError,
    JobFailedError,
    JobTimeLimitError,
    JobWaitTimeoutError,
    SubmissionUncertainError,
)
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.retry import RetryAnswer, classify_qiskit_error
from qcsc_prefect.integrations.qiskit.testing import Endpoint, FaultInjector

from ..hidden_secrets import found_in
from .fault_cases import FAULTS
from .processes import PrefectServer
from .program import DELAY, LONGEST, WAYS, Observed, Program, as_soon_as, set_limits
from .test_faults import ALL

#: After each of them a job exists whose id may be unknown.
LOST = [name for name, fault in FAULTS.items() if fault.after and name not in {"hangs"}]

_numbers = itertools.count(5000)


def cases(short: list[tuple], every: Iterator[tuple]) -> list:
    """Return the cases of the long form, or of the short one, with their ids."""
    chosen = list(every) if ALL else short
    return [pytest.param(*case, id="-".join(str(value) for value in case)) for case in chosen]


@pytest.mark.parametrize(
    ("config", "lost", "down", "endpoint"),
    cases(
        [
            ("direct", "closed after", "429", Endpoint.SEARCH),
            ("direct", "empty", "malformed", None),
            ("proxied", "closed after", "403", Endpoint.SEARCH),
            ("proxied", "504 after", "429", None),
        ],
        itertools.product(
            WAYS, LOST, ("403", "429", "503", "malformed", "closed"), (Endpoint.SEARCH, None)
        ),
    ),
    indirect=["config"],
)
async def test_the_answer_lost_and_nobody_to_ask(
    config: QiskitRuntimeConfig,
    observed: Observed,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
    down: str,
    endpoint: Endpoint | None,
):
    set_limits(monkeypatch, answer=30.0, patience=0.3)
    program = Program(config, observed.service, next(_numbers))
    faults = observed.service.faults
    FAULTS[lost].inject(faults, Endpoint.SUBMIT, 1)
    faults.delay(0.3, "submit", when="after")

    breaking = asyncio.create_task(
        as_soon_as(lambda: observed.jobs, lambda: FAULTS[down].inject(faults, endpoint, None))
    )
    async with asyncio.timeout(LONGEST):
        with pytest.raises(SubmissionUncertainError, match="Look for the job on the service"):
            await program.submit()
        assert "The job could not be looked for" in observed.log
        assert len(observed.intents) == 1
        await breaking
        faults.clear()
        assert await program.run() == program.expected
    assert len(observed.jobs) == 1
    assert observed.intents == []
    assert observed.leaked == {}


@pytest.fixture
def refused_from_now_on(observed: Observed) -> Callable[[], None]:
    """Return what makes the account be refused, also where it signs in anew."""

    def refuse() -> None:
        observed.service.revoke_access_tokens()
        observed.service.faults.answer(Endpoint.TOKEN, status=403, times=None)

    return refuse


@pytest.mark.parametrize("lost", [True, False], ids=["answer lost", "answer read"])
async def test_the_account_refused_after_the_submission(
    config: QiskitRuntimeConfig,
    observed: Observed,
    refused_from_now_on: Callable[[], None],
    lost: bool,
):
    """What was to be known of the job is said, and not that the account is refused by now."""
    program = Program(config, observed.service, next(_numbers))
    faults = observed.service.faults
    if lost:
        FAULTS["504 after"].inject(faults, Endpoint.SUBMIT, 1)
    faults.delay(0.5, "submit", when="after")
    async with asyncio.timeout(LONGEST):
        refusing = asyncio.create_task(as_soon_as(lambda: observed.jobs, refused_from_now_on))
        if lost:
            with pytest.raises(SubmissionUncertainError, match="Look for the job on the service"):
                await program.submit()
            assert "The job could not be looked for" in observed.log
        else:
            submitted = await program.submit()
            assert submitted["job_id"] == observed.jobs[0].id
            assert "at the same moment could not be checked" in observed.log
        await refusing
        assert len(observed.intents) == 1
        faults.clear()
        assert await program.run() == program.expected
    assert len(observed.jobs) == 1
    assert observed.intents == []
    assert observed.leaked == {}


async def test_the_account_refused_while_the_kept_job_is_looked_for(
    config: QiskitRuntimeConfig,
    observed: Observed,
    refused_from_now_on: Callable[[], None],
    tmp_path: Path,
):
    program = Program(config, observed.service, next(_numbers))
    await program.submit_elsewhere(tmp_path / "elsewhere")
    faults = observed.service.faults
    faults.end_jobs("Cancelled")
    faults.delay(0.5, Endpoint.JOB, when="after")
    async with asyncio.timeout(LONGEST):
        refusing = asyncio.create_task(
            as_soon_as(lambda: observed.service.count(Endpoint.JOB), refused_from_now_on)
        )
        with pytest.raises(JobCancelledError) as caught:
            await program.run()
        assert f"Job {observed.jobs[-1].id}" in str(caught.value)
        await refusing
        assert "another job of the same input is kept could not be checked" in observed.log
        faults.clear()
        assert await program.run() == program.expected
    assert len(observed.paid) == 1
    assert observed.leaked == {}


async def test_the_account_refused_while_the_wait_is_cancelled(
    config: QiskitRuntimeConfig, observed: Observed, refused_from_now_on: Callable[[], None]
):
    program = Program(config, observed.service, next(_numbers))
    observed.service.faults.delay(0.5, Endpoint.JOB, when="after")
    async with asyncio.timeout(LONGEST):
        refusing = asyncio.create_task(
            as_soon_as(lambda: observed.service.count(Endpoint.JOB), refused_from_now_on)
        )
        with pytest.raises(asyncio.CancelledError):
            await program.run(cancelled=True)
        await refusing
        assert f"The wait of job {observed.jobs[0].id} was cancelled, and the job could not be" in (
            observed.log
        )
        observed.service.faults.clear()
        assert await program.run() == program.expected
    assert len(observed.jobs) == 1
    assert observed.leaked == {}


@pytest.mark.parametrize(
    ("config", "lost"),
    cases([("direct", "504 after"), ("proxied", "closed after")], itertools.product(WAYS, LOST)),
    indirect=["config"],
)
async def test_the_answer_lost_and_the_job_shown_late(
    config: QiskitRuntimeConfig, observed: Observed, lost: str
):
    program = Program(config, observed.service, next(_numbers))
    observed.service.faults.hide_new_jobs(0.6 * DELAY)
    FAULTS[lost].inject(observed.service.faults, Endpoint.SUBMIT, 1)
    async with asyncio.timeout(LONGEST):
        assert await program.run() == program.expected
    assert len(observed.jobs) == 1
    assert observed.leaked == {}


@pytest.mark.parametrize(
    ("config", "endpoint", "announced"),
    cases(
        [("direct", Endpoint.SUBMIT, False), ("proxied", Endpoint.SUBMIT, True)],
        itertools.product(
            WAYS,
            (Endpoint.SUBMIT, Endpoint.SEARCH, Endpoint.STATUS, Endpoint.JOB, Endpoint.RESULT),
            (True, False),
        ),
    ),
    indirect=["config"],
)
async def test_a_limited_rate(
    config: QiskitRuntimeConfig,
    observed: Observed,
    monkeypatch: pytest.MonkeyPatch,
    endpoint: Endpoint,
    announced: bool,
):
    set_limits(monkeypatch, answer=30.0, patience=30.0)
    faults = observed.service.faults
    # On a busy machine the requests may come so slowly that none of them is one too many.
    faults.answer(endpoint, status=429, times=2, retry_after=2.0 if announced else None)
    faults.limit_rate(endpoint, requests=1, seconds=2.0, announced=announced)
    programs = [Program(config, observed.service, next(_numbers)) for _ in range(3)]
    async with asyncio.timeout(2 * LONGEST):
        found = await asyncio.gather(*(program.run() for program in programs))
    assert found == [program.expected for program in programs]
    assert any(request.status == 429 for request in observed.service.requests)
    assert len(observed.jobs) == len(programs)
    assert observed.leaked == {}


ENDS: dict[str, tuple[Callable[[FaultInjector], None], type[JobError]]] = {
    "failed": (lambda f: f.end_jobs("Failed", reason="It is warm.", code=1008), JobFailedError),
    "stopped": (lambda f: f.stop_jobs(), JobTimeLimitError),
    "cancelled": (lambda f: f.end_jobs("Cancelled"), JobCancelledError),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_job_that_ends_badly_is_said_and_submitted_anew(
    config: QiskitRuntimeConfig, observed: Observed, end: str
):
    inject, expected = ENDS[end]
    inject(observed.service.faults)
    program = Program(config, observed.service, next(_numbers))
    async with asyncio.timeout(LONGEST):
        with pytest.raises(expected) as caught:
            await program.run()
        assert type(caught.value) is expected
        assert observed.jobs[0].id in str(caught.value)
        assert classify_qiskit_error(caught.value).answer is RetryAnswer.DO_NOT
        assert await program.run() == program.expected
    assert len(observed.jobs) == 2
    assert f"Job {observed.jobs[0].id} is recorded for this input, but it ended" in observed.log
    assert observed.leaked == {}


async def test_a_state_that_nobody_knows_passes(config: QiskitRuntimeConfig, observed: Observed):
    observed.service.faults.show_state("Meditating", times=3)
    program = Program(config, observed.service, next(_numbers))
    async with asyncio.timeout(LONGEST):
        assert await program.run() == program.expected
    assert "MEDITATING" in observed.log
    assert len(observed.jobs) == 1
    assert observed.leaked == {}


async def test_a_state_that_nobody_knows_and_that_stays(
    config: QiskitRuntimeConfig, observed: Observed
):
    observed.service.faults.end_jobs("Meditating")
    program = Program(config, observed.service, next(_numbers))
    async with asyncio.timeout(LONGEST):
        for _ in range(2):
            with pytest.raises(JobWaitTimeoutError, match="it goes on"):
                await program.run(max_wait=1.0)
    assert len(observed.jobs) == 1, "who knows what it is about"
    assert observed.leaked == {}


async def test_the_search_finds_what_leaks(
    observed: Observed, prefect_server_process: PrefectServer
):
    """The same search as above, for secrets that a flow does leak."""
    observed.secrets = {
        name: secrets.token_hex(24) for name in ("result", "error", "log", "warning", "parameter")
    }

    @task(persist_result=True)
    async def keep() -> dict[str, str]:
        return {"kept": observed.secrets["result"]}

    @flow(persist_result=True)
    async def leak(parameter: str) -> None:
        await keep()
        get_run_logger().debug(observed.secrets["log"])
        warnings.warn(observed.secrets["warning"], stacklevel=1)
        raise ValueError(observed.secrets["error"])

    with pytest.raises(ValueError, match=observed.secrets["error"]):
        await leak(observed.secrets["parameter"])
    leaked = observed.leaked
    assert leaked.keys() == {"result", "error", "log", "warning"}
    assert leaked["log"] == {"a log"}
    assert leaked["warning"] == {"a warning"}
    assert "a log" not in leaked["result"]
    assert len(leaked["error"]) == 2, "in the log, and in the result that the flow failed with"
    assert "parameter" in found_in(prefect_server_process.home, observed.secrets)
