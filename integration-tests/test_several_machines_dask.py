"""A hundred submissions mapped over the processes of a real Dask cluster."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from qcsc_prefect.core.engine.identity import input_tag_of
from qcsc_prefect.integrations.qiskit.testing import RemoteEmulator

from .environments import PrefectServer
from .machines import Machine, emulated_service, saved_configuration
from .page_blocks import Documented

#: Dask's profiler can stop a worker for ever in CPython 3.11, as the page says.
NO_PROFILE = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}
EXPECTED = [f"{state:07b} was read as {{'{state:07b}': 100}}" for state in range(100)]

#: The same flow in threads, in threads under another name, and what the page says of shared lists.
IN_THREADS = """
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from qcsc_prefect.integrations.qiskit import (
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from readout_calibration import basis_state, readout_calibration

for name, states in (("readout-calibration", 100), ("another-flow", 4)):
    runner = ThreadPoolTaskRunner(max_workers=8)
    threads = readout_calibration.with_options(name=name, task_runner=runner)
    for state, counts in enumerate(threads(states=states)):
        print(f"{{name}}: {{state:07b}} was read as {{counts}}")

@flow
def with_a_shared_list():
    pubs = [basis_state(1, 1), basis_state(2, 3)]
{shared_list}
    for output in fetch_qiskit_job_result_task.map("kawasaki", job_reference=jobs).result():
        print("shared:", [pub.data.meas.get_counts() for pub in output["result"]])

with_a_shared_list()
"""


@dataclass(frozen=True)
class Laboratory:
    """A machine, and the service that its account is on."""

    machine: Machine
    service: RemoteEmulator

    def tags(self) -> set[str | None]:
        return {input_tag_of(job.tags) for job in self.service.jobs}

    def submitters(self) -> set[str]:
        """The processes that have sent jobs from the machine, as they have noted themselves."""
        intents = [json.loads(path.read_text()) for path in self.machine.storage.glob("*-intent")]
        assert len(intents) == len(self.service.jobs)
        return {json.loads(intent["result"])["holder"] for intent in intents}


@pytest.fixture(scope="module")
def laboratory(
    prefect_server: PrefectServer,
    documented: Documented,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Laboratory]:
    folder = tmp_path_factory.mktemp("dask")
    code = folder / "code"
    code.mkdir()
    documented.write("readout_calibration.py", code)
    with emulated_service("--backend", "ibm_kawasaki=fake_nairobi") as service:
        machine = Machine.set_up(
            folder / "home",
            code=code,
            service=service,
            PREFECT_API_URL=prefect_server.url,
            **NO_PROFILE,
        )
        machine.python(saved_configuration(documented, service))
        yield Laboratory(machine, service)


def test_a_hundred_mapped_jobs_are_each_submitted_once(
    laboratory: Laboratory, documented: Documented
):
    readings = laboratory.machine.shell(documented("python readout_calibration.py"))
    assert [line for line in readings.splitlines() if "was read as" in line] == EXPECTED
    jobs = laboratory.service.jobs
    assert [job.state for job in jobs] == ["Completed"] * 100
    assert len(laboratory.tags()) == 100
    assert laboratory.service.count("submit") == 100
    assert len(laboratory.submitters()) == 2  # the two processes of the cluster


def test_the_flow_has_its_name_in_dask_workers(laboratory: Laboratory, documented: Documented):
    before = laboratory.tags()
    block = documented("unmapped(pubs)")
    program = IN_THREADS.format(shared_list=textwrap.indent(block, "    "))
    readings = laboratory.machine.python(program).stdout.splitlines()
    named = [line.partition(": ")[2] for line in readings if line.startswith("readout-calibration")]
    assert named == EXPECTED
    # Under its name it found in threads what Dask's processes had sent; the other flow did not.
    # The list that all calls share is two PUBs for each of three jobs.
    shared = [line for line in readings if line.startswith("shared")]
    assert shared == [f"shared: [{{'1': {n}}}, {{'11': {n}}}]" for n in (100, 1000, 10000)]
    assert len(laboratory.service.jobs) == 100 + 4 + 3
    assert len(laboratory.tags() - before) == 4 + 3
