"""A real Prefect server and real worker processes for the tests that kill them."""

from __future__ import annotations

import atexit
import itertools
import logging
import math
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

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

from qcsc_prefect.integrations.qiskit.testing import ACCOUNT_NAME, EmulatedService  # noqa: E402

from ..hidden_secrets import found_in  # noqa: E402
from .account import ACCOUNT, check_access_tokens, credentials  # noqa: E402
from .processes import PrefectServer, Workers, answers, wait_until  # noqa: E402
from .program import LOGGERS, Observed  # noqa: E402
from .runs import DELAY, Run  # noqa: E402

START_SECONDS = 120


@contextmanager
def running_server(home: Path) -> Iterator[PrefectServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            env={**os.environ, "PREFECT_HOME": str(home)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    api_url = f"http://127.0.0.1:{port}/api"
    try:
        wait_until(
            lambda: answers(f"{api_url}/health"), START_SECONDS, "the Prefect server", pause=0.2
        )
        yield PrefectServer(api_url, home)
    finally:
        server.terminate()
        server.wait(30)


_shared = ExitStack()
_shared_server: list[PrefectServer] = []


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Start one server for all processes of pytest-xdist, in the process that leads them."""
    if not _shared_server:
        home = Path(_shared.enter_context(tempfile.TemporaryDirectory(prefix=_MARK)))
        _shared_server.append(_shared.enter_context(running_server(home)))
    server = _shared_server[0]
    node.workerinput["prefect_server"] = (server.api_url, str(server.home))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look at what that server stored, when all processes have ended."""
    if not _shared_server:
        return
    leaked = found_in(_shared_server[0].home, credentials())
    _shared.close()
    if leaked:
        print(f"\nCredentials reached the Prefect server: {leaked}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def prefect_server_process(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrefectServer]:
    shared = getattr(request.config, "workerinput", {}).get("prefect_server")
    if shared is not None:
        api_url, home = shared
        yield PrefectServer(api_url, Path(home))
        return
    server = _shared.enter_context(running_server(tmp_path_factory.mktemp("prefect-server")))
    # Not before: at its end a process waits until the server has taken what is left to be sent.
    atexit.register(_shared.close)
    yield server
    assert found_in(server.home, credentials()) == {}


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
        # A dozen processes write to its one SQLite file, which refuses now and then what meets a
        # write of another one, five times in a row too. Each pause is twice as long as the last.
        PREFECT_CLIENT_MAX_RETRIES: 8,
        PREFECT_HOME: home,
        PREFECT_LOCAL_STORAGE_PATH: home / "storage",
    }
    with temporary_settings(settings):
        yield Observed(emulated, len(emulated.jobs), home, caplog, recwarn, credentials())
