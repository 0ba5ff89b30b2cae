"""Records, intents and results in a bucket that machines with homes of their own share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from qcsc_prefect.integrations.qiskit.testing import RemoteEmulator

from .environments import PrefectServer, kill_group
from .machines import (
    SAVE_BLOCK,
    Machine,
    configuration_fields,
    emulated_service,
    free_port,
    wait_for,
)

SAVE_BUCKET = """
import sys
from prefect_aws import AwsClientParameters, AwsCredentials, S3Bucket
AwsCredentials(
    aws_access_key_id="somebody",
    aws_secret_access_key="secret",
    aws_client_parameters=AwsClientParameters(
        endpoint_url=sys.argv[1], config={"connect_timeout": 5, "retries": {"max_attempts": 1}}
    ),
).save(sys.argv[3], overwrite=True)
S3Bucket(
    bucket_name="laboratory",
    bucket_folder=sys.argv[2],
    credentials=AwsCredentials.load(sys.argv[3]),
).save(sys.argv[3], overwrite=True)
"""
#: The page's example, with its storage in the bucket; prints what it found.
EXPERIMENT = """
import asyncio, json, sys
sys.path.insert(0, "docs/examples")
from several_machines import experiment
print(json.dumps(asyncio.run(experiment(shots=int(sys.argv[1])))))
"""


@dataclass(frozen=True)
class Bucket:
    """An S3 service on the loopback interface, in a process of its own."""

    url: str
    process: subprocess.Popen[bytes]

    def keys(self, folder: str) -> list[str]:
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="us-east-1",
        )
        found = client.list_objects_v2(Bucket="laboratory", Prefix=f"{folder}/")
        return [entry["Key"].removeprefix(f"{folder}/") for entry in found.get("Contents", [])]


@contextmanager
def s3_service(log: Path) -> Iterator[Bucket]:
    port = free_port()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: "Running on" in log.read_text(), f"the S3 service, see {log}")
        bucket = Bucket(f"http://127.0.0.1:{port}", process)
        boto3.client(
            "s3",
            endpoint_url=bucket.url,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="us-east-1",
        ).create_bucket(Bucket="laboratory")
        yield bucket
    finally:
        kill_group(process)


@dataclass(frozen=True)
class Laboratory:
    """Machines that share a server, an account and a bucket."""

    folder: Path
    api_url: str
    service: RemoteEmulator
    bucket: Bucket

    def machine(self, name: str, storage: str) -> Machine:
        return Machine.set_up(
            self.folder / name,
            api_url=self.api_url,
            service=self.service,
            PREFECT_DEFAULT_RESULT_STORAGE_BLOCK=f"s3-bucket/{storage}",
        )


@pytest.fixture(scope="module")
def laboratory(
    prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Laboratory]:
    folder = tmp_path_factory.mktemp("storage")
    with emulated_service() as service, s3_service(folder / "s3.log") as bucket:
        desk = Machine.set_up(folder / "desk", api_url=prefect_server.url, service=service)
        desk.run_python(SAVE_BLOCK, json.dumps(configuration_fields(service)))
        desk.run_python(SAVE_BUCKET, bucket.url, "records", "shared")
        nothing_listens_here = f"http://127.0.0.1:{free_port()}"
        desk.run_python(SAVE_BUCKET, nothing_listens_here, "records", "unreachable")
        yield Laboratory(folder, prefect_server.url, service, bucket)


def counts_of(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    counts: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return counts


def test_another_machine_takes_record_and_result_from_the_bucket(laboratory: Laboratory):
    first = laboratory.machine("first", "shared").run(sys.executable, "-c", EXPERIMENT, "500")
    kept = laboratory.bucket.keys("records")
    (result,) = [key for key in kept if key.startswith("qiskit-result-")]
    (intent,) = [key for key in kept if key.endswith("-intent")]
    assert result != intent
    assert intent.removesuffix("-intent") in kept  # the record of the submission

    laboratory.service.clear_requests()
    other = laboratory.machine("other", "shared")
    second = other.run(sys.executable, "-c", EXPERIMENT, "500")
    assert counts_of(second) == counts_of(first)
    assert sum(counts_of(second).values()) == 500
    (job,) = laboratory.service.jobs
    assert f"Reusing job {job.id}" in second.stderr
    assert f"Reusing the result of job {job.id}" in second.stderr
    for endpoint in ("search", "submit", "result"):
        assert laboratory.service.count(endpoint) == 0
    assert not list((other.home / "storage").glob("*"))


def test_an_intent_in_the_bucket_tells_another_machine_to_look_longer(laboratory: Laboratory):
    known = {job.id for job in laboratory.service.jobs}
    laboratory.service.set_schedule(queued_seconds=float("inf"))
    laboratory.service.faults.delay(600, "submit", when="after")  # accepted, never answered
    program = ["-c", EXPERIMENT, "300"]
    doomed = laboratory.machine("doomed", "shared").start_python(*program[1:])
    (job,) = wait_for(
        lambda: [job for job in laboratory.service.jobs if job.id not in known], "the job"
    )
    kill_group(doomed)
    laboratory.service.faults.clear()
    laboratory.service.faults.hide_new_jobs(20)
    laboratory.service.release_jobs()
    done = laboratory.machine("heir", "shared").run(sys.executable, *program)
    laboratory.service.faults.clear()
    assert "its answer was lost" in done.stderr
    assert sum(counts_of(done).values()) == 300
    assert {job.id for job in laboratory.service.jobs} - known == {job.id}


def test_a_bucket_that_cannot_be_reached_loses_no_job(laboratory: Laboratory):
    known = {job.id for job in laboratory.service.jobs}
    laboratory.service.set_schedule()
    cut_off = laboratory.machine("cut-off", "unreachable")
    done = cut_off.run(sys.executable, "-c", EXPERIMENT, "200")
    assert sum(counts_of(done).values()) == 200
    (job,) = [job for job in laboratory.service.jobs if job.id not in known]
    warned = [line for line in done.stderr.splitlines() if "WARNING" in line and job.id in line]
    assert any("could not be stored" in line for line in warned)

    # Nothing is remembered, so the job is found on the service.
    again = cut_off.run(sys.executable, "-c", EXPERIMENT, "200")
    assert f"Reusing job {job.id}" in again.stderr
    assert counts_of(again) == counts_of(done)
