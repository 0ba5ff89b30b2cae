"""A hundred submissions mapped over the processes of a real Dask cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qcsc_prefect.integrations.qiskit.testing import RemoteEmulator

from .environments import PrefectServer
from .machines import BLOCK, SAVE_BLOCK, Machine, configuration_fields, documented, emulated_service

EXPECTED = [f"{state:07b} was read as {{'{state:07b}': 100}}" for state in range(100)]

#: The same flow in threads, and in threads under another name.
IN_THREADS = f"""
import sys
sys.path.insert(0, "docs/examples")
from prefect.task_runners import ThreadPoolTaskRunner
from readout_calibration import readout_calibration
for name, states in (("readout-calibration", 100), ("another-flow", 4)):
    runner = ThreadPoolTaskRunner(max_workers=8)
    threads = readout_calibration.with_options(name=name, task_runner=runner)
    for state, counts in enumerate(threads("{BLOCK}", states=states)):
        print(f"{{name}}: {{state:07b}} was read as {{counts}}")
"""


@dataclass(frozen=True)
class Laboratory:
    """A machine, and the service that its account is on."""

    machine: Machine
    service: RemoteEmulator

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
    readings = laboratory.machine.run(*documented("python docs/examples/readout_calibration.py"))
    assert [line for line in readings.stdout.splitlines() if "was read as" in line] == EXPECTED
    assert len(laboratory.service.jobs) == 100
    assert len(laboratory.tags()) == 100


def test_the_flow_has_its_name_in_dask_workers(laboratory: Laboratory):
    before = laboratory.tags()
    readings = laboratory.machine.run_python(IN_THREADS).splitlines()
    named = [line.partition(": ")[2] for line in readings if line.startswith("readout-calibration")]
    assert named == EXPECTED
    # Under its name it found in threads what Dask's processes had sent; the other flow did not.
    assert len(laboratory.service.jobs) == 104
    assert len(laboratory.tags() - before) == 4
