"""The package's own services under core's kit for vendors: the real client's, and the local one."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from qiskit import QuantumCircuit
from qiskit_ibm_runtime import QiskitRuntimeService

from qcsc_prefect.core.conformance import Faults, check_vendor
from qcsc_prefect.core.engine.service import JobState
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.inputs.pubs import coerce_pubs
from qcsc_prefect.integrations.qiskit.services.ibm.instances import ConfiguredInstance
from qcsc_prefect.integrations.qiskit.services.ibm.runtime_service import RuntimeJobService
from qcsc_prefect.integrations.qiskit.services.job_service import JobRequest, QiskitJobService
from qcsc_prefect.integrations.qiskit.services.local.job_service import LocalJobService
from qcsc_prefect.integrations.qiskit.services.local.store import (
    LocalJob,
    LocalJobStore,
    LocalOutcome,
)
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

#: Seconds for one scenario: two processes that import Qiskit on a busy machine.
PATIENCE = 300.0
STATES = {
    "Queued": JobState.QUEUED,
    "Running": JobState.RUNNING,
    "Completed": JobState.DONE,
    "Failed": JobState.ERROR,
    "Cancelled": JobState.CANCELLED,
}


def request(**options: object) -> JobRequest:
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.measure_all()
    pubs = coerce_pubs([circuit], "sampler")
    return JobRequest("sampler", pubs, "fake_manila", shots=10, options=options)


async def counts(service: QiskitJobService, job_id: str) -> dict[str, int]:
    return (await service.result(job_id)).result[0].data.meas.get_counts()


class EmulatedFaults(Faults):
    """Faults of the emulated service."""

    def __init__(self, emulated: EmulatedService, service: RuntimeJobService) -> None:
        self.emulated = emulated
        self.service = service

    def jobs(self) -> Mapping[str, JobState]:
        return {job.id: STATES[job.state] for job in self.emulated.jobs}

    def clear(self) -> None:
        self.emulated.faults.clear()
        self.emulated.faults.hide_new_jobs(0)
        self.emulated.set_schedule()
        self.emulated.release_jobs()

    async def fetch(self, job_id: str) -> object:
        return await counts(self.service, job_id)

    def drop_answer(self) -> None:
        self.emulated.faults.close("submit", when="after")

    def cut_answer(self) -> None:
        self.emulated.faults.truncate("submit")

    def time_out_answer(self) -> None:
        self.emulated.faults.answer("submit", status=504, when="after")

    def refuse(self) -> None:
        self.emulated.faults.answer("submit", status=400)

    def limit(self, seconds: int) -> None:
        self.emulated.faults.answer("submit", status=429, retry_after=seconds)

    def break_questions(self) -> None:
        self.emulated.faults.answer("search", status=503)
        self.emulated.faults.answer("job", status=503)

    def show_late(self, seconds: float) -> None:
        self.emulated.faults.hide_new_jobs(seconds)

    def hold(self) -> None:
        self.emulated.set_schedule(queued_seconds=math.inf)

    def fail_next_job(self) -> None:
        self.emulated.faults.end_jobs("Failed")

    def vanish(self, job_id: str) -> None:
        account = self.emulated.runtime_config_fields()
        del account["backend_name"]
        QiskitRuntimeService(**account).delete_job(job_id)

    def truncate_result(self) -> None:
        self.emulated.faults.truncate("result")


async def test_the_real_client_passes(emulated: EmulatedService, config: QiskitRuntimeConfig):
    found = ConfiguredInstance(emulated.instance, config)
    faults = EmulatedFaults(emulated, RuntimeJobService(found))
    report = await check_vendor(
        partial(RuntimeJobService, found), request(), faults, seconds=PATIENCE
    )
    assert report.is_right, str(report)
    assert report.not_checked == ()


class StoreOfFailures(LocalJobStore):
    """A store whose next job fails, where `fails` says so."""

    fails = False

    def create(self, job: LocalJob, encoded_inputs: bytes) -> None:
        super().create(job, encoded_inputs)
        if self.fails:
            type(self).fails = False
            now = datetime.now(UTC)
            self.finish(job, LocalOutcome(state="ERROR", completed=now, message="It failed."))


class LocalFaults(Faults):
    """Faults of the jobs of this machine; no answer of theirs can be lost."""

    def __init__(self, store: LocalJobStore) -> None:
        self.store = store

    def jobs(self) -> Mapping[str, JobState]:
        outcomes = {job.job_id: self.store.outcome(job.job_id) for job in self.store.jobs()}
        return {
            job_id: JobState.RUNNING if outcome is None else JobState(outcome.state)
            for job_id, outcome in outcomes.items()
        }

    def clear(self) -> None:
        StoreOfFailures.fails = False

    async def fetch(self, job_id: str) -> object:
        return await counts(LocalJobService(self.store), job_id)

    def vanish(self, job_id: str) -> None:
        deadline = time.monotonic() + 60
        while self.store.outcome(job_id) is None:  # its files are in use
            assert time.monotonic() < deadline
            time.sleep(0.05)
        shutil.rmtree(self.store.root / job_id)

    def truncate_result(self) -> None:
        newest = max(self.store.root.glob("*/result.*"), key=lambda file: file.stat().st_mtime)
        content = newest.read_bytes()
        newest.write_bytes(content[: len(content) // 2])


@pytest.fixture
def store(tmp_path: Path) -> LocalJobStore:
    return LocalJobStore(tmp_path / "local-jobs")


async def test_the_jobs_of_this_machine_pass(store: LocalJobStore):
    # A result that is damaged is made again: with other samples, but for a seed.
    seeded = request(simulator={"seed_simulator": 7})
    report = await check_vendor(
        partial(LocalJobService, store),
        seeded,
        LocalFaults(store),
        processes=False,  # they are killed in integration-tests/kills
        seconds=PATIENCE,
    )
    assert report.is_right, str(report)
    assert report.passed == (
        "listed under its tag",
        "the same input again",
        "done",
        "vanished",
        "killed after acceptance",
        "two processes at once",
        "result cut",
        "hostile records",
    )


async def test_a_job_of_this_machine_that_failed_is_not_handed_out(tmp_path: Path):
    class FaultsWithFailures(LocalFaults):
        def fail_next_job(self) -> None:
            StoreOfFailures.fails = True

    failing = StoreOfFailures(tmp_path / "local-jobs")
    report = await check_vendor(
        lambda: LocalJobService(failing),
        request(),
        FaultsWithFailures(failing),
        processes=False,
        only=["failed"],
    )
    assert report.passed == ("failed",), str(report)
