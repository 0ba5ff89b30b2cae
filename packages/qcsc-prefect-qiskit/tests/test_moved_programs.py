"""What programs hand over that were written for 0.3 or for the bare client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prefect import flow
from prefect.cache_policies import DEFAULT
from pydantic import ValidationError
from qiskit import QuantumCircuit
from qiskit_ibm_runtime import EstimatorOptions, QiskitRuntimeService, SamplerOptions

from qcsc_prefect.core.errors import ConfigurationError, InputError
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    QiskitRuntimeConfigError,
    build_qiskit_sampler_input_digest,
    fetch_qiskit_job_result_task,
    run_sampler_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.inputs.native_options import options_mapping
from qcsc_prefect.integrations.qiskit.inputs.pubs import known_pubs
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import ServicePool
from qcsc_prefect.integrations.qiskit.services.runtime_config import backend_name_of, resolve_config
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

NAMES = ["backend_name", "instance", "url", "account_name", "filename", "region", "token"]
LOCAL = QiskitRuntimeConfig(channel="local", backend_name="fake_manila")


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


@pytest.mark.parametrize("field", NAMES)
def test_names_are_stripped_and_blank_ones_refused(field: str) -> None:
    stripped = getattr(QiskitRuntimeConfig(**{field: " us-east "}), field)
    assert (stripped.get_secret_value() if field == "token" else stripped) == "us-east"
    for blank in ("", "  "):
        with pytest.raises(ValidationError, match="it is blank"):
            QiskitRuntimeConfig(**{field: blank})


def test_other_names_of_a_call_are_stripped_too() -> None:
    assert QiskitRuntimeConfig(channel=" local ").channel == "local"
    assert QiskitRuntimeConfig(plans_preference=[" open "]).plans_preference == ["open"]
    with pytest.raises(ConfigurationError, match="backend_name refused"):
        backend_name_of(QiskitRuntimeConfig(), "  ")


async def test_a_block_of_a_channel_that_is_gone_says_what_to_write(prefect_home: Path) -> None:
    with pytest.raises(ValidationError, match="write 'ibm_quantum_platform'"):
        QiskitRuntimeConfig(channel="ibm_quantum")
    saved = QiskitRuntimeConfig.model_construct(channel="ibm_quantum", backend_name="ibm_x")
    await saved.save("of-0-3")
    refused = r"'of-0-3' cannot be used: channel: .*write 'ibm_quantum_platform'"
    with pytest.raises(ConfigurationError, match=refused):
        await resolve_config("of-0-3", None)
    with pytest.raises(QiskitRuntimeConfigError, match=refused):
        await QiskitRuntimeConfig.aload("of-0-3")
    with pytest.raises(QiskitRuntimeConfigError, match=refused):
        await asyncio.to_thread(QiskitRuntimeConfig.load, "of-0-3")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("channel", "locall", r"channel\n  'locall' is none of .*Did you mean 'local'\?"),
        ("mode", "bach", r"mode\n  'bach' is none of .*Did you mean 'batch'\?"),
        ("primitives", "classical", r"primitives\n  .*Did you mean 'classic'\?"),
        ("backend", "ibm_x", r"no field 'backend'\. Did you mean 'backend_name'\?"),
        ("chanel", "local", r"no field 'chanel'\. Did you mean 'channel'\?"),
        ("channel", "0123456789-secret-0123456789-secret", r"channel\n  the value is none of"),
        ("token", ["0123456789-secret"], "token refused"),
        ("tokn", "0123456789-secret", "Did you mean 'token'"),
        ("proxies", "http://user:0123456789-secret@lab", "proxies refused"),
    ],
)
def test_a_bad_field_is_told_what_was_meant_and_no_secret(field: str, value: object, said: str):
    with pytest.raises(ValueError, match=said) as refused:
        QiskitRuntimeConfig(**{field: value})
    assert "secret" not in f"{refused.value} {refused.value!r}"


class Lookalike:
    """What 0.3 took for a configuration."""

    backend_name = LOCAL.backend_name
    get_service = LOCAL.get_service
    get_backend = LOCAL.get_backend


@pytest.mark.parametrize(
    "call",
    [
        lambda **config: run_sampler_task.fn([bell()], **config),
        lambda **config: submit_sampler_job_task.fn([bell()], **config),
        lambda **config: fetch_qiskit_job_result_task.fn(job_id="local-1", **config),
    ],
    ids=["run", "submit", "fetch"],
)
async def test_what_is_no_configuration_is_refused_by_its_type(
    prefect_home: Path, call: Callable[..., Awaitable[object]]
) -> None:
    with pytest.raises(ConfigurationError, match=r"got Lookalike.*a subclass"):
        await call(runtime_config=Lookalike())
    with pytest.raises(ConfigurationError, match=r"got QiskitRuntimeConfig\..*runtime_config="):
        await call(runtime_block_name=LOCAL)


async def test_a_saved_block_with_a_field_that_there_is_not_still_loads(prefect_home: Path) -> None:
    saved = QiskitRuntimeConfig.model_construct(backend_name="ibm_x", mdoe="batch")
    await saved.save("misspelt")
    config = await resolve_config("misspelt", None)
    assert (config.backend_name, config.mode) == ("ibm_x", "job")
    assert "mdoe" not in config.model_dump_json()


def test_native_options_are_what_was_set() -> None:
    estimator = EstimatorOptions(resilience_level=1)
    estimator.resilience.zne.amplifier = "pea"
    estimator.environment.job_tags = ["mine"]
    assert options_mapping(estimator) == {
        "resilience_level": 1,
        "resilience": {"zne": {"amplifier": "pea"}},
        "environment": {"job_tags": ["mine"]},
    }
    by_hand = {"default_shots": 9, "twirling": {"enable_gates": True}}
    native = SamplerOptions(**by_hand)
    assert options_mapping(native) == by_hand
    assert options_mapping({"default_shots": 9, "twirling": native.twirling}) == by_hand
    digests = {build_qiskit_sampler_input_digest([bell()], options=o) for o in (native, by_hand)}
    assert len(digests) == 1
    with pytest.raises(InputError, match="got list") as caught:
        options_mapping([1])
    assert caught.value.path == "options"

    models = pytest.importorskip("qiskit_ibm_runtime.options_models")
    options = models.SamplerOptions(default_shots=9)
    options.twirling.enable_gates = True
    assert options_mapping(options) == {"default_shots": 9, "twirling": {"enable_gates": True}}


async def test_a_fetch_without_pubs_and_with_native_options(prefect_home: Path) -> None:
    options = SamplerOptions(default_shots=20)
    reference = await submit_sampler_job_task([bell()], options=options, runtime_config=LOCAL)
    assert reference["options"] == {"default_shots": 20}
    output = await fetch_qiskit_job_result_task(
        job_reference=reference, pubs=[], options=options, runtime_config=LOCAL
    )
    assert sum(output["result"][0].data.meas.get_counts().values()) == 20
    assert known_pubs(iter([])) is None


class BusyLab(QiskitRuntimeConfig):
    _block_type_name = "Busy Lab"
    _block_type_slug = "busy-lab"

    def get_service(self) -> QiskitRuntimeService:
        CALLS.append(("service", threading.current_thread() is threading.main_thread()))
        return super().get_service()

    def get_backend(self) -> object:
        CALLS.append(("backend", threading.current_thread() is threading.main_thread()))
        return super().get_backend()


CALLS: list[tuple[str, bool]] = []


async def test_what_a_subclass_has_of_its_own_is_called(emulated: EmulatedService) -> None:
    fields = emulated.runtime_config_fields()
    pool = ServicePool()
    CALLS.clear()
    own = await pool.backend(BusyLab(**fields), "fake_manila")
    assert CALLS == [("service", False), ("backend", False), ("service", False)]
    plain = await pool.backend(QiskitRuntimeConfig(**fields), "fake_manila")
    assert own is not plain


async def test_with_prefects_own_policy_a_retried_flow_takes_its_results_again(
    prefect_home: Path,
) -> None:
    run = run_sampler_task.with_options(cache_policy=DEFAULT, persist_result=True)
    circuit = bell()
    job_ids = []

    @flow(retries=1)
    async def retried() -> None:
        job_ids.append((await run([circuit], runtime_config=LOCAL, shots=5))["job_id"])
        assert len(job_ids) == 2, "a reason to run again"

    await retried()
    assert len(set(job_ids)) == 1
