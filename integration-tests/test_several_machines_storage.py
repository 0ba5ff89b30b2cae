"""Records, intents and results in a bucket that machines with homes of their own share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from qcsc_prefect.integrations.qiskit.testing import RemoteEmulator

from .environments import PrefectServer
from .machines import (
    Machine,
    emulated_service,
    exported,
    free_port,
    saved_configuration,
)
from .page_blocks import Documented
from .s3_service import Bucket, Cable, s3_bucket

#: The page's example; prints what it found.
EXPERIMENT = """
import asyncio, json, sys
from experiment import experiment
print(json.dumps(asyncio.run(experiment(shots=int(sys.argv[1])))))
"""
#: Submits one input, and a second one as soon as a file is there; prints job ids and counts.
TWO_INPUTS = """
import asyncio, json, pathlib, sys
from experiment import ghz_circuit, isa_circuit
from prefect import flow
from qcsc_prefect.integrations.qiskit import fetch_qiskit_job_result_task, submit_sampler_job_task

async def outcome(pubs, shots, delay):
    job = await submit_sampler_job_task(
        pubs, "kawasaki", shots, cache_submit=True, visibility_delay=delay
    )
    output = await fetch_qiskit_job_result_task("kawasaki", job_reference=job)
    return job["job_id"], output["result"][0].data.meas.get_counts()

@flow
async def two_inputs(second_may_start, shots, delay):
    pubs = [await isa_circuit(ghz_circuit(2), "kawasaki")]
    first = asyncio.create_task(outcome(pubs, shots, delay))
    while not second_may_start.exists():
        await asyncio.sleep(0.05)
    return await asyncio.gather(first, outcome(pubs, shots + 100, delay))

path, shots, delay = sys.argv[1:]
print(json.dumps(asyncio.run(two_inputs(pathlib.Path(path), int(shots), float(delay)))))
"""
STORAGE = "export PREFECT_DEFAULT_RESULT_STORAGE_BLOCK"


@dataclass(frozen=True)
class Laboratory:
    """Machines that share a server, an account and a bucket."""

    folder: Path
    api_url: str
    service: RemoteEmulator
    bucket: Bucket
    cable: Cable
    documented: Documented

    def machine(self, name: str, storage: str = "results") -> Machine:
        """Set a machine up as the page says, with one of the storage blocks."""
        names = {"s3-bucket/results": f"s3-bucket/{storage}"}
        return Machine.set_up(
            self.folder / name,
            code=self.folder / "code",
            service=self.service,
            PREFECT_API_URL=self.api_url,
            **exported(self.documented(STORAGE, names)),
        )

    def saved_bucket(self, port: int, storage: str) -> str:
        """Return the page's program that saves the bucket, as it is reached by a port."""
        names = {
            "https://s3.lab": f"http://127.0.0.1:{port}",
            'save("lab"': f'save("{storage}"',
            'save("results"': f'save("{storage}"',
        }
        return self.documented("S3Bucket(\n", names)


@pytest.fixture(scope="module")
def laboratory(
    prefect_server: PrefectServer,
    documented: Documented,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Laboratory]:
    folder = tmp_path_factory.mktemp("storage")
    (folder / "code").mkdir()
    documented.write("experiment.py", folder / "code")
    with (
        emulated_service("--backend", "ibm_kawasaki=fake_manila") as service,
        s3_bucket("lab-results", "qcsc", folder / "s3.log") as bucket,
        closing(Cable(bucket.port)) as cable,
    ):
        machines = Laboratory(folder, prefect_server.url, service, bucket, cable, documented)
        nothing_listens_here = free_port()
        machines.machine("desk").python(
            saved_configuration(documented, service)
            + machines.saved_bucket(bucket.port, "results")
            + machines.saved_bucket(cable.port, "over-the-cable")
            + machines.saved_bucket(nothing_listens_here, "unreachable")
        )
        yield machines


@pytest.fixture
def service(laboratory: Laboratory) -> Iterator[RemoteEmulator]:
    laboratory.service.set_schedule()
    laboratory.service.clear_requests()
    yield laboratory.service
    laboratory.service.faults.clear()


def counts_in(printed: str) -> dict[str, int]:
    counts: dict[str, int] = json.loads(printed.strip().splitlines()[-1])
    return counts


def test_another_machine_takes_record_and_result_from_the_bucket(
    laboratory: Laboratory, service: RemoteEmulator
):
    known, before = {job.id for job in service.jobs}, laboratory.bucket.keys()
    first = laboratory.machine("first")
    printed = first.python(EXPERIMENT, "500").stdout
    (job,) = [job for job in service.jobs if job.id not in known]
    kept = laboratory.bucket.keys() - before
    (result,) = [key for key in kept if key.startswith("qiskit-result-")]
    (intent,) = [key for key in kept if key.endswith("-intent")]
    record = intent.removesuffix("-intent")
    assert laboratory.bucket.content(record)["job_id"] == job.id
    assert laboratory.bucket.content(intent)["outstanding"] is False
    # What is left is what the flow returned, which Prefect keeps by itself.
    (returned,) = kept - {record, intent, result}
    assert json.loads(laboratory.bucket.read(returned)) == counts_in(printed)

    service.clear_requests()
    other = laboratory.machine("other")
    second = other.python(EXPERIMENT, "500")
    assert counts_in(second.stdout) == counts_in(printed)
    assert sum(counts_in(printed).values()) == 500
    assert f"Reusing job {job.id}" in second.stderr
    assert f"Reusing the result of job {job.id}" in second.stderr
    for endpoint in ("search", "submit", "result"):
        assert service.count(endpoint) == 0
    for machine in (first, other):
        assert not list(machine.storage.glob("*"))


def test_the_jobs_of_a_machine_that_died_are_found_by_its_intents_in_the_bucket(
    laboratory: Laboratory, service: RemoteEmulator, tmp_path: Path
):
    known, kept = {job.id for job in service.jobs}, laboratory.bucket.keys()
    second_may_start = tmp_path / "second-may-start"
    program = (TWO_INPUTS, str(second_may_start), "300", "60")
    service.set_schedule(queued_seconds=float("inf"))

    def sent() -> list[str]:
        return [job.id for job in service.jobs if job.id not in known]

    # It dies before the first job's answer has come, and before the second job is recorded.
    doomed = laboratory.machine("doomed", "over-the-cable")
    service.faults.delay(600, "submit", times=1, when="after")
    with doomed.python_in_background(*program) as process:
        process.wait_until(lambda: len(sent()) == 1, "the first job")
        service.faults.delay(10, "submit", times=1, when="after")  # until the cable is cut
        second_may_start.touch()
        process.wait_until(lambda: len(sent()) == 2, "the second job")
        laboratory.cable.cut()
        first, second = sent()
        process.wait_until_it_says(f"Submitted sampler job {second}")
        assert first not in process.log.read_text()
        assert process.process.poll() is None
        doomed.lose_power()
    left = laboratory.bucket.keys() - kept
    assert len(left) == 2
    assert all(key.endswith("-intent") for key in left)
    assert all(laboratory.bucket.content(key)["outstanding"] for key in left)

    # Without its intents nobody would search again: the service does not show the jobs at first.
    service.faults.hide_new_jobs(3600)
    service.clear_requests()
    heir = laboratory.machine("heir")
    with heir.python_in_background(*program) as process:
        process.wait_until(
            lambda: process.log.read_text().count("its answer was lost") == 2, "both intents"
        )
        process.wait_until(lambda: service.count("search") >= 2, "searches")
        service.faults.hide_new_jobs(0)
        service.release_jobs()
        found = json.loads(process.output().splitlines()[-1])
    assert [job_id for job_id, _ in found] == [first, second]
    assert [sum(counts.values()) for _, counts in found] == [300, 400]
    assert service.count("submit") == 0
    assert sent() == [first, second]
    # Now their records are there, and nothing is outstanding.
    assert {key.removesuffix("-intent") for key in left} <= laboratory.bucket.keys()
    assert not any(laboratory.bucket.content(key)["outstanding"] for key in left)


def test_a_bucket_that_cannot_be_reached_loses_no_job(
    laboratory: Laboratory, service: RemoteEmulator, tmp_path: Path
):
    known = {job.id for job in service.jobs}
    (tmp_path / "second-may-start").touch()
    program = (TWO_INPUTS, str(tmp_path / "second-may-start"), "700", "3")
    cut_off = laboratory.machine("cut-off", "unreachable")
    done = cut_off.python(*program)
    found = json.loads(done.stdout.splitlines()[-1])
    assert [sum(counts.values()) for _, counts in found] == [700, 800]
    sent = {job.id for job in service.jobs} - known
    assert {job_id for job_id, _ in found} == sent
    for job_id in sent:
        warned = [line for line in done.stderr.splitlines() if "WARNING" in line and job_id in line]
        assert any("could not be stored" in line for line in warned)

    # Nothing is remembered, so the jobs are found on the service.
    again = cut_off.python(*program)
    assert json.loads(again.stdout.splitlines()[-1]) == found
    assert all(f"Reusing job {job_id}" in again.stderr for job_id in sent)
    assert {job.id for job in service.jobs} - known == sent
    assert service.count("submit") == 2
