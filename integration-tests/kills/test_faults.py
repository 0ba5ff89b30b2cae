"""Every fault on every endpoint, direct and behind a proxy: what is decided, said and stored.

A short selection runs by default; ``QCSC_PREFECT_ALL_FAULTS=1`` runs every combination, once and
without end, which takes about an hour.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect import flow
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_LOCAL_STORAGE_PATH,
    temporary_settings,
)
from processes import PrefectServer
from worker import SHOTS, circuit_of

from qcsc_prefect.core.errors import QCSCPrefectError, SubmissionUncertainError
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.retry import RetryAnswer, classify_qiskit_error
from qcsc_prefect.integrations.qiskit.runtime.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.testing import (
    ACCOUNT_NAME,
    EmulatedService,
    Endpoint,
    FaultInjector,
)

ALL = bool(os.environ.get("QCSC_PREFECT_ALL_FAULTS"))
LONGEST = 600.0 if ALL else 90.0
DELAY = 0.5

Inject = Callable[[FaultInjector, Endpoint, int | None], None]

#: Faults that pass: whoever tries again later succeeds.
PASSING: dict[str, Inject] = {
    "429": lambda f, e, n: f.answer(e, status=429, times=n),
    "429 with Retry-After": lambda f, e, n: f.answer(e, status=429, times=n, retry_after=1),
    "500": lambda f, e, n: f.answer(e, status=500, times=n),
    "503": lambda f, e, n: f.answer(e, status=503, times=n),
    "504 after": lambda f, e, n: f.answer(e, status=504, times=n, when="after"),
    "closed": lambda f, e, n: f.close(e, times=n),
    "closed after": lambda f, e, n: f.close(e, times=n, when="after"),
    "reset": lambda f, e, n: f.close(e, times=n, reset=True),
    "truncated": lambda f, e, n: f.truncate(e, times=n),
    "cut": lambda f, e, n: f.truncate(e, times=n, announced=False),
    "malformed": lambda f, e, n: f.malform(e, times=n),
    "empty": lambda f, e, n: f.empty(e, times=n),
    "delayed": lambda f, e, n: f.delay(0.3, e, times=n),
}
#: Faults that somebody has to do something about.
LASTING: dict[str, Inject] = {
    "400": lambda f, e, n: f.answer(e, status=400, times=n),
    "401": lambda f, e, n: f.answer(e, status=401, times=n),
    "403": lambda f, e, n: f.answer(e, status=403, times=n),
    "404": lambda f, e, n: f.answer(e, status=404, times=n),
}
FAULTS = PASSING | LASTING

DIRECT = [
    Endpoint.TOKEN,
    Endpoint.BACKENDS,
    Endpoint.CONFIGURATION,
    Endpoint.PROPERTIES,
    Endpoint.USAGE,
    Endpoint.STATUS,
    Endpoint.SUBMIT,
    Endpoint.SEARCH,
    Endpoint.JOB,
    Endpoint.RESULT,
    Endpoint.METRICS,
]
#: The client finds its instances by itself only where nothing tells it not to.
PROXIED = [*DIRECT, Endpoint.INSTANCES, Endpoint.PLAN]


def selected() -> Iterator[tuple[str, Endpoint, str, int | None]]:
    """Which way, endpoint and fault, and how often it strikes."""
    for way, endpoints in (("direct", DIRECT), ("proxied", PROXIED)):
        combinations = list(itertools.product(endpoints, FAULTS))
        if ALL:
            for endpoint, fault in combinations:
                yield way, endpoint, fault, 1
                yield way, endpoint, fault, None
            continue
        # Every endpoint, with some of the faults.
        names = list(FAULTS)
        for number, endpoint in enumerate(endpoints):
            if endpoint is Endpoint.TOKEN:
                # The client stalls for a minute over each failure of a token on the direct way.
                chosen = ["delayed"] if way == "direct" else ["closed", "401"]
            elif endpoint is Endpoint.SUBMIT:
                chosen = ["closed after", "504 after", "empty", "403"]
            elif way == "direct":
                chosen = [names[(2 * number) % len(names)], names[(2 * number + 1) % len(names)]]
            else:
                chosen = [names[(number + 3) % len(names)]]
            for fault in chosen:
                yield way, endpoint, fault, 1
        yield way, Endpoint.RESULT, "malformed", None
        yield way, Endpoint.SEARCH, "403", None


_numbers = itertools.count(1000)


@pytest.fixture(scope="module")
def service() -> Iterator[EmulatedService]:
    with EmulatedService(["fake_manila"], seed=7) as emulated:
        yield emulated


@pytest.fixture
def config(
    request: pytest.FixtureRequest, service: EmulatedService, tmp_path: Path
) -> Iterator[QiskitRuntimeConfig]:
    service.faults.clear()
    get_service_pool().clear()
    if request.param == "direct":
        with service.client_environment():
            yield QiskitRuntimeConfig(**service.runtime_config_fields())
    else:
        file = service.account_file(tmp_path / "accounts.json")
        yield QiskitRuntimeConfig(
            account_name=ACCOUNT_NAME, filename=str(file), backend_name="fake_manila"
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


async def run_once(config: QiskitRuntimeConfig, number: int) -> dict[str, int]:
    # A flow that persists what it returns persists what it fails with, too.
    @flow(persist_result=True)
    async def experiment() -> dict[str, int]:
        reference = await submit_sampler_job_task(
            [circuit_of(number)],
            shots=SHOTS,
            runtime_config=config,
            cache_submit=True,
            cache_scope="global",
            visibility_delay=DELAY,
        )
        output = await fetch_qiskit_job_result_task(
            job_reference=reference, runtime_config=config, cache_result=True
        )
        return output["result"][0].data.meas.get_counts()

    async with asyncio.timeout(LONGEST):
        return await experiment()


@pytest.mark.parametrize(
    ("config", "endpoint", "fault", "times"),
    [
        pytest.param(*case, id=f"{case[0]}-{case[1]}-{case[2]}-{case[3] or 'without end'}")
        for case in selected()
    ],
    indirect=["config"],
)
async def test_a_fault_is_one_job_and_a_clear_word(
    config: QiskitRuntimeConfig,
    endpoint: Endpoint,
    fault: str,
    times: int | None,
    service: EmulatedService,
    home: Path,
    prefect_server_process: PrefectServer,
    caplog: pytest.LogCaptureFixture,
):
    number = next(_numbers)
    before = len(service.jobs)
    expected = {f"{number & 31:05b}": SHOTS}
    # Where a submission is repeated, the repetitions must still be there to be cancelled.
    service.set_schedule(queued_seconds=math.inf if endpoint is Endpoint.SUBMIT else 0.0)
    releasing = asyncio.get_running_loop().call_later(8 * DELAY, service.release_jobs)
    FAULTS[fault](service.faults, endpoint, times)
    try:
        assert await run_once(config, number) == expected
    except QCSCPrefectError as error:
        print(f"{type(error).__name__}: {error}")
        check_the_word(error, fault, config)
    finally:
        releasing.cancel()
    service.faults.clear()
    service.set_schedule()
    service.release_jobs()
    if fault == "401":
        get_service_pool().clear()  # a new process, which a user starts after mending the account
    assert await run_once(config, number) == expected
    kept = [job for job in service.jobs[before:] if job.state != "Cancelled"]
    assert len(kept) == 1, "paid for more than once"
    check_no_token(service.token, [home, prefect_server_process.home], caplog.text)


def check_the_word(error: QCSCPrefectError, fault: str, config: QiskitRuntimeConfig) -> None:
    message = str(error)
    assert message.rstrip().endswith((".", "!")), message
    assert len(message) > 60, message
    if isinstance(error, SubmissionUncertainError):
        assert "Look for the job on the service" in message
        return
    answer = classify_qiskit_error(error).answer
    if fault in PASSING:
        assert answer is RetryAnswer.RETRY, message
    else:
        assert answer is not RetryAnswer.RETRY, message


def check_no_token(token: str, folders: list[Path], log: str) -> None:
    hidden = [token.encode(), base64.b64encode(token.encode()).rstrip(b"=")]
    assert token not in log
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert not any(text in content for text in hidden), f"the token is in {path}"
