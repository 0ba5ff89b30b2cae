"""SIGKILL at every step of submitting and fetching, then a rerun: one job, the right result.

The long form kills at many more random moments: ``QCSC_PREFECT_KILLS=50``.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections import Counter

import pytest

from qcsc_prefect.integrations.qiskit.testing import EmulatedService, Endpoint

from .fault_cases import FAULTS
from .processes import Worker, wait_until

KILLS = int(os.environ.get("QCSC_PREFECT_KILLS", "6"))
SEED = int(os.environ.get("QCSC_PREFECT_KILL_SEED", str(random.randrange(10**6))))
#: Of the runs that are killed at a random moment, so many meet a fault of the service as well.
WITH_FAULT = 1 / 3
#: Faults that a rerun must cope with, and where they may strike.
PASSING = [name for name, fault in FAULTS.items() if fault.passes and name != "hangs"]
STRUCK = [
    Endpoint.TOKEN,
    Endpoint.BACKENDS,
    Endpoint.PROPERTIES,
    Endpoint.USAGE,
    Endpoint.STATUS,
    Endpoint.SEARCH,
    Endpoint.SUBMIT,
    Endpoint.JOB,
    Endpoint.RESULT,
    Endpoint.METRICS,
]


def test_before_the_intent(start_run, emulated: EmulatedService):
    run = start_run()
    emulated.faults.delay(20, "search")
    run.kill_when(lambda: emulated.count("search") == 1, "the lookup")
    assert not list(run.home.rglob("*-intent"))
    emulated.faults.clear()
    run.check()


def test_after_the_intent_and_before_the_job_is_sent(start_run, emulated: EmulatedService):
    run = start_run()
    emulated.faults.delay(20, "usage")
    run.kill_when(lambda: emulated.count("usage") == 1, "the request before the submission")
    assert len(list(run.home.rglob("*-intent"))) == 1
    assert run.jobs == []
    emulated.faults.clear()
    run.check()


def test_while_the_job_is_sent_and_accepted_after_the_death(start_run, emulated: EmulatedService):
    run = start_run()
    emulated.faults.delay(1, "submit", when="before")
    run.kill_when(lambda: emulated.count("submit") == 1, "the submission")
    assert run.jobs == []
    emulated.faults.clear()
    run.check()


@pytest.mark.parametrize("hidden", [0.0, 1.0], ids=["shown at once", "shown later"])
def test_while_the_answer_of_the_accepted_job_is_out(start_run, emulated: EmulatedService, hidden):
    run = start_run()
    emulated.faults.hide_new_jobs(hidden)
    emulated.faults.delay(20, "submit", when="after")
    run.kill_when(lambda: len(run.jobs) == 1, "the accepted job")
    emulated.faults.clear()
    emulated.faults.hide_new_jobs(hidden)
    run.check()


def hold_the_search_after_the_submission(worker: Worker, emulated: EmulatedService) -> None:
    """Hold the next search back that a program makes which is about to submit."""
    emulated.faults.delay(0.3, "submit", times=1)
    submitted = emulated.count("submit")
    wait_until(lambda: emulated.count("submit") > submitted, 60, "the submission")
    searched = emulated.count("search")
    emulated.faults.delay(3600, "search")
    wait_until(lambda: emulated.count("search") > searched, 60, "the search after it")
    assert not worker.ended.is_set()


@pytest.mark.parametrize("proxied", [False, True], ids=["answered 504", "dropped behind a proxy"])
def test_while_the_job_of_a_lost_answer_is_looked_for(
    start_run, emulated: EmulatedService, proxied: bool
):
    if proxied:
        emulated.faults.close("submit", when="after")
    else:
        emulated.faults.answer("submit", status=504, when="after")
    run = start_run(proxied=proxied)
    worker = run.start()
    hold_the_search_after_the_submission(worker, emulated)
    worker.kill()
    assert run.stage == "accepted, none recorded"
    assert len(run.intents) == 1
    emulated.faults.clear()
    run.check()
    assert len(run.jobs) == 1


def test_before_other_machines_jobs_are_looked_for(start_run, emulated: EmulatedService):
    """A rerun looks for them, though it has a record: of two jobs in the queue one is left."""
    emulated.set_schedule(queued_seconds=math.inf)
    emulated.faults.hide_new_jobs(3600)
    other = start_run()
    waiting = other.start()
    wait_until(lambda: other.has_submitted or waiting.ended.is_set(), 60, "the other machine")
    run = start_run(numbers=other.job["inputs"])
    worker = run.start()
    hold_the_search_after_the_submission(worker, emulated)
    worker.kill()
    assert run.stage == "all recorded"
    assert len(run.intents) == 1
    assert [job.state for job in other.jobs] == ["Queued", "Queued"]
    emulated.faults.clear()
    again = run.start()
    wait_until(lambda: run.has_submitted or again.ended.is_set(), 60, "the rerun")
    assert [job.state for job in other.jobs] == ["Queued", "Cancelled"], run.log[-3000:]
    emulated.release_jobs()
    other.check_end(waiting)
    run.check_end(again)
    assert [job.state for job in other.jobs] == ["Completed", "Cancelled"]


def test_right_after_the_answer(start_run, emulated: EmulatedService):
    """On local storage, where only a few milliseconds lie between the answer and the record."""
    sides: Counter[str] = Counter()
    for _ in range(max(1, KILLS // 5)):
        emulated.clear_requests()
        run = start_run()
        run.kill_when(
            lambda: any(r.endpoint == "submit" and r.status for r in emulated.requests),
            "the answer",
            pause=0.0002,
        )
        assert len(run.jobs) == 1
        sides[run.stage] += 1
        run.check()
    print(f"killed right after the answer: {dict(sides)}")
    assert sides.keys() <= {"accepted, none recorded", "all recorded"}


GATES = {
    "after the answer and before the record": ("qiskit-sampler-", 2, 1),
    "after the record and before the intent is cleared": ("-intent", 2, 1),
    "while the result is stored": ("qiskit-result-", 1, 1),
}


@pytest.mark.parametrize("step", GATES)
def test_while_something_is_stored(start_run, step: str):
    run = start_run(gated=True)
    *write, jobs = GATES[step]
    run.kill_while_storing(*write)
    assert len(run.jobs) == jobs
    run.check()


def test_while_waiting(start_run, emulated: EmulatedService):
    emulated.set_schedule(queued_seconds=math.inf)
    run = start_run(inputs=5)
    # Each submission searches twice; what comes after that asks how the five jobs stand.
    run.kill_when(lambda: len(run.jobs) == 5 and emulated.count("search") > 12, "the wait")
    requests = emulated.count()
    run.kill_when(lambda: emulated.count() > requests + 12, "the second wait")
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
    emulated.faults.delay(60, "result", times=1)
    run.kill_when(lambda: emulated.count("result") == 1, "the download")
    assert run.jobs[0].result_reads == 0
    run.check()


def test_a_private_result_is_read_once_and_not_lost(start_run, emulated: EmulatedService):
    run = start_run(gated=True, options={"environment": {"private": True}})
    run.kill_while_storing("qiskit-result-", 1)
    assert run.jobs[0].result_reads == 1
    run.check()
    assert run.jobs[0].result_reads == 1


@pytest.mark.parametrize("local", [False, True], ids=["service", "this machine"])
def test_at_random_moments(start_run, emulated: EmulatedService, local: bool):
    chance = random.Random(SEED)
    emulated.set_schedule(running_seconds=0.3)
    start_run(local=local).check()  # what is loaded at first use is loaded
    undisturbed = start_run(inputs=3, local=local)
    worker = undisturbed.start()
    undisturbed.wait_for_the_flow(worker)
    began = time.monotonic()
    worker.wait()
    length = time.monotonic() - began
    undisturbed.check()
    stages: Counter[str] = Counter()
    for number in range(KILLS):
        run = start_run(inputs=3, local=local)
        fault = None if local else strike_at_random(chance, emulated)
        longest = length if fault is None else 2 * length
        moments = [chance.uniform(0, longest) for _ in range(1 + number % 2)]
        for moment in moments:
            worker = run.start()
            run.wait_for_the_flow(worker)
            worker.ended.wait(moment)
            if not worker.ended.is_set():
                worker.kill()
            stages[run.stage] += 1
        print(f"seed {SEED}, kill {number} at {moments} of {length:.2f} s, fault {fault}")
        emulated.faults.clear()
        run.check()
        emulated.set_schedule(running_seconds=0.3)
    print(f"how far the killed runs had come: {dict(stages)}")


def strike_at_random(chance: random.Random, emulated: EmulatedService) -> str | None:
    """Let a fault that passes strike some of the runs, and say which."""
    if chance.random() >= WITH_FAULT:
        return None
    endpoint, name, times = chance.choice(STRUCK), chance.choice(PASSING), chance.randint(1, 3)
    FAULTS[name].inject(emulated.faults, endpoint, times)
    return f"{name} at {endpoint}, {times} times"


@pytest.mark.parametrize("local", [False, True], ids=["service", "this machine"])
def test_two_processes_of_twenty_equal_tasks(start_run, local: bool):
    run = start_run(local=local, copies=20)
    first, second = run.start(), run.start()
    assert (first.wait(), second.wait()) == (0, 0), run.log[-6000:]
    run.check()
