"""A hundred submissions mapped over the processes of a real Dask cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qcsc_prefect.integrations.qiskit.testing import RemoteEmulator

from .environments import PrefectServer
from .machines import BLOCK, Machine, configuration_fields, documented, emulated_service

EXPECTED = [f"{state:07b} was read as {{'{state:07b}': 100}}" for state in range(100)]

#: The same flow by another task runner, and a flow of another name; prints who ran the tasks.
OTHER_WAYS = f"""
import json, sys
sys.path.insert(0, "docs/examples")
from prefect.task_runners import ThreadPoolTaskRunner
from readout_calibration import readout_calibration
threads = readout_calibration.with_options(task_runner=ThreadPoolTaskRunner(max_workers=4))
threads("{BLOCK}", states=4)
readout_calibration.with_options(name="another-flow")("{BLOCK}", states=4)
"""
SAVE_BLOCK = f"""
import json, sys
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
QiskitRuntimeConfig(**json.loads(sys.argv[1])).save("{BLOCK}", overwrite=True)
"""


@dataclass(frozen=True)
class Laboratory:
    """A machine, and the service that its account is on."""

    machine: Machine
    service: RemoteEmulator

    def readings(self) -> list[str]:
        done = self.machine.run(*documented("python docs/examples/readout_calibration.py"))
        return [line for line in done.stdout.splitlines() if "was read as" in line]

    def tags(self) -> set[str]:
        return {tag for job in self.service.jobs for tag in job.tags}


@pytest.fixture(scope="module")
def laboratory(
    prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Laboratory]:
    home: Path = tmp_path_factory.mktemp("dask") / "home"
    with emulated_service("--backend", "fake_nairobi") as service:
        machine = Machine.set_up(home, api_url=prefect_server.url, service=service)
        machine.run_python(SAVE_BLOCK, json.dumps(configuration_fields(service)))
        yield Laboratory(machine, service)


def test_a_hundred_mapped_jobs_are_each_submitted_once(laboratory: Laboratory):
    assert laboratory.readings() == EXPECTED
    assert len(laboratory.service.jobs) == 100
    assert len(laboratory.tags()) == 100

    laboratory.service.clear_requests()
    assert laboratory.readings() == EXPECTED
    assert laboratory.service.count("submit") == 0
    assert laboratory.service.count("result") == 0


def test_the_flow_has_its_name_in_dask_workers(laboratory: Laboratory):
    before = laboratory.tags()
    laboratory.machine.run_python(OTHER_WAYS)
    # The threads of the same flow found what Dask's processes had sent; the other flow did not.
    assert len(laboratory.service.jobs) == 104
    assert len(laboratory.tags() - before) == 4
