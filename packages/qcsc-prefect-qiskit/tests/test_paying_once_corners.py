"""Submitting once where digests, refreshes, ages, clocks and cancellations make it hard."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from qiskit import QuantumCircuit

from qcsc_prefect.core.engine.sealed_json import sealed, unsealed_json
from qcsc_prefect.core.errors import (
    InputError,
    JobCancelledError,
    JobError,
    SubmissionError,
    SubmissionUncertainError,
)
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    run_sampler_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.submitting.submit import JobArguments, SubmitCache, submit_job
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

from .machines import another_machine

pytestmark = pytest.mark.emulated_service(backends=["fake_manila", "fake_lima"])

DELAY = 1.0
DIGEST = "qiskit-sampler-input-made-by-hand"


def one() -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.measure_all()
    return circuit


async def submit(config: QiskitRuntimeConfig, *, refresh: bool = False, **more) -> dict:
    task = submit_sampler_job_task.with_options(refresh_cache=refresh)
    return await task(
        [one()],
        shots=10,
        runtime_config=config,
        cache_submit=True,
        **{"cache_scope": "global", "visibility_delay": DELAY, **more},
    )


@contextmanager
def given_up_at_once() -> Iterator[None]:
    """Let a submission whose job is not found be sent no second time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QCSC_PREFECT_PATIENCE_SECONDS", "0.0001")
        yield


async def lose_the_answer(emulated: EmulatedService, config, **more) -> str:
    """Submit a job that is accepted, while nobody learns of it; return its id."""
    before = len(emulated.jobs)
    emulated.faults.hide_new_jobs(3600)
    emulated.faults.close("submit", when="after")
    with given_up_at_once(), pytest.raises(SubmissionUncertainError):
        await submit(config, **{**more, "visibility_delay": 0})
    emulated.faults.hide_new_jobs(0)
    [job] = emulated.jobs[before:]
    return job.id


def alive(emulated: EmulatedService) -> list[str]:
    return [job.id for job in emulated.jobs if job.state != "Cancelled"]


@pytest.mark.parametrize("named", ["in the configuration", "in the call"])
async def test_one_digest_on_two_backends_is_two_jobs(
    prefect_home: Path, emulated, config, named: str
):
    references = []
    for name in ("fake_manila", "fake_lima") * 2:
        if named == "in the call":
            without = config.model_copy(update={"backend_name": None})
            found = await submit(without, backend_name=name, input_digest=DIGEST)
        else:
            there = config.model_copy(update={"backend_name": name})
            found = await submit(there, input_digest=DIGEST)
        assert found["backend_name"] == name
        references.append(found["job_id"])
    assert references[:2] == references[2:]
    assert [job.backend for job in emulated.jobs] == ["fake_manila", "fake_lima"]


async def test_another_machine_takes_the_job_of_its_own_backend(
    prefect_home: Path, emulated, config, tmp_path: Path
):
    await submit(config, input_digest=DIGEST)
    lima = config.model_copy(update={"backend_name": "fake_lima"})
    expected = await submit(lima, input_digest=DIGEST)
    with another_machine(tmp_path / "elsewhere"):
        found = await submit(lima, input_digest=DIGEST)
    assert (found["job_id"], found["backend_name"]) == (expected["job_id"], "fake_lima")
    assert len(emulated.jobs) == 2


@pytest.mark.parametrize("refresh", [False, True], ids=["plain rerun", "refreshing rerun"])
async def test_a_refresh_that_was_cut_short_is_finished(
    prefect_home: Path, emulated, config, refresh: bool
):
    old = await submit(config)
    lost = await lose_the_answer(emulated, config, refresh=True)
    found = await submit(config, refresh=refresh)
    assert found["job_id"] == lost
    assert alive(emulated) == [old["job_id"], lost], "the old job is no duplicate"
    assert (await submit(config))["job_id"] == lost


async def test_a_refresh_that_was_never_sent_leaves_the_old_job(
    prefect_home: Path, emulated, config
):
    old = await submit(config)
    emulated.faults.close("submit", when="before")
    with given_up_at_once(), pytest.raises(SubmissionUncertainError):
        await submit(config, refresh=True)
    assert (await submit(config))["job_id"] == old["job_id"]
    started = asyncio.get_running_loop().time()
    assert (await submit(config, visibility_delay=60))["job_id"] == old["job_id"]
    assert asyncio.get_running_loop().time() - started < 10, "nothing is outstanding any more"
    assert len(emulated.jobs) == 1


async def test_a_refresh_replaces_a_job_that_the_search_does_not_show_yet(
    prefect_home: Path, emulated, config
):
    emulated.set_schedule(queued_seconds=math.inf)
    emulated.faults.hide_new_jobs(1.0)
    old = await submit(config)
    # The search before the submission does not show the old job, the one after it does.
    emulated.faults.delay(1.2, "submit")
    new = await submit(config, refresh=True)
    assert new["job_id"] != old["job_id"]
    assert alive(emulated) == [old["job_id"], new["job_id"]]


async def test_a_job_does_not_grow_too_old_while_it_is_looked_for(
    prefect_home: Path, emulated, config
):
    emulated.faults.hide_new_jobs(0.8)
    emulated.faults.close("submit", when="after")
    found = await submit(config, cache_expiration=timedelta(seconds=0.3), visibility_delay=1.5)
    assert [job.id for job in emulated.jobs] == [found["job_id"]]


async def repeat(emulated: EmulatedService, config, folder: Path, *, later: float) -> str:
    """Send the same input once more, as it is dated some seconds later; return the job's id."""
    emulated.set_clock(ahead_seconds=later)
    emulated.faults.hide_new_jobs(3600)
    with another_machine(folder):
        found = await submit(config)
    emulated.faults.hide_new_jobs(0)
    emulated.set_clock(ahead_seconds=0)
    return found["job_id"]


async def test_repetitions_of_a_lost_submission_may_lie_minutes_apart(
    prefect_home: Path, emulated, config, tmp_path: Path, caplog
):
    emulated.set_schedule(queued_seconds=math.inf)
    lost = await lose_the_answer(emulated, config)
    repeated = await repeat(emulated, config, tmp_path / "gateway", later=300)
    asked_for = await repeat(emulated, config, tmp_path / "somebody", later=3600)
    with caplog.at_level(logging.WARNING):
        assert (await submit(config))["job_id"] == lost
    assert alive(emulated) == [lost, asked_for]
    assert f"Cancelled job {repeated}, a duplicate of job {lost}" in caplog.text


async def test_without_a_lost_submission_they_were_asked_for(
    prefect_home: Path, emulated, config, tmp_path: Path
):
    emulated.set_schedule(queued_seconds=math.inf)
    first = await submit(config)
    second = await repeat(emulated, config, tmp_path / "somebody", later=300)
    with another_machine(tmp_path / "elsewhere"):
        assert (await submit(config))["job_id"] == first["job_id"]
    assert alive(emulated) == [first["job_id"], second]


async def test_a_repetition_that_runs_already_is_named(
    prefect_home: Path, emulated, config, tmp_path: Path, caplog
):
    emulated.set_schedule(running_seconds=math.inf)
    lost = await lose_the_answer(emulated, config)
    repeated = await repeat(emulated, config, tmp_path / "gateway", later=30)
    with caplog.at_level(logging.WARNING):
        assert (await submit(config))["job_id"] == lost
    assert alive(emulated) == [lost, repeated]
    assert caplog.text.count(f"Job {repeated} (RUNNING) is a duplicate of job {lost}") == 1


async def test_a_repetition_that_cannot_be_taken_back_any_more_is_named(
    prefect_home: Path, emulated, config, tmp_path: Path, caplog
):
    emulated.set_schedule(queued_seconds=math.inf)
    lost = await lose_the_answer(emulated, config)
    repeated = await repeat(emulated, config, tmp_path / "somebody", later=30)
    emulated.faults.answer("cancel", status=409, times=None)
    with caplog.at_level(logging.WARNING):
        assert (await submit(config))["job_id"] == lost
    named = f"Job {repeated}, a duplicate of job {lost}, can no longer be cancelled"
    assert caplog.text.count(named) == 1


async def test_a_job_that_was_cancelled_as_a_duplicate_is_fetched_by_the_one_that_was_kept(
    prefect_home: Path, emulated, config, tmp_path: Path, caplog
):
    emulated.set_schedule(queued_seconds=math.inf)
    emulated.faults.hide_new_jobs(3600)  # so that neither machine sees the other's job
    first = await submit(config)
    with another_machine(tmp_path / "other"):
        second = await submit(config)
        assert second["job_id"] != first["job_id"]
        waiting = asyncio.create_task(
            fetch_qiskit_job_result_task(
                job_reference=second, runtime_config=config, cache_result=True, max_wait=60
            )
        )
        await asyncio.sleep(0.5)
    emulated.faults.hide_new_jobs(0)
    with another_machine(tmp_path / "third"):
        await submit(config)  # sees both, and cancels the younger
    assert alive(emulated) == [first["job_id"]]
    emulated.release_jobs()
    with caplog.at_level(logging.WARNING):
        output = await waiting
    assert output["job_id"] == output["job_reference"]["job_id"] == first["job_id"]
    assert output["result"][0].data.meas.get_counts() == {"1": 10}
    assert f"cancelled as a duplicate of job {first['job_id']}" in caplog.text


async def test_a_job_that_somebody_cancelled_is_an_error(prefect_home: Path, emulated, config):
    emulated.set_schedule(queued_seconds=math.inf)
    reference = await submit(config)
    await asyncio.to_thread(
        lambda: config.get_service().job(reference["job_id"]).cancel()  # by hand
    )
    with pytest.raises(JobCancelledError, match=reference["job_id"]):
        await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)
    new = await submit(config)
    assert new["job_id"] != reference["job_id"]


async def test_a_cancellation_is_told_though_nobody_can_be_asked_what_for(
    prefect_home: Path, emulated, config, caplog
):
    emulated.set_schedule(queued_seconds=math.inf)
    reference = await submit(config)
    await asyncio.to_thread(lambda: config.get_service().job(reference["job_id"]).cancel())
    emulated.faults.answer("search", status=403, times=None)
    with caplog.at_level(logging.WARNING), pytest.raises(JobCancelledError) as caught:
        await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)
    assert caught.value.job_id == reference["job_id"]
    [said] = [
        record.getMessage()
        for record in caplog.records
        if "could not be checked" in record.getMessage()
    ]
    assert reference["job_id"] in said
    assert "HTTP 403" in said


async def test_a_quota_that_is_used_up_is_not_waited_for(prefect_home: Path, emulated, config):
    emulated.faults.answer("submit", status=429, code=4317, times=None)
    async with asyncio.timeout(30):
        with pytest.raises(SubmissionError) as caught:
            await submit(config)
    assert (caught.value.status, caught.value.service_code) == (429, 4317)
    assert emulated.count("submit") == 1


@pytest.mark.parametrize("cancel_job", [False, True], ids=["job goes on", "job is cancelled"])
@pytest.mark.parametrize(
    ("task", "cache"),
    [
        (run_sampler_task, {}),
        (submit_sampler_job_task, {}),
        (submit_sampler_job_task, {"cache_submit": True}),
    ],
    ids=["run", "submit", "submit once"],
)
async def test_a_task_that_is_cancelled_while_it_submits_names_the_job(
    prefect_home: Path, emulated, config, caplog, task, cache, cancel_job: bool
):
    emulated.set_schedule(queued_seconds=math.inf)
    emulated.faults.delay(1.0, "submit", when="after")
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(
            task(
                [one()],
                shots=10,
                runtime_config=config,
                cancel_job_on_cancellation=cancel_job,
                **cache,
            )
        )
        while not emulated.jobs:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    [job] = emulated.jobs
    assert job.state == ("Cancelled" if cancel_job else "Queued")
    assert f"The submission of job {job.id} was cancelled" in caplog.text


PRIVATE = {"environment": {"private": True}}


async def test_two_fetches_of_one_private_result_at_once(prefect_home: Path, emulated, config):
    reference = await submit(config, options=PRIVATE)
    emulated.faults.delay(0.5, "result")
    outputs = await asyncio.gather(
        *(
            fetch_qiskit_job_result_task(
                job_reference=reference, runtime_config=config, cache_result=cache
            )
            for cache in (True, True, False, True)
        )
    )
    assert [output["result"][0].data.meas.get_counts() for output in outputs] == [{"1": 10}] * 4
    assert emulated.jobs[0].result_reads == 1


async def test_a_private_result_is_kept_though_its_fetch_is_cancelled(
    prefect_home: Path, emulated, config
):
    reference = await submit(config, options=PRIVATE)
    emulated.faults.delay(1.0, "result", when="after")
    fetching = asyncio.create_task(
        fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)
    )
    while not emulated.jobs[0].result_reads:
        await asyncio.sleep(0.01)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    output = await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)
    assert output["result"][0].data.meas.get_counts() == {"1": 10}
    assert emulated.jobs[0].result_reads == 1


async def test_an_intent_that_cannot_be_read_is_heeded(
    prefect_home: Path, emulated, config, caplog
):
    lost = await lose_the_answer(emulated, config)
    [intent] = prefect_home.rglob("*-intent")
    intent.unlink()
    intent.mkdir()  # to read it fails, for root too
    emulated.faults.hide_new_jobs(1.5)
    with caplog.at_level(logging.INFO):
        found = await submit(config, visibility_delay=3)
    assert found["job_id"] == lost
    assert len(emulated.jobs) == 1
    assert "An intent to submit may be outstanding" in caplog.text
    assert "its record cannot be read" in caplog.text
    assert intent.name in caplog.text
    assert "was begun at" not in caplog.text, "nobody knows when, or by whom"


async def test_an_intent_of_another_shape_is_heeded_and_called_so(
    prefect_home: Path, emulated, config, caplog
):
    lost = await lose_the_answer(emulated, config)
    [intent] = prefect_home.rglob("*-intent")
    record = json.loads(intent.read_text())
    content = unsealed_json(intent.name, record["result"])
    record["result"] = json.dumps(sealed(intent.name, {**content, "declared_at": "at noon"}))
    intent.write_text(json.dumps(record))
    with caplog.at_level(logging.INFO):
        assert (await submit(config))["job_id"] == lost
    assert len(emulated.jobs) == 1
    assert "its record cannot be read (Invalid RFC3339 encoded datetime" in caplog.text
    assert "was begun at" not in caplog.text


async def test_a_damaged_intent_is_heeded(prefect_home: Path, emulated, config, caplog):
    lost = await lose_the_answer(emulated, config)
    [intent] = prefect_home.rglob("*-intent")
    intent.write_bytes(intent.read_bytes()[:-20])
    emulated.faults.hide_new_jobs(1.5)
    with caplog.at_level(logging.INFO):
        found = await submit(config, visibility_delay=3)
    assert found["job_id"] == lost
    assert len(emulated.jobs) == 1
    assert f"{intent.name} is damaged" in caplog.text


async def test_what_a_reference_cannot_hold_is_refused_before_it_is_paid_for(
    prefect_home: Path, emulated, config
):
    # In the body of the task, which refuses such an argument before it looks at anything.
    arguments = JobArguments("sampler", [one()], None, config, None, None, None, input_digest=7)
    for cache in (None, SubmitCache()):
        with pytest.raises(InputError) as refused:
            await submit_job(arguments, cache)
        assert refused.value.path == "input_digest"
    assert emulated.count("submit") == 0
    assert not list(prefect_home.rglob("*-intent"))


@pytest.mark.parametrize("primitives", ["classic", "client_side"])
@pytest.mark.parametrize("lose", ["closed", "504"])
async def test_a_plain_submission_whose_answer_is_lost_is_found(
    prefect_home: Path, emulated, config, lose: str, primitives: str
):
    if lose == "closed":
        emulated.faults.close("submit", when="after")
    else:
        emulated.faults.answer("submit", status=504, when="after", times=6)
    there = config.model_copy(update={"primitives": primitives})
    output = await run_sampler_task([one()], shots=10, runtime_config=there)
    assert [job.id for job in emulated.jobs] == [output["job_id"]]
    emulated.faults.clear()
    again = await run_sampler_task([one()], shots=10, runtime_config=there)
    assert again["job_id"] != output["job_id"], "each call is a job of its own"


async def test_a_plain_submission_without_room_for_a_tag_says_that_it_is_uncertain(
    prefect_home: Path, emulated, config
):
    emulated.faults.close("submit", when="after")
    options = {"environment": {"job_tags": [f"tag {number}" for number in range(8)]}}
    with pytest.raises(SubmissionUncertainError):
        await run_sampler_task([one()], shots=10, runtime_config=config, options=options)
    assert emulated.count("submit") == 1


@pytest.mark.parametrize("hours", [-1, 3], ids=["behind", "ahead"])
async def test_an_age_limit_goes_by_the_services_clock(
    prefect_home: Path, emulated, config, tmp_path: Path, hours: int
):
    emulated.set_clock(ahead_seconds=3600 * hours)
    emulated.faults.close("submit", when="after")
    limit = {"cache_expiration": timedelta(minutes=30)}
    reference = await submit(config, **limit)
    assert (await submit(config, **limit))["job_id"] == reference["job_id"]
    with another_machine(tmp_path / "elsewhere"):
        assert (await submit(config, **limit))["job_id"] == reference["job_id"]
    assert len(emulated.jobs) == 1


async def test_jobs_that_show_late_are_settled_while_they_are_waited_for(
    prefect_home: Path, emulated, config, tmp_path: Path
):
    emulated.set_schedule(queued_seconds=math.inf)
    emulated.faults.hide_new_jobs(3)  # so that neither machine sees the other's job in time

    async def run(machine: str) -> dict:
        with another_machine(tmp_path / machine):
            reference = await submit(config)
            return await fetch_qiskit_job_result_task(
                job_reference=reference, runtime_config=config, max_wait=60
            )

    both = [asyncio.create_task(run(machine)) for machine in ("first", "second")]
    async with asyncio.timeout(60):
        while len(emulated.jobs) < 2 or len(alive(emulated)) > 1:
            await asyncio.sleep(0.1)
    emulated.release_jobs()
    outputs = await asyncio.gather(*both)
    assert {output["job_id"] for output in outputs} == {emulated.jobs[0].id}
    assert alive(emulated) == [emulated.jobs[0].id]


async def test_the_look_for_other_machines_is_made_up_by_a_rerun(
    prefect_home: Path, emulated, config, tmp_path: Path
):
    emulated.set_schedule(queued_seconds=math.inf)
    with another_machine(tmp_path / "elsewhere"):
        first = await submit(config)
    # As if it had sent its job at the same moment, and died before it looked for others.
    emulated.faults.hide_new_jobs(3600)
    emulated.faults.answer("search", status=403, times=None)
    with pytest.raises(JobError):
        await submit(config)
    emulated.faults.clear()
    emulated.faults.hide_new_jobs(3600)
    second = await submit(config)
    assert second["job_id"] != first["job_id"]
    [intent] = prefect_home.rglob("*-intent")
    record = json.loads(intent.read_text())
    content = unsealed_json(intent.name, record["result"])
    record["result"] = json.dumps(sealed(intent.name, {**content, "outstanding": True}))
    intent.write_text(json.dumps(record))
    emulated.faults.hide_new_jobs(0)
    assert (await submit(config))["job_id"] == first["job_id"]
    assert alive(emulated) == [first["job_id"]]
