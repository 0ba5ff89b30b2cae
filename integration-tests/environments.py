"""Fresh environments for built wheels, and processes with a Prefect home of their own.

What is dear to make (wheels, environments) is made once for a test session, also where pytest-xdist
spreads the session over several processes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MAIN_JOB = ROOT / "docs" / "examples" / "hydrogen.py"
DISTRIBUTIONS = ("qcsc-prefect-core", "qcsc-prefect-qiskit", "qcsc-prefect-wrappers")

#: Variables through which this test session's own environment would reach a new one.
_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")


def clean_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without Prefect, Qiskit and Python settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_INHERITED and not name.startswith(("PREFECT_", "QISKIT_", "COV_"))
    }
    return {**kept, **changes}


def prefect_environment(home: Path, **changes: str) -> dict[str, str]:
    """Return an environment in which Prefect lives in `home`, with an embedded server."""
    return clean_environment(
        PREFECT_HOME=str(home),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="180",
        **changes,
    )


def run(
    command: Iterable[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 300,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return its output as text; fail with that output."""
    done = subprocess.run(
        [str(part) for part in command],
        env=clean_environment() if env is None else dict(env),
        # Not the root of the workspace: nothing may be found because it lies here.
        cwd=tempfile.gettempdir() if cwd is None else cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(str(part) for part in command)} ended with {done.returncode}\n"
            f"{done.stdout}\n{done.stderr}"
        )
    return done


def uv() -> str:
    """Return the path of uv: the one that runs this session, or the one on the path."""
    found = os.environ.get("UV") or shutil.which("uv")
    if found is None:
        raise RuntimeError("these tests build and install wheels with uv: pip install uv")
    return found


@dataclass(frozen=True)
class VirtualEnvironment:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its distributions lie."""
        (found,) = (self.folder / "lib").glob("python*/site-packages")
        return found

    @classmethod
    def create(cls, folder: Path, *, with_pip: bool = False) -> VirtualEnvironment:
        """Make an empty environment with this session's version of Python."""
        run([uv(), "venv", "-q", "--python", sys.executable, *["--seed"][: int(with_pip)], folder])
        return cls(folder)

    def uv_install(self, *arguments: str | Path) -> None:
        """Install with uv, which is fast."""
        run([uv(), "pip", "install", "-q", "--python", self.python, *arguments], timeout=600)

    def uv_uninstall(self, *distributions: str) -> None:
        """Remove distributions, and nothing that they needed."""
        run([uv(), "pip", "uninstall", "-q", "--python", self.python, *distributions])

    def pip_install(self, *arguments: str | Path) -> None:
        """Install with pip, as most people do."""
        run([self.python, "-m", "pip", "install", "-q", *arguments], timeout=900)

    def check(self) -> None:
        """Fail if what is installed does not fit together."""
        run([uv(), "pip", "check", "--python", self.python])

    def execute(
        self, code: str, *, env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program that is given as text, isolated from the current folder."""
        return run([self.python, "-P", "-c", code], env=env, check=check)


@dataclass(frozen=True)
class Built:
    """The folder that holds the three wheels and the three sdists."""

    folder: Path

    def wheel(self, distribution: str) -> Path:
        """Return the wheel of a distribution."""
        (found,) = self.folder.glob(f"{distribution.replace('-', '_')}-*.whl")
        return found

    def sdist(self, distribution: str) -> Path:
        """Return the source distribution of a distribution."""
        (found,) = self.folder.glob(f"{distribution.replace('-', '_')}-*.tar.gz")
        return found

    @property
    def find_links(self) -> tuple[str, Path]:
        """The option with which an installer takes siblings from here."""
        return ("--find-links", self.folder)


@dataclass(frozen=True)
class PrefectServer:
    """A real Prefect server in a process of its own, which keeps its database in `home`."""

    home: Path
    url: str

    @property
    def environment(self) -> dict[str, str]:
        """An environment for its clients, which share its home."""
        return prefect_environment(self.home, PREFECT_API_URL=self.url)


def kill_group(process: subprocess.Popen[Any]) -> None:
    """End a process that leads a session of its own, and all that it started, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def make_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Let `make` fill `folder`, unless another process of this session has done so."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    finished = folder.with_name(f"{folder.name}.finished")
    with _locked(folder.with_name(f"{folder.name}.lock")):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            finished.touch()
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
