"""Prints the README's table of alternatives: the bare client, version 0.3.0, this project.

    uv run python packages/qcsc-prefect-qiskit/benchmarks/compare_alternatives.py

Each contender runs the same jobs with the real client, against the emulated service on this
machine. The published package is installed into an environment of its own, which is thrown away.
Seconds, requests and stalls are the least of several rounds (``--rounds``), since the machine may
be busy. Takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from silent_server import prefect_server

from qcsc_prefect.integrations.qiskit.testing import EmulatedService

PUBLISHED = "qcsc-prefect-qiskit==0.3.0"
FLOWS = Path(__file__).with_name("compared_flows.py")
BACKEND = "ibm_compared"
JOBS_AT_ONCE = 20
LATENCY = 0.1
"""Seconds by which every answer of the service is delayed in the first scenario."""


@dataclass(frozen=True)
class Contender:
    """Who runs the jobs: an interpreter with its packages, and a way of writing the program."""

    title: str
    python: Path | str
    style: str


class Bench:
    """What the scenarios share: a Prefect server, and a folder for homes."""

    def __init__(self, folder: Path, api_url: str) -> None:
        self.folder = folder
        self.api_url = api_url
        self._homes = 0

    def new_home(self) -> Path:
        """Return a Prefect home in which nothing is stored yet."""
        self._homes += 1
        return self.folder / f"home-{self._homes}"

    def start(
        self, contender: Contender, service: EmulatedService, home: Path, count: int = 1
    ) -> subprocess.Popen[str]:
        """Start a process that runs so many different jobs at once and prints its figures."""
        return subprocess.Popen(
            [str(contender.python), str(FLOWS), contender.style, BACKEND, str(count)],
            env={
                **os.environ,
                **service.environment,
                "PREFECT_HOME": str(home),
                "PREFECT_API_URL": self.api_url,
                "PREFECT_LOGGING_LEVEL": "ERROR",
                "QISKIT_IBM_CHANNEL": "ibm_quantum_platform",
                "QISKIT_IBM_TOKEN": service.token,
                "QISKIT_IBM_URL": service.url,
                "QISKIT_IBM_INSTANCE": service.instance,
                "PYTHONWARNINGS": "ignore",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def figures(process: subprocess.Popen[str]) -> dict[str, float]:
    """Wait for a process and return what it printed; nothing if it failed."""
    printed, _ = process.communicate(timeout=600)
    lines = printed.strip().splitlines()
    result: dict[str, float] = json.loads(lines[-1]) if process.returncode == 0 else {}
    return result


def twenty_at_once(bench: Bench, contender: Contender) -> dict[str, float]:
    """Run 20 jobs of one second at once, with slow answers."""
    with EmulatedService({BACKEND: "fake_manila"}) as service:
        service.set_schedule(running_seconds=1.0)
        service.faults.delay(LATENCY, times=None)
        measured = figures(bench.start(contender, service, bench.new_home(), JOBS_AT_ONCE))
        return {**measured, "requests": service.count() / JOBS_AT_ONCE}


def killed_after_acceptance(bench: Bench, contender: Contender) -> int:
    """Kill a process whose job was accepted before it knew, run it again; count the jobs."""
    with EmulatedService({BACKEND: "fake_manila"}) as service:
        service.faults.delay(8.0, "submit", when="after")
        home = bench.new_home()
        process = bench.start(contender, service, home)
        deadline = time.monotonic() + 120
        while not service.jobs and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        process.communicate()
        figures(bench.start(contender, service, home))
        return len(service.jobs)


def two_at_once(bench: Bench, contender: Contender) -> int:
    """Run one program in two processes at once; count the jobs."""
    with EmulatedService({BACKEND: "fake_manila"}) as service:
        # Long enough for both to be on their way, however late the second one starts.
        service.faults.delay(10.0, "submit", times=None)
        home = bench.new_home()
        for process in [bench.start(contender, service, home) for _ in range(2)]:
            figures(process)
        return len(service.jobs)


def answered_504(bench: Bench, contender: Contender) -> int:
    """Accept a job and answer 504 once, as a gateway does that gave up waiting; count the jobs."""
    with EmulatedService({BACKEND: "fake_manila"}) as service:
        # The client repeats the POST; a job that waits in the queue can be cancelled unpaid.
        service.set_schedule(queued_seconds=10.0)
        service.faults.answer("submit", status=504, when="after")
        figures(bench.start(contender, service, bench.new_home()))
        return sum(job.state.value != "Cancelled" for job in service.jobs)


def run_again(bench: Bench, contender: Contender) -> int:
    """Run one program twice, one after the other; count the jobs."""
    with EmulatedService({BACKEND: "fake_manila"}) as service:
        home = bench.new_home()
        for _ in range(2):
            figures(bench.start(contender, service, home))
        return len(service.jobs)


COUNTS: dict[str, Callable[[Bench, Contender], int]] = {
    "the same program run twice": run_again,
    "killed after acceptance, run again": killed_after_acceptance,
    "the same program in two processes at once": two_at_once,
    "accepted, but answered 504": answered_504,
}


def table(contenders: list[Contender], bench: Bench, rounds: int) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| | " + " | ".join(contender.title for contender in contenders) + " |"
    yield "|---|" + "---|" * len(contenders)
    for title, count in COUNTS.items():
        jobs = [str(count(bench, contender)) for contender in contenders]
        yield f"| jobs paid for: {title} | {' | '.join(jobs)} |"
    measured = [
        [twenty_at_once(bench, contender) for _ in range(rounds)] for contender in contenders
    ]
    for name, title, digits in (
        ("seconds", f"{JOBS_AT_ONCE} jobs of 1 s at once, answers {LATENCY} s late: seconds", 1),
        ("requests", "the same: requests for each job", 1),
        ("stall", "the same: longest stall of the event loop, seconds", 2),
    ):
        least = [
            min((found[name] for found in rounds_of_one if name in found), default=None)
            for rounds_of_one in measured
        ]
        cells = ["" if value is None else f"{value:.{digits}f}" for value in least]
        yield f"| {title} | {' | '.join(cells)} |"


def published(folder: Path) -> Path:
    """Install the published package beside nothing of ours; its interpreter."""
    python = folder / "published" / "bin" / "python"
    subprocess.run(["uv", "venv", "-q", "--python", sys.executable, python.parents[1]], check=True)
    wanted = [PUBLISHED, "fastapi<0.151", "qiskit-aer"]
    subprocess.run(["uv", "pip", "install", "-q", "--python", python, *wanted], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2, help="rounds of the timed scenario")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="compared-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        contenders = [
            Contender("the bare client, in threads", sys.executable, "bare"),
            Contender(PUBLISHED.replace("==", " "), published(folder), "facade"),
            Contender("this project", sys.executable, "facade"),
        ]
        with prefect_server(folder) as api_url:
            for line in table(contenders, Bench(folder, api_url), arguments.rounds):
                print(line, flush=True)


if __name__ == "__main__":
    main()
