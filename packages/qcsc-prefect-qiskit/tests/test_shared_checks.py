"""What the client asks before each job is asked once for jobs that are sent together."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from qiskit import QuantumCircuit

from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig, submit_sampler_job_task
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool

JOBS = 12
CHECKS = ("usage", "status")
#: Nearly what the service says, with a cause for a warning.
USED_UP = {"usage_limit_reached": True, "usage_limit_seconds": 600, "usage_consumed_seconds": 600}
PAUSED = {"state": True, "status": "internal", "message": "", "length_queue": 0}


async def submit(config: QiskitRuntimeConfig, number: int) -> object:
    circuit = QuantumCircuit(1)
    circuit.rz(number, 0)
    circuit.measure_all()
    return await submit_sampler_job_task(
        [circuit], shots=10, runtime_config=config, cache_submit=True, visibility_delay=1.0
    )


async def test_jobs_that_are_sent_together_share_one_check(prefect_home: Path, emulated, config):
    await asyncio.gather(*(submit(config, number) for number in range(JOBS)))
    assert emulated.count("submit") == JOBS
    assert [emulated.count(check) for check in CHECKS] == [1, 1]


async def test_whoever_asks_by_hand_gets_an_answer_of_its_own(prefect_home: Path, emulated, config):
    await submit(config, 0)
    service = await get_service_pool().service(config)
    before = emulated.count("usage")
    assert service.usage()["instance_id"] == emulated.instance
    assert emulated.count("usage") == before + 1


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("check", "answer"), [("usage", USED_UP), ("status", PAUSED)])
async def test_a_cause_for_a_warning_is_asked_for_before_each_job(
    prefect_home: Path, emulated, config, check: str, answer: object
):
    emulated.faults.replace_body(check, answer, times=None)
    for number in range(3):
        await submit(config, number)
    asked = {name: emulated.count(name) for name in CHECKS}
    assert asked == {**dict.fromkeys(CHECKS, 1), check: 3}


@pytest.mark.parametrize("check", CHECKS)
async def test_an_answer_that_cannot_be_read_is_not_shared(
    prefect_home: Path, emulated, config, check: str
):
    emulated.faults.replace_body(check, {"surprise": True}, times=1)
    await asyncio.gather(*(submit(config, number) for number in range(3)), return_exceptions=True)
    await submit(config, 3)
    assert emulated.count(check) >= 2
