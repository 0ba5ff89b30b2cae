"""The emulated service in a process of its own, steered from here, and as a pytest fixture."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import requests
from qiskit import QuantumCircuit
from qiskit_ibm_runtime import QiskitRuntimeService, SamplerV2
from qiskit_ibm_runtime.api.exceptions import RequestsApiError
from qiskit_ibm_runtime.exceptions import IBMRuntimeError

from qcsc_prefect.integrations.qiskit.testing import (
    EmulatedService,
    EmulatorControlError,
    RemoteEmulator,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MODULE = "qcsc_prefect.integrations.qiskit.testing"


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", MODULE, "--json", "--backend", "ibm_five=fake_manila"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        yield running
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def started(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    line: dict[str, object] = json.loads(process.stdout.readline())
    return line


@pytest.fixture
def remote(started) -> Iterator[RemoteEmulator]:
    emulator = RemoteEmulator(started["root_url"])
    yield emulator
    emulator.faults.clear()
    emulator.set_schedule()
    emulator.release_jobs()


@pytest.fixture
def service(started, monkeypatch) -> QiskitRuntimeService:
    for name, value in started["environment"].items():
        monkeypatch.setenv(name, value)
    return QiskitRuntimeService(
        channel="ibm_quantum_platform",
        token=started["token"],
        url=started["url"],
        instance=started["instance"],
    )


def sampler(service: QiskitRuntimeService) -> SamplerV2:
    return SamplerV2(service.backend("ibm_five"))


def flip() -> QuantumCircuit:
    circuit = QuantumCircuit(5, 1)
    circuit.x(0)
    circuit.measure(0, 0)
    return circuit


def test_another_process_sees_jobs_and_requests(remote, service) -> None:
    before = len(remote.jobs)
    remote.clear_requests()
    job = sampler(service).run([flip()], shots=10)
    assert job.result()[0].data.c.get_counts() == {"1": 10}
    record = remote.jobs[-1]
    assert len(remote.jobs) == before + 1
    assert (record.id, record.program, record.state) == (job.job_id(), "sampler", "Completed")
    assert record.created.tzinfo is not None
    assert remote.count("submit") == 1
    assert remote.count() == len(remote.requests)
    assert remote.requests[-1].endpoint == "result"
    assert remote.description.backends == ["ibm_five"]


def test_another_process_injects_faults(remote, service) -> None:
    before = len(remote.jobs)
    remote.faults.close("submit", when="after")
    with pytest.raises(IBMRuntimeError):
        sampler(service).run([flip()], shots=10)
    assert len(remote.jobs) == before + 1

    remote.faults.end_jobs("Failed", reason="No.", code=1999)
    assert sampler(service).run([flip()], shots=10).errored()
    remote.faults.hide_new_jobs(60.0)
    hidden = sampler(service).run([flip()], shots=10)
    assert hidden.job_id() not in [job.job_id() for job in service.jobs(limit=None)]
    remote.faults.limit_rate("usage", requests=1, announced=False)
    service.usage()
    with pytest.raises(RequestsApiError, match="At most 1 requests"):
        service.usage()
    remote.faults.clear()
    assert hidden.job_id() in [job.job_id() for job in service.jobs(limit=None)]


def test_another_process_holds_and_releases_jobs(remote, service) -> None:
    remote.set_schedule(queued_seconds=math.inf)
    job = sampler(service).run([flip()], shots=10)
    assert job.status() == "QUEUED"
    remote.release_jobs(job.job_id())
    assert job.result()[0].data.c.get_counts() == {"1": 10}


def test_another_process_sets_the_clock(remote, service) -> None:
    remote.set_clock(ahead_seconds=-3600)
    before = datetime.now(UTC)
    job = sampler(service).run([flip()], shots=10)
    assert before <= job.creation_date.astimezone(UTC) + timedelta(hours=1) <= datetime.now(UTC)
    remote.set_clock(ahead_seconds=0)


def test_another_process_revokes_tokens(remote, service) -> None:
    remote.revoke_access_tokens()
    with pytest.raises(Exception, match="Authentication failed"):
        service.usage()


def test_what_cannot_be_steered_is_an_error_that_says_so(remote, started) -> None:
    answer = requests.post(f"{started['root_url']}/__emulator__/faults", data=b"{}", timeout=10)
    assert answer.status_code == 400
    with EmulatedService() as other:
        lost = RemoteEmulator(other.root_url)
        assert lost.jobs == []
    with pytest.raises(EmulatorControlError, match="still running"):
        lost.set_schedule()
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as stranger,
        ThreadPoolExecutor(1) as threads,
    ):
        threads.submit(stranger.serve_forever, 0.05)
        with pytest.raises(EmulatorControlError, match="answered 501"):
            RemoteEmulator(f"http://127.0.0.1:{stranger.server_port}").clear_requests()
        stranger.shutdown()


def test_what_the_command_line_prints_leads_a_shell_to_the_service(tmp_path: Path) -> None:
    command = [sys.executable, "-m", MODULE, "--backend", "ibm_five=fake_manila", "--running", "1"]
    # A value that the shell must not take for several words.
    environment = os.environ | {"no_proxy": "inner.test, other.test"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        lines = list(itertools.takewhile(lambda line: "ibm_five" not in line, running.stdout))
        script = tmp_path / "emulator.sh"
        script.write_text("".join(lines))
        client = (
            "from qiskit_ibm_runtime import QiskitRuntimeService\n"
            "print([backend.name for backend in QiskitRuntimeService().backends()])"
        )
        seen = subprocess.run(
            ["bash", "-euc", 'source "$1"; exec "$2" -c "$3"', "-", script, sys.executable, client],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=30) == 0
    assert seen.stdout == "['ibm_five']\n", seen.stderr


def test_the_environment_is_restored(monkeypatch) -> None:
    monkeypatch.setenv("IAM_URL", "https://example.test")
    monkeypatch.setenv("no_proxy", "inner.test")
    monkeypatch.delenv("QISKIT_FUNCTIONS_EXPERIMENTAL", raising=False)
    before = dict(os.environ)
    with EmulatedService() as emulator, emulator.client_environment():
        assert os.environ["IAM_URL"] == emulator.root_url
        assert os.environ["no_proxy"] == "inner.test,127.0.0.1"
    assert dict(os.environ) == before


def test_the_fixture_for_pytest(tmp_path: Path) -> None:
    """A project of a user's own, with strict markers, run by a pytest of its own."""
    (tmp_path / "conftest.py").write_text(
        'pytest_plugins = ["qcsc_prefect.integrations.qiskit.testing.plugin"]\n'
    )
    (tmp_path / "test_flow.py").write_text(
        "import os\n"
        "import pytest\n"
        "def test_plain(emulated_service):\n"
        "    assert os.environ['IAM_URL'] == emulated_service.root_url\n"
        "@pytest.mark.emulated_service(backends=['fake_lima'], queued_seconds=3.0)\n"
        "def test_marked(emulated_service):\n"
        "    assert emulated_service.description.backends == ['fake_lima']\n"
        "def test_restored():\n"
        "    assert 'IAM_URL' not in os.environ\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "IAM_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
