"""A digest that the caller chose names an input; it never hides another one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from prefect.cache_policies import CacheKeyFnPolicy
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from qcsc_prefect.core.errors import InputError, SubmissionUncertainError
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig, submit_sampler_job_task
from qcsc_prefect.integrations.qiskit.cache import qiskit_sampler_submit_cache_key
from qcsc_prefect.integrations.qiskit.input_digest import build_qiskit_sampler_input_digest
from qcsc_prefect.integrations.qiskit.inputs.chosen_digest import chosen_input
from qcsc_prefect.integrations.qiskit.inputs.pubs import coerce_pubs
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

from .machines import another_machine


@pytest.fixture
def config(emulated: EmulatedService) -> QiskitRuntimeConfig:
    return QiskitRuntimeConfig(**emulated.runtime_config_fields(), primitives="classic")


def rotation(*angles: float, metadata: dict | None = None) -> tuple:
    circuit = QuantumCircuit(1, metadata=metadata)
    circuit.rz(Parameter("angle"), 0)
    circuit.measure_all()
    return circuit, [[angle] for angle in angles]


async def submit(config: QiskitRuntimeConfig, *pubs: object, **more) -> dict:
    return await submit_sampler_job_task(
        list(pubs),
        runtime_config=config,
        cache_submit=True,
        **{"input_digest": "mine", "shots": 10, "visibility_delay": 0.5, **more},
    )


async def test_shots_and_options_name_the_job_beside_a_chosen_digest(
    prefect_home: Path, emulated, config, tmp_path: Path
):
    calls: list[dict] = [
        {"shots": 10},
        {"shots": 20},
        {"shots": 20, "options": {"twirling": {"enable_gates": True}}},
    ]
    references = [await submit(config, rotation(0.1), **call) for call in calls]
    assert len({reference["job_id"] for reference in references}) == 3
    assert [await submit(config, rotation(0.1), **call) for call in calls] == references
    with another_machine(tmp_path / "other"):
        found = [await submit(config, rotation(0.1), **call) for call in calls]
    assert [one["job_id"] for one in found] == [one["job_id"] for one in references]
    assert len(emulated.jobs) == 3
    assert references[1]["content_digest"] == found[1]["content_digest"]
    assert references[1]["content_digest"] == build_qiskit_sampler_input_digest(
        [rotation(0.1)],
        backend_name="fake_manila",
        shots=20,
        cache_scope="global",
        extra=config.input_identity(),
    )


async def test_other_pubs_are_refused_where_they_differ(
    prefect_home: Path, emulated, config, tmp_path: Path
):
    first = await submit(config, rotation(0.1), rotation(0.2))
    with pytest.raises(ValueError, match=r"mine.*pubs\[1\]\.parameter_values") as caught:
        await submit(config, rotation(0.1), rotation(0.3))
    assert isinstance(caught.value, InputError)
    assert first["job_id"] in str(caught.value)
    assert "pubs[0]" not in str(caught.value)
    with pytest.raises(InputError, match=r"at pubs\[1\]\."):
        await submit(config, rotation(0.1))
    with another_machine(tmp_path / "other"), pytest.raises(InputError, match=first["job_id"]):
        await submit(config, rotation(0.1))
    taken = await submit(config, rotation(0.3), trust_input_digest=True)
    assert taken["job_id"] == first["job_id"]
    with another_machine(tmp_path / "third"):
        taken = await submit(config, rotation(0.3), trust_input_digest=True)
        assert taken["job_id"] == first["job_id"]
        assert taken["content_digest"] == first["content_digest"], "of what the job ran"
    assert len(emulated.jobs) == 1


async def test_a_lost_job_of_other_pubs_is_refused(
    prefect_home: Path, emulated, config, monkeypatch
):
    emulated.faults.hide_new_jobs(3600)
    emulated.faults.close("submit", when="after")
    monkeypatch.setenv("QCSC_PREFECT_PATIENCE_SECONDS", "0.0001")  # given up, and not sent again
    with pytest.raises(SubmissionUncertainError):
        await submit(config, rotation(0.1), visibility_delay=0)
    emulated.faults.hide_new_jobs(0)
    with pytest.raises(InputError, match=r"pubs\[0\]\.parameter_values"):
        await submit(config, rotation(0.2))
    assert (await submit(config, rotation(0.1)))["job_id"] == emulated.jobs[0].id
    assert len(emulated.jobs) == 1


def test_a_chosen_digest_is_the_way_out_for_what_cannot_be_digested(
    caplog: pytest.LogCaptureFixture,
):
    odd = QuantumCircuit(1, 1, metadata={"odd": object()})
    pubs = coerce_pubs([odd], "sampler")
    with pytest.raises(InputError, match="odd"):
        build_qiskit_sampler_input_digest(pubs)
    with caplog.at_level(logging.INFO):
        found = chosen_input(
            "sampler",
            pubs,
            backend_name=None,
            effort=10,
            options={"callback": print},
            extra=None,
            logger=logging.getLogger("test"),
        )
    assert found.content_digest is None
    assert not found.is_other("another")
    assert "options.callback" in caplog.text
    assert "same PUBs is not checked" in caplog.text
    assert "pubs[0].circuit" in caplog.text


async def test_prefects_own_cache_does_not_hand_out_another_input(prefect_home: Path, tmp_path):
    config = QiskitRuntimeConfig(channel="local", backend_name="fake_manila")
    task = submit_sampler_job_task.with_options(
        cache_policy=CacheKeyFnPolicy(cache_key_fn=qiskit_sampler_submit_cache_key),
        persist_result=True,
    )

    async def job(pub: tuple, shots: int) -> str:
        reference = await task([pub], shots=shots, runtime_config=config, input_digest="mine")
        return reference["job_id"]

    calls = [(rotation(0.1), 10), (rotation(0.1), 20), (rotation(0.2), 10)]
    jobs = [await job(*call) for call in calls]
    assert len(set(jobs)) == 3
    assert [await job(*call) for call in calls] == jobs
