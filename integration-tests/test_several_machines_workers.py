"""Two workers on one Prefect server that share nothing else but the account."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from qcsc_prefect.core.engine.identity import input_tag_of
from qcsc_prefect.integrations.qiskit.testing import RemoteEmulator

from .machines import (
    Machine,
    Running,
    emulated_service,
    exported,
    free_port,
    saved_configuration,
    wait_for,
)
from .page_blocks import Documented
from .postgres import Postgres, postgres
from .prefect_api import PrefectAPI

#: Says that it is ready, then submits three inputs at a given moment, and prints their jobs' ids.
AT_A_GIVEN_MOMENT = """
import asyncio, json, os, pathlib, sys, time
from experiment import ghz_circuit, isa_circuit
from prefect import flow
from qcsc_prefect.integrations.qiskit import submit_sampler_job_task

@flow
async def at_a_given_moment(folder):
    pubs = [await isa_circuit(ghz_circuit(2), "kawasaki")]
    (folder / f"ready-{os.getpid()}").touch()
    while not (folder / "start").exists():
        await asyncio.sleep(0.05)
    await asyncio.sleep(max(0.0, float((folder / "start").read_text()) - time.time()))
    jobs = await asyncio.gather(
        *(submit_sampler_job_task(pubs, "kawasaki", n, cache_submit=True) for n in (10, 11, 12))
    )
    return [job["job_id"] for job in jobs]

print(json.dumps(asyncio.run(at_a_given_moment(pathlib.Path(sys.argv[1])))))
"""


@dataclass(frozen=True)
class Worker:
    """A worker process on a machine of its own."""

    machine: Machine
    process: Running

    def took(self, run_id: str) -> bool:
        # Where the flow says that it began.
        return f"/flow-run/{run_id}" in self.process.log.read_text()


@dataclass(frozen=True)
class Laboratory:
    """Two machines with a worker each and a third one, a Prefect server and the service."""

    folder: Path
    desk: Machine
    api: PrefectAPI
    service: RemoteEmulator
    workers: tuple[Worker, Worker]
    variables: dict[str, str]
    database: Postgres

    def worker_of(self, run_id: str) -> Worker:
        (taker,) = [worker for worker in self.workers if worker.took(run_id)]
        return taker

    def wait_for_fetching(self, run_id: str) -> None:
        """Wait until a run has its job and waits for it."""
        wait_for(
            lambda: (
                re.search(r"^Job \w+ on ibm_kawasaki: ", self.api.logs(run_id), re.MULTILINE)
                and self.api.state(run_id) == "RUNNING"
            ),
            f"flow run {run_id} to have its job",
        )

    def row_of(self, run_id: str) -> dict[str, object]:
        """Wait for a run to complete; return what it put into its table."""
        wait_for(lambda: self.api.state(run_id) == "COMPLETED", f"flow run {run_id}")
        (row,) = self.api.table(run_id, "experiment")
        return row


def runs_of(printed: str) -> list[str]:
    return re.findall(r"UUID: (\S+)", printed)


@contextmanager
def worker(machine: Machine, command: str) -> Iterator[Worker]:
    with machine.shell_in_background(command) as process:
        process.wait_until_it_says("started!")
        yield Worker(machine, process)


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def laboratory(
    database: Postgres, documented: Documented, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Laboratory]:
    folder = tmp_path_factory.mktemp("laboratory")
    code = folder / "code"
    code.mkdir()
    documented.write("experiment.py", code)
    database.administer(documented("CREATE ROLE", {"sudo -u postgres ": ""}))

    port = free_port()
    variables = exported(
        documented("export PREFECT_API_URL", {"server.lab:4200": f"127.0.0.1:{port}"})
    )
    api = PrefectAPI(variables["PREFECT_API_URL"], variables["PREFECT_API_AUTH_STRING"])
    names = {"db.lab": database.address, "0.0.0.0": "127.0.0.1"}
    server = Machine.set_up(folder / "server", code=code, PREFECT_SERVER_API_PORT=str(port))
    with (
        emulated_service("--backend", "ibm_kawasaki=fake_manila") as service,
        server.shell_in_background(documented("prefect server start", names)) as process,
    ):
        process.wait_until(api.is_healthy, "the Prefect server")
        desk, first, second = (
            Machine.set_up(folder / name, code=code, service=service, **variables)
            for name in ("desk", "first", "second")
        )
        desk.python(saved_configuration(documented, service))
        desk.shell(documented("prefect work-pool create"))
        start = documented("prefect worker start")
        with worker(first, start) as one, worker(second, start) as other:
            yield Laboratory(folder, desk, api, service, (one, other), variables, database)


@pytest.fixture
def service(laboratory: Laboratory) -> Iterator[RemoteEmulator]:
    """The service, which keeps all jobs in the queue until they are released."""
    laboratory.service.set_schedule(queued_seconds=float("inf"))
    laboratory.service.clear_requests()
    yield laboratory.service
    laboratory.service.faults.clear()


def test_equal_flows_on_two_workers_at_the_same_time_are_one_job(
    laboratory: Laboratory, service: RemoteEmulator, documented: Documented
):
    known = {job.id for job in service.jobs}
    words = "prefect deployment run experiment/on-any-machine\n"
    runs = runs_of(laboratory.desk.shell(documented(words)))
    assert len(runs) == 2
    for run_id in runs:
        laboratory.wait_for_fetching(run_id)
    # Both are under way now, and no job has left the queue yet.
    assert [laboratory.api.state(run_id) for run_id in runs] == ["RUNNING", "RUNNING"]
    service.release_jobs()
    rows = [laboratory.row_of(run_id) for run_id in runs]
    first, second = (laboratory.worker_of(run_id).machine for run_id in runs)
    assert first is not second

    sent = [job for job in service.jobs if job.id not in known]
    (job,) = [job for job in sent if job.state != "Cancelled"]
    assert job.state == "Completed"
    assert rows[0] == rows[1]
    assert rows[0]["job"] == job.id
    counts = {key: value for key, value in rows[0].items() if key not in {"job", "machine"}}
    assert sum(counts.values()) == 1000  # the ideal GHZ state gives no other outcome
    assert set(counts) == {"000", "111"}
    # It was sent for this input alone, also where the machines met and one took its job back.
    assert {input_tag_of(job.tags) for job in sent} == {input_tag_of(job.tags)} != {None}
    assert service.count("submit") == len(sent)
    # They met on the service alone: each has locked, recorded and downloaded it by itself.
    assert first.kept("qiskit-sampler-") == second.kept("qiskit-sampler-") != set()
    assert first.kept("qiskit-result-") == second.kept("qiskit-result-") != set()
    assert job.result_reads == 2
    others = {path.name for path in laboratory.desk.code.iterdir()} - {"__pycache__"}
    assert others <= {"experiment.py", ".prefectignore", "prefect.yaml"}

    # And once more, when the job has long been done.
    again = laboratory.api.start_run("experiment/on-any-machine")
    assert laboratory.row_of(again) == rows[0]
    assert service.count("submit") == len(sent)
    stored = laboratory.database.administer("psql -d prefect -tAc 'SELECT id FROM flow_run'")
    assert {*runs, again} <= set(stored.split())


def test_submissions_at_the_same_moment_settle_on_one_job(
    laboratory: Laboratory, service: RemoteEmulator, tmp_path: Path
):
    known = {job.id for job in service.jobs}
    # Each machine searches before the other's jobs are there, so each sends its own.
    service.faults.delay(6, "submit", times=None)
    machines = [
        Machine.set_up(
            laboratory.folder / name,
            code=laboratory.desk.code,
            service=service,
            **laboratory.variables,
        )
        for name in ("one", "other")
    ]
    with (
        machines[0].python_in_background(AT_A_GIVEN_MOMENT, str(tmp_path)) as one,
        machines[1].python_in_background(AT_A_GIVEN_MOMENT, str(tmp_path)) as other,
    ):
        wait_for(lambda: len(list(tmp_path.glob("ready-*"))) == 2, "both machines")
        (tmp_path / "moment").write_text(str(time.time() + 1))
        (tmp_path / "moment").rename(tmp_path / "start")
        printed = [process.output() for process in (one, other)]
    found = [
        next(json.loads(line) for line in output.splitlines() if line.startswith('["'))
        for output in printed
    ]
    sent = [job for job in service.jobs if job.id not in known]
    assert len(sent) == 6, "the machines did not meet"
    kept = {input_tag_of(job.tags): job.id for job in reversed(sent)}  # the oldest of each tag
    assert len(kept) == 3
    assert found[0] == found[1]
    assert set(found[0]) == set(kept.values())
    states = {job.id: job.state for job in sent}
    assert [states[job_id] for job_id in found[0]] == ["Queued"] * 3
    assert sorted(states.values()) == ["Cancelled"] * 3 + ["Queued"] * 3
    assert sum(output.count("a duplicate of job") for output in printed) == 3


def test_a_machine_finds_the_job_of_one_that_died(
    laboratory: Laboratory, service: RemoteEmulator, documented: Documented
):
    known = {job.id for job in service.jobs}
    ask = documented("--param shots=2000")
    (lost,) = runs_of(laboratory.desk.shell(ask))
    laboratory.wait_for_fetching(lost)
    (job,) = [job for job in service.jobs if job.id not in known]
    dead = laboratory.worker_of(lost)
    dead.machine.lose_power()
    assert dead.process.process.wait(30) < 0

    (again,) = runs_of(laboratory.desk.shell(ask))
    wait_for(lambda: f"Reusing job {job.id}" in laboratory.api.logs(again), "the other machine")
    service.release_jobs()
    row = laboratory.row_of(again)
    assert laboratory.worker_of(again) is not dead
    assert row["job"] == job.id
    assert {job.id for job in service.jobs} - known == {job.id}
    assert service.count("submit") == 1
    assert sum(int(row[outcome]) for outcome in ("000", "111")) == 2000
    # How soon the server notices is its own affair.
    assert laboratory.api.state(lost) in {"RUNNING", "CRASHED"}
