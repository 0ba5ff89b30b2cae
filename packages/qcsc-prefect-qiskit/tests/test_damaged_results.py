"""A body that is no result is never taken for one, nor kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qiskit import QuantumCircuit

from qcsc_prefect.core.errors import ResultUnavailableError
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.runtime.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.testing import EmulatedService, FaultInjector

DAMAGES: dict[str, Callable[[FaultInjector], None]] = {
    "truncated": lambda faults: faults.truncate("result"),
    "cut": lambda faults: faults.truncate("result", announced=False),
    "a page of HTML": lambda faults: faults.malform("result"),
    "empty": lambda faults: faults.empty("result"),
    "null": lambda faults: faults.replace_body("result", None),
    "a JSON text": lambda faults: faults.replace_body("result", "nothing"),
    "a JSON number": lambda faults: faults.replace_body("result", 7),
    "a JSON list": lambda faults: faults.replace_body("result", []),
    "a JSON object": lambda faults: faults.replace_body("result", {}),
}


@pytest.fixture(scope="module")
def emulated() -> Iterator[EmulatedService]:
    with EmulatedService(["fake_manila"], seed=7) as service, service.client_environment():
        yield service
    get_service_pool().clear()


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

    DAMAGES[damage](emulated.faults)
    with pytest.raises(ResultUnavailableError, match=reference["job_id"]) as caught:
        await fetch()
    assert caught.value.retryable is True
    assert list(prefect_home.rglob("qiskit-result-*")) == []
    assert (await fetch())["result"][0].data.meas.get_counts() == {"1": 10}
    assert len(list(prefect_home.rglob("qiskit-result-*"))) == 1, "this is where results are kept"
