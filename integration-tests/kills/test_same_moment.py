"""Machines that share an account alone submit the same input within two seconds: one job is left.

Answers are late, the search shows new jobs later still, and in every third round a machine is
killed and started again. The queue is long: a round fails where two jobs are left at its end.
``QCSC_PREFECT_ROUNDS=100`` is the long form.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qcsc_prefect.integrations.qiskit.testing import EmulatedService, Endpoint

from .processes import wait_until
from .runs import Run

ROUNDS = int(os.environ.get("QCSC_PREFECT_ROUNDS", "2"))
SEED = int(os.environ.get("QCSC_PREFECT_KILL_SEED", str(random.randrange(10**6))))
MACHINES = 4
#: Seconds within which they begin.
WITHIN = 2.0
#: Seconds that an answer may take, and that a new job may stay hidden from the search.
LATE, HIDDEN = (1.0, 10.0) if ROUNDS > 2 else (0.5, 3.0)
#: Seconds after which the search shows a new job for certain; the queue is longer.
VISIBILITY = 1.2 * HIDDEN
QUEUE = 1.5 * VISIBILITY + 5.0


@pytest.mark.parametrize("number", range(ROUNDS))
def test_one_job_is_left(
    start_run: Callable[..., Run], emulated: EmulatedService, tmp_path: Path, number: int
):
    chance = random.Random(SEED + number)
    print(f"seed {SEED}, round {number}")
    emulated.set_schedule(queued_seconds=math.inf)
    hidden = chance.uniform(0.0, HIDDEN)
    emulated.faults.hide_new_jobs(hidden)
    late = {endpoint: chance.uniform(0.0, LATE) for endpoint in Endpoint}
    for endpoint, seconds in late.items():
        emulated.faults.delay(seconds, endpoint, when=chance.choice(["before", "after"]))
    runs: list[Run] = []
    for _ in range(MACHINES):
        numbers = runs[0].job["inputs"] if runs else None
        offset = 0.0 if not runs else chance.uniform(0.0, WITHIN)
        runs.append(
            start_run(
                numbers=numbers,
                visibility_delay=VISIBILITY,
                signal=str(tmp_path / "signal"),
                after_signal=offset,
            )
        )
    workers = [run.start() for run in runs]
    for run, worker in zip(runs, workers, strict=True):
        run.wait_for_the_flow(worker)
    (tmp_path / "signal").touch()
    if number % 3 == 1:
        # Seldom before it has begun to submit: no more than a late start comes of that.
        if chance.random() < 0.8:
            wait_until(lambda: any(runs[-1].home.rglob("*-intent")), 120, "the intent")
        time.sleep(chance.uniform(0.0, VISIBILITY / 2))
        workers[-1].kill()
        print(f"one was killed when it had come to: {runs[-1].stage}")
        workers[-1] = runs[-1].start()
    wait_until(
        lambda: all(
            run.has_submitted or worker.ended.is_set()
            for run, worker in zip(runs, workers, strict=True)
        ),
        120,
        "the submissions",
        pause=0.1,
    )
    began = time.monotonic()
    while len(live(runs[0])) > 1 and time.monotonic() < began + QUEUE:
        time.sleep(0.1)
    took = time.monotonic() - began
    print(f"{len(runs[0].jobs)} jobs, shown after {hidden:.1f} s, settled in {took:.1f} s")
    left = live(runs[0])
    emulated.faults.clear()
    emulated.release_jobs()
    for run, worker in zip(runs, workers, strict=True):
        run.check_end(worker)
    assert len(left) == 1, f"{len(left)} jobs were still in the queue after {QUEUE:.0f} s"
    assert left[0] == runs[0].jobs[0].id, "the oldest is the one to keep"


def live(run: Run) -> list[str]:
    """Return the ids of the jobs that will be paid for."""
    return [job.id for job in run.jobs if job.state != "Cancelled"]
