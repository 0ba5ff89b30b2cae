"""SIGKILL while PUBs are looked up one by one, then a longer list: only what is new is paid for."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from qcsc_prefect.integrations.qiskit.testing import EmulatedService

from .runs import Run
from .worker import SHOTS

#: For each step: the text in the keys of what is stored, the number of the write that is cut short,
#: and the PUBs of each job after the longer list has run.
STEPS = {
    "before it is noted where the first PUB runs": ("-pub-", 1, [3]),
    "when it is noted where some PUBs run": ("-pub-", 2, [3]),
    "before the intent": ("-intent", 1, [3]),
    "after the answer and before the record": ("qiskit-sampler-", 4, [2, 1]),
    "while the result is stored": ("qiskit-result-", 1, [2, 1]),
}


def start_pub_by_pub(start_run: Callable[..., Run], **more: object) -> Run:
    run = start_run(inputs=2, pub_by_pub=True, **more)
    run.job["config"]["primitives"] = "classic"
    return run


def pubs_run(run: Run) -> list[int]:
    return [len(job.params["pubs"]) for job in run.jobs]


def check_a_longer_list(run: Run, emulated: EmulatedService, expected: list[int]) -> None:
    numbers = run.job["inputs"]
    run.job["inputs"] = [numbers[1], max(numbers) + 1000, numbers[0]]
    worker = run.start()
    assert worker.wait() == 0, run.log[-6000:]
    results = json.loads((run.home / "results.json").read_text())
    assert results == {str(number): {f"{number & 31:05b}": SHOTS} for number in run.job["inputs"]}
    assert pubs_run(run) == expected


@pytest.mark.parametrize("step", STEPS)
def test_while_something_is_stored(start_run, emulated: EmulatedService, step: str):
    run = start_pub_by_pub(start_run, gated=True)
    *write, expected = STEPS[step]
    run.kill_while_storing(*write)
    check_a_longer_list(run, emulated, expected)


def test_while_the_answer_of_the_accepted_job_is_out(start_run, emulated: EmulatedService):
    run = start_pub_by_pub(start_run)
    emulated.faults.delay(20, "submit", when="after")
    run.kill_when(lambda: len(run.jobs) == 1, "the accepted job")
    emulated.faults.clear()
    check_a_longer_list(run, emulated, [2, 1])
