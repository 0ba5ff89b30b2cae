"""Several machines in one: processes with homes of their own that share a server and an account."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcsc_prefect.integrations.qiskit.testing import RemoteEmulator

from .environments import ROOT, kill_group, prefect_environment, run

PAGE = ROOT / "docs" / "several-machines.md"
#: The name of the saved configuration in the page and in its example.
BLOCK = "lab"
#: Saves a configuration under that name; its fields are the program's argument.
SAVE_BLOCK = f"""
import json, sys
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
QiskitRuntimeConfig(**json.loads(sys.argv[1])).save("{BLOCK}", overwrite=True)
"""


def documented(command: str) -> list[str]:
    """Return a command of the page as a list; fail if it does not stand there."""
    lines = {line.strip() for line in PAGE.read_text().splitlines()}
    assert command in lines, f"docs/several-machines.md does not say: {command}"
    return command.split()


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 90) -> Any:
    """Return the first true value of a condition."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresMissingError(Exception):
    """There is no PostgreSQL here, and it cannot be installed."""


@contextmanager
def postgres() -> Iterator[str]:
    """Run PostgreSQL on a temporary folder; yields the URL under which Prefect reaches it."""
    programs = _postgres_programs()
    # The server refuses to run as root, and others cannot enter pytest's own folders.
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="qcsc-prefect-postgres-"))
    data, log = folder / "data", folder / "log"
    if user:
        shutil.chown(folder, "postgres", "postgres")
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "prefect", "-A", "trust", "-E", "UTF8", "-N"],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        **user,
    )
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, *options],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **user,
        )
    try:
        wait_for(
            lambda: "ready to accept connections" in log.read_text() or process.poll() is not None,
            "PostgreSQL",
        )
        assert process.poll() is None, log.read_text()
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
    finally:
        kill_group(process)
        shutil.rmtree(folder, ignore_errors=True)


def _postgres_programs() -> Path:
    found = _installed_postgres()
    if found is not None:
        return found
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        raise PostgresMissingError("PostgreSQL is not installed: apt-get install postgresql")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
        done = run(["apt-get", "-qq", *arguments], env=environment, timeout=300, check=False)
        if done.returncode != 0:
            raise PostgresMissingError(
                f"PostgreSQL is not installed, and apt-get cannot: {done.stderr.strip()[-300:]}"
            )
    found = _installed_postgres()
    assert found is not None, "Debian's package postgresql holds no server"
    return found


def _installed_postgres() -> Path | None:
    # Debian keeps the server's programs off the path, by version.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    on_path = shutil.which("postgres")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    return next(
        (folder for folder in reversed(folders) if (folder / "initdb").exists()),
        None,
    )


@contextmanager
def emulated_service(*arguments: str) -> Iterator[RemoteEmulator]:
    """Run the emulated service in a process of its own, as the page says."""
    command = [sys.executable, "-m", "qcsc_prefect.integrations.qiskit.testing", "--json"]
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        yield RemoteEmulator(json.loads(process.stdout.readline())["root_url"])
    finally:
        kill_group(process)


def configuration_fields(service: RemoteEmulator) -> dict[str, str]:
    """Return the fields of a QiskitRuntimeConfig that reaches the emulated service."""
    description = service.description
    return {
        "channel": "ibm_quantum_platform",
        "url": description.url,
        "token": description.token,
        "instance": description.instance,
        "backend_name": description.backends[0],
    }


@dataclass(frozen=True)
class Machine:
    """A home of its own, and what a machine of the laboratory has in its environment."""

    home: Path
    environment: dict[str, str]

    @classmethod
    def set_up(
        cls, home: Path, *, api_url: str, service: RemoteEmulator | None = None, **changes: str
    ) -> Machine:
        """Make a machine that shares a Prefect API, and an account where a service is given."""
        home.mkdir(parents=True)
        variables = service.description.environment if service is not None else {}
        changes = {"PREFECT_API_URL": api_url, "PREFECT_WORKER_QUERY_SECONDS": "1", **changes}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return cls(home, {**prefect_environment(home, **changes), **variables, "PATH": path})

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on this machine, in the repository."""
        program = shutil.which(str(command[0]), path=self.environment["PATH"]) or command[0]
        return run([program, *command[1:]], env=self.environment, cwd=ROOT, check=check)

    def run_python(self, code: str, *arguments: str) -> str:
        """Run a program that is given as text on this machine; return what it printed."""
        return self.run(sys.executable, "-c", code, *arguments).stdout.strip()

    def start_python(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a program that is given as text on this machine."""
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env=self.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def lose_power(self) -> None:
        """Kill every process of this machine at once, also those that lead groups of their own."""
        home = f"PREFECT_HOME={self.home}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile, or belongs to somebody else
                if home in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)


@dataclass(frozen=True)
class PrefectAPI:
    """The REST API of a Prefect server, as far as these tests read it."""

    url: str

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Send one request and return its answer."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def start_run(self, deployment: str, **parameters: object) -> str:
        """Ask for a run of a deployment, ``flow/name``; return the run's id."""
        found = self.ask("GET", f"/deployments/name/{deployment}")
        started = self.ask(
            "POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters}
        )
        return str(started["id"])

    def state(self, run_id: str) -> str:
        """Return the type of a flow run's state."""
        return str(self.ask("GET", f"/flow_runs/{run_id}")["state_type"])

    def finished(self, run_id: str) -> bool:
        """Whether a flow run has completed; fail with its logs if it ended otherwise."""
        state = self.state(run_id)
        assert state not in {"FAILED", "CRASHED", "CANCELLED"}, self.logs(run_id)
        return state == "COMPLETED"

    def logs(self, run_id: str) -> str:
        """Return what a flow run logged."""
        wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200}
        return "\n".join(line["message"] for line in self.ask("POST", "/logs/filter", wanted))

    def table(self, run_id: str, key: str) -> list[dict[str, Any]]:
        """Return the table artifact that a flow run made."""
        wanted = {"artifacts": {"key": {"any_": [key]}, "flow_run_id": {"any_": [run_id]}}}
        (found,) = self.ask("POST", "/artifacts/filter", wanted)
        table: list[dict[str, Any]] = json.loads(found["data"])
        return table
