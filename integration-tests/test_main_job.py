"""The main job in real processes: killed at any moment and run again.

``QCSC_PREFECT_KILLS=20 uv run pytest integration-tests/test_main_job.py`` kills it at so many
random moments; the default is one.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from .environments import MAIN_JOB, kill_group, prefect_environment

KILLS = int(os.environ.get("QCSC_PREFECT_KILLS", "1"))
JOB_LINE = re.compile(r"(?:Submitted|Reusing) (?:\w+ )?job (local-\w+)")


@dataclass(frozen=True)
class Report:
    """What a run of the main job printed."""

    output: str

    def printed(self, pattern: str) -> str:
        found = re.search(pattern, self.output)
        assert found is not None, f"{pattern} not in:\n{self.output}"
        return found[1]

    @property
    def jobs(self) -> tuple[str, str]:
        return self.printed(r"GHZ job (local-\w+)"), self.printed(r"H2 job (local-\w+)")

    @property
    def counts(self) -> dict[str, int]:
        return json.loads(self.printed(r"GHZ job \S+ ({.*})").replace("'", '"'))

    @property
    def energy(self) -> float:
        return float(self.printed(r"Minimum of the scan: (-?\d+\.\d+) hartree"))

    def check_physics(self) -> None:
        # A noiseless GHZ state has two outcomes, each in half of the shots.
        assert self.counts.keys() == {"000", "111"}
        assert sum(self.counts.values()) == 4096
        assert 1700 < self.counts["000"] < 2400  # eleven standard deviations of sqrt(4096)/2
        # The exact electronic energy of H2 in STO-3G at 0.735 angstrom.
        assert self.energy == pytest.approx(-1.8573, abs=0.010)


class MainJob:
    """The main job in a process of its own, that can be killed; each line is noted as it comes."""

    def __init__(self, home: Path) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-u", str(MAIN_JOB)],
            env=prefect_environment(home),
            cwd=home.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    @property
    def output(self) -> str:
        return "".join(list(self.lines))

    def wait_for(self, pattern: str, times: int = 1, timeout: float = 240) -> None:
        deadline = time.monotonic() + timeout
        while len(re.findall(pattern, self.output)) < times:
            assert self.process.poll() is None, f"ended before {pattern!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {pattern!r} in time:\n{self.output}"
            time.sleep(0.005)

    def kill(self, *, with_server: bool) -> None:
        """Kill the process as the kernel does, alone or with the embedded server it started."""
        if with_server:
            kill_group(self.process)
        else:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def finish(self, timeout: float = 240) -> Report:
        code = self.process.wait(timeout)
        kill_group(self.process)
        self._reader.join(10)
        assert code == 0, self.output
        return Report(self.output)


@pytest.fixture
def main_job(tmp_path: Path):
    started: list[MainJob] = []

    def start() -> MainJob:
        started.append(MainJob(tmp_path / "home"))
        return started[-1]

    yield start
    for each in started:
        kill_group(each.process)


def stored_jobs(home: Path) -> set[str]:
    return {folder.name for folder in (home / "qcsc-prefect" / "local-jobs").glob("local-*")}


def test_killed_again_and_again_it_resumes_with_the_same_jobs(main_job, tmp_path: Path):
    seed = random.randrange(2**32)
    print(f"moments of the kills: seed {seed}")
    moment = random.Random(seed)
    killed = []
    for _ in range(KILLS):
        killed.append(main_job())
        killed[-1].wait_for("Beginning flow run")
        time.sleep(moment.uniform(0.0, 5.0))
        # Alone, so that the embedded server outlives it, or with all that it started.
        killed[-1].kill(with_server=moment.random() < 0.5)
        print(killed[-1].output)

    killed.append(main_job())
    killed[-1].wait_for("(Submitted|Reusing) .*job local-", times=2)
    killed[-1].kill(with_server=False)
    print(killed[-1].output)
    reported = {job_id for each in killed for job_id in JOB_LINE.findall(each.output)}
    assert len(reported) == 2

    resumed = main_job().finish()
    print(resumed.output)
    assert set(resumed.jobs) == reported
    assert len(set(re.findall(r"Reusing job (local-\w+)", resumed.output))) == 2
    assert "Submitted" not in resumed.output
    resumed.check_physics()
    # Not even a job whose submission was never reported was submitted a second time.
    assert stored_jobs(tmp_path / "home") == reported
