"""A real Prefect server and real worker processes for the tests that kill them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MARK = "qcsc-prefect-tests-"
if _MARK not in os.environ.get("PREFECT_HOME", ""):
    os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix=_MARK)
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ.pop("PREFECT_API_URL", None)

# pytest does not put this folder on the path where it imports tests by their files.
sys.path.insert(0, str(Path(__file__).parent))

from processes import PrefectServer, Workers, answers, wait_until  # noqa: E402

START_SECONDS = 120


@pytest.fixture(scope="session")
def prefect_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    home = tmp_path_factory.mktemp("prefect-server")
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
        wait_until(lambda: answers(f"{api_url}/health"), START_SECONDS, "the Prefect server")
        yield PrefectServer(api_url, home)
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    workers.close()
