"""A real Prefect server and real worker processes for the tests that kill them."""

from __future__ import annotations

import itertools
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import StartedServer

_MARK = "qcsc-prefect-tests-"
if _MARK not in os.environ.get("PREFECT_HOME", ""):
    os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix=_MARK)
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ.pop("PREFECT_API_URL", None)
# Nothing outside of a test has a server; Prefect would start one for what is logged there.
os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"

from prefect.settings import (  # noqa: E402
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_HOME,
    PREFECT_LOCAL_STORAGE_PATH,
    temporary_settings,
)

from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig  # noqa: E402
from qcsc_prefect.integrations.qiskit.testing import ACCOUNT_NAME, EmulatedService  # noqa: E402

from ..hidden_secrets import found_in  # noqa: E402
from .account import ACCOUNT, check_access_tokens, credentials  # noqa: E402
from .processes import PrefectServer, Workers  # noqa: E402
from .program import LOGGERS, WAYS, Observed, connected  # noqa: E402
from .runs import DELAY, Run  # noqa: E402


@pytest.fixture(scope="session")
def prefect_server_process(started_server: StartedServer) -> Iterator[PrefectServer]:
    yield PrefectServer(started_server.url, started_server.home)
    assert found_in(started_server.home, credentials()) == {}


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    workers.close()


@pytest.fixture(scope="module")
def service() -> Iterator[EmulatedService]:
    with EmulatedService(["fake_manila"], accounts=[ACCOUNT], seed=7) as emulated:
        yield emulated
        check_access_tokens(emulated)


@pytest.fixture
def emulated(service: EmulatedService) -> EmulatedService:
    service.faults.clear()
    service.set_schedule()
    service.clear_requests()
    return service


_numbers = itertools.count(1)


@pytest.fixture
def start_run(
    emulated: EmulatedService,
    workers: Workers,
    prefect_server_process: PrefectServer,
    tmp_path: Path,
) -> Callable[..., Run]:
    def make(
        *,
        inputs: int = 1,
        numbers: list[int] | None = None,
        local: bool = False,
        proxied: bool = False,
        **more: object,
    ) -> Run:
        if local:
            config = {"channel": "local", "backend_name": "aer_simulator"}
        elif proxied:
            file = emulated.account_file(tmp_path / "accounts.json")
            config = {
                "account_name": ACCOUNT_NAME,
                "filename": str(file),
                "backend_name": "fake_manila",
            }
        else:
            config = emulated.runtime_config_fields()
        job = {
            "home": str(tmp_path / f"home-{next(_numbers)}"),
            "api_url": prefect_server_process.api_url,
            "environment": {} if proxied else emulated.environment,
            "config": config,
            "inputs": numbers or [next(_numbers) for _ in range(inputs)],
            "visibility_delay": DELAY,
            **more,
        }
        return Run(workers, job, None if local else emulated, len(emulated.jobs))

    return make


@pytest.fixture
def observed(
    emulated: EmulatedService,
    prefect_server_process: PrefectServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> Iterator[Observed]:
    """What can be seen of programs that run in this process, with a Prefect home of their own."""
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, logger=name)
    # A job waits in the queue until its program knows it, or else it could not be cancelled there.
    emulated.set_schedule(queued_seconds=math.inf)
    home = tmp_path / "home"
    settings = {
        PREFECT_API_URL: prefect_server_process.api_url,
        # Its one SQLite file refuses now and then what meets another write, on a busy machine five
        # times in a row too. Each pause is twice as long as the last.
        PREFECT_CLIENT_MAX_RETRIES: 8,
        PREFECT_HOME: home,
        PREFECT_LOCAL_STORAGE_PATH: home / "storage",
    }
    with temporary_settings(settings):
        yield Observed(emulated, len(emulated.jobs), home, caplog, recwarn, credentials())


@pytest.fixture(params=WAYS)
def config(
    request: pytest.FixtureRequest, emulated: EmulatedService, tmp_path: Path
) -> Iterator[QiskitRuntimeConfig]:
    """What reaches the service, in each way."""
    with connected(emulated, request.param, tmp_path) as config:
        yield config
