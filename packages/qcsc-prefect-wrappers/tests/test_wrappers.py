"""The facades in real flows, asynchronous and synchronous."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from pathlib import Path

import pytest
from prefect import flow, task
from qiskit import QuantumCircuit
from qiskit_ibm_runtime import SamplerOptions

from qcsc_prefect.core.errors import ConfigurationError, InputError, JobReferenceError
from qcsc_prefect.integrations.qiskit import (
    QCSCEstimatorV2,
    QCSCPrimitiveJob,
    QCSCSamplerV2,
    QiskitRuntimeConfig,
)
from qcsc_prefect.integrations.qiskit.services.local.store import LocalJobStore

CONFIG = QiskitRuntimeConfig(channel="local", backend_name="aer_simulator")


def bell(*, measured: bool = True) -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    if measured:
        circuit.measure_all()
    return circuit


def handle(reference: dict[str, object], **more: object) -> QCSCPrimitiveJob:
    arguments = {
        "job_reference": reference,
        "runtime_block_name": None,
        "runtime_config": CONFIG,
        "pubs": None,
        "artifact_key": None,
        "options": None,
        "cache_result": False,
        "retry_fetch": False,
    }
    return QCSCPrimitiveJob(**{**arguments, **more})


async def test_run_returns_a_handle_and_the_handle_a_native_result(prefect_home: Path):
    @flow
    async def samples() -> tuple[QCSCPrimitiveJob, dict, bool]:
        job = await QCSCSamplerV2(runtime_config=CONFIG).run([bell()], shots=64)
        output = await job.output()
        return job, output, (await job.output()) is output

    job, output, same = await samples()
    assert job.primitive == "sampler"
    assert job.backend_name == "aer_simulator"
    assert job.job_id() == output["job_id"] == job.job_reference["job_id"]
    assert output["result"][0].data.meas.num_shots == 64
    assert same
    job.job_reference["job_id"] = "changed"
    assert job.job_id() == output["job_id"], "the property returns a copy"
    assert str(job.job_id()) in repr(job)


async def test_run_and_fetch_takes_both_paths(prefect_home: Path):
    @flow
    async def estimates() -> list[dict]:
        estimator = QCSCEstimatorV2(runtime_config=CONFIG)
        pub = (bell(measured=False), ["XX", "ZI"])
        return [
            await estimator.run_and_fetch([pub], precision=0.05),
            await estimator.run_and_fetch([pub], precision=0.05, robust=False),
        ]

    split, one_task = await estimates()
    assert split["job_id"] != one_task["job_id"]
    for output in (split, one_task):
        assert output["precision"] == 0.05
        assert output["result"][0].data.evs == pytest.approx([1, 0], abs=0.3)


@pytest.mark.parametrize("flag", ["cache_submit", "cache_result", "retry_fetch"])
async def test_flags_need_the_robust_path(prefect_home: Path, flag: str):
    sampler = QCSCSamplerV2(runtime_config=CONFIG)
    with pytest.raises(ValueError, match=flag):
        await sampler.run_and_fetch([bell()], robust=False, **{flag: True})
    assert LocalJobStore.default().jobs() == []


@pytest.mark.parametrize("facade", [QCSCSamplerV2, QCSCEstimatorV2])
def test_exactly_one_configuration(facade):
    with pytest.raises(ConfigurationError, match="neither"):
        facade()
    with pytest.raises(ValueError, match="both"):
        facade(runtime_block_name="a", runtime_config=CONFIG)


async def test_options_of_a_call_replace_the_facades(prefect_home: Path):
    @flow
    async def with_options() -> list[dict]:
        sampler = QCSCSamplerV2(
            runtime_config=CONFIG,
            options={"default_shots": 11, "simulator": {"seed_simulator": 1}},
        )
        return [
            await sampler.run_and_fetch([bell()]),
            await sampler.run_and_fetch([bell()], options={"default_shots": 12}),
            await sampler.run_and_fetch([bell()], options={}),
        ]

    outputs = await with_options()
    shots = [output["result"][0].data.meas.num_shots for output in outputs]
    assert shots == [11, 12, 1024]


async def test_all_flags_reuse_job_and_result(prefect_home: Path):
    @flow
    async def robust() -> dict:
        return await QCSCSamplerV2(runtime_config=CONFIG).run_and_fetch(
            [bell()], cache_submit=True, cache_result=True, retry_fetch=True
        )

    first, second = await robust(), await robust()
    assert first["job_id"] == second["job_id"]
    assert first["result"][0].data.meas == second["result"][0].data.meas
    assert first["input_digest"].startswith("qiskit-sampler-input-")


async def test_scope_keeps_flows_apart_or_lets_them_share(prefect_home: Path):
    async def job_id(flow_name: str, scope: str) -> str:
        @task
        async def inside_a_task() -> str:
            sampler = QCSCSamplerV2(runtime_config=CONFIG)
            job = await sampler.run([bell()], cache_submit=True, cache_scope=scope)
            return str(job.job_id())

        @flow(name=flow_name)
        async def submits() -> str:
            return await inside_a_task()

        return await submits()

    apart = {await job_id("one", "flow"), await job_id("two", "flow")}
    shared = {await job_id("one", "global"), await job_id("two", "global")}
    assert len(apart) == 2
    assert len(shared) == 1
    with pytest.raises(ValueError, match="cache_scope"):
        await job_id("one", "galaxy")


async def test_twenty_jobs_wait_together(prefect_home: Path):
    @flow
    async def together() -> list[dict]:
        sampler = QCSCSamplerV2(runtime_config=CONFIG)
        return await asyncio.gather(
            *(sampler.run_and_fetch([bell()], shots=10 + index) for index in range(20))
        )

    outputs = await together()
    assert [output["shots"] for output in outputs] == list(range(10, 30))
    assert [output["result"][0].data.meas.num_shots for output in outputs] == list(range(10, 30))


async def test_a_handle_is_rebuilt_from_its_reference(prefect_home: Path):
    @flow
    async def submits() -> dict:
        return (await QCSCSamplerV2(runtime_config=CONFIG).run([bell()], shots=9)).job_reference

    rebuilt = handle(await submits())
    assert (await rebuilt.result())[0].data.meas.num_shots == 9


def test_a_handle_without_a_job_id_says_so():
    assert handle({"primitive": "sampler"}).job_id() is None
    with pytest.raises(JobReferenceError, match="'precision'"):
        handle({"job_id": "local-1", "precision": "fine"})


async def test_fetching_without_a_job_id_is_refused(prefect_home: Path):
    with pytest.raises(ValueError, match="job_id"):
        await handle({"primitive": "sampler"}).output()


def test_synchronous_twins(prefect_home: Path):
    @flow
    def synchronous() -> tuple[int, dict, list[str]]:
        sampler = QCSCSamplerV2(runtime_config=CONFIG)
        first = sampler.run_sync([bell()], shots=7, cache_submit=True)
        again = sampler.run_sync([bell()], shots=7, cache_submit=True)
        estimator = QCSCEstimatorV2(runtime_config=CONFIG)
        output = estimator.run_and_fetch_sync([(bell(measured=False), "ZZ")])
        job_ids = [str(job.job_id()) for job in (first, again)]
        return first.result_sync()[0].data.meas.num_shots, output, job_ids

    num_shots, output, job_ids = synchronous()
    assert num_shots == 7
    assert output["result"][0].data.evs == pytest.approx(1)
    assert len(set(job_ids)) == 1


async def test_a_twin_refuses_to_block_a_running_loop(prefect_home: Path):
    def plain():
        return QCSCSamplerV2(runtime_config=CONFIG).run_sync([bell()], shots=3)

    with pytest.raises(RuntimeError, match=r"await run\(\.\.\.\)' in an 'async def'.*to_thread"):
        plain()
    # What the message says works.
    assert (await (await asyncio.to_thread(plain)).result())[0].data.meas.num_shots == 3


def test_the_public_path_is_the_documented_one():
    assert QCSCSamplerV2.__module__ == "qcsc_prefect.integrations.qiskit.wrappers"
    sampler = pickle.loads(pickle.dumps(QCSCSamplerV2(runtime_config=CONFIG)))
    assert isinstance(sampler, QCSCSamplerV2)


async def test_a_facade_shows_what_it_was_made_from(prefect_home: Path) -> None:
    config = QiskitRuntimeConfig(channel="local", backend_name="fake_manila")
    sampler = QCSCSamplerV2(runtime_config=config, options=SamplerOptions(default_shots=7))
    assert sampler.runtime_config is config
    assert sampler.runtime_block_name is None
    assert sampler.backend_name == "fake_manila"
    assert sampler.options == {"default_shots": 7}
    circuit = QuantumCircuit(1)
    circuit.measure_all()
    submitted = await sampler.run([circuit])
    rebuilt = QCSCPrimitiveJob(
        job_reference=submitted.job_reference,
        runtime_block_name=None,
        runtime_config=config,
        pubs=[],
        artifact_key=None,
        options=SamplerOptions(default_shots=7),
        cache_result=False,
        retry_fetch=False,
    )
    assert sum((await rebuilt.result())[0].data.meas.get_counts().values()) == 7
    assert QCSCEstimatorV2(runtime_block_name="lab").runtime_block_name == "lab"


@pytest.mark.parametrize("facade", [QCSCSamplerV2, QCSCEstimatorV2])
@pytest.mark.parametrize("method", ["run", "run_and_fetch"])
@pytest.mark.parametrize("value", [object(), "pubs"])
async def test_every_argument_of_a_facade_is_checked_before_anything_is_sent(
    facade: type[QCSCSamplerV2 | QCSCEstimatorV2], method: str, value: object
):
    # A call that got any further would fail over the backend.
    config = QiskitRuntimeConfig(channel="local", backend_name="no-such-backend")
    call = getattr(facade(runtime_config=config), method)
    any_text = {"artifact_key", "cache_namespace", "input_digest"}
    left = {"pubs", "shots", "precision", "options"} | (any_text if value == "pubs" else set())
    for name in set(inspect.signature(call).parameters) - left:
        with pytest.raises(InputError, match=rf"^{name} refused: expected ") as caught:
            await call([bell()], **{name: value})
        assert caught.value.path == name
    with pytest.raises(InputError, match="backend_name refused"):
        facade(runtime_config=config, backend_name=5)


def test_a_handle_checks_its_arguments_when_it_is_made():
    with pytest.raises(InputError, match="max_wait refused"):
        handle({"job_id": "local-1"}, max_wait="60")
