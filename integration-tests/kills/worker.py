"""The user's program of the kill tests: a flow that submits and fetches jobs.

Started as a script it imports everything once, which takes ten seconds, and then forks one process
for each line of JSON that it reads; each of these is a process that can be killed. For each it
writes a line when it has been started and one when it has ended.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import select
import sys
import time
import traceback
from pathlib import Path

from prefect import flow
from prefect.filesystems import WritableFileSystem
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_LOCAL_STORAGE_PATH,
    temporary_settings,
)
from pydantic import Field
from qiskit import QuantumCircuit

from qcsc_prefect.integrations.qiskit import (
    QCSCSamplerV2,
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)

SHOTS = 20


class GatedStorage(WritableFileSystem):
    """Result storage that is not local, and that can be slow at a write of one's choice.

    While the file ``gate`` exists in its folder, the n-th write of a key that holds its text lasts
    for minutes, and the file ``reached`` says that it has begun.
    """

    _block_type_slug = "gated-storage"

    folder: str = Field()

    async def read_path(self, path: str) -> bytes:
        return (Path(self.folder) / path).read_bytes()

    async def write_path(self, path: str, content: bytes) -> str:
        gate = Path(self.folder) / "gate"
        if gate.exists():
            text, number = json.loads(gate.read_text())
            if text in path:
                if number == 1:
                    (Path(self.folder) / "reached").touch()
                    await asyncio.sleep(300)
                gate.write_text(json.dumps([text, number - 1]))
        target = Path(self.folder) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.with_name(target.name + ".new").write_bytes(content)
        target.with_name(target.name + ".new").rename(target)
        return path


def circuit_of(number: int) -> QuantumCircuit:
    """A circuit whose only outcome is the number modulo 32; no two numbers give equal circuits."""
    circuit = QuantumCircuit(5)
    for qubit in range(5):
        if number >> qubit & 1:
            circuit.x(qubit)
    circuit.rz(number, 0)
    circuit.measure_all()
    return circuit


@flow
async def experiment(job: dict, config: QiskitRuntimeConfig) -> dict[str, dict[str, int]]:
    home = Path(job["home"])
    (home / "begun").touch()
    if "signal" in job:
        while not Path(job["signal"]).exists():
            await asyncio.sleep(0.01)
        await asyncio.sleep(job["after_signal"])
    numbers = [number for number in job["inputs"] for _ in range(job.get("copies", 1))]
    unsubmitted = len(numbers)

    async def one(number: int) -> dict[str, int]:
        reference = await submit_sampler_job_task(
            [circuit_of(number)],
            shots=SHOTS,
            runtime_config=config,
            options=job.get("options"),
            cache_submit=True,
            cache_scope="global",
            visibility_delay=job["visibility_delay"],
        )
        nonlocal unsubmitted
        unsubmitted -= 1
        if not unsubmitted:
            (home / "submitted").touch()
        output = await fetch_qiskit_job_result_task(
            job_reference=reference,
            runtime_config=config,
            cache_result=True,
            **job.get("fetch", {}),
        )
        return output["result"][0].data.meas.get_counts()

    found = await asyncio.gather(*(one(number) for number in numbers))
    return {str(number): counts for number, counts in zip(numbers, found, strict=True)}


@flow
async def pub_by_pub(job: dict, config: QiskitRuntimeConfig) -> dict[str, dict[str, int]]:
    submitted = await QCSCSamplerV2(runtime_config=config).run(
        [circuit_of(number) for number in job["inputs"]],
        shots=SHOTS,
        cache_submit=True,
        cache_scope="global",
        cache_result=True,
        cache_granularity="pub",
        visibility_delay=job["visibility_delay"],
    )
    result = await submitted.result()
    counts = [pub.data.meas.get_counts() for pub in result]
    return {str(number): found for number, found in zip(job["inputs"], counts, strict=True)}


async def run(job: dict) -> None:
    home = Path(job["home"])
    program = pub_by_pub if job.get("pub_by_pub") else experiment
    if job.get("gated"):
        storage = GatedStorage(folder=str(home / "gated"))
        await storage.save(f"gated-{home.name}", overwrite=True)
        program = program.with_options(result_storage=storage)
    # The token is in the configuration only: Prefect's server stores the parameters of flows.
    config = QiskitRuntimeConfig(**job.pop("config"))
    results = await program(job, config)
    temporary = home / "results.json.new"
    temporary.write_text(json.dumps(results))
    temporary.rename(home / "results.json")


def child(job: dict) -> None:
    home = Path(job["home"])
    home.mkdir(parents=True, exist_ok=True)
    log = os.open(home / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable()
    os.environ.update(job["environment"])
    settings = {
        PREFECT_HOME: home,
        PREFECT_LOCAL_STORAGE_PATH: home / "storage",
        PREFECT_API_URL: job["api_url"],
    }
    status = 1
    try:
        with temporary_settings(settings):
            asyncio.run(run(job))
        status = 0
    except BaseException:  # noqa: BLE001 - this process ends here, and its log tells why
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def serve() -> None:
    import qcsc_prefect.integrations.qiskit.services.ibm.runtime_service
    import qcsc_prefect.integrations.qiskit.services.local.job_service  # noqa: F401

    print("ready", flush=True)
    unread = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.02)
        if ready:
            more = os.read(0, 65536)
            if not more:
                return
            *lines, unread = (unread + more).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    child(json.loads(line))
                print(json.dumps({"started": pid, "time": time.time()}), flush=True)
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            continue
        if pid:
            code = os.waitstatus_to_exitcode(status)
            print(json.dumps({"ended": pid, "code": code}), flush=True)


if __name__ == "__main__":
    serve()
