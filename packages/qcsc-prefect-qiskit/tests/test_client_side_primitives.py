"""Both of the client's implementations of its primitives: submit, fetch anywhere, store, name."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from prefect import flow
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Clbit, Parameter
from qiskit.primitives import PrimitiveResult

from qcsc_prefect.core.errors import InputError, ResultUnavailableError
from qcsc_prefect.core.metadata import JobMetadata
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    QiskitRuntimeConfigError,
    fetch_qiskit_job_result_task,
    qiskit_sampler_submit_cache_key,
    run_estimator_task,
    run_sampler_task,
    submit_estimator_job_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import (
    FIRST_CLIENT_SIDE,
    choose_primitives,
)
from qcsc_prefect.integrations.qiskit.presentation.summary import summary_markdown
from qcsc_prefect.integrations.qiskit.services.local.store import LocalJobStore
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

pytestmark = pytest.mark.emulated_service(seed=11)

CLIENT = tuple(int(part) for part in version("qiskit-ibm-runtime").split(".")[:2])
HAS_CLIENT_SIDE = CLIENT >= FIRST_CLIENT_SIDE
needs_client_side = pytest.mark.skipif(
    not HAS_CLIENT_SIDE, reason="the installed client has classic primitives only"
)


def isa_bell(*, measured: bool = True) -> QuantumCircuit:
    """A Bell pair on the first two qubits, in the gates of the device."""
    circuit = QuantumCircuit(5, name="bell", metadata={"made": "here"})
    circuit.rz(np.pi / 2, 0)
    circuit.sx(0)
    circuit.rz(np.pi / 2, 0)
    circuit.cx(0, 1)
    if measured:
        circuit.measure_all()
    return circuit


def config_of(emulated: EmulatedService, **fields: object) -> QiskitRuntimeConfig:
    return QiskitRuntimeConfig(**emulated.runtime_config_fields(), **fields)


def names_of_the_next_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the client's own names to its client-side primitives, as its release notes announce."""
    from qiskit_ibm_runtime.executor_estimator import Estimator
    from qiskit_ibm_runtime.executor_sampler import Sampler

    monkeypatch.setattr("qiskit_ibm_runtime.SamplerV2", Sampler)
    monkeypatch.setattr("qiskit_ibm_runtime.EstimatorV2", Estimator)


@pytest.mark.parametrize("primitive", ["sampler", "estimator"])
def test_auto_is_what_the_clients_own_names_are(primitive: str):
    # So it is up to 0.51, which has both; a client that moves its names fails here, and then
    # docs/how-to/primitives.md has to say so.
    assert choose_primitives("auto", primitive, channel="ibm_quantum_platform") == "classic"
    assert choose_primitives("auto", primitive, channel=None) == "classic"
    assert choose_primitives("auto", primitive, channel="local") == "classic"
    assert choose_primitives("classic", primitive, channel=None) == "classic"


@needs_client_side
@pytest.mark.parametrize("primitive", ["sampler", "estimator"])
def test_auto_moves_with_the_clients_names(monkeypatch: pytest.MonkeyPatch, primitive: str):
    names_of_the_next_client(monkeypatch)
    assert choose_primitives("auto", primitive, channel=None) == "client_side"
    assert choose_primitives("auto", primitive, channel="local") == "classic"
    assert choose_primitives("classic", primitive, channel=None) == "classic"


@needs_client_side
async def test_it_is_said_once_that_earlier_jobs_are_of_the_other_kind(
    prefect_home: Path,
    emulated: EmulatedService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    config = config_of(emulated)

    @flow
    async def two_inputs() -> list[dict]:
        return [
            await submit_sampler_job_task(
                [isa_bell()], shots=shots, runtime_config=config, cache_submit=True
            )
            for shots in (100, 200)
        ]

    earlier = await two_inputs()
    assert "with the client's classic primitives" in caplog.text
    assert "since then the client's own name" not in caplog.text
    names_of_the_next_client(monkeypatch)
    caplog.clear()
    assert await two_inputs() == earlier
    told = [
        record.getMessage()
        for record in caplog.records
        if "since then the client's own name" in record.getMessage()
    ]
    assert len(told) == 1
    assert f"Job {earlier[0]['job_id']} is reused, and was run by the client's classic" in told[0]
    fresh = await submit_sampler_job_task([isa_bell()], shots=300, runtime_config=config)
    assert fresh["program_type"] == "executor"
    assert [job.program for job in emulated.jobs] == ["sampler", "sampler", "executor"]


@pytest.mark.skipif(HAS_CLIENT_SIDE, reason="the installed client has them")
def test_an_older_client_says_what_it_lacks():
    with pytest.raises(QiskitRuntimeConfigError, match=r"needs qiskit-ibm-runtime 0\.50"):
        choose_primitives("client_side", "sampler", channel=None)


@pytest.mark.parametrize(
    "primitives",
    ["auto", "classic", pytest.param("client_side", marks=needs_client_side)],
)
async def test_both_run_on_the_service(
    prefect_home: Path, emulated: EmulatedService, primitives: str
):
    config = config_of(emulated, primitives=primitives)
    with warnings.catch_warnings():
        # Neither choice may bother the user with the client's move.
        warnings.filterwarnings("error", message=".*class is deprecated")
        sampled = await run_sampler_task([isa_bell()], shots=200, runtime_config=config)
        estimated = await run_estimator_task(
            [(isa_bell(measured=False), ["IIIZZ", "IIIXX", "IIIZI"])],
            precision=0.02,
            runtime_config=config,
        )
    client_side = primitives == "client_side"
    expected = ["executor", "executor"] if client_side else ["sampler", "estimator"]
    assert [job.program for job in emulated.jobs] == expected
    outputs = (sampled, estimated)
    assert [output["job_reference"]["program_type"] for output in outputs] == expected
    assert [output["metadata"]["program_type"] for output in outputs] == expected
    bare = await fetch_qiskit_job_result_task(job_id=sampled["job_id"], runtime_config=config)
    assert bare["metadata"]["program_type"] == expected[0]
    assert [output["metadata"]["primitive"] for output in outputs] == ["sampler", "estimator"]
    assert [output["primitive"] for output in outputs] == ["sampler", "estimator"]
    counts = sampled["result"][0].data.meas.get_counts()
    assert sum(counts.values()) == 200
    assert set(counts) == {"00000", "00011"}
    assert estimated["result"][0].data.evs == pytest.approx([1, 1, 0], abs=0.1)


FETCH_IN_ANOTHER_PROCESS = textwrap.dedent(
    """
    import asyncio
    import json
    import sys

    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.services.opening import open_job_service

    async def main():
        fields, job_ids = json.loads(sys.stdin.read())
        service = await open_job_service(QiskitRuntimeConfig(**fields), fields["backend_name"])
        sampled, estimated = [(await service.result(job_id)).result for job_id in job_ids]
        found = {
            "counts": sampled[0].data.meas.get_counts(),
            "circuit_metadata": sampled[0].metadata["circuit_metadata"],
            "evs": estimated[0].data.evs.tolist(),
            "types": [type(sampled).__name__, type(estimated[0]).__name__],
        }
        print(json.dumps(found))

    asyncio.run(main())
    """
)


@needs_client_side
async def test_another_process_fetches_the_same_post_processed_result(
    prefect_home: Path, emulated: EmulatedService
):
    config = config_of(emulated, primitives="client_side")
    theta = Parameter("theta")
    swept = QuantumCircuit(5)
    swept.rz(theta, 0)
    swept.sx(0)
    options = {"twirling": {"enable_gates": True, "enable_measure": True}}
    sampler = await submit_sampler_job_task(
        [isa_bell()], shots=256, options=options, runtime_config=config
    )
    estimator = await submit_estimator_job_task(
        [(swept, [["IIIIZ"], ["IIIIY"]], [0.0, 0.4])], precision=0.05, runtime_config=config
    )
    jobs = [
        await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)
        for reference in (sampler, estimator)
    ]
    fields = emulated.runtime_config_fields()
    elsewhere = subprocess.run(
        [sys.executable, "-c", FETCH_IN_ANOTHER_PROCESS],
        input=json.dumps([fields, [sampler["job_id"], estimator["job_id"]]]),
        env={**os.environ, "PREFECT_HOME": str(prefect_home / "elsewhere")},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(elsewhere.stdout)
    sampled, estimated = (job["result"] for job in jobs)
    assert found["counts"] == sampled[0].data.meas.get_counts()
    assert sampled[0].data.meas.num_shots == 256
    assert set(found["counts"]) == {"00000", "00011"}
    assert np.array(found["evs"]).shape == (2, 2)
    assert np.array(found["evs"]) == pytest.approx(estimated[0].data.evs)
    assert found["types"] == ["PrimitiveResult", type(estimated[0]).__name__]


@needs_client_side
async def test_tags_and_limits_reach_the_service(prefect_home: Path, emulated: EmulatedService):
    config = config_of(emulated, primitives="client_side")
    options = {"environment": {"job_tags": ["mine"]}, "max_execution_time": 60}
    reference = await submit_sampler_job_task(
        [isa_bell()], options=options, runtime_config=config, cache_submit=True
    )
    [job] = emulated.jobs
    assert job.tags[0] == "mine"
    assert job.tags == tuple(reference["tags"])
    assert job.cost == 60


@needs_client_side
async def test_a_killed_record_is_found_again_by_its_tag(
    prefect_home: Path, emulated: EmulatedService, tmp_path: Path
):
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    config = config_of(emulated, primitives="client_side")
    first = await submit_sampler_job_task([isa_bell()], runtime_config=config, cache_submit=True)
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / "another-machine"}):
        again = await submit_sampler_job_task(
            [isa_bell()], runtime_config=config, cache_submit=True
        )
    assert again["job_id"] == first["job_id"]
    assert again["program_type"] == "executor"
    assert len(emulated.jobs) == 1


async def test_the_choice_is_part_of_the_input_only_where_it_is_spelt_out(
    prefect_home: Path, emulated: EmulatedService
):
    async def submit(**fields: object) -> str:
        reference = await submit_sampler_job_task(
            [isa_bell()], runtime_config=config_of(emulated, **fields), cache_submit=True
        )
        return reference["job_id"]

    auto = await submit()
    assert await submit() == auto
    assert await submit(mode="batch") == auto
    classic = await submit(primitives="classic")
    assert classic != auto
    assert await submit(primitives="classic") == classic

    def key(**fields: object) -> str | None:
        config = config_of(emulated, **fields)
        return qiskit_sampler_submit_cache_key(
            None, {"pubs": [isa_bell()], "runtime_config": config}
        )

    assert key() == key(mode="batch")
    assert key() != key(primitives="classic")


@needs_client_side
async def test_circuits_of_another_device_are_refused_before_anything_is_sent(
    prefect_home: Path, emulated: EmulatedService
):
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.measure_all()
    with pytest.raises(InputError, match="instruction h") as caught:
        await submit_sampler_job_task(
            [isa_bell(), circuit], runtime_config=config_of(emulated, primitives="client_side")
        )
    assert caught.value.path == "pubs[1].circuit"
    assert emulated.count("submit") == 0


def bare_circuit(*registers: ClassicalRegister) -> QuantumCircuit:
    circuit = QuantumCircuit(5)
    circuit.x(0)
    circuit.add_register(*registers)
    return circuit


@needs_client_side
@pytest.mark.parametrize("local", [False, True])
async def test_circuits_that_could_give_no_result_are_refused_before_anything_is_sent(
    prefect_home: Path, emulated: EmulatedService, local: bool
):
    fields = {"channel": "local", "backend_name": "fake_manila"} if local else {}
    config = config_of(emulated, primitives="client_side").model_copy(update=fields)
    loose = QuantumCircuit(1)
    loose.add_bits([Clbit()])
    loose.measure(0, 0)
    for circuit, reason in (
        (bare_circuit(), "no classical register"),
        (loose, "no classical register"),
        (bare_circuit(ClassicalRegister(0, "nothing")), "'nothing' has no bits"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            await submit_sampler_job_task([isa_bell(), circuit], runtime_config=config)
        assert caught.value.path == "pubs[1].circuit"
    assert emulated.count("submit") == 0


@pytest.mark.filterwarnings("ignore:.* no output classical registers:UserWarning")
@pytest.mark.parametrize("channel", ["local", None])
async def test_what_the_native_primitive_runs_without_a_measurement_runs(
    prefect_home: Path, emulated: EmulatedService, channel: str | None
):
    unmeasured = bare_circuit(ClassicalRegister(2, "c"))
    for primitives in ("classic", "client_side")[: 1 + HAS_CLIENT_SIDE]:
        config = config_of(emulated, primitives=primitives).model_copy(update={"channel": channel})
        pubs = [unmeasured] if primitives == "client_side" else [unmeasured, bare_circuit()]
        output = await run_sampler_task(pubs, shots=10, runtime_config=config)
        assert output["result"][0].data.c.get_counts() == {"00": 10}
        assert [dict(pub.data) for pub in output["result"][1:]] == [{}] * (len(pubs) - 1)


@pytest.mark.filterwarnings("ignore:.* no output classical registers:UserWarning")
@needs_client_side
async def test_a_job_of_others_that_gives_no_result_is_no_hang(
    prefect_home: Path, emulated: EmulatedService
):
    from qiskit_ibm_runtime.executor_sampler import Sampler

    config = config_of(emulated)
    native = await asyncio.to_thread(lambda: Sampler(config.get_backend()).run([bare_circuit()]))
    with pytest.raises(ResultUnavailableError, match="no classical register") as caught:
        await asyncio.wait_for(
            fetch_qiskit_job_result_task(job_id=native.job_id(), runtime_config=config), 60
        )
    assert (caught.value.job_id, caught.value.retryable) == (native.job_id(), False)


@needs_client_side
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"no_such_option": 1}, "no_such_option"),
        # An option of the classic sampler only.
        ({"simulator": {"noise_model": None}}, "simulator.noise_model"),
    ],
)
async def test_bad_options_are_refused_by_the_implementation_that_is_used(
    prefect_home: Path, emulated: EmulatedService, options: dict, named: str
):
    with pytest.raises(InputError, match=named) as caught:
        await submit_sampler_job_task(
            [isa_bell()],
            options=options,
            runtime_config=config_of(emulated, primitives="client_side"),
        )
    assert caught.value.path == f"options.{named}"
    assert "the client-side sampler" in str(caught.value)
    assert emulated.count("submit") == 0


@needs_client_side
@pytest.mark.parametrize("primitive", ["sampler", "estimator"])
async def test_what_they_return_survives_a_record(
    prefect_home: Path, emulated: EmulatedService, primitive: str
):
    config = config_of(emulated, primitives="client_side")

    @flow
    async def fetches_twice() -> list[PrimitiveResult]:
        if primitive == "sampler":
            reference = await submit_sampler_job_task([isa_bell()], runtime_config=config)
        else:
            pubs = [(isa_bell(measured=False), "IIIZZ")]
            reference = await submit_estimator_job_task(pubs, runtime_config=config)
        outputs = [
            await fetch_qiskit_job_result_task(
                job_reference=reference, runtime_config=config, cache_result=True
            )
            for _ in range(2)
        ]
        return [output["result"] for output in outputs]

    fetched, kept = await fetches_twice()
    assert emulated.count("result") >= 1
    assert type(kept[0]) is type(fetched[0])
    assert kept.metadata == fetched.metadata
    assert kept[0].metadata == fetched[0].metadata
    if primitive == "sampler":
        assert kept[0].data.meas == fetched[0].data.meas
    else:
        for name in fetched[0].data:
            assert np.array_equal(kept[0].data[name], fetched[0].data[name])


@needs_client_side
async def test_wide_devices_can_be_emulated(prefect_home: Path):
    circuit = QuantumCircuit(127)
    circuit.x(5)
    observable = "I" * 121 + "Z" + "I" * 5
    with (
        EmulatedService(backends=["fake_sherbrooke"], seed=3) as service,
        service.client_environment(),
    ):
        output = await run_estimator_task(
            [(circuit, observable)],
            precision=0.1,
            runtime_config=config_of(service, primitives="client_side"),
        )
    assert output["result"][0].data.evs == pytest.approx(-1, abs=0.01)


@needs_client_side
@pytest.mark.parametrize("primitives", ["client_side", "auto"])
async def test_local_jobs_run_either_implementation(prefect_home: Path, primitives: str):
    config = QiskitRuntimeConfig(channel="local", backend_name="fake_manila", primitives=primitives)
    options = {"simulator": {"seed_simulator": 7}}
    reference = await submit_sampler_job_task(
        [isa_bell()], shots=128, options=options, runtime_config=config
    )
    output = await fetch_qiskit_job_result_task(job_id=reference["job_id"], runtime_config=config)
    again = await run_sampler_task([isa_bell()], shots=128, options=options, runtime_config=config)
    counts = output["result"][0].data.meas.get_counts()
    assert sum(counts.values()) == 128
    assert counts == again["result"][0].data.meas.get_counts(), "the stored seed decides"
    expected = "executor" if primitives == "client_side" else "sampler"
    assert reference["program_type"] == expected
    folder = LocalJobStore.default().root / reference["job_id"]
    assert (folder / "result.qcsc").exists() == (primitives == "client_side")
    assert (folder / "result.json").exists() == (primitives == "auto")


@needs_client_side
async def test_a_local_estimator_job_keeps_what_the_client_returned(prefect_home: Path):
    config = QiskitRuntimeConfig(
        channel="local", backend_name="aer_simulator", primitives="client_side"
    )
    bell = isa_bell(measured=False)
    output = await run_estimator_task(
        [(bell, ["IIIZZ", "IIIXX"])], precision=0.05, runtime_config=config
    )
    [pub_result] = output["result"]
    assert pub_result.data.evs == pytest.approx([1, 1], abs=0.2)
    assert pub_result.data.stds.shape == (2,)
    assert pub_result.metadata["circuit_metadata"] == {"made": "here"}


class Calibration:
    pass


CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("implementation", "value"),
    [
        ("classic", Calibration()),
        ("classic", print),
        ("classic", {(1, 2): 3}),
        ("classic", CYCLE),
        pytest.param("client_side", Calibration(), marks=needs_client_side),
        pytest.param("client_side", 1j, marks=needs_client_side),
        pytest.param("client_side", {1: 2}, marks=needs_client_side),
        pytest.param("client_side", QuantumCircuit(1), marks=needs_client_side),
        pytest.param("client_side", CYCLE, marks=needs_client_side),
    ],
)
@pytest.mark.filterwarnings("ignore:Callable .* is not JSON serializable:UserWarning")
@pytest.mark.parametrize("cache_submit", [False, True])
async def test_metadata_that_cannot_be_sent_are_refused_with_their_key(
    prefect_home: Path,
    emulated: EmulatedService,
    implementation: str,
    value: object,
    cache_submit: bool,
):
    circuit = isa_bell()
    circuit.metadata = {"series": 4, "calibration": value}
    with pytest.raises(InputError) as caught:
        await submit_sampler_job_task(
            [isa_bell(), circuit],
            shots=10,
            runtime_config=config_of(emulated, primitives=implementation),
            cache_submit=cache_submit,
        )
    assert caught.value.path == "pubs[1].circuit.metadata.calibration"
    assert caught.value.path in str(caught.value)
    assert emulated.jobs == ()


@needs_client_side
async def test_metadata_that_can_be_sent_are_sent(prefect_home: Path, emulated: EmulatedService):
    circuit = isa_bell()
    circuit.metadata = {"a": [1, 2.5, None, {"b": "c"}], "d": np.arange(3), "e": np.float64(1)}
    reference = await submit_sampler_job_task(
        [circuit],
        shots=10,
        runtime_config=config_of(emulated, primitives="client_side"),
        cache_submit=True,
    )
    assert [job.id for job in emulated.jobs] == [reference["job_id"]]


@needs_client_side
async def test_numbers_of_a_twirled_job_say_what_was_asked_for_and_what_was_taken(
    prefect_home: Path, emulated: EmulatedService
):
    config = config_of(emulated, primitives="client_side")
    sampled = await run_sampler_task(
        [isa_bell()],
        shots=200,
        options={"twirling": {"enable_measure": True}},
        runtime_config=config,
    )
    [pub] = sampled["metadata"]["pubs"]
    assert sampled["shots"] == sampled["job_reference"]["shots"] == sampled["metadata"]["shots"]
    assert (sampled["shots"], pub["shots_asked"], pub["shots"]) == (200, 200, 256)
    assert pub["started"] <= pub["completed"]
    assert pub["execution_seconds"] > 0
    summary = summary_markdown(JobMetadata.from_builtins(sampled["metadata"]))
    assert "| Shots | 200 asked for, 256 taken |" in summary
    assert "256 (200 asked for)" in summary

    estimated = await run_estimator_task(
        [(isa_bell(measured=False), "IIIZZ"), (isa_bell(measured=False), "IIIXX")],
        precision=0.1,
        runtime_config=config,
    )
    for pub in estimated["metadata"]["pubs"]:
        assert (pub["precision"], pub["shots_asked"], pub["shots"]) == (0.1, 100, 128)
        assert pub["execution_seconds"] > 0


@pytest.mark.parametrize(
    "primitives", ["classic", pytest.param("client_side", marks=needs_client_side)]
)
async def test_a_bare_id_is_enough_to_know_what_a_job_was(
    prefect_home: Path, emulated: EmulatedService, primitives: str
):
    config = config_of(emulated, primitives=primitives)
    sampler = await submit_sampler_job_task([isa_bell()], shots=300, runtime_config=config)
    estimator = await submit_estimator_job_task(
        [(isa_bell(measured=False), "IIIZZ")], precision=0.1, runtime_config=config
    )
    sampled, estimated = [
        await fetch_qiskit_job_result_task(job_id=one["job_id"], runtime_config=config)
        for one in (sampler, estimator)
    ]
    assert (sampled["primitive"], sampled["shots"]) == ("sampler", 300)
    assert (estimated["primitive"], estimated["precision"]) == ("estimator", 0.1)
    assert [one["metadata"]["primitive"] for one in (sampled, estimated)] == [
        "sampler",
        "estimator",
    ]


@needs_client_side
async def test_a_seed_among_the_options_decides_what_the_emulated_service_computes(
    prefect_home: Path, emulated: EmulatedService
):
    config = config_of(emulated, primitives="client_side")

    async def counts(seed: int) -> dict[str, int]:
        output = await run_sampler_task(
            [isa_bell()],
            shots=500,
            options={"simulator": {"seed_simulator": seed}},
            runtime_config=config,
        )
        return output["result"][0].data.meas.get_counts()

    first = await counts(1)
    assert await counts(1) == first
    assert await counts(2) != first
