"""A PostgreSQL server on a temporary folder, by the programs that are installed here."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from .environments import run
from .machines import free_port, running

#: Set where nothing may be left out: `.ci/run` sets the second one.
_COMPLETE = ("CI", "QCSC_PREFECT_NEEDS_POSTGRESQL")
_MISSING = "PostgreSQL is not installed (apt-get install postgresql)"


@dataclass(frozen=True)
class Postgres:
    """A running server; whoever connects to it by its socket is its administrator.

    Attributes:
        address: Host and port under which others reach it, with a password.
        programs: The folder of its programs.
        socket: The folder of its socket.
    """

    address: str
    programs: Path
    socket: Path

    def administer(self, commands: str) -> str:
        """Run commands of a shell as the administrator; return what they print."""
        environment = {
            **os.environ,
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": str(self.socket),
            "PGPORT": self.address.rpartition(":")[2],
            "PGUSER": "postgres",
        }
        return run(["bash", "-euo", "pipefail", "-c", commands], env=environment).stdout


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's programs.

    Without them the tests that need them are skipped, and fail where everything must be run.
    """
    # Debian keeps the server's programs off the path, by version.
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name)
    )
    on_path = shutil.which("initdb")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    for folder in reversed(folders):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    if any(os.environ.get(name, "").lower() not in {"", "0", "false"} for name in _COMPLETE):
        pytest.fail(f"{_MISSING}, and here every test must run: .ci/install-postgresql.")
    pytest.skip(f"{_MISSING}: two workers on one server are not tried.")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a new PostgreSQL server until the end of the with statement."""
    programs = postgres_programs()
    user = _unprivileged_user()
    # Not one of pytest's folders, which that user cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="qcsc-prefect-postgres-"))
    data, log = folder / "data", folder / "log"
    if user:
        shutil.chown(folder, user["user"], user["group"])
    port = free_port()
    ways_in = ["--auth-local=trust", "--auth-host=scram-sha-256"]
    subprocess.run(
        [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-locale",
            "-N",
            *ways_in,
        ],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        **user,
    )
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
    command = [programs / "postgres", "-D", data, *options]
    try:
        with running(command, log, cwd=folder, **user) as server:
            server.wait_until_it_says("ready to accept connections")
            yield Postgres(f"127.0.0.1:{port}", programs, folder)
            # Killed, it would leave its shared memory behind.
            server.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                server.process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged_user() -> Mapping[str, object]:
    """Return whom the server runs as, for subprocess: it refuses to run as root."""
    if os.getuid() != 0:
        return {}
    known = {entry.pw_name for entry in pwd.getpwall()}
    account = pwd.getpwnam("postgres" if "postgres" in known else "nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
