"""What earlier releases left behind when they were killed is continued, and paid for once.

Each file in ``golden/paying-once-v1`` holds the result storage, and the job if there was one, of a
program that was killed at a step of the table in ``docs/paying-once.md``. The files are never
written again; running this module as a script adds those that are missing. Those of version 1 were
written by qcsc-prefect-qiskit 0.4.0 with Qiskit 2.6, the client 0.51 and Prefect 3.9.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from prefect import flow
from prefect.cache_policies import NO_CACHE
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_LOCAL_STORAGE_PATH,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness
from qiskit import QuantumCircuit

from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.testing import (
    ACCOUNT_NAME,
    EmulatedAccount,
    EmulatedInstance,
    EmulatedService,
    Endpoint,
    JobRecord,
)

GOLDEN = Path(__file__).parent / "golden" / "paying-once-v1"
CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/golden:golden::"
#: Stands in the files for the Prefect home of the program.
HOME = "{home}"
OUTCOME = {"101": 8}
#: Seconds until the search shows a new job for certain, and until it shows the golden ones.
DELAY, HIDDEN = 2.0, 0.8
#: A busy machine takes minutes until a server or a program has begun.
SECONDS = 300
RECORD = r"qiskit-sampler-[0-9a-f]{64}"


@dataclass(frozen=True)
class Step:
    """Where a program is killed, and what a rerun makes of what it left.

    Attributes:
        number: The step's number on the page.
        held: The program is killed when it waits for an answer of this endpoint ...
        after_submitting: ... to a request that comes after the submission.
        opens: Or it is killed when it opens a file of this name ...
        to_write: ... for writing ...
        half: ... and has written half of it: it is not in its place, or its metadata is not.
        between: Or it kills itself after its ``"submission"``, or after its ``"result"``.
        private: Whether its job is private.
        recorded: Whether the rerun finds the job by its record, with no help of its tag.
        sent: How many jobs the rerun submits.
    """

    number: str
    held: Endpoint | None = None
    after_submitting: bool = False
    opens: str | None = None
    to_write: bool = False
    half: bool = False
    between: str | None = None
    private: bool = False
    recorded: bool = False
    sent: int = 0


STEPS = [
    Step("1", opens=f"{RECORD}-intent", sent=1),
    Step("2", opens=RECORD, sent=1),
    Step("3", held=Endpoint.SEARCH, sent=1),
    Step("4", held=Endpoint.USAGE, sent=1),
    Step("5", held=Endpoint.SUBMIT),
    Step("6", opens=RECORD, to_write=True),
    Step("6a", opens=RECORD, to_write=True, half=True),
    Step("7", held=Endpoint.SEARCH, after_submitting=True, recorded=True),
    Step("8", between="submission", recorded=True),
    Step("9", held=Endpoint.JOB, recorded=True),
    Step("10", held=Endpoint.RESULT, recorded=True),
    Step("10a", opens=r"qcsc-[0-9a-f]{32}\.tmp", to_write=True, private=True, recorded=True),
    Step("11", between="result", recorded=True),
]


def golden_file(step: Step, apart: bool) -> Path:
    return GOLDEN / f"{step.number}-{'apart' if apart else 'together'}.json"


class Left(msgspec.Struct):
    """What a killed program has left behind."""

    job: JobRecord | None
    files: dict[str, str]


def golden_service() -> EmulatedService:
    instance = EmulatedInstance(crn=CRN)
    account = EmulatedAccount(user_id="golden", instances=(instance,))
    return EmulatedService(["fake_manila"], accounts=[account], seed=7)


def golden_config(service: EmulatedService, folder: Path) -> dict[str, object]:
    """Fields of a configuration whose identity holds nothing of this machine or this run."""
    file = service.account_file(folder / "account.json")
    return {**json.loads(file.read_text())[ACCOUNT_NAME], "backend_name": "fake_manila"}


def circuit() -> QuantumCircuit:
    circuit = QuantumCircuit(3)
    circuit.x([0, 2])
    circuit.measure_all()
    return circuit


async def run_program(
    config: QiskitRuntimeConfig, step: Step, metadata: Path | None, reached: Callable[[str], None]
) -> dict[str, int]:
    """Submit a job and fetch its result; `reached` is told when each of the two is there."""
    apart = {"cache_policy": NO_CACHE.configure(key_storage=metadata)} if metadata else {}
    submit = submit_sampler_job_task.with_options(**apart)
    fetch = fetch_qiskit_job_result_task.with_options(**apart)

    @flow
    async def experiment() -> dict[str, int]:
        reference = await submit(
            [circuit()],
            shots=8,
            runtime_config=config,
            options={"environment": {"private": step.private}},
            cache_submit=True,
            cache_scope="global",
            visibility_delay=DELAY,
        )
        reached("submission")
        output = await fetch(job_reference=reference, runtime_config=config, cache_result=True)
        reached("result")
        return output["result"][0].data.meas.get_counts()

    return await experiment()


def intents(storage: Path) -> list[dict[str, object]]:
    """Return what the intents say, those with their metadata beside them and those without."""
    stored = [json.loads(path.read_text()) for path in storage.glob("qiskit-*-intent")]
    return [json.loads(one["result"]) if "result" in one else one for one in stored]


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
@pytest.mark.parametrize("apart", [False, True], ids=["metadata within", "metadata apart"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.number)
async def test_a_later_version_goes_on(prefect_home: Path, tmp_path: Path, step: Step, apart: bool):
    left = msgspec.json.decode(golden_file(step, apart).read_bytes(), type=Left)
    for name, text in left.files.items():
        path = prefect_home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(HOME, str(prefect_home)))
    storage = prefect_home / "storage"
    assert [intent["outstanding"] for intent in intents(storage)] == left_outstanding(step)
    requests: dict[str, int] = {}
    with golden_service() as service:
        if left.job is not None:
            # What has a record is found by it, though somebody removed the job's tags. Where there
            # is only an intent, the job shows late: whoever does not heed the intent pays twice.
            tags = () if step.recorded else left.job.tags
            service.restore_jobs([replace(left.job, tags=tags)])
            age = (datetime.now(UTC) - left.job.created).total_seconds()
            service.faults.hide_new_jobs(age + HIDDEN)

        def reached(what: str) -> None:
            requests[what] = service.count()
            if what == "submission":
                service.faults.clear()

        config = QiskitRuntimeConfig(**golden_config(service, tmp_path))
        metadata = prefect_home / "metadata" if apart else None
        assert await run_program(config, step, metadata, reached) == OUTCOME
        assert service.count(Endpoint.SUBMIT) == step.sent
        assert len(service.jobs) == 1
        if step.sent:
            asked = [record.endpoint for record in service.requests]
            searches = asked[: asked.index(Endpoint.SUBMIT)].count(Endpoint.SEARCH)
            assert (searches > 1) is (step.number == "4"), "an intent is heeded, and nothing else"
        if step.number == "7":
            assert service.count(Endpoint.SEARCH) > 0, "other machines' jobs were not looked for"
        if step.private:
            assert service.count(Endpoint.RESULT) == 0, "it is handed out once"
            assert list(storage.glob("qiskit-private-result-*")) == []
        if step.number == "11":
            assert requests["result"] == requests["submission"], "a kept result needs no request"
    get_service_pool().clear()
    assert [intent["outstanding"] for intent in intents(storage)] == [False]


def left_outstanding(step: Step) -> list[bool]:
    """Return whether the intents that a step leaves are outstanding, as the page says."""
    number = int(re.match(r"\d+", step.number)[0])
    return [] if number < 4 else [number < 8]


def test_the_files_hold_nothing_of_the_machine_that_wrote_them():
    for file in GOLDEN.iterdir():
        left = msgspec.json.decode(file.read_bytes(), type=Left)
        for name, text in left.files.items():
            assert '"/' not in text, name
            holders = re.findall(r"holder\W+([\w.-]+)", text)
            assert set(holders) <= {"golden"}, name


# --- writing what is missing ---


def kill_at(step: Step, *, apart: bool) -> None:
    """Let this process be killed when it opens the file of a step."""

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int):
            path, writes = arguments[0], bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
            if step.half and (not apart or Path(str(path)).parent.name != "metadata"):
                return
        elif event == "os.rename" and step.half and not apart:
            path, writes = arguments[1], True
        else:
            return
        # What is to appear whole is written beside its place, under a longer name.
        name = rf"\.?{step.opens}(\..+\.tmp)?" if writes else str(step.opens)
        if writes is step.to_write and re.fullmatch(name, Path(str(path)).name):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def run_to_be_killed(number: str, folder: str, apart: bool, fields: dict[str, object]) -> None:
    """Run the program in this process, which ends at a step."""
    home = Path(folder)
    step = next(step for step in STEPS if step.number == number)
    socket.gethostname = lambda: "golden"

    def reached(what: str) -> None:
        if what == step.between:
            os.kill(os.getpid(), signal.SIGKILL)

    if step.opens is not None:
        kill_at(step, apart=apart)
    metadata = home / "metadata" if apart else None
    with temporary_settings({PREFECT_HOME: home, PREFECT_LOCAL_STORAGE_PATH: home / "storage"}):
        asyncio.run(run_program(QiskitRuntimeConfig(**fields), step, metadata, reached))


def write_missing() -> None:
    with prefect_test_harness(server_startup_timeout=SECONDS):
        for step, apart in itertools.product(STEPS, [False, True]):
            if not golden_file(step, apart).exists():
                with tempfile.TemporaryDirectory() as folder, golden_service() as service:
                    left = left_by(step, apart, Path(folder), service)
                assert service.token not in str(left)
                encoded = msgspec.json.format(msgspec.json.encode(left, order="sorted"))
                golden_file(step, apart).parent.mkdir(parents=True, exist_ok=True)
                golden_file(step, apart).write_bytes(encoded + b"\n")


def left_by(step: Step, apart: bool, folder: Path, service: EmulatedService) -> Left:
    home = folder / "home"
    job = json.dumps([step.number, str(home), apart, golden_config(service, folder)])
    service.set_schedule(queued_seconds=math.inf if step.held is Endpoint.JOB else 0.0)
    if step.after_submitting:
        service.faults.delay(1.0, Endpoint.SUBMIT)
    elif step.held not in (None, Endpoint.JOB):
        service.faults.delay(3600, step.held, when="after")
    process = subprocess.Popen(
        [sys.executable, __file__, "killed"],
        stdin=subprocess.PIPE,
        text=True,
        env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()},
    )
    process.stdin.write(job)
    process.stdin.close()
    if step.held is not None:
        if step.after_submitting:
            wait_for(lambda: service.count(Endpoint.SUBMIT) > 0)
            service.faults.delay(3600, step.held)
            service.clear_requests()
        wait_for(lambda: service.count(step.held) > 0 and (step.number != "5" or service.jobs))
        process.kill()
    assert process.wait(SECONDS) == -signal.SIGKILL
    files = {
        str(path.relative_to(home)): path.read_text().replace(str(home), HOME)
        for part in ("storage", "metadata")
        for path in sorted((home / part).rglob("*"))
        if path.is_file()
    }
    return Left(job=next(iter(service.jobs), None), files=files)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


if __name__ == "__main__":
    if sys.argv[1:] == ["killed"]:
        run_to_be_killed(*json.load(sys.stdin))
    else:
        write_missing()
