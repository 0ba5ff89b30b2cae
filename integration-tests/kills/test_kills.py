"""SIGKILL at every step of submitting and fetching, then a rerun: one job, the right result.

The long form kills at many more random moments: ``QCSC_PREFECT_KILLS=50``.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import PrefectServer, Worker, Workers, wait_until

from qcsc_prefect.integrations.qiskit.local.store import LocalJobStore
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

KILLS = int(os.environ.get("QCSC_PREFECT_KILLS", "6"))
SEED = int(os.environ.get("QCSC_PREFECT_KILL_SEED", str(random.randrange(10**6))))
SHOTS = 20
DELAY = 1.5

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def service() -> Iterator[EmulatedService]:
    with EmulatedService(["fake_manila"], seed=7) as emulated:
        yield emulated


@pytest.fixture
def emulated(service: EmulatedService) -> EmulatedService:
    service.faults.clear()
    service.faults.hide_new_jobs(0)
    service.set_schedule()
    service.clear_requests()
    return service


@dataclass
class Run:
    """A user's program that is killed and started again, on inputs that no other test has."""

    workers: Workers
    job: dict
    emulated: EmulatedService | None
    before: int

    @property
    def home(self) -> Path:
        return Path(self.job["home"])

    def start(self) -> Worker:
        return self.workers.start(self.job)

    @property
    def jobs(self) -> list:
        """Jobs of this run on the emulated service."""
        return list(self.emulated.jobs)[self.before :]

    def check(self) -> None:
        """Run the program to its end, and look at what it returned and what was paid for."""
        assert self.start().wait() == 0, (self.home / "log.txt").read_text()[-6000:]
        results = json.loads((self.home / "results.json").read_text())
        assert results == {
            str(number): {f"{number & 31:05b}": SHOTS} for number in self.job["inputs"]
        }
        if self.emulated is None:
            jobs = Counter(
                tag
                for job in LocalJobStore(self.home / "qcsc-prefect" / "local-jobs").jobs()
                for tag in job.tags
            )
        else:
            jobs = Counter(job.tags for job in self.jobs)
        assert len(jobs) == len(self.job["inputs"])
        assert set(jobs.values()) == {1}, "a job was paid for twice"


@pytest.fixture
def start_run(
    emulated: EmulatedService,
    workers: Workers,
    prefect_server_process: PrefectServer,
    tmp_path: Path,
) -> Callable[..., Run]:
    def make(*, inputs: int = 1, local: bool = False, **more: object) -> Run:
        config = (
            {"channel": "local", "backend_name": "aer_simulator"}
            if local
            else emulated.runtime_config_fields()
        )
        job = {
            "home": str(tmp_path / f"home-{next(_numbers)}"),
            "api_url": prefect_server_process.api_url,
            "environment": emulated.environment,
            "config": config,
            "inputs": [next(_numbers) for _ in range(inputs)],
            "visibility_delay": DELAY,
            **more,
        }
        return Run(workers, job, None if local else emulated, len(emulated.jobs))

    return make


def test_before_the_intent(start_run, emulated: EmulatedService):
    run = start_run()
    emulated.faults.delay(20, "search")
    worker = run.start()
    wait_until(lambda: emulated.count("search") == 1, 30, "the lookup")
    worker.kill()
    assert not list(run.home.rglob("*-intent"))
    emulated.faults.clear()
    run.check()


def test_after_the_intent_and_before_the_job_is_sent(start_run, emulated: EmulatedService):
    run = start_run()
    emulated.faults.delay(20, "usage")
    worker = run.start()
    wait_until(lambda: emulated.count("usage") == 1, 30, "the request before the submission")
    worker.kill()
    assert len(list(run.home.rglob("*-intent"))) == 1
    assert run.jobs == []
    emulated.faults.clear()
    run.check()


def test_while_the_job_is_sent_and_accepted_after_the_death(start_run, emulated: EmulatedService):
    run = start_run()
    emulated.faults.delay(1, "submit", when="before")
    worker = run.start()
    wait_until(lambda: emulated.count("submit") == 1, 30, "the submission")
    worker.kill()
    assert run.jobs == []
    emulated.faults.clear()
    run.check()


@pytest.mark.parametrize("hidden", [0.0, 1.0], ids=["shown at once", "shown later"])
def test_while_the_answer_of_the_accepted_job_is_out(start_run, emulated: EmulatedService, hidden):
    run = start_run()
    emulated.faults.hide_new_jobs(hidden)
    emulated.faults.delay(20, "submit", when="after")
    worker = run.start()
    wait_until(lambda: len(run.jobs) == 1, 30, "the accepted job")
    worker.kill()
    emulated.faults.clear()
    emulated.faults.hide_new_jobs(hidden)
    run.check()


def test_right_after_the_answer(start_run, emulated: EmulatedService):
    """On local storage, where only a few milliseconds lie between the answer and the record."""
    run = start_run()
    worker = run.start()
    wait_until(
        lambda: any(r.endpoint == "submit" and r.status for r in emulated.requests),
        30,
        "the answer",
        pause=0.0002,
    )
    worker.kill()
    assert len(run.jobs) == 1
    run.check()


GATES = {
    "after the answer and before the record": ("qiskit-sampler-", 2, 1),
    "after the record and before the intent is cleared": ("-intent", 2, 1),
    "while the result is stored": ("qiskit-result-", 1, 1),
}


@pytest.mark.parametrize("step", GATES)
def test_while_something_is_stored(start_run, step: str):
    run = start_run(gated=True)
    text, number, jobs = GATES[step]
    storage = run.home / "gated"
    storage.mkdir(parents=True)
    (storage / "gate").write_text(json.dumps([text, number]))
    worker = run.start()
    wait_until((storage / "reached").exists, 60, step)
    worker.kill()
    (storage / "gate").unlink()
    assert len(run.jobs) == jobs
    run.check()


def test_while_waiting(start_run, emulated: EmulatedService):
    emulated.set_schedule(queued_seconds=math.inf)
    run = start_run(inputs=5)
    worker = run.start()
    # Each submission searches twice; what comes after that asks how the five jobs stand.
    wait_until(lambda: len(run.jobs) == 5 and emulated.count("search") > 12, 60, "the wait")
    worker.kill()
    again = run.start()
    requests = emulated.count()
    wait_until(lambda: emulated.count() > requests + 12, 60, "the second wait")
    again.kill()
    emulated.set_schedule()
    emulated.release_jobs()
    run.check()


@pytest.mark.parametrize("cancel_job", [False, True], ids=["job goes on", "job is cancelled"])
def test_sigterm_while_waiting(start_run, emulated: EmulatedService, cancel_job: bool):
    emulated.set_schedule(queued_seconds=math.inf)
    run = start_run(fetch={"cancel_job_on_cancellation": cancel_job})
    worker = run.start()
    wait_until(lambda: emulated.count("job") > 1, 60, "the wait")
    emulated.faults.delay(0.5, "cancel")
    worker.terminate()
    assert worker.wait() != 0
    assert run.jobs[0].state == ("Cancelled" if cancel_job else "Queued")
    emulated.set_schedule()
    emulated.release_jobs()
    if not cancel_job:
        run.check()


@pytest.mark.parametrize("private", [False, True], ids=["public", "private"])
def test_while_downloading(start_run, emulated: EmulatedService, private: bool):
    run = start_run(options={"environment": {"private": private}})
    emulated.faults.delay(20, "result")
    worker = run.start()
    wait_until(lambda: emulated.count("result") == 1, 60, "the download")
    worker.kill()
    assert run.jobs[0].result_reads == 0
    emulated.faults.clear()
    run.check()


def test_a_private_result_is_read_once_and_not_lost(start_run, emulated: EmulatedService):
    run = start_run(gated=True, options={"environment": {"private": True}})
    storage = run.home / "gated"
    storage.mkdir(parents=True)
    (storage / "gate").write_text(json.dumps(["qiskit-result-", 1]))
    worker = run.start()
    wait_until((storage / "reached").exists, 60, "the decoded result")
    worker.kill()
    (storage / "gate").unlink()
    assert run.jobs[0].result_reads == 1
    run.check()
    assert run.jobs[0].result_reads == 1


@pytest.mark.parametrize("local", [False, True], ids=["service", "this machine"])
def test_at_random_moments(start_run, emulated: EmulatedService, local: bool):
    chance = random.Random(SEED)
    emulated.set_schedule(running_seconds=0.3)
    start_run(local=local).check()  # what is loaded at first use is loaded
    undisturbed = start_run(inputs=3, local=local)
    began = time.monotonic()
    undisturbed.check()
    length = time.monotonic() - began
    for number in range(KILLS):
        run = start_run(inputs=3, local=local)
        moments = [chance.uniform(0, length) for _ in range(1 + number % 2)]
        for moment in moments:
            worker = run.start()
            worker.ended.wait(moment)
            if not worker.ended.is_set():
                worker.kill()
        print(f"seed {SEED}, kill {number} at {moments} of {length:.2f} s")
        run.check()


@pytest.mark.parametrize("local", [False, True], ids=["service", "this machine"])
def test_two_processes_of_twenty_equal_tasks(start_run, local: bool):
    run = start_run(local=local, copies=20)
    first, second = run.start(), run.start()
    assert (first.wait(), second.wait()) == (0, 0), (run.home / "log.txt").read_text()[-6000:]
    run.check()
