"""The five tasks in real flows: contract, durability, and what Prefect is kept from doing."""

from __future__ import annotations

import asyncio
import inspect
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from prefect import flow, task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.transactions import transaction
from qiskit import QuantumCircuit
from qiskit.circuit import Gate

from qcsc_prefect.core.errors import (
    ConfigurationError,
    InputError,
    JobNotFoundError,
    JobReferenceError,
)
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    qiskit_result_fetch_cache_key,
    qiskit_sampler_submit_cache_key,
    run_estimator_task,
    run_sampler_task,
    submit_estimator_job_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.services.local.store import LocalJobStore

CONFIG = QiskitRuntimeConfig(channel="local", backend_name="aer_simulator")


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def number_of_jobs() -> int:
    return len(LocalJobStore.default().jobs())


async def test_the_one_task_path_returns_what_the_contract_names(prefect_home: Path):
    @flow
    async def one_task() -> tuple[dict, dict]:
        sampled = await run_sampler_task([bell()], shots=100, runtime_config=CONFIG)
        state = bell().remove_final_measurements(inplace=False)
        estimated = await run_estimator_task(
            [(state, "XX")], precision=0.1, runtime_config=CONFIG, input_digest="mine"
        )
        return sampled, estimated

    sampled, estimated = await one_task()
    assert sampled["primitive"] == "sampler"
    assert sampled["backend_name"] == "aer_simulator"
    assert sampled["job_id"].startswith("local-")
    assert sampled["shots"] == 100
    assert sampled["result"][0].data.meas.num_shots == 100
    assert sampled["metadata"]["resource"] == "aer_simulator"
    assert "input_digest" not in sampled
    assert estimated["primitive"] == "estimator"
    assert estimated["precision"] == 0.1
    assert estimated["input_digest"] == "mine"
    assert estimated["result"][0].data.evs == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("both", [True, False])
async def test_exactly_one_configuration_is_needed(prefect_home: Path, both: bool):
    given = {"runtime_block_name": "a", "runtime_config": CONFIG} if both else {}
    with pytest.raises(ValueError, match="Exactly one of runtime_block_name and runtime_config"):
        await submit_sampler_job_task([bell()], **given)
    with pytest.raises(ConfigurationError):
        await fetch_qiskit_job_result_task(job_id="local-1", **given)


async def test_a_saved_block_is_loaded_by_its_name(prefect_home: Path):
    await CONFIG.asave("my-simulator", overwrite=True)
    output = await run_sampler_task([bell()], "my-simulator", 10)
    assert output["job_reference"]["runtime_block_name"] == "my-simulator"
    with pytest.raises(ConfigurationError, match="'no-such-block'"):
        await run_sampler_task([bell()], "no-such-block")


@pytest.mark.parametrize(
    "pubs",
    [
        bell(),
        [bell()],
        (bell(),),
        (circuit for circuit in [bell()]),
        [(bell(), None, 30)],
        iter([(bell(),)]),
    ],
    ids=["bare", "list", "tuple", "generator", "pub", "iterator"],
)
async def test_pubs_may_be_any_iterable_or_one_circuit(prefect_home: Path, pubs: object):
    output = await run_sampler_task(pubs, shots=30, runtime_config=CONFIG)
    assert output["result"][0].data.meas.num_shots == 30


@pytest.mark.parametrize(
    ("pubs", "path"),
    [
        ([], "pubs"),
        ("h 0", "pubs"),
        (7, "pubs"),
        ([bell(), "ZZ"], "pubs[1]"),
        ([(bell(), [[1.0, 2.0]])], "pubs[0].parameter_values"),
    ],
)
async def test_a_bad_pub_is_refused_with_its_path(prefect_home: Path, pubs: object, path: str):
    with pytest.raises(InputError) as caught:
        await submit_sampler_job_task(pubs, runtime_config=CONFIG)
    assert caught.value.path == path
    assert number_of_jobs() == 0


async def test_a_wrong_reference_names_the_field(prefect_home: Path):
    with pytest.raises(JobReferenceError, match="'shots'") as caught:
        await fetch_qiskit_job_result_task(
            job_reference={"job_id": "local-1", "shots": "many"}, runtime_config=CONFIG
        )
    assert caught.value.path == "shots"


async def test_a_reference_of_the_older_system_is_read(prefect_home: Path):
    reference = await submit_sampler_job_task([bell()], shots=20, runtime_config=CONFIG)
    older = {
        "program_type": "sampler",
        "primitive": "sampler",
        "backend_name": "aer_simulator",
        "job_id": reference["job_id"],
        "runtime_block_name": None,
        "shots": 20,
        "precision": None,
        "input_digest": None,
        "options": None,
    }
    output = await fetch_qiskit_job_result_task(job_reference=older, runtime_config=CONFIG)
    assert output["shots"] == 20


async def test_equal_input_is_submitted_once(prefect_home: Path):
    @flow
    async def submits_twice(shots: int) -> list[str]:
        first = await submit_sampler_job_task(
            [bell()], shots=shots, runtime_config=CONFIG, cache_submit=True
        )
        second = await submit_sampler_job_task(
            (bell(),), shots=shots, runtime_config=CONFIG, cache_submit=True
        )
        return [first["job_id"], second["job_id"]]

    assert len(set(await submits_twice(10) + await submits_twice(10))) == 1
    assert len(set(await submits_twice(11))) == 1
    assert number_of_jobs() == 2


async def test_twenty_equal_submissions_at_once_give_one_job(prefect_home: Path):
    @flow
    async def submits_at_once() -> set[str]:
        references = await asyncio.gather(
            *(
                submit_sampler_job_task([bell()], runtime_config=CONFIG, cache_submit=True)
                for _ in range(20)
            )
        )
        return {reference["job_id"] for reference in references}

    assert len(await submits_at_once()) == 1
    assert number_of_jobs() == 1


async def test_a_failed_job_is_not_handed_out_again(prefect_home: Path, caplog):
    # The client takes it, and only the simulation finds out.
    unknown = QuantumCircuit(1)
    unknown.append(Gate("unknown", 1, []), [0])
    unknown.measure_all()

    async def submit() -> str:
        reference = await submit_sampler_job_task(
            [unknown], runtime_config=CONFIG, cache_submit=True
        )
        return reference["job_id"]

    first = await submit()
    store = LocalJobStore.default()
    while store.outcome(first) is None:
        await asyncio.sleep(0.05)
    assert store.outcome(first).state == "ERROR"
    second = await submit()
    assert second != first
    assert f"Job {first} is recorded for this input, but it ended as ERROR" in caplog.text


async def test_a_job_is_found_by_its_tag_where_the_record_is_gone(prefect_home: Path):
    async def submit(**more) -> str:
        # So long it waits for a job whose intent cannot be read.
        reference = await submit_sampler_job_task(
            [bell()], runtime_config=CONFIG, cache_submit=True, visibility_delay=1, **more
        )
        return reference["job_id"]

    first = await submit()
    for record in (prefect_home / "storage").iterdir():
        record.unlink()
    assert await submit() == first
    for record in (prefect_home / "storage").iterdir():
        record.write_bytes(b'{"metadata": {"sto')
    assert await submit() == first
    second = await submit(cache_expiration=timedelta(seconds=0.001))
    assert second != first, "the job is older, whatever its record says"
    assert await submit(cache_expiration=timedelta(hours=1)) == second, "of whoever wrote it"
    for endless in (timedelta.max, timedelta(days=365 * 2000), timedelta(days=365 * 80)):
        assert await submit(cache_expiration=endless) == second
    for record in (prefect_home / "storage").iterdir():
        record.unlink()
    assert await submit(cache_expiration=timedelta(seconds=0.001)) not in {first, second}


async def test_a_result_of_pubs_with_shots_of_their_own_is_kept(prefect_home: Path, caplog):
    pubs = [(bell(), None, 60)]
    reference = await submit_sampler_job_task(pubs, shots=50, runtime_config=CONFIG)
    with caplog.at_level("INFO"):
        first, second = [
            await fetch_qiskit_job_result_task(
                job_reference=reference, pubs=pubs, runtime_config=CONFIG, cache_result=True
            )
            for _ in range(2)
        ]
    assert first["shots"] == second["shots"] == 60
    assert f"Reusing the result of job {reference['job_id']}" in caplog.text


async def test_the_record_is_durable_before_the_users_own_task_ends(prefect_home: Path):
    class Crash(Exception):
        pass

    job_ids: list[str] = []

    @task
    async def users_task() -> None:
        with transaction():
            reference = await submit_sampler_job_task(
                [bell()], runtime_config=CONFIG, cache_submit=True
            )
            job_ids.append(reference["job_id"])
            raise Crash

    @flow
    async def users_flow() -> None:
        await users_task()

    for _ in range(2):
        with pytest.raises(Crash):
            await users_flow()
    assert len(job_ids) == 2
    assert len(set(job_ids)) == 1
    assert number_of_jobs() == 1


async def test_a_cancelled_submission_is_recorded_all_the_same(prefect_home: Path):
    @flow
    async def cancelled() -> None:
        submission = asyncio.ensure_future(
            submit_sampler_job_task([bell()], runtime_config=CONFIG, cache_submit=True)
        )
        while not LocalJobStore.default().jobs():
            await asyncio.sleep(0)
        submission.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submission

    @flow(name="cancelled")
    async def again() -> str:
        reference = await submit_sampler_job_task(
            [bell()], runtime_config=CONFIG, cache_submit=True
        )
        return reference["job_id"]

    await cancelled()
    (job,) = LocalJobStore.default().jobs()
    records = list((prefect_home / "storage").iterdir())
    assert any(job.job_id in record.read_text() for record in records)
    assert await again() == job.job_id


async def test_the_results_record_is_reused_and_shown_as_cached(prefect_home: Path):
    @flow
    async def fetches() -> tuple[str, list[str]]:
        states = []
        for _ in range(2):
            submitted = await submit_sampler_job_task(
                [bell()], runtime_config=CONFIG, cache_submit=True, return_state=True
            )
            reference = await submitted.result()
            fetched = await fetch_qiskit_job_result_task(
                job_reference=reference,
                runtime_config=CONFIG,
                cache_result=True,
                return_state=True,
            )
            states += [submitted.name, fetched.name]
        output = await fetched.result()
        return output["job_id"], states

    job_id, states = await fetches()
    assert states == ["Completed", "Completed", "Cached", "Cached"]
    # What is kept needs neither the job nor the service any more.
    job_folder = LocalJobStore.default().root / job_id
    shutil.rmtree(job_folder)
    output = await fetch_qiskit_job_result_task(
        job_id=job_id, runtime_config=CONFIG, cache_result=True
    )
    assert output["result"][0].data.meas.num_shots == 1024
    with pytest.raises(JobNotFoundError):
        await fetch_qiskit_job_result_task(job_id=job_id, runtime_config=CONFIG)


async def test_refresh_cache_submits_and_fetches_anew(prefect_home: Path):
    fresh = submit_sampler_job_task.with_options(refresh_cache=True)
    first = await fresh([bell()], runtime_config=CONFIG, cache_submit=True)
    second = await fresh([bell()], runtime_config=CONFIG, cache_submit=True)
    assert first["job_id"] != second["job_id"]


async def test_prefects_own_cache_works_with_the_key_functions(prefect_home: Path):
    submit = submit_sampler_job_task.with_options(
        cache_policy=CacheKeyFnPolicy(cache_key_fn=qiskit_sampler_submit_cache_key)
    )
    fetch = fetch_qiskit_job_result_task.with_options(
        cache_policy=CacheKeyFnPolicy(cache_key_fn=qiskit_result_fetch_cache_key),
        result_serializer="qcsc/primitive-result",
    )
    first = await submit([bell()], runtime_config=CONFIG)
    second = await submit([bell()], runtime_config=CONFIG)
    assert first == second
    once = await fetch(job_reference=first, runtime_config=CONFIG)
    again = await fetch(job_reference=first, runtime_config=CONFIG)
    assert once["result"][0].data.meas == again["result"][0].data.meas


async def test_prefect_does_not_walk_the_pubs(prefect_home: Path):
    @task
    async def make_circuit() -> QuantumCircuit:
        return bell()

    @task
    async def walked(pubs: list[object]) -> list[str]:
        return [type(pub).__name__ for pub in pubs]

    @flow
    async def hands_over_a_list_with_a_future() -> list[str]:
        # Where Prefect walks a list it finds the future and puts its circuit there.
        found = await walked([make_circuit.submit()])
        with pytest.raises(InputError, match="PrefectConcurrentFuture") as caught:
            await submit_sampler_job_task([make_circuit.submit()], runtime_config=CONFIG)
        assert caught.value.path == "pubs[0]"
        return found

    assert await hands_over_a_list_with_a_future() == ["QuantumCircuit"]


@pytest.mark.parametrize("changed", [False, True])
async def test_a_future_stands_for_the_pubs(prefect_home: Path, changed: bool):
    run = run_sampler_task.with_options(name="renamed") if changed else run_sampler_task

    @task
    async def make_pubs() -> list[QuantumCircuit]:
        return [bell()]

    @flow
    async def chained() -> dict:
        return await run(make_pubs.submit(), shots=5, runtime_config=CONFIG)

    assert (await chained())["shots"] == 5


def test_synchronous_flows_submit_the_tasks(prefect_home: Path):
    @flow
    def synchronous() -> dict:
        reference = submit_estimator_job_task.submit(
            [(bell().remove_final_measurements(inplace=False), "ZZ")], runtime_config=CONFIG
        ).result()
        return fetch_qiskit_job_result_task.submit(
            job_reference=reference, runtime_config=CONFIG
        ).result()

    assert synchronous()["result"][0].data.evs == pytest.approx(1)


async def test_too_many_tags_are_refused_before_anything_is_sent(prefect_home: Path):
    options = {"environment": {"job_tags": [f"tag-{index}" for index in range(8)]}}
    with pytest.raises(InputError, match="9 tags") as caught:
        await submit_sampler_job_task(
            [bell()], options=options, runtime_config=CONFIG, cache_submit=True
        )
    assert caught.value.path == "options.environment.job_tags"
    assert number_of_jobs() == 0


def test_no_task_that_submits_has_a_timeout():
    for submitting in (submit_sampler_job_task, submit_estimator_job_task, run_sampler_task):
        assert submitting.timeout_seconds is None
        assert inspect.iscoroutinefunction(submitting.fn)
