"""SIGKILL while a submission that was sent more than once is put in order, then a rerun.

The client repeats a POST that is answered by a 5xx, and behind a proxy also one whose connection
broke. Each of them makes a job. One is kept, the oldest, and the others are cancelled in the queue,
whenever the process dies.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from qcsc_prefect.integrations.qiskit.testing import EmulatedService

from .processes import Worker, wait_until
from .runs import Run

WAYS = pytest.mark.parametrize(
    "proxied", [False, True], ids=["answered 504", "dropped behind a proxy"]
)


@pytest.fixture
def start_repeated(
    start_run: Callable[..., Run], emulated: EmulatedService
) -> Callable[[bool], Run]:
    """Return what makes a program whose first POST is accepted, and sent again by the client."""

    def make(proxied: bool) -> Run:
        emulated.set_schedule(queued_seconds=math.inf)
        if proxied:
            emulated.faults.close("submit", when="after")
        else:
            emulated.faults.answer("submit", status=504, when="after")
        run = start_run(proxied=proxied)
        run.held = True
        return run

    return make


def hold(worker: Worker, emulated: EmulatedService, endpoint: str, **more: str) -> None:
    """Hold the next request of an endpoint back, beginning when the job is being sent."""
    wait_until(lambda: emulated.count("submit") > 0, 60, "the submission")
    emulated.faults.delay(20, endpoint, **more)
    wait_until(
        lambda: any(r.endpoint == endpoint and r.fault == "delay" for r in emulated.requests),
        60,
        f"the {endpoint} request after the submission",
    )
    assert not worker.ended.is_set()


def check_that_the_oldest_is_kept(run: Run) -> None:
    run.check(repeated=True)
    assert [job.state for job in run.jobs] == ["Completed", "Cancelled"]
    assert run.intents == [], "nothing is left to be put in order"


@WAYS
def test_before_further_jobs_are_looked_for(start_repeated, emulated: EmulatedService, proxied):
    run = start_repeated(proxied)
    emulated.faults.delay(0.3, "submit")
    worker = run.start()
    hold(worker, emulated, "search")
    worker.kill()
    assert [job.state for job in run.jobs] == ["Queued", "Queued"]
    assert [intent["sent_again"] for intent in run.intents] == [True]
    assert run.stage == "all recorded"
    emulated.faults.clear()
    check_that_the_oldest_is_kept(run)


@WAYS
@pytest.mark.parametrize("when", ["before", "after"])
def test_while_a_duplicate_is_cancelled(
    start_repeated, emulated: EmulatedService, proxied: bool, when: str
):
    run = start_repeated(proxied)
    emulated.faults.delay(0.3, "submit")
    worker = run.start()
    hold(worker, emulated, "cancel", when=when)
    if when == "after":
        wait_until(lambda: run.jobs[1].state == "Cancelled", 30, "the cancellation")
    worker.kill()
    assert [intent["sent_again"] for intent in run.intents] == [True]
    emulated.faults.clear()
    check_that_the_oldest_is_kept(run)


@WAYS
def test_while_the_client_sends_it_again(start_repeated, emulated: EmulatedService, proxied: bool):
    """The second POST is on its way when the process dies, and is accepted after that."""
    run = start_repeated(proxied)
    emulated.faults.delay(1.0, "submit")
    worker = run.start()
    wait_until(lambda: emulated.count("submit") == 2, 60, "the second POST")
    worker.kill()
    assert len(run.jobs) == 1
    assert run.stage == "accepted, none recorded"
    assert [intent["sent_again"] for intent in run.intents] == [False]
    check_that_the_oldest_is_kept(run)
