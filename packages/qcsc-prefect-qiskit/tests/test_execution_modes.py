"""Batches and sessions: one for a flow run, closed when it ends, whatever ends it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from prefect import flow, task
from prefect.futures import wait
from prefect.states import Cancelled, State
from qiskit import QuantumCircuit
from qiskit_ibm_runtime import Batch, QiskitRuntimeService

from qcsc_prefect.core.errors import (
    ConfigurationError,
    InputError,
    SubmissionError,
    SubmissionUncertainError,
)
from qcsc_prefect.core.threads import run_blocking
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    execution_mode,
    fetch_qiskit_job_result_task,
    run_sampler_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.execution_modes import ExecutionGroup
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

pytestmark = pytest.mark.filterwarnings("ignore:Logger 'prefect.task_runs' attempted")


def isa_circuit(angle: float = 0.5) -> QuantumCircuit:
    circuit = QuantumCircuit(5)
    circuit.sx(0)
    circuit.rz(angle, 0)
    circuit.sx(0)
    circuit.measure_all()
    return circuit


def config_of(emulated: EmulatedService, mode: str, **fields: object) -> QiskitRuntimeConfig:
    return QiskitRuntimeConfig(**emulated.runtime_config_fields(), mode=mode, **fields)


@pytest.mark.parametrize("primitives", ["classic", "client_side"])
@pytest.mark.parametrize(("mode", "word"), [("batch", "batch"), ("session", "dedicated")])
async def test_the_jobs_of_a_flow_run_share_one(
    prefect_home: Path, emulated: EmulatedService, mode: str, word: str, primitives: str
):
    config = config_of(emulated, mode, max_time="2m", primitives=primitives)

    @flow
    async def scan() -> list[dict]:
        references = await asyncio.gather(
            *(
                submit_sampler_job_task([isa_circuit(angle)], shots=10, runtime_config=config)
                for angle in np.linspace(0, 1, 5)
            )
        )
        assert emulated.sessions[-1].accepting_jobs is True
        outputs = [
            await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)
            for reference in references
        ]
        assert [output["job_reference"] for output in outputs] == references
        last = references[-1]["job_id"]
        outputs.append(await fetch_qiskit_job_result_task(job_id=last, runtime_config=config))
        return outputs

    *outputs, fetched_by_id = await scan()
    [session] = emulated.sessions
    assert (session.mode, session.backend, session.max_ttl) == (word, "fake_manila", 120)
    assert session.accepting_jobs is False
    assert {job.session_id for job in emulated.jobs} == {session.id}
    assert {output["job_reference"]["session_id"] for output in outputs} == {session.id}
    assert {output["metadata"]["session_id"] for output in outputs} == {session.id}
    assert fetched_by_id["metadata"]["session_id"] == session.id

    await scan()
    assert len(emulated.sessions) == 2, "another run has one of its own"
    assert not any(session.accepting_jobs for session in emulated.sessions)


async def test_mode_job_opens_nothing(prefect_home: Path, emulated: EmulatedService):
    config = config_of(emulated, "job")

    @flow
    async def alone() -> dict:
        async with execution_mode(config):
            return await submit_sampler_job_task([isa_circuit()], runtime_config=config)

    assert (await alone())["session_id"] is None
    assert emulated.count("session") == 0


async def test_it_is_closed_when_the_flow_fails(prefect_home: Path, emulated: EmulatedService):
    config = config_of(emulated, "batch")

    @flow
    async def fails() -> None:
        await submit_sampler_job_task([isa_circuit()], runtime_config=config)
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        await fails()
    [batch] = emulated.sessions
    assert batch.accepting_jobs is False


async def test_it_is_closed_when_the_flow_is_cancelled(
    prefect_home: Path, emulated: EmulatedService
):
    config = config_of(emulated, "batch")
    submitted = asyncio.Event()

    @flow
    async def waits_for_ever() -> None:
        await submit_sampler_job_task([isa_circuit()], runtime_config=config)
        submitted.set()
        await asyncio.Event().wait()

    running = asyncio.ensure_future(waits_for_ever())
    await submitted.wait()
    assert emulated.sessions[0].accepting_jobs is True
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert emulated.sessions[0].accepting_jobs is False


async def test_it_is_closed_when_the_flow_says_that_it_is_cancelled(
    prefect_home: Path, emulated: EmulatedService
):
    config = config_of(emulated, "batch")

    @flow
    async def gives_up() -> State:
        await submit_sampler_job_task([isa_circuit()], runtime_config=config)
        return Cancelled(message="not worth going on")

    state = await gives_up(return_state=True)
    assert state.is_cancelled()
    async with asyncio.timeout(30):
        while emulated.sessions[0].accepting_jobs:
            await asyncio.sleep(0.05)


async def test_a_retried_run_that_says_it_is_cancelled_closes_the_one_it_had(
    prefect_home: Path, emulated: EmulatedService
):
    config = config_of(emulated, "batch")
    attempts: list[int] = []

    @flow(retries=1)
    async def gives_up_later() -> State:
        attempts.append(1)
        if len(attempts) == 1:
            await submit_sampler_job_task([isa_circuit()], runtime_config=config)
            raise LookupError("on purpose")
        assert emulated.sessions[0].accepting_jobs is True, "it belongs to the run"
        return Cancelled(message="not worth going on")

    state = await gives_up_later(return_state=True)
    assert state.is_cancelled()
    assert len(attempts) == 2
    async with asyncio.timeout(30):
        while emulated.sessions[0].accepting_jobs:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("primitives", ["classic", "auto"])
@pytest.mark.parametrize("what", ["option", "circuit", "tag"])
async def test_nothing_is_opened_for_what_is_refused(
    prefect_home: Path, emulated: EmulatedService, what: str, primitives: str
):
    config = config_of(emulated, "session", primitives=primitives)
    circuit = isa_circuit()
    if what == "circuit":
        circuit.h(0)
    options = {
        "option": {"no_such_option": 1},
        "tag": {"environment": {"job_tags": ["x" * 100]}},
    }.get(what, {})

    @flow
    async def refused() -> None:
        await submit_sampler_job_task([circuit], options=options, runtime_config=config)

    with pytest.raises(InputError):
        await refused()
    assert emulated.sessions == ()
    assert emulated.count("session") == 0


def test_synchronous_flows_and_mapped_tasks_share_one(
    prefect_home: Path, emulated: EmulatedService
):
    config = config_of(emulated, "batch")

    @flow
    def synchronous() -> list[dict]:
        futures = [
            submit_sampler_job_task.submit([isa_circuit(angle)], runtime_config=config)
            for angle in (0.1, 0.2, 0.3)
        ]
        wait(futures)
        return [future.result() for future in futures]

    references = synchronous()
    [batch] = emulated.sessions
    assert {reference["session_id"] for reference in references} == {batch.id}
    assert batch.accepting_jobs is False


async def test_a_subflow_has_its_own_unless_a_scope_says_otherwise(
    prefect_home: Path, emulated: EmulatedService
):
    config = config_of(emulated, "batch")

    @flow
    async def step() -> str:
        reference = await submit_sampler_job_task([isa_circuit()], runtime_config=config)
        return reference["session_id"]

    @task
    async def step_in_a_task() -> str:
        return await step()

    @flow
    async def steps(*, scoped: bool) -> list[str]:
        if not scoped:
            return [await step(), await step()]
        async with execution_mode(config):
            inside = [await step(), await step(), step_in_a_task.submit().result()]
            assert emulated.sessions[-1].accepting_jobs is True
        assert emulated.sessions[-1].accepting_jobs is False
        return inside

    assert len(set(await steps(scoped=False))) == 2
    assert len(set(await steps(scoped=True))) == 1
    assert len(emulated.sessions) == 3
    assert not any(session.accepting_jobs for session in emulated.sessions)


async def test_a_scope_works_outside_of_a_flow_and_closes_on_an_error(
    prefect_home: Path, emulated: EmulatedService
):
    config = config_of(emulated, "session")

    async def scoped() -> None:
        async with execution_mode(config):
            await run_sampler_task([isa_circuit()], runtime_config=config)
            raise LookupError("on purpose")

    with pytest.raises(LookupError):
        await scoped()
    [session] = emulated.sessions
    assert session.accepting_jobs is False
    assert emulated.jobs[0].session_id == session.id


async def test_a_task_without_a_flow_runs_its_job_by_itself(
    prefect_home: Path, emulated: EmulatedService, caplog: pytest.LogCaptureFixture
):
    config = config_of(emulated, "batch")
    reference = await submit_sampler_job_task([isa_circuit()], runtime_config=config)
    assert reference["session_id"] is None
    assert emulated.sessions == ()
    assert "the job runs by itself" in caplog.text


async def test_one_that_the_service_has_ended_is_replaced(
    prefect_home: Path, emulated: EmulatedService
):
    config = config_of(emulated, "batch")

    @flow
    async def goes_on() -> list[str]:
        first = await submit_sampler_job_task([isa_circuit(0.1)], runtime_config=config)
        fields = emulated.runtime_config_fields()
        del fields["backend_name"]
        service = QiskitRuntimeService(**fields)
        await asyncio.to_thread(lambda: Batch.from_id(first["session_id"], service).close())
        second = await submit_sampler_job_task([isa_circuit(0.2)], runtime_config=config)
        return [first["session_id"], second["session_id"]]

    sessions = await goes_on()
    assert [session.id for session in emulated.sessions] == sessions
    assert len(set(sessions)) == 2
    assert [job.session_id for job in emulated.jobs] == sessions
    assert not any(session.accepting_jobs for session in emulated.sessions)


async def test_nothing_is_submitted_where_none_can_be_opened(
    prefect_home: Path, emulated: EmulatedService
):
    config = config_of(emulated, "batch")
    emulated.faults.answer("session", status=403, message="no batches on this plan")

    @flow
    async def refused() -> None:
        await submit_sampler_job_task([isa_circuit()], runtime_config=config)

    with pytest.raises(SubmissionError, match=r"Opening a batch.*No job was submitted") as caught:
        await refused()
    assert (caught.value.status, caught.value.retryable) == (403, False)
    assert "may have opened" not in str(caught.value)
    assert emulated.count("submit") == 0


@pytest.mark.parametrize("fault", ["null", "list", "malformed", "closed"])
async def test_an_opening_whose_answer_is_lost_is_tried_again(
    prefect_home: Path, emulated: EmulatedService, monkeypatch: pytest.MonkeyPatch, fault: str
):
    config = config_of(emulated, "session")

    def strike(times: int | None) -> None:
        inject = {
            "null": lambda faults: faults.replace_body("session", None, times=times),
            "list": lambda faults: faults.replace_body("session", [], times=times),
            "malformed": lambda faults: faults.malform("session", times=times),
            "closed": lambda faults: faults.close("session", when="after", times=times),
        }
        inject[fault](emulated.faults)

    @flow
    async def submitting() -> None:
        await submit_sampler_job_task([isa_circuit()], runtime_config=config)

    strike(1)
    await submitting()
    assert (emulated.count("submit"), len(emulated.sessions)) == (1, 2)
    monkeypatch.setenv("QCSC_PREFECT_PATIENCE_SECONDS", "0.01")
    strike(None)
    with pytest.raises(SubmissionError, match=r"Opening a session.*No job was submitted") as caught:
        await submitting()
    assert not isinstance(caught.value, SubmissionUncertainError)
    assert caught.value.retryable is True
    assert "may have opened a session all the same" in str(caught.value)
    assert emulated.count("submit") == 1


async def test_a_service_that_does_not_close_it_holds_nobody_up(
    prefect_home: Path, emulated: EmulatedService, caplog: pytest.LogCaptureFixture
):
    config = config_of(emulated, "batch")

    @flow
    async def goes_on(refused: bool) -> str:
        reference = await submit_sampler_job_task([isa_circuit()], runtime_config=config)
        if refused:
            emulated.faults.answer("session", status=403)
        return reference["session_id"]

    left_open = await goes_on(refused=True)
    assert f"Batch {left_open} could not be closed" in caplog.text
    await goes_on(refused=False)
    assert [session.accepting_jobs for session in emulated.sessions] == [True, False]

    group = ExecutionGroup(config)
    await run_blocking(group.open_on, config.get_backend())
    emulated.faults.delay(30, "session")
    began = time.monotonic()
    await run_blocking(group.close, seconds=0.1)
    assert time.monotonic() - began < 15
    assert "has not answered for 0.1 s to the closing of batch" in caplog.text


async def test_one_that_is_not_opened_holds_nobody_up(
    prefect_home: Path, emulated: EmulatedService, caplog: pytest.LogCaptureFixture
):
    config = config_of(emulated, "batch")
    group = ExecutionGroup(config)
    backend = config.get_backend()
    emulated.faults.delay(3.0, "session")
    opening = asyncio.create_task(run_blocking(group.open_on, backend))
    while not emulated.count("session"):
        await asyncio.sleep(0.02)
    began = time.monotonic()
    await run_blocking(group.close, seconds=0.1)
    assert time.monotonic() - began < 1.5
    assert "has not answered for 0.1 s to the opening of a batch" in caplog.text
    await opening
    emulated.faults.clear()
    await run_blocking(group.close)
    assert [session.accepting_jobs for session in emulated.sessions] == [False]


async def test_a_job_that_is_found_again_names_its_batch(
    prefect_home: Path, emulated: EmulatedService, tmp_path: Path
):
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    config = config_of(emulated, "batch")

    @flow
    async def once() -> str:
        reference = await submit_sampler_job_task(
            [isa_circuit()], runtime_config=config, cache_submit=True
        )
        return reference["session_id"]

    first = await once()
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / "another-machine"}):
        assert await once() == first
    assert len(emulated.sessions) == 1, "a reused job opens nothing"


async def test_local_jobs_take_the_mode_and_ignore_it(prefect_home: Path):
    config = QiskitRuntimeConfig(channel="local", backend_name="fake_manila", mode="batch")

    @flow
    async def local() -> dict:
        async with execution_mode(config):
            return await run_sampler_task([isa_circuit()], shots=5, runtime_config=config)

    output = await local()
    assert output["job_reference"]["session_id"] is None
    assert output["result"][0].data.meas.num_shots == 5


SUBMIT_AND_WAIT = textwrap.dedent(
    """
    import asyncio
    import json
    import sys

    from prefect import flow
    from prefect.states import Cancelled
    from qiskit import QuantumCircuit

    from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig, submit_sampler_job_task

    fields, ending = json.loads(sys.stdin.read())
    config = QiskitRuntimeConfig(**fields, mode="batch")
    circuit = QuantumCircuit(5)
    circuit.measure_all()

    @flow
    async def submits():
        await submit_sampler_job_task([circuit], runtime_config=config)
        print("submitted", flush=True)
        if ending == "exit":
            return Cancelled()  # a state for which Prefect calls no hook
        await asyncio.sleep(120)

    asyncio.run(submits(return_state=True))
    """
)


def test_a_process_that_ends_in_good_order_closes_what_it_opened(
    prefect_home: Path, emulated: EmulatedService
):
    from prefect.settings import PREFECT_API_URL

    environment = {
        **os.environ,
        "PREFECT_HOME": str(prefect_home),
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
    }
    command = [sys.executable, "-c", SUBMIT_AND_WAIT]
    processes = {}
    for ending in ("exit", "SIGTERM"):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps([emulated.runtime_config_fields(), ending]))
        process.stdin.close()
        processes[ending] = process
    for process in processes.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "submitted\n"
    assert len(emulated.sessions) == 2
    assert any(session.accepting_jobs for session in emulated.sessions)
    processes["SIGTERM"].terminate()
    for process in processes.values():
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()
    assert not any(session.accepting_jobs for session in emulated.sessions)
    assert len(emulated.jobs) == 2


@pytest.mark.parametrize("given", [None, "block", {"token": "key-0123456"}], ids=repr)
def test_a_mode_is_opened_for_a_configuration_only(given: object) -> None:
    with pytest.raises(ConfigurationError, match="config refused: expected a Q") as caught:
        execution_mode(given)
    assert type(given).__name__ in str(caught.value)
    assert "key-0123456" not in str(caught.value)
