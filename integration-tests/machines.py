"""Several machines in one: processes with homes of their own that share a server and an account."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcsc_prefect.integrations.qiskit.testing import RemoteEmulator

from .environments import kill_group, prefect_environment, run
from .page_blocks import Documented


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 180) -> Any:
    """Return the first true value of a condition."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def free_port() -> int:
    """Return a port that nothing listens on, and that no outgoing connection is given either."""
    while True:
        port = random.randrange(20000, 32768)  # below the ones that Linux hands out
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass(frozen=True)
class Running:
    """A process in the background, which writes all that it says to a file."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_it_says(self, words: str) -> None:
        """Wait for words in the log; fail with the log if the process ends before."""
        self.wait_until(lambda: words in self.log.read_text(), words)

    def wait_until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for a condition; fail with the log if the process ends before."""
        wait_for(lambda: condition() or self.process.poll() is not None, f"{what}, see {self.log}")
        assert condition(), f"{what}: ended with {self.process.poll()}\n{self.log.read_text()}"

    def output(self) -> str:
        """Wait for the process to end well; return what it said."""
        status = self.process.wait(180)
        assert status == 0, f"ended with {status}\n{self.log.read_text()}"
        return self.log.read_text()


@contextmanager
def running(command: Sequence[str | Path], log: Path, **options: Any) -> Iterator[Running]:
    """Run a command in the background, and end it with all that it started."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **options
        )
    try:
        yield Running(process, log)
    finally:
        kill_group(process)


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


def exported(commands: str) -> dict[str, str]:
    """Return the variables of Prefect that commands of a shell export."""
    done = run(["bash", "-euo", "pipefail", "-c", f"{commands}\nenv -0"], env={})
    variables = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    return {name: value for name, value in variables.items() if name.startswith("PREFECT_")}


@dataclass(frozen=True)
class Machine:
    """A machine of the laboratory: a home and an environment of its own.

    Attributes:
        home: Where everything lies that it keeps.
        code: Where its commands are run; the programs of the page lie there.
        environment: The environment of its processes.
    """

    home: Path
    code: Path
    environment: dict[str, str]

    @classmethod
    def set_up(
        cls,
        home: Path,
        *,
        code: Path,
        service: RemoteEmulator | None = None,
        **variables: str,
    ) -> Machine:
        """Make a machine, with an account where a service is given."""
        (home / "tmp").mkdir(parents=True)
        account = service.description.environment if service is not None else {}
        changes = {
            # Nothing of the user who runs the tests, and nothing of another machine.
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        environment = prefect_environment(home / "prefect", **changes, **account, **variables)
        return cls(home, code, environment)

    @property
    def storage(self) -> Path:
        """Where Prefect keeps results, if nothing else is said."""
        return self.home / "prefect" / "storage"

    def kept(self, prefix: str) -> set[str]:
        """Return the keys of what it has in its own storage, without intents."""
        keys = {path.name for path in self.storage.glob(f"{prefix}*")}
        return {key for key in keys if not key.endswith("-intent")}

    def shell(self, commands: str) -> str:
        """Run commands of a shell; return what they print."""
        command = ["bash", "-euo", "pipefail", "-c", commands]
        return run(command, env=self.environment, cwd=self.code).stdout

    def python(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program that is given as text."""
        command = [sys.executable, "-c", code, *arguments]
        return run(command, env=self.environment, cwd=self.code)

    def shell_in_background(self, commands: str) -> AbstractContextManager[Running]:
        """Run commands of a shell until the end of the with statement."""
        return self._in_background(["bash", "-euo", "pipefail", "-c", commands])

    def python_in_background(self, code: str, *arguments: str) -> AbstractContextManager[Running]:
        """Run a program that is given as text until the end of the with statement."""
        return self._in_background([sys.executable, "-c", code, *arguments])

    def _in_background(self, command: Sequence[str]) -> AbstractContextManager[Running]:
        log = self.home / f"log-{len(list(self.home.glob('log-*')))}"
        return running(command, log, env=self.environment, cwd=self.code)

    def lose_power(self) -> None:
        """Kill every process of this machine at once, also those that lead groups of their own."""
        own = f"HOME={self.home}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile, or belongs to somebody else
                if own in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)


def saved_configuration(documented: Documented, service: RemoteEmulator) -> str:
    """Return the page's program that saves the configuration, for the emulated service."""
    account = service.description
    names = {
        'token="..."': f'token="{account.token}", url="{account.url}"',
        "crn:v1:...": account.instance,
    }
    return documented("QiskitRuntimeConfig(\n    channel", names)
