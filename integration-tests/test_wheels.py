"""The built wheels: what is in them, and that each runs, alone with what it needs and together."""

from __future__ import annotations

import email
import json
import re
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from .environments import (
    DISTRIBUTIONS,
    MAIN_JOB,
    Built,
    PrefectServer,
    VirtualEnvironment,
    prefect_environment,
    run,
)

PACKAGE_FOLDERS = {
    "qcsc-prefect-core": "qcsc_prefect/core/",
    "qcsc-prefect-qiskit": "qcsc_prefect/integrations/qiskit/",
    "qcsc-prefect-wrappers": "qcsc_prefect/integrations/qiskit/wrappers/",
}


def wheel_files(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def requirements_of(wheel: Path, extra: str | None = None) -> dict[str, str]:
    """Return name and bounds of everything that a wheel, or an extra of it, requires."""
    found = {}
    for written in metadata_of(wheel).get_all("Requires-Dist", []):
        requirement, _, of_extra = written.partition("; extra == ")
        if of_extra.strip("'\"") == (extra or ""):
            name, bounds = re.fullmatch(
                r"([A-Za-z0-9_.-]+?(?:\[\w+\])?)\s*([<>=!~].*)?", requirement
            ).groups()
            found[name] = ",".join(sorted((bounds or "").split(",")))
    return found


# ---- what is in them ----


def test_every_file_has_one_owner(built: Built):
    owners: dict[str, list[str]] = {}
    for distribution in DISTRIBUTIONS:
        for file in wheel_files(built.wheel(distribution)):
            owners.setdefault(file, []).append(distribution)
    assert {file: names for file, names in owners.items() if len(names) > 1} == {}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_wheel_holds_its_own_subtree_and_nothing_else(built: Built, distribution: str):
    folder = PACKAGE_FOLDERS[distribution]
    files = wheel_files(built.wheel(distribution))
    outside = [file for file in files if not file.startswith(folder) and ".dist-info/" not in file]
    assert outside == []
    assert f"{folder}__init__.py" in files
    assert f"{folder}py.typed" in files
    if distribution == "qcsc-prefect-qiskit":
        assert not [file for file in files if file.startswith(f"{folder}wrappers")]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_metadata_of_a_wheel(built: Built, distribution: str):
    wheel = built.wheel(distribution)
    metadata = metadata_of(wheel)
    assert metadata["Metadata-Version"] == "2.4"
    assert metadata["Name"] == distribution
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"].replace(" ", "") in {"<3.14,>=3.11", ">=3.11,<3.14"}
    licence = [file for file in wheel_files(wheel) if file.endswith("/licenses/LICENSE")]
    assert len(licence) == 1


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_an_sdist_holds_sources_licence_and_readme(built: Built, distribution: str):
    with tarfile.open(built.sdist(distribution)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO"} <= names
    assert f"src/{PACKAGE_FOLDERS[distribution]}py.typed" in names


def test_siblings_and_the_web_framework_are_bounded(built: Built):
    assert requirements_of(built.wheel("qcsc-prefect-core")).keys() == {"msgspec"}
    qiskit = requirements_of(built.wheel("qcsc-prefect-qiskit"))
    # Versions below 0.4 under these names are another project's.
    assert qiskit["qcsc-prefect-core[prefect]"] == "<0.5,>=0.4"
    of_prefect = requirements_of(built.wheel("qcsc-prefect-core"), "prefect")
    # Prefect 3.8 does not cap it, and its server cannot import later versions.
    assert of_prefect["fastapi"] == "<0.151,>=0.139"
    assert of_prefect["prefect"] == qiskit["prefect"]
    assert {"prefect", "qiskit", "qiskit-ibm-runtime"} <= qiskit.keys()
    assert not {name for name in qiskit if name.startswith("qiskit-aer")}
    wrappers = requirements_of(built.wheel("qcsc-prefect-wrappers"))
    assert wrappers == {"qcsc-prefect-qiskit": "<0.5,>=0.4"}


# ---- the core package alone ----


def test_core_runs_alone(core_environment: VirtualEnvironment):
    core_environment.check()
    code = """
import json, sys
from importlib.metadata import distributions
from qcsc_prefect.core import build_input_digest
from qcsc_prefect.core.errors import JobReferenceError
from qcsc_prefect.core.reference import parse_job_reference
from qcsc_prefect.core.retry import RetryAnswer, advise_retry

one = build_input_digest("acme-input", {"couplings": {"b": 2.0, "a": [1, 2]}})
other = build_input_digest("acme-input", {"couplings": {"a": (1, 2), "b": 2.0}})
assert one == other, (one, other)
assert one != build_input_digest("acme-input", {"couplings": {"a": (1, 2), "b": 2.5}})
reference = parse_job_reference({"job_id": "j-1", "program_type": "anneal", "shots": 7})
try:
    parse_job_reference({"job_id": "j-1", "shots": "many"})
except JobReferenceError as error:
    refused = error.path
assert advise_retry(ConnectionResetError()).answer is RetryAnswer.RETRY
installed = sorted(found.metadata["Name"] for found in distributions())
print(json.dumps([one, reference.shots, refused, installed]))
"""
    digest, shots, refused, installed = json.loads(core_environment.execute(code).stdout)
    assert re.fullmatch(r"acme-input-[0-9a-f]{64}", digest)
    assert shots == 7
    assert refused == "shots"
    seeds = {"packaging", "pip", "setuptools", "wheel"}  # what a new environment holds by itself
    assert set(installed) - seeds == {"msgspec", "qcsc-prefect-core"}


# ---- the qiskit package without wrappers ----

SPLIT_PATH = """
import asyncio, json
from prefect import flow
from qiskit import QuantumCircuit
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig, fetch_qiskit_job_result_task, submit_sampler_job_task,
)

bell = QuantumCircuit(2)
bell.h(0)
bell.cx(0, 1)
bell.measure_all()
config = QiskitRuntimeConfig(channel="local", backend_name="fake_manila")

@flow
async def split():
    from qiskit.transpiler import generate_preset_pass_manager
    backend = config.get_backend()
    isa = generate_preset_pass_manager(1, backend=backend, seed_transpiler=1).run(bell)
    reference = await submit_sampler_job_task([isa], shots=1000, runtime_config=config)
    return await fetch_qiskit_job_result_task(
        job_reference=json.loads(json.dumps(reference)), runtime_config=config
    )

output = asyncio.run(split())
print(json.dumps([output["job_id"], output["result"][0].data.meas.get_counts()]))
"""


def test_the_qiskit_package_runs_without_wrappers(
    qiskit_environment: VirtualEnvironment, tmp_path: Path
):
    qiskit_environment.check()
    done = qiskit_environment.execute(SPLIT_PATH, env=prefect_environment(tmp_path / "home"))
    job_id, counts = json.loads(done.stdout.strip().splitlines()[-1])
    assert job_id.startswith("local-")
    assert sum(counts.values()) == 1000
    # A Bell state on an ideal simulator of the device, or on a noisy one.
    assert counts["00"] + counts["11"] > 850
    assert 400 < counts["00"] < 600


def test_missing_wrappers_are_named_with_what_to_install(qiskit_environment: VirtualEnvironment):
    code = """
import qcsc_prefect.integrations.qiskit as package
from qcsc_prefect.integrations.qiskit import *
names = {"QCSCSamplerV2", "QCSCEstimatorV2", "QCSCPrimitiveJob"}
assert not names & {*package.__all__, *dir(package)}
for name in sorted(names):
    try:
        exec(f"from qcsc_prefect.integrations.qiskit import {name}")
    except ImportError as error:
        print(type(error).__name__, error)
"""
    printed = qiskit_environment.execute(code).stdout.splitlines()
    assert len(printed) == 3
    for line, name in zip(printed, ("QCSCEstimator", "QCSCPrimitive", "QCSCSampler"), strict=True):
        assert line.startswith(f"ImportError {name}")
        assert "pip install 'qcsc-prefect-wrappers>=0.4'" in line


def test_a_mistake_inside_the_wrappers_is_not_taken_for_their_absence(
    qiskit_environment: VirtualEnvironment, tmp_path: Path
):
    wrappers = tmp_path / "qcsc_prefect" / "integrations" / "qiskit" / "wrappers"
    wrappers.mkdir(parents=True)
    (wrappers / "__init__.py").write_text("import a_library_that_is_not_there\n")
    done = qiskit_environment.execute(
        "from qcsc_prefect.integrations.qiskit import QCSCSamplerV2",
        env=prefect_environment(tmp_path / "home", PYTHONPATH=str(tmp_path)),
        check=False,
    )
    assert done.returncode == 1
    assert "No module named 'a_library_that_is_not_there'" in done.stderr.splitlines()[-1]


def test_prefect_finds_the_collection_and_registers_the_block(
    qiskit_environment: VirtualEnvironment, prefect_server: PrefectServer
):
    environment = prefect_server.environment
    found = qiskit_environment.execute(
        """
from prefect.plugins import load_prefect_collections
from prefect.utilities.dispatch import lookup_type
from prefect.blocks.core import Block
loaded = load_prefect_collections()["qcsc_prefect_qiskit"]
assert loaded.__name__ == "qcsc_prefect.integrations.qiskit", loaded
print(lookup_type(Block, "qiskit-runtime-config").__name__)
""",
        env=environment,
    )
    assert found.stdout.split()[-1] == "QiskitRuntimeConfig"
    registered = run(
        [
            *(qiskit_environment.python, "-m", "prefect"),
            *("block", "register", "-m", "qcsc_prefect.integrations.qiskit"),
        ],
        env=environment,
    )
    assert "Qiskit Runtime Config" in registered.stdout


# ---- all three ----


def test_the_main_job_runs_from_wheels(whole_environment: VirtualEnvironment, tmp_path: Path):
    whole_environment.check()
    done = run(
        [whole_environment.python, "-P", MAIN_JOB], env=prefect_environment(tmp_path / "home")
    )
    counts = re.search(r"GHZ job local-\w+: ({.*})", done.stdout)
    assert counts is not None, done.stdout
    assert json.loads(counts[1].replace("'", '"')).keys() == {"000", "111"}
    minimum = re.search(r"Minimum of the scan: (-?[0-9.]+) hartree", done.stdout)
    assert minimum is not None, done.stdout
    assert float(minimum[1]) == pytest.approx(-1.8573, abs=0.010)


def test_the_wrappers_resolve_from_wheels(whole_environment: VirtualEnvironment):
    code = """
import pickle
from qcsc_prefect.integrations.qiskit import QCSCPrimitiveJob, QCSCSamplerV2
from qcsc_prefect.integrations.qiskit.wrappers import QCSCSamplerV2 as same
assert QCSCSamplerV2 is same
assert pickle.loads(pickle.dumps(QCSCPrimitiveJob)) is QCSCPrimitiveJob
print(QCSCSamplerV2.__module__, QCSCPrimitiveJob.__module__)
"""
    printed = whole_environment.execute(code).stdout.split()
    assert printed == ["qcsc_prefect.integrations.qiskit.wrappers"] * 2
