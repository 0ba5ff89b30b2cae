"""The embedded default: jobs on this machine that outlive the process that submitted them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect import flow
from qiskit import QuantumCircuit
from qiskit.circuit import Gate
from qiskit.providers import BackendV2
from qiskit.transpiler import generate_preset_pass_manager
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel

from qcsc_prefect.core.engine import lookup as engine_lookup
from qcsc_prefect.core.engine.service import AwaitedJob, JobState
from qcsc_prefect.core.engine.waiting import WaitLimits, wait_for_job
from qcsc_prefect.core.errors import (
    ConfigurationError,
    InputError,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobWaitTimeoutError,
    ResultUnavailableError,
)
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    QiskitRuntimeConfigError,
    fetch_qiskit_job_result_task,
    run_sampler_task,
    submit_estimator_job_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.inputs.pubs import coerce_pubs
from qcsc_prefect.integrations.qiskit.services.job_service import JobRequest
from qcsc_prefect.integrations.qiskit.services.local import store as local_store
from qcsc_prefect.integrations.qiskit.services.local.job_service import (
    LocalJobService,
    local_job_service,
)
from qcsc_prefect.integrations.qiskit.services.local.runner import encode_inputs
from qcsc_prefect.integrations.qiskit.services.local.store import (
    LocalJob,
    LocalJobStore,
    LocalOutcome,
)

CONFIG = QiskitRuntimeConfig(channel="local", backend_name="aer_simulator")
FAKE = QiskitRuntimeConfig(channel="local", backend_name="fake_manila")


def ghz(num_qubits: int = 2) -> QuantumCircuit:
    circuit = QuantumCircuit(num_qubits)
    circuit.h(0)
    for qubit in range(1, num_qubits):
        circuit.cx(qubit - 1, qubit)
    circuit.measure_all()
    return circuit


def t_state(num_qubits: int) -> QuantumCircuit:
    circuit = QuantumCircuit(num_qubits)
    for qubit in range(num_qubits):
        circuit.h(qubit)
        circuit.t(qubit)
    for qubit in range(1, num_qubits):
        circuit.ccx(qubit - 1, qubit, (qubit + 1) % num_qubits)
    circuit.measure_all()
    return circuit


def heavy() -> QuantumCircuit:
    """A circuit whose simulation takes about a second."""
    circuit = QuantumCircuit(20)
    for layer in range(12):
        for qubit in range(20):
            circuit.rx(0.1 + layer, qubit)
        for qubit in range(19):
            circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    return circuit


def request(circuit: QuantumCircuit, *, backend_name: str = "aer_simulator", **more) -> JobRequest:
    return JobRequest("sampler", coerce_pubs(circuit, "sampler"), backend_name, **more)


SUBMIT_AND_LINGER = textwrap.dedent(
    """
    import asyncio
    import time

    from qiskit import QuantumCircuit

    from qcsc_prefect.integrations.qiskit.services.job_service import JobRequest
    from qcsc_prefect.integrations.qiskit.services.local.job_service import local_job_service
    from qcsc_prefect.integrations.qiskit.inputs.pubs import coerce_pubs

    circuit = QuantumCircuit(20)
    for layer in range(12):
        for qubit in range(20):
            circuit.rx(0.1 + layer, qubit)
        for qubit in range(19):
            circuit.cx(qubit, qubit + 1)
    circuit.measure_all()

    async def main():
        pubs = coerce_pubs(circuit, "sampler")
        request = JobRequest("sampler", pubs, "aer_simulator", shots=64)
        print((await local_job_service().submit(request)).job_id, flush=True)
        time.sleep(60)

    asyncio.run(main())
    """
)


async def final_state(service: LocalJobService, job_id: str) -> JobState:
    while not (status := await service.status(job_id)).state.is_final:
        await asyncio.sleep(0.02)
    return status.state


async def test_fetch_finds_the_job_by_its_id_alone(prefect_home: Path):
    reference = await submit_sampler_job_task([ghz()], shots=256, runtime_config=CONFIG)
    assert json.loads(json.dumps(reference)) == reference
    output = await fetch_qiskit_job_result_task(job_id=reference["job_id"], runtime_config=CONFIG)
    counts = output["result"][0].data.meas.get_counts()
    assert sum(counts.values()) == 256
    assert counts["00"] + counts["11"] > 230


async def test_the_estimator_takes_the_split_path_too(prefect_home: Path):
    bell = ghz().remove_final_measurements(inplace=False)
    reference = await submit_estimator_job_task(
        [(bell, ["ZZ", "ZI"])], precision=0.01, runtime_config=CONFIG
    )
    output = await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=CONFIG)
    assert output["precision"] == 0.01
    assert output["result"][0].data.evs == pytest.approx([1, 0], abs=0.15)


async def test_a_job_of_a_killed_process_runs_again_under_its_id(prefect_home: Path):
    script = prefect_home.parent / "submit.py"
    script.write_text(SUBMIT_AND_LINGER)
    environment = {**os.environ, "PREFECT_HOME": str(prefect_home)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        job_id = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    store = LocalJobStore.default()
    assert store.outcome(job_id) is None, "the job must be unfinished when its process dies"
    output = await fetch_qiskit_job_result_task(job_id=job_id, runtime_config=CONFIG)
    assert output["job_id"] == job_id
    assert output["result"][0].data.meas.num_shots == 64


SUBMIT_AND_END = textwrap.dedent(
    """
    import asyncio
    import sys

    from qiskit import QuantumCircuit

    from qcsc_prefect.integrations.qiskit.services.job_service import JobRequest
    from qcsc_prefect.integrations.qiskit.services.local.job_service import local_job_service
    from qcsc_prefect.integrations.qiskit.inputs.pubs import coerce_pubs

    async def main():
        for primitive in ("sampler", "estimator"):
            circuit = QuantumCircuit(1)
            circuit.x(0)
            if primitive == "sampler":
                circuit.measure_all()
            pub = (circuit,) if primitive == "sampler" else (circuit, "Z")
            pubs = coerce_pubs([pub], primitive)
            request = JobRequest(primitive, pubs, sys.argv[1])
            print((await local_job_service().submit(request)).job_id)

    asyncio.run(main())
    """
)


@pytest.mark.parametrize("backend_name", ["aer_simulator", "fake_manila"])
def test_a_process_that_ends_finishes_its_jobs(prefect_home: Path, backend_name: str):
    ended = subprocess.run(
        [sys.executable, "-c", SUBMIT_AND_END, backend_name],
        env={**os.environ, "PREFECT_HOME": str(prefect_home)},
        capture_output=True,
        text=True,
        check=True,
    )
    store = local_job_service()._store
    outcomes = [store.outcome(job_id) for job_id in ended.stdout.split()]
    assert [outcome and (outcome.state, outcome.message) for outcome in outcomes] == [
        ("DONE", None)
    ] * 2


async def test_an_unknown_id_is_a_clear_error(prefect_home: Path):
    with pytest.raises(JobNotFoundError, match=r"local-0123.*submit it again") as caught:
        await fetch_qiskit_job_result_task(job_id="local-0123", runtime_config=CONFIG)
    assert caught.value.job_id == "local-0123"
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize("job_id", ["../../etc", "d1c0qmyv3z50008ah8x0", "local-", "local-a/b"])
async def test_an_id_cannot_leave_the_store(prefect_home: Path, job_id: str):
    with pytest.raises(JobNotFoundError):
        await fetch_qiskit_job_result_task(job_id=job_id, runtime_config=CONFIG)


async def test_a_fake_backend_runs_its_own_circuits_and_refuses_others_early(prefect_home: Path):
    transpiler = generate_preset_pass_manager(1, backend=FAKE.get_backend(), seed_transpiler=1)
    reference = await submit_sampler_job_task(
        [transpiler.run(ghz(3))], shots=512, runtime_config=FAKE
    )
    output = await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=FAKE)
    counts = output["result"][0].data.meas.get_counts()
    assert output["backend_name"] == "fake_manila"
    assert counts["000"] + counts["111"] > 400
    with pytest.raises(InputError, match="instruction h") as caught:
        await submit_sampler_job_task([transpiler.run(ghz(3)), ghz()], runtime_config=FAKE)
    assert caught.value.path == "pubs[1].circuit"
    assert len(LocalJobStore.default().jobs()) == 1


async def test_a_job_that_fails_says_why(prefect_home: Path):
    # The client takes it, and only the simulation finds out.
    unknown = QuantumCircuit(1)
    unknown.append(Gate("unknown", 1, []), [0])
    unknown.measure_all()
    reference = await submit_sampler_job_task([unknown], runtime_config=CONFIG)
    with pytest.raises(JobFailedError, match=reference["job_id"]) as caught:
        await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=CONFIG)
    assert caught.value.retryable is False


@contextmanager
def nothing_ends() -> Iterator[None]:
    """Keep each thread that runs jobs of the current home at something else."""
    threads = local_job_service()._runner._threads
    over = threading.Event()
    for _ in range(threads._max_workers):
        threads.submit(over.wait)
    try:
        yield
    finally:
        over.set()


async def test_max_wait_ends_the_wait_and_not_the_job(prefect_home: Path):
    @flow
    async def impatient() -> tuple[JobWaitTimeoutError, int]:
        with nothing_ends():
            reference = await submit_sampler_job_task([ghz()], shots=8, runtime_config=CONFIG)
            with pytest.raises(JobWaitTimeoutError, match="goes on") as caught:
                await fetch_qiskit_job_result_task(
                    job_reference=reference, runtime_config=CONFIG, max_wait=0.01
                )
        output = await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=CONFIG)
        return caught.value, output["result"][0].data.meas.num_shots

    error, num_shots = await impatient()
    assert isinstance(error, TimeoutError)
    assert num_shots == 8


async def test_bad_options_are_refused_before_anything_is_stored(prefect_home: Path):
    with pytest.raises(InputError, match="options"):
        await submit_sampler_job_task([ghz()], options={"no_such_option": 1}, runtime_config=CONFIG)
    assert LocalJobStore.default().jobs() == []


async def test_a_cancelled_job_stays_cancelled(tmp_path: Path):
    service = LocalJobService(LocalJobStore(tmp_path / "jobs"))
    job = await service.submit(request(heavy(), shots=8))
    assert await service.cancel(job.job_id) is True
    assert await service.cancel(job.job_id) is False
    assert await final_state(service, job.job_id) is JobState.CANCELLED


async def test_a_cancelled_job_is_an_error_of_its_own(prefect_home: Path):
    with nothing_ends():
        reference = await submit_sampler_job_task([ghz()], shots=8, runtime_config=CONFIG)
        await local_job_service().cancel(reference["job_id"])
    with pytest.raises(JobCancelledError):
        await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=CONFIG)


async def test_two_services_on_one_store_run_a_job_once(tmp_path: Path):
    store = LocalJobStore(tmp_path / "jobs")
    first, second = LocalJobService(store), LocalJobService(store)
    job = await first.submit(request(ghz(), shots=16))
    await asyncio.gather(final_state(first, job.job_id), final_state(second, job.job_id))
    outcome = store.outcome(job.job_id)
    one, two = await first.result(job.job_id), await second.result(job.job_id)
    assert outcome is not None
    assert one.times == two.times
    assert one.result[0].data.meas.get_counts() == two.result[0].data.meas.get_counts()


async def test_a_damaged_file_of_one_job_ends_no_wait_for_another(tmp_path: Path):
    store = LocalJobStore(tmp_path / "jobs")
    service = LocalJobService(store)
    damaged, whole = [await service.submit(request(ghz(), shots=4)) for _ in range(2)]
    await final_state(service, damaged.job_id)
    (tmp_path / "jobs" / damaged.job_id / "job.json").write_text("{}")
    waits = [
        wait_for_job(service, AwaitedJob(job.job_id), WaitLimits(), lambda _, __: None)
        for job in (damaged, whole)
    ]
    lost, status = await asyncio.gather(*waits)
    assert lost.state is JobState.ERROR
    assert "job.json is damaged" in str(lost.message)
    assert status.state is JobState.DONE


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    (path / "inner").mkdir(parents=True)


def _other_shots(path: Path) -> None:
    content = json.loads(path.read_text())
    if isinstance(content, dict):
        content = {**content, "shots": 900, "state": "CANCELLED"}
    path.write_text(json.dumps([*content, content[0]] if isinstance(content, list) else content))


DAMAGES = {
    "removed": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "truncated": _truncate,
    "another list": lambda path: path.write_text("[]"),
    "changed": _other_shots,
    "a pipe": _pipe,
    "a folder": _folder,
    "8 GiB that take no room": lambda path: os.truncate(path, 8 << 30),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
async def test_a_job_whose_outcome_or_result_is_damaged_runs_again(
    tmp_path: Path, caplog, damage: str
):
    service = LocalJobService(LocalJobStore(tmp_path / "jobs"))
    job = await service.submit(request(ghz(), shots=16))
    await final_state(service, job.job_id)
    folder = tmp_path / "jobs" / job.job_id
    for name in ("outcome.json", "result.json"):
        DAMAGES[damage](folder / name)
        with caplog.at_level(logging.WARNING):
            # Another process, which knows nothing of the first run.
            later = LocalJobService(LocalJobStore(tmp_path / "jobs"))
            state = await final_state(later, job.job_id)
            assert state is JobState.DONE
            if (damage, name) == ("8 GiB that take no room", "result.json"):
                # It may be what was written, before a smaller limit was set.
                with pytest.raises(ResultUnavailableError, match="set a larger"):
                    await later.result(job.job_id)
                return
            fetched = await later.result(job.job_id)
            assert fetched.result[0].data.meas.num_shots == 16
        if (damage, name) != ("removed", "outcome.json"):
            assert f"Local job {job.job_id} is run again: {folder / name} is" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("job.json", damage) for damage in DAMAGES),
        # An ended job of 8 GiB is the first that makes room for a new one.
        *(("inputs.json", damage) for damage in DAMAGES if "8 GiB" not in damage),
    ],
)
async def test_a_job_that_cannot_run_again_is_submitted_anew(
    prefect_home: Path, caplog, name: str, damage: str
):
    first = await submit_sampler_job_task(
        [ghz()], shots=16, runtime_config=CONFIG, cache_submit=True
    )
    await fetch_qiskit_job_result_task(job_reference=first, runtime_config=CONFIG)
    folder = LocalJobStore.default().root / first["job_id"]
    DAMAGES[damage](folder / name)
    (folder / "outcome.json").unlink()
    with pytest.raises(JobFailedError, match=name):
        await fetch_qiskit_job_result_task(job_reference=first, runtime_config=CONFIG)
    with caplog.at_level(logging.WARNING):
        other = await submit_sampler_job_task(
            [ghz(3)], shots=16, runtime_config=CONFIG, cache_submit=True
        )
        again = await submit_sampler_job_task(
            [ghz()], shots=16, runtime_config=CONFIG, cache_submit=True
        )
    assert len({job["job_id"] for job in (first, other, again)}) == 3
    assert f"Job {first['job_id']} is recorded for this input, but it ended as ERROR" in caplog.text
    output = await fetch_qiskit_job_result_task(job_reference=again, runtime_config=CONFIG)
    assert output["result"][0].data.meas.num_shots == 16


async def test_a_file_of_another_job_is_not_taken(tmp_path: Path, caplog):
    service = LocalJobService(LocalJobStore(tmp_path / "jobs"))
    one, two = [await service.submit(request(ghz(), shots=shots)) for shots in (16, 32)]
    for job in (one, two):
        await final_state(service, job.job_id)
    for name in ("result.json", "outcome.json"):
        shutil.copy(tmp_path / "jobs" / one.job_id / name, tmp_path / "jobs" / two.job_id / name)
        with caplog.at_level(logging.WARNING):
            assert await final_state(service, two.job_id) is JobState.DONE
            fetched = await service.result(two.job_id)
        assert fetched.result[0].data.meas.num_shots == 32
        assert f"{two.job_id}/{name} is damaged" in caplog.text
    shutil.copytree(
        tmp_path / "jobs" / one.job_id, tmp_path / "jobs" / two.job_id, dirs_exist_ok=True
    )
    assert (await service.status(two.job_id)).state is JobState.ERROR


async def test_what_is_no_job_stops_no_submission(tmp_path: Path, caplog):
    root = tmp_path / "jobs"
    root.mkdir()
    (root / "local-00aa").touch()
    (root / "local-00bb").mkdir()
    (root / "local-00cc").symlink_to(root / "local-00cc")
    (root / "local-not an id").mkdir()
    (root / "local-00dd" / "job.json").mkdir(parents=True)
    service = LocalJobService(LocalJobStore(root))
    with caplog.at_level(logging.WARNING):
        job = await service.submit(request(ghz(), shots=4), ["mine"])
        for _ in range(2):
            listed = await service.jobs_with_tag("mine", None)
            assert [found.job_id for found in listed] == [job.job_id]
    assert caplog.text.count("local-00bb is passed over") == 1
    assert caplog.text.count("local-00dd is passed over") == 1
    await final_state(service, job.job_id)


async def test_a_lock_that_is_none_is_an_error_of_its_job(tmp_path: Path):
    service = LocalJobService(LocalJobStore(tmp_path / "jobs"))
    job = await service.submit(request(ghz(), shots=4))
    await final_state(service, job.job_id)
    folder = tmp_path / "jobs" / job.job_id
    (folder / "outcome.json").unlink()
    (folder / "run.lock").unlink()
    (folder / "run.lock").mkdir()
    status = await service.status(job.job_id)
    assert status.state is JobState.ERROR
    assert "run.lock" in str(status.message)


class Flipped(QiskitRuntimeConfig):
    """A configuration whose backend reads every bit the wrong way round."""

    _block_type_slug = "flipped-config"

    def get_backend(self) -> BackendV2:
        if self.backend_name == "missing":
            raise LookupError("no such lab bench")
        noise = NoiseModel()
        noise.add_all_qubit_readout_error([[0, 1], [1, 0]])
        return AerSimulator(noise_model=noise)


async def test_a_backend_of_somebodys_own_runs_local_jobs(prefect_home: Path):
    zeros = QuantumCircuit(2)
    zeros.measure_all()
    config = Flipped(channel="local", backend_name="aer_simulator")
    outputs = [
        await run_sampler_task([zeros], shots=50, runtime_config=one) for one in (config, CONFIG)
    ]
    counts = [output["result"][0].data.meas.get_counts() for output in outputs]
    assert counts == [{"11": 50}, {"00": 50}]
    missing = Flipped(channel="local", backend_name="missing")
    with pytest.raises(QiskitRuntimeConfigError, match=r"Flipped\.get_backend.*no such lab bench"):
        await submit_sampler_job_task([zeros], runtime_config=missing)


async def test_a_job_that_was_just_removed_is_submitted_anew(prefect_home: Path):
    @flow
    async def once() -> str:
        reference = await submit_sampler_job_task(
            [ghz()], shots=5, runtime_config=CONFIG, cache_submit=True
        )
        return reference["job_id"]

    first = await once()
    assert await once() == first
    await final_state(local_job_service(), first)
    shutil.rmtree(LocalJobStore.default().root / first)
    began = time.monotonic()
    assert await once() != first
    with pytest.raises(JobNotFoundError):
        await fetch_qiskit_job_result_task(job_id=first, runtime_config=CONFIG)
    assert time.monotonic() - began < 20, "a removed job is not waited for"


async def test_a_job_that_the_disk_stops_is_given_up_and_can_be_run_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store = LocalJobStore(tmp_path / "jobs")
    job = LocalJob(
        job_id=store.new_job_id(),
        primitive="sampler",
        backend_name="aer_simulator",
        created=datetime.now(UTC),
        shots=5,
    )
    store.create(job, encode_inputs(coerce_pubs(ghz(), "sampler")))
    in_the_way = store.root / job.job_id / "result.json"
    in_the_way.mkdir()
    service = LocalJobService(store)
    assert await asyncio.wait_for(final_state(service, job.job_id), 30) is JobState.ERROR
    assert "could not be run in 3 tries: " in str((await service.status(job.job_id)).message)
    failed = [record for record in caplog.records if "could not be run" in record.getMessage()]
    assert len(failed) == 3
    in_the_way.rmdir()
    assert await final_state(LocalJobService(store), job.job_id) is JobState.DONE


async def test_what_was_never_stored_whole_is_removed(tmp_path: Path):
    store = LocalJobStore(tmp_path / "jobs")
    old, young = (store.root / f".local-{name}.new" for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "inputs.json").touch()
    os.utime(old, (0, 0))
    service = LocalJobService(store)
    submitted = await service.submit(request(ghz(), shots=4))
    assert not old.exists()
    assert young.exists(), "somebody may be storing it"
    with pytest.raises(OSError, match="not empty"):
        store.create(store.job(submitted.job_id), b"[]")
    assert list(store.root.glob(".*.new")) == [young]


async def test_a_failure_with_endless_words_is_kept(tmp_path: Path):
    store = LocalJobStore(tmp_path / "jobs")
    job = LocalJob(
        job_id=store.new_job_id(),
        primitive="sampler",
        backend_name="fake_manila",
        created=datetime.now(UTC),
    )
    store.create(job, b"[]")
    store.finish(
        job, LocalOutcome(state="ERROR", completed=datetime.now(UTC), message="\U0001f600" * 10**6)
    )
    outcome = store.outcome(job.job_id)
    assert outcome is not None
    assert str(outcome.message).startswith("\U0001f600" * 1000)


async def test_a_size_that_is_no_number_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("QCSC_PREFECT_LOCAL_MAX_BYTES", "2 GB")
    with pytest.raises(ConfigurationError, match="QCSC_PREFECT_LOCAL_MAX_BYTES is 2 GB"):
        await LocalJobService(LocalJobStore(tmp_path / "jobs")).submit(request(ghz(), shots=4))


async def test_jobs_are_found_by_their_tags(tmp_path: Path):
    service = LocalJobService(LocalJobStore(tmp_path / "jobs"))
    tagged = await service.submit(request(ghz(), shots=4), ["mine", "other"])
    await service.submit(request(ghz(), shots=4))
    assert [job.job_id for job in await service.jobs_with_tag("mine", None)] == [tagged.job_id]
    assert await service.jobs_with_tag("mine", tagged.submitted_at) != []
    assert await service.jobs_with_tag("nobody", None) == []
    await final_state(service, tagged.job_id)


async def test_no_file_of_a_job_is_a_pickle(tmp_path: Path):
    service = LocalJobService(LocalJobStore(tmp_path / "jobs"))
    job = await service.submit(request(ghz(), shots=4))
    await final_state(service, job.job_id)
    folder = tmp_path / "jobs" / job.job_id
    names = {path.name for path in folder.iterdir()}
    assert names == {"job.json", "inputs.json", "outcome.json", "result.json", "run.lock"}
    for name in names - {"run.lock"}:
        json.loads((folder / name).read_text())


async def test_the_store_does_not_grow_without_bound(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("QCSC_PREFECT_LOCAL_MAX_BYTES", "6000")
    store = LocalJobStore(tmp_path / "jobs")
    service = LocalJobService(store)
    ids = []
    for _ in range(12):
        job = await service.submit(request(ghz(), shots=1000))
        await final_state(service, job.job_id)
        ids.append(job.job_id)
    kept = [job.job_id for job in store.jobs()]
    assert kept == ids[-len(kept) :], "the oldest go first"
    size = sum(path.stat().st_size for path in (tmp_path / "jobs").rglob("*") if path.is_file())
    assert len(kept) < len(ids)
    assert size < 6000 + size / len(kept) * 2
    with pytest.raises(JobNotFoundError, match=str(local_store.MAX_JOBS)):
        await service.status(ids[0])


async def test_a_circuit_that_memory_cannot_hold_is_refused_with_what_it_takes(prefect_home: Path):
    with pytest.raises(InputError, match=r"takes 16 PiB of memory.*50 qubits.* has") as refused:
        await submit_sampler_job_task([ghz(), t_state(50)], runtime_config=CONFIG)
    assert refused.value.path == "pubs[1].circuit"
    # Neither Clifford gates nor idle qubits need a state vector.
    counts = (await run_sampler_task([ghz(50)], shots=10, runtime_config=CONFIG))["result"]
    assert counts[0].data.meas.num_shots == 10
    idle = QuantumCircuit(50, 1)
    idle.t(0)
    idle.measure(0, 0)
    await run_sampler_task([idle], shots=10, runtime_config=CONFIG)


async def test_a_job_that_nobody_runs_is_said_to_run_again(
    prefect_home: Path, caplog: pytest.LogCaptureFixture
):
    reference = await submit_sampler_job_task([ghz()], shots=10, runtime_config=CONFIG)
    await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=CONFIG)
    store = LocalJobStore.default()
    (store.root / reference["job_id"] / "outcome.json").unlink()
    with caplog.at_level("WARNING"):
        await final_state(local_job_service(), reference["job_id"])
    assert f"Local job {reference['job_id']} has not ended and no process runs it" in caplog.text


async def test_a_long_search_for_a_job_is_heard_of_meanwhile(
    prefect_home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine_lookup, "_SILENCE", 0.05)
    logger = logging.getLogger("search")
    lookup = engine_lookup.SubmissionLookup(
        local_job_service(), "tag", "aer_simulator", None, logger
    )
    with caplog.at_level("INFO", logger="search"):
        assert await lookup.job_that_may_show_up(0.5) is None
    assert "Still looking, for another 0 s; no job shows so far" in caplog.text
