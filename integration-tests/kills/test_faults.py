"""Every fault on every endpoint, direct and behind a proxy: what is decided, said and stored.

A short selection runs by default; ``QCSC_PREFECT_ALL_FAULTS=1`` runs every case, which takes about
half an hour with ``-n 8``. Each case runs a flow while a fault strikes, and a second time, in the
same process, when it is over: there is one job, its result is right, what went wrong was said in
words that a user can act on, and no credential stands in a file, a database or a log.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect import flow
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_LOCAL_STORAGE_PATH,
    temporary_settings,
)

from qcsc_prefect.core.errors import (
    JobWaitTimeoutError,
    QCSCPrefectError,
    SubmissionUncertainError,
)
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.jobs import runtime_service
from qcsc_prefect.integrations.qiskit.jobs.instances import ConfiguredInstance
from qcsc_prefect.integrations.qiskit.jobs.runtime_service import AnswerLimits, RuntimeJobService
from qcsc_prefect.integrations.qiskit.retry import RetryAnswer, classify_qiskit_error
from qcsc_prefect.integrations.qiskit.runtime import service_pool
from qcsc_prefect.integrations.qiskit.runtime.service_pool import ServicePool, get_service_pool
from qcsc_prefect.integrations.qiskit.testing import ACCOUNT_NAME, EmulatedService, Endpoint

from ..hidden_secrets import found_in, found_in_text
from .account import ACCOUNT, credentials
from .fault_cases import HANGS, NEVER_ASKED, Case, all_cases
from .processes import PrefectServer
from .worker import SHOTS, circuit_of

ALL = bool(os.environ.get("QCSC_PREFECT_ALL_FAULTS"))
LONGEST = 600.0 if ALL else 90.0
DELAY = 0.5
#: Seconds after which an answer is given up that never comes; the default is three minutes.
PATIENCE = 4.5
#: Seconds for which a job is waited for while a fault does not end.
MAX_WAIT = 4.0
#: Whoever writes to one of these could write a credential.
LOGGERS = (
    "qcsc_prefect",
    "prefect.qcsc_prefect",
    "prefect.flow_runs",
    "prefect.task_runs",
    "qiskit_ibm_runtime",
    "ibm-cloud-sdk-core",
    "urllib3",
)

_numbers = itertools.count(1000)


@pytest.fixture(scope="module")
def service() -> Iterator[EmulatedService]:
    with EmulatedService(["fake_manila"], accounts=[ACCOUNT], seed=7) as emulated:
        yield emulated
        assert {request.endpoint for request in emulated.requests}.isdisjoint(NEVER_ASKED)


@pytest.fixture
def config(
    request: pytest.FixtureRequest, service: EmulatedService, tmp_path: Path
) -> Iterator[QiskitRuntimeConfig]:
    case: Case = request.getfixturevalue("case")
    mode = "session" if case.endpoint is Endpoint.SESSION else "job"
    service.faults.clear()
    get_service_pool().clear()
    if case.way == "direct":
        with service.client_environment():
            yield QiskitRuntimeConfig(**service.runtime_config_fields(), mode=mode)
    else:
        file = service.account_file(tmp_path / "accounts.json")
        yield QiskitRuntimeConfig(
            account_name=ACCOUNT_NAME, filename=str(file), backend_name="fake_manila", mode=mode
        )
    service.faults.clear()
    get_service_pool().clear()


@pytest.fixture
def home(prefect_server_process: PrefectServer, tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    settings = {
        PREFECT_API_URL: prefect_server_process.api_url,
        PREFECT_HOME: home,
        PREFECT_LOCAL_STORAGE_PATH: home / "storage",
    }
    with temporary_settings(settings):
        yield home


@pytest.fixture
def short_patience(
    config: QiskitRuntimeConfig, service: EmulatedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give up an answer after seconds, not after minutes."""
    pool = ServicePool(answer_seconds=PATIENCE)
    monkeypatch.setattr(service_pool, "_pool", pool)
    patient = RuntimeJobService(
        ConfiguredInstance(service.instance, config), AnswerLimits(PATIENCE, PATIENCE, PATIENCE)
    )
    monkeypatch.setitem(runtime_service._services, (pool.key(config), service.instance), patient)


@dataclass
class Program:
    """What a user runs: it submits one job and fetches its result."""

    config: QiskitRuntimeConfig
    service: EmulatedService
    number: int

    async def run_struck_by(self, case: Case) -> dict[str, int]:
        """Run while a fault strikes."""

        def strike() -> None:
            if case.situation == "renewing":
                self.service.revoke_access_tokens()
            if case.situation == "repeated":
                self.service.faults.answer("submit", status=504, when="after")
            case.fault.inject(self.service.faults, case.endpoint, case.times)

        later = case.situation in {"waiting", "renewing", "ending session"}
        if not later:
            strike()
        if case.times is None and "429" in case.name:
            # It is waited out for an hour.
            asyncio.get_running_loop().call_later(2 * MAX_WAIT, self.service.faults.clear)
        return await self.run(
            strike if later else lambda: None,
            max_wait=MAX_WAIT if case.times is None else None,
            cancelled=case.situation == "cancelling",
        )

    async def run(
        self,
        when_submitted: Callable[[], None] = lambda: None,
        *,
        max_wait: float | None = None,
        cancelled: bool = False,
    ) -> dict[str, int]:
        """Run to the end, or until its wait is cancelled."""

        # A flow that persists what it returns persists what it fails with, too.
        @flow(persist_result=True)
        async def experiment() -> dict[str, int]:
            reference = await submit_sampler_job_task(
                [circuit_of(self.number)],
                shots=SHOTS,
                runtime_config=self.config,
                cache_submit=True,
                cache_scope="global",
                visibility_delay=DELAY,
            )
            when_submitted()
            if not cancelled:
                self.service.release_jobs()
            output = await fetch_qiskit_job_result_task(
                job_reference=reference,
                runtime_config=self.config,
                cache_result=True,
                max_wait=max_wait,
                cancel_job_on_cancellation=cancelled,
            )
            return output["result"][0].data.meas.get_counts()

        running = asyncio.ensure_future(experiment())
        async with asyncio.timeout(LONGEST):
            if cancelled:
                while not running.done() and not self.service.count(Endpoint.JOB):
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.1)
                running.cancel()
            return await running


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in all_cases()])
async def test_a_fault_is_one_job_and_a_clear_word(
    case: Case,
    config: QiskitRuntimeConfig,
    service: EmulatedService,
    home: Path,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
):
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, logger=name)
    if case.name == "hangs":
        request.getfixturevalue("short_patience")
    service.clear_requests()
    before = len(service.jobs)
    service.set_schedule(queued_seconds=math.inf)
    number = next(_numbers)
    expected = {f"{number & 31:05b}": SHOTS}
    program = Program(config, service, number)
    began = time.monotonic()
    result = error = None
    try:
        result = await program.run_struck_by(case)
    except QCSCPrefectError as raised:
        error = raised
    except asyncio.CancelledError:
        assert case.situation == "cancelling"
    first_seconds = time.monotonic() - began
    print(f"{first_seconds:.1f} s: {type(error).__name__} {error}" if error else "", result)
    struck = any(r.fault and case.endpoint in (None, r.endpoint) for r in service.requests)

    service.faults.clear()
    began2 = time.monotonic()
    again = "well"
    try:
        assert await program.run() == expected
    except BaseException as e:
        again = f"{type(e).__name__} {e}"
    second_seconds = time.monotonic() - began2
    if case.name == "hangs":
        # Whatever was given up, and goes on in a thread, has its answer by now.
        await asyncio.sleep(max(0.0, began + first_seconds + HANGS + 1.0 - time.monotonic()))
    kept = [job for job in service.jobs[before:] if job.state != "Cancelled"]
    said = [caplog.text, *(str(warning.message) for warning in recwarn)]
    problems = []

    def check(condition, text):
        if not condition:
            problems.append(text)

    check(struck, "not struck")
    check(again == "well", f"again {again}")
    check(result in (None, expected), f"result {result}")
    check(len(kept) == 1, f"kept {len(kept)}")
    check(found_in(home, credentials(service)) == {}, "LEAK")
    check(found_in_text("\n".join(said), credentials(service)) == set(), "LEAK log")
    check("Submitted" in caplog.text, "no log")
    if case.must_succeed:
        check(error is None, "must succeed")
    if isinstance(error, SubmissionUncertainError):
        check(case.may_be_uncertain, "uncertain")
    elif isinstance(error, JobWaitTimeoutError):
        check(case.times is None and case.fault.passes, "wait timeout")
    elif error is not None:
        answer = classify_qiskit_error(error).answer
        check((answer is RetryAnswer.RETRY) == case.fault.passes, f"answer {answer}")
        if not case.fault.passes and case.fault.status:
            check(f"HTTP {case.fault.status}" in str(error), "status not named")
    with open("/tmp/outcomes.txt", "a") as file:
        print(
            case.id,
            f"{first_seconds:.1f} {second_seconds:.1f} jobs={len(kept)}/{len(service.jobs) - before} PROBLEMS {problems}\n    -> {type(error).__name__} {error}",
            file=file,
        )
    assert not problems
