"""What must hold with every client that is allowed, the oldest too, which others cannot reach.

Clients before 0.49 find the token service by its public name only, and ask it past the proxy of
the saved account; so here the process has the emulated service for its proxy as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from prefect import flow
from qiskit import QuantumCircuit

from qcsc_prefect.core.errors import InputError, JobNotFoundError
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_estimator_job_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import program_of
from qcsc_prefect.integrations.qiskit.testing import ACCOUNT_NAME, EmulatedService

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS")


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedService]:
    with EmulatedService(backends=["fake_manila"], seed=5) as service:
        for scheme in ("http", "https"):
            monkeypatch.setenv(f"{scheme}_proxy", service.root_url)
            monkeypatch.setenv(f"{scheme}_proxy".upper(), service.root_url)
        for name in ("no_proxy", "NO_PROXY"):  # Prefect's own server
            monkeypatch.setenv(name, "127.0.0.1,localhost")
        yield service


@pytest.fixture
def config(emulator: EmulatedService, tmp_path: Path) -> QiskitRuntimeConfig:
    path = emulator.account_file(tmp_path / "accounts.json")
    return QiskitRuntimeConfig(
        account_name=ACCOUNT_NAME, filename=str(path), backend_name="fake_manila", mode="batch"
    )


def isa_bell(*, measured: bool = True) -> QuantumCircuit:
    circuit = QuantumCircuit(5)
    circuit.rz(np.pi / 2, 0)
    circuit.sx(0)
    circuit.rz(np.pi / 2, 0)
    circuit.cx(0, 1)
    if measured:
        circuit.measure_all()
    return circuit


async def test_the_whole_path(
    prefect_home: Path, emulator: EmulatedService, config: QiskitRuntimeConfig
):
    @flow
    async def whole_path() -> tuple[list[dict], list[dict]]:
        sampler = await submit_sampler_job_task(
            [isa_bell()], shots=100, runtime_config=config, cache_submit=True
        )
        again = await submit_sampler_job_task(
            [isa_bell()], shots=100, runtime_config=config, cache_submit=True
        )
        assert again == sampler
        estimator = await submit_estimator_job_task(
            [(isa_bell(measured=False), ["IIIZZ", "IIIZI"])], precision=0.05, runtime_config=config
        )
        outputs = [
            await fetch_qiskit_job_result_task(
                job_reference=reference, runtime_config=config, cache_result=True
            )
            for reference in (sampler, estimator, sampler)
        ]
        return [sampler, estimator], outputs

    references, (sampled, estimated, kept) = await whole_path()
    assert [job.id for job in emulator.jobs] == [reference["job_id"] for reference in references]
    assert [job.program for job in emulator.jobs] == [
        program_of(name, config.primitive_implementation(name)) for name in ("sampler", "estimator")
    ]
    counts = sampled["result"][0].data.meas.get_counts()
    assert sum(counts.values()) == 100
    assert set(counts) == {"00000", "00011"}
    assert kept["result"][0].data.meas == sampled["result"][0].data.meas
    assert estimated["result"][0].data.evs == pytest.approx([1, 0], abs=0.2)
    assert sampled["metadata"]["versions"]["qiskit-ibm-runtime"] == version("qiskit-ibm-runtime")
    [batch] = emulator.sessions
    assert batch.accepting_jobs is False
    assert {job.session_id for job in emulator.jobs} == {batch.id}
    assert sampled["metadata"]["session_id"] == batch.id


async def test_errors_are_what_they_are_with_any_client(
    prefect_home: Path, emulator: EmulatedService, config: QiskitRuntimeConfig
):
    job_config = config.model_copy(update={"mode": "job"})
    with pytest.raises(InputError) as caught:
        await submit_sampler_job_task(
            [isa_bell()], options={"no_such_option": 1}, runtime_config=job_config
        )
    assert caught.value.path == "options.no_such_option"
    not_isa = QuantumCircuit(1)
    not_isa.h(0)
    not_isa.measure_all()
    with pytest.raises(InputError, match="instruction h"):
        await submit_sampler_job_task([not_isa], runtime_config=job_config)
    assert emulator.jobs == ()
    with pytest.raises(JobNotFoundError):
        await fetch_qiskit_job_result_task(
            job_id="d1c0qmyv3z50008ah8x0", runtime_config=job_config, max_wait=5
        )
