"""A body that is no result is never taken for one, nor kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from qiskit import QuantumCircuit

from qcsc_prefect.core.errors import JobError, ResultUnavailableError
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.services.ibm.instances import instance_of_job
from qcsc_prefect.integrations.qiskit.services.ibm.runtime_service import RuntimeJobService
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

DAMAGES: dict[str, Callable[..., None]] = {
    "truncated": lambda faults, **more: faults.truncate("result", **more),
    "cut": lambda faults, **more: faults.truncate("result", announced=False, **more),
    "a page of HTML": lambda faults, **more: faults.malform("result", **more),
    "empty": lambda faults, **more: faults.empty("result", **more),
    "null": lambda faults, **more: faults.replace_body("result", None, **more),
    "a JSON text": lambda faults, **more: faults.replace_body("result", "nothing", **more),
    "a JSON number": lambda faults, **more: faults.replace_body("result", 7, **more),
    "a JSON list": lambda faults, **more: faults.replace_body("result", [], **more),
    "a JSON object": lambda faults, **more: faults.replace_body("result", {}, **more),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_body_that_stays_damaged_is_an_error_about_a_job_that_is_done(
    prefect_home: Path, emulated: EmulatedService, damage: str
):
    config = QiskitRuntimeConfig(**emulated.runtime_config_fields())
    circuit = QuantumCircuit(1)
    circuit.measure_all()
    reference = await submit_sampler_job_task([circuit], shots=10, runtime_config=config)
    job_id = reference["job_id"]
    found = await instance_of_job(config, job_id, reference["instance"])
    service = RuntimeJobService(found)
    while not (await service.status(job_id)).state.is_final:
        await asyncio.sleep(0.01)
    DAMAGES[damage](emulated.faults, times=None)
    with pytest.raises(ResultUnavailableError, match=job_id) as caught:
        await service.result(job_id)
    assert caught.value.retryable is True
    assert "the job is done; fetch it again" in str(caught.value).lower()
    assert "goes on" not in str(caught.value)


async def test_a_fault_that_stays_is_met_with_pauses_and_then_told(
    prefect_home: Path, emulated: EmulatedService
):
    config = QiskitRuntimeConfig(**emulated.runtime_config_fields())
    circuit = QuantumCircuit(1)
    circuit.measure_all()
    reference = await submit_sampler_job_task([circuit], shots=10, runtime_config=config)
    for faults in (2, 1):
        emulated.clear_requests()
        for _ in range(faults):
            emulated.faults.truncate("result")
        output = await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)
        assert output["job_id"] == reference["job_id"]
        assert emulated.count("result") == faults + 1
    emulated.faults.answer("result", status=403)
    with pytest.raises(JobError, match="HTTP 403"):
        await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)
    assert emulated.count("result") == 3


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_body_is_no_result_and_is_not_kept(
    prefect_home: Path, emulated: EmulatedService, damage: str
):
    config = QiskitRuntimeConfig(**emulated.runtime_config_fields())
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.measure_all()
    reference = await submit_sampler_job_task([circuit], shots=10, runtime_config=config)

    async def fetch() -> dict:
        return await fetch_qiskit_job_result_task(
            job_reference=reference, runtime_config=config, cache_result=True
        )

    emulated.clear_requests()
    DAMAGES[damage](emulated.faults)
    # Reading again is free, so it is read once more before anybody hears of it.
    assert (await fetch())["result"][0].data.meas.get_counts() == {"1": 10}
    assert emulated.count("result") == 2
    assert len(list(prefect_home.rglob("qiskit-result-*"))) == 1, "this is where results are kept"
