"""A user's program that is killed and started again, and what it has left behind."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from qcsc_prefect.integrations.qiskit.chosen_digest import input_tag_of
from qcsc_prefect.integrations.qiskit.local.store import LocalJob, LocalJobStore
from qcsc_prefect.integrations.qiskit.testing import EmulatedService, JobRecord

from ..hidden_secrets import found_in
from .account import credentials
from .processes import Worker, Workers, wait_until
from .worker import SHOTS

__all__ = ["DELAY", "Run"]

#: Seconds after which the search shows a new job for certain.
DELAY = 1.5


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

    def wait_for_the_flow(self, worker: Worker) -> None:
        """Wait until the flow itself has begun, after what Prefect does before."""
        wait_until(lambda: self._begun.exists() or worker.ended.is_set(), 60, "the flow")

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

    def stored(self, ending: str) -> list[dict]:
        """What the records on storage hold whose names end so; ``-intent`` for intents."""
        return [
            json.loads(json.loads(path.read_text())["result"])
            for path in self.home.rglob(f"qiskit-sampler-*{ending}")
        ]

    @property
    def intents(self) -> list[dict]:
        """Intents whose jobs may not all be known."""
        return [intent for intent in self.stored("-intent") if intent["outstanding"]]

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

    def check(self, *, repeated: bool = False) -> None:
        """Run the program to its end, and look at what it returned and what was paid for.

        Args:
            repeated: Whether submissions were sent more than once on their way, so that some of
                their jobs were cancelled in the queue.
        """
        worker = self.start()
        if self.held:
            wait_until(
                lambda: self._submitted.exists() or worker.ended.is_set(), 60, "the submissions"
            )
            self.emulated.release_jobs()
        assert worker.wait() == 0, self.log[-6000:]
        results = json.loads((self.home / "results.json").read_text())
        assert results == {
            str(number): {f"{number & 31:05b}": SHOTS} for number in self.job["inputs"]
        }
        if self.emulated is None:
            jobs = Counter(tag for job in self._local_jobs for tag in job.tags)
        else:
            alive = [job for job in self.jobs if not repeated or job.state != "Cancelled"]
            jobs = Counter(input_tag_of(job.tags) for job in alive)
        assert len(jobs) == len(self.job["inputs"])
        assert set(jobs.values()) == {1}, "a job was paid for twice"
        assert found_in(self.home, credentials()) == {}
