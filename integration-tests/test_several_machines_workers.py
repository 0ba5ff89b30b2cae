"""Two workers on one Prefect server that share nothing else but the account."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from qcsc_prefect.integrations.qiskit.testing import RemoteEmulator

from .environments import PrefectServer, kill_group
from .machines import (
    SAVE_BLOCK,
    Machine,
    PostgresMissingError,
    PrefectAPI,
    configuration_fields,
    documented,
    emulated_service,
    postgres,
    wait_for,
)

DEPLOYMENT = "experiment/on-any-machine"
DEPLOY = (
    "prefect --no-prompt deploy docs/examples/several_machines.py:experiment "
    "--name on-any-machine --pool laboratory"
)


@dataclass(frozen=True)
class Worker:
    """A worker process on a machine of its own."""

    machine: Machine
    log: Path
    process: subprocess.Popen[bytes]

    def took(self, run_id: str) -> bool:
        return f"/flow-run/{run_id}" in self.log.read_text()  # where the flow says it began

    def storage(self) -> list[Path]:
        return list((self.machine.home / "storage").glob("*"))


@dataclass(frozen=True)
class Laboratory:
    """Two machines with a worker each, a Prefect server and the service."""

    api: PrefectAPI
    service: RemoteEmulator
    workers: tuple[Worker, Worker]

    def start(self, **parameters: object) -> str:
        return self.api.start_run(DEPLOYMENT, **parameters)

    def worker_of(self, run_id: str) -> Worker:
        (taker,) = [worker for worker in self.workers if worker.took(run_id)]
        return taker

    def row_of(self, run_id: str) -> dict[str, object]:
        wait_for(lambda: self.api.finished(run_id), f"flow run {run_id} to complete")
        (row,) = self.api.table(run_id, "experiment")
        return row

    def job_ids(self, *, without: set[str]) -> list[str]:
        return [
            job.id
            for job in self.service.jobs
            if job.id not in without and job.state != "Cancelled"
        ]


@contextmanager
def worker(machine: Machine, name: str) -> Iterator[Worker]:
    command = documented(f"prefect worker start --pool laboratory --name {name} --limit 1")
    log = machine.home.with_name(f"{name}.log")
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=machine.environment,
            cwd=machine.home,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: "started!" in log.read_text(), f"worker {name}, see {log}")
        yield Worker(machine, log, process)
    finally:
        kill_group(process)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    try:
        with postgres() as url:
            yield url
    except PostgresMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def laboratory(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    folder = tmp_path_factory.mktemp("laboratory")
    with (
        emulated_service("--queued", "2") as service,
        PrefectServer.started(
            folder / "server", PREFECT_API_DATABASE_CONNECTION_URL=database
        ) as server,
    ):
        desk, first, second = (
            Machine.set_up(folder / name, api_url=server.url, service=service)
            for name in ("desk", "first", "second")
        )
        desk.run_python(SAVE_BLOCK, json.dumps(configuration_fields(service)))
        desk.run(*documented("prefect work-pool create laboratory --type process"))
        desk.run(*documented(DEPLOY))
        with worker(first, "first") as one, worker(second, "second") as other:
            yield Laboratory(PrefectAPI(server.url), service, (one, other))
        assert not (folder / "server" / "prefect.db").exists()  # it was PostgreSQL


def test_equal_flows_on_two_machines_at_the_same_time_are_one_job(laboratory: Laboratory):
    runs = [laboratory.start(shots=500), laboratory.start(shots=500)]
    rows = [laboratory.row_of(run_id) for run_id in runs]
    first, second = (laboratory.worker_of(run_id) for run_id in runs)
    assert first is not second
    assert rows[0] == rows[1]
    assert laboratory.job_ids(without=set()) == [rows[0]["job"]]
    counts = {key: value for key, value in rows[0].items() if key in {"000", "111"}}
    assert sum(counts.values()) == 500  # the ideal GHZ state gives no other outcome
    assert set(counts) == {"000", "111"}
    # Each keeps what it knows in its own home: they met on the service alone.
    assert first.storage()
    assert second.storage()


def test_a_machine_finds_the_job_of_one_that_died(laboratory: Laboratory):
    known = {job.id for job in laboratory.service.jobs}
    laboratory.service.set_schedule(queued_seconds=float("inf"))
    lost = laboratory.start(shots=700)
    (job_id,) = wait_for(lambda: laboratory.job_ids(without=known), "the job")
    dead = laboratory.worker_of(lost)
    kill_group(dead.process)

    again = laboratory.start(shots=700)
    wait_for(lambda: f"Reusing job {job_id}" in laboratory.api.logs(again), "the other machine")
    laboratory.service.release_jobs()
    row = laboratory.row_of(again)
    assert laboratory.worker_of(again) is not dead
    assert row["job"] == job_id
    assert laboratory.job_ids(without=known) == [job_id]
    assert sum(int(row[outcome]) for outcome in ("000", "111")) == 700
    # How soon the server notices is its own affair.
    assert laboratory.api.state(lost) in {"RUNNING", "CRASHED"}
