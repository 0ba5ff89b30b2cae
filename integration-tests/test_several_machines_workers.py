"""Two workers on one Prefect server that share nothing else but the account."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from qcsc_prefect.integrations.qiskit.testing import RemoteEmulator

from .environments import ROOT, PrefectServer, kill_group
from .machines import (
    BLOCK,
    PAGE,
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

#: Says that it is ready, then submits three inputs, one every three seconds from a given moment
#: on, and prints the ids of the jobs.
AT_GIVEN_MOMENTS = f"""
import asyncio, json, os, pathlib, sys, time
sys.path.insert(0, "docs/examples")
from prefect import flow
from qcsc_prefect.integrations.qiskit import submit_sampler_job_task
from several_machines import ghz_circuit, isa_circuit

@flow
async def at_given_moments(folder):
    pubs = [await isa_circuit(ghz_circuit(2), "{BLOCK}")]
    (folder / f"ready-{{os.getpid()}}").touch()
    while not (folder / "start").exists():
        await asyncio.sleep(0.05)
    start = float((folder / "start").read_text())
    found = []
    for number in range(3):
        await asyncio.sleep(max(0.0, start + 3 * number - time.time()))
        job = await submit_sampler_job_task(pubs, "{BLOCK}", 10 + number, cache_submit=True)
        found.append(job["job_id"])
    return found

print(json.dumps(asyncio.run(at_given_moments(pathlib.Path(sys.argv[1])))))
"""


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

    desk: Machine
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
            yield Laboratory(desk, PrefectAPI(server.url), service, (one, other))
        assert not (folder / "server" / "prefect.db").exists()  # it was PostgreSQL


@pytest.mark.parametrize(
    ("example", "function"),
    [("several_machines", "experiment"), ("readout_calibration", "readout_calibration")],
)
def test_the_page_shows_what_the_examples_do(example: str, function: str):
    source = (ROOT / "docs" / "examples" / f"{example}.py").read_text()
    (shown,) = [
        ast.get_source_segment(source, node)
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function
    ]
    assert shown
    assert shown in PAGE.read_text()


def test_equal_flows_on_two_machines_at_the_same_time_are_one_job(laboratory: Laboratory):
    runs = [laboratory.start(), laboratory.start()]
    rows = [laboratory.row_of(run_id) for run_id in runs]
    first, second = (laboratory.worker_of(run_id) for run_id in runs)
    assert first is not second
    assert rows[0] == rows[1]
    assert laboratory.job_ids(without=set()) == [rows[0]["job"]]
    counts = {key: value for key, value in rows[0].items() if key in {"000", "111"}}
    assert sum(counts.values()) == 1000  # the ideal GHZ state gives no other outcome
    assert set(counts) == {"000", "111"}
    # Each keeps what it knows in its own home: they met on the service alone.
    assert first.storage()
    assert second.storage()

    # And once more, when the job has long been done.
    asked = laboratory.desk.run(*documented("prefect deployment run experiment/on-any-machine"))
    (again,) = re.findall(r"UUID: (\S+)", asked.stdout)
    assert laboratory.row_of(again) == rows[0]
    assert laboratory.job_ids(without=set()) == [rows[0]["job"]]


def test_submissions_at_the_same_moment_settle_on_one_job(laboratory: Laboratory, tmp_path: Path):
    service, known = laboratory.service, {job.id for job in laboratory.service.jobs}
    service.set_schedule(queued_seconds=float("inf"))
    # Whoever searches before the other's job is there sends one too.
    service.faults.delay(1.5, "submit", times=None)
    machines = [
        Machine.set_up(tmp_path / name, api_url=laboratory.api.url, service=service)
        for name in ("one", "other")
    ]
    processes = [machine.start_python(AT_GIVEN_MOMENTS, str(tmp_path)) for machine in machines]
    wait_for(lambda: len(list(tmp_path.glob("ready-*"))) == 2, "both machines")
    (tmp_path / "moment").write_text(str(time.time() + 1))
    (tmp_path / "moment").rename(tmp_path / "start")
    printed = [process.communicate(timeout=120)[0] for process in processes]
    service.faults.clear()
    found = [
        next(json.loads(line) for line in output.splitlines() if line.startswith('["'))
        for output in printed
    ]
    sent = [job for job in service.jobs if job.id not in known]
    assert len(sent) > 3, "the machines did not meet"
    assert found[0] == found[1]
    assert laboratory.job_ids(without=known) == found[0]
    assert sum(output.count("a duplicate of job") for output in printed) == len(sent) - 3


def test_a_machine_finds_the_job_of_one_that_died(laboratory: Laboratory):
    known = {job.id for job in laboratory.service.jobs}
    laboratory.service.set_schedule(queued_seconds=float("inf"))
    lost = laboratory.start(shots=700)
    (job_id,) = wait_for(lambda: laboratory.job_ids(without=known), "the job")
    dead = laboratory.worker_of(lost)
    dead.machine.lose_power()

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
