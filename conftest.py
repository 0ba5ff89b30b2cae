"""What all tests share: how many processes run them, and the Prefect servers of each process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

#: On a busy machine each of them takes a minute or two.
_START_SECONDS = 300


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Take two processes for each processor, since more than half of the time they wait.

    One file runs in this process: its tests stay together, and no other has to start.
    """
    files = {argument.partition("::")[0] for argument in config.args}
    alone = len(files) == 1 and Path(config.invocation_params.dir, *files).is_file()
    return 0 if alone else 2 * (os.cpu_count() or 1)


@dataclass(frozen=True)
class StartedServer:
    """A real Prefect server in a process of its own.

    Attributes:
        home: Where everything lies that it keeps, its log too.
        url: Where its API answers.
    """

    home: Path
    url: str


@pytest.fixture(scope="session")
def api_of_this_process() -> Iterator[str]:
    """Where the server answers that what runs in this process has; starting it takes a while."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    # It is the server of threads without a context too, which would start one, and it gets what
    # was not sent yet when it ends.
    with prefect_test_harness(server_startup_timeout=_START_SECONDS):
        yield PREFECT_API_URL.value()


@pytest.fixture(scope="session")
def started_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedServer]:
    """The server for processes that tests start, whose files can be searched."""
    home = tmp_path_factory.mktemp("prefect-server") / "home"
    home.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = home / "server.log"
    environment = {name: text for name, text in os.environ.items() if name[:8] != "PREFECT_"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
            env={
                **environment,
                "PREFECT_HOME": str(home),
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            },
            cwd=home,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}/api"
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(f"{url}/health"):
            waiting = process.poll() is None and time.monotonic() < deadline
            assert waiting, f"no Prefect server at {url}:\n{log.read_text()}"
            time.sleep(0.2)
        yield StartedServer(home, url)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5):
            return True
    except OSError:
        return False
