"""A user's program that is killed and started again, and what it has left behind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qcsc_prefect.integrations.qiskit.services.local.store import LocalJob, LocalJobStore
from qcsc_prefect.integrations.qiskit.testing import EmulatedService, JobRecord

from ..hidden_secrets import found_in
from .account import credentials
from .processes import Worker, Workers, wait_until
from .worker import SHOTS

__all__ = ["DELAY", "Run", "outstanding_intents"]

#: Seconds after which the search shows a new job for certain.
DELAY = 1.5


def outstanding_intents(home: Path) -> list[dict]:
    """Return the intents below a Prefect home whose jobs may not all be known."""
    stored = [
        json.loads(json.loads(path.read_text())["result"]) for path in home.rglob("qiskit-*-intent")
    ]
    return [intent for intent in stored if intent["outstanding"]]


@dataclass
class Run:
    """A program on inputs that no other test has.

    Attributes:
        workers: Where its processes come from.
        job: What the program is to do.
        emulated: The service; None for jobs on this machine.
        before: How many jobs the service had before.
        held: Whether its jobs stay in the queue until all of them have been submitted.
    """

    workers: Workers
    job: dict
    emulated: EmulatedService | None
    before: int
    held: bool = False

    @property
    def home(self) -> Path:
        return Path(self.job["home"])

    @property
    def log(self) -> str:
        return (self.home / "log.txt").read_text()

    def start(self) -> Worker:
        for mark in (self._begun, self._submitted):
            mark.unlink(missing_ok=True)
        return self.workers.start(self.job)

    def kill_when(self, reached: Callable[[], bool], what: str, *, pause: float = 0.01) -> None:
        """Start the program, and kill it as soon as something is reached."""
        worker = self.start()
        wait_until(reached, 60, what, pause=pause)
        worker.kill()

    def kill_while_storing(self, text: str, number: int) -> None:
        """Start the program, which is gated, and kill it in the midst of one of its writes.

        Args:
            text: What stands in the key of what is written.
            number: The how-manieth such write it is, from 1.
        """
        storage = self.home / "gated"
        storage.mkdir(parents=True)
        (storage / "gate").write_text(json.dumps([text, number]))
        self.kill_when((storage / "reached").exists, f"write {number} of {text}")
        (storage / "gate").unlink()

    def wait_for_the_flow(self, worker: Worker) -> None:
        """Wait until the flow itself has begun, after what Prefect does before."""
        wait_until(lambda: self._begun.exists() or worker.ended.is_set(), 60, "the flow")

    @property
    def has_submitted(self) -> bool:
        """Whether it has its jobs, and waits for them at the most."""
        return self._submitted.exists()

    @property
    def _begun(self) -> Path:
        return self.home / "begun"

    @property
    def _submitted(self) -> Path:
        return self.home / "submitted"

    @property
    def jobs(self) -> list[JobRecord]:
        """Jobs of this run on the emulated service, the oldest first."""
        return list(self.emulated.jobs)[self.before :]

    @property
    def _local_jobs(self) -> list[LocalJob]:
        return list(LocalJobStore(self.home / "qcsc-prefect" / "local-jobs").jobs())

    @property
    def intents(self) -> list[dict]:
        """Intents whose jobs may not all be known."""
        return outstanding_intents(self.home)

    @property
    def stage(self) -> str:
        """How far the program has come, by what a rerun finds."""
        records = [
            path for path in self.home.rglob("qiskit-sampler-*") if "-intent" not in path.name
        ]
        results = list(self.home.rglob("qiskit-result-*"))
        jobs = self._local_jobs if self.emulated is None else self.jobs
        marks = {
            "ended": (self.home / "results.json").exists(),
            "some results stored": bool(results),
            "all recorded": len(records) == len(self.job["inputs"]),
            "some recorded": bool(records),
            "accepted, none recorded": bool(jobs),
            "intended, none accepted": bool(self.intents),
        }
        return next((mark for mark, reached in marks.items() if reached), "nothing sent")

    def check(self) -> None:
        """Run the program to its end, and look at what it returned and what was paid for."""
        worker = self.start()
        if self.held:
            wait_until(lambda: self.has_submitted or worker.ended.is_set(), 60, "the submissions")
            self.emulated.release_jobs()
        self.check_end(worker)
        jobs = self._local_jobs if self.emulated is None else self.jobs
        counted = Counter(
            tag for job in jobs for tag in job.tags if tag.startswith("qcsc-prefect-")
        )
        assert len(counted) == len(self.job["inputs"])
        assert set(counted.values()) == {1}, "a job was paid for twice"

    def check_end(self, worker: Worker) -> None:
        """Wait for a process to end, and look at what it returned and stored."""
        assert worker.wait() == 0, self.log[-6000:]
        results = json.loads((self.home / "results.json").read_text())
        assert results == {
            str(number): {f"{number & 31:05b}": SHOTS} for number in self.job["inputs"]
        }
        assert self.intents == [], "nothing is left to be found out"
        assert found_in(self.home, credentials()) == {}
