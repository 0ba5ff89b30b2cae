"""The layers: core knows nobody, the qiskit package knows core, the wrappers know both.

What may import what stands in the contracts of `pyproject.toml`. import-linter checks them, imports
inside functions included. What it cannot see is tested here, and then measured: what is loaded, and
how long that takes.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

from .environments import DISTRIBUTIONS, ROOT, clean_environment, run

CORE = "qcsc_prefect.core"
QISKIT = "qcsc_prefect.integrations.qiskit"
CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
}

#: For each contract the module that a breach is planted in, the planted line and what it imports.
BREACHES = {
    "core": (
        f"{CORE}.retry",
        "from qiskit_ibm_runtime import QiskitRuntimeService",
        "qiskit_ibm_runtime",
    ),
    "value-types": (
        f"{CORE}.container.format",
        f"import {CORE}.container.numpy_types",
        f"{CORE}.container.numpy_types",
    ),
    "engine": (
        f"{CORE}.error_facts",
        f"import {CORE}.engine.lookup",
        f"{CORE}.engine.lookup",
    ),
    "core-prefect": (
        f"{CORE}.reference",
        f"from {CORE}.prefect import storage",
        f"{CORE}.prefect.storage",
    ),
    "conformance": (
        f"{CORE}.engine.waiting",
        f"import {CORE}.conformance.faults",
        f"{CORE}.conformance.faults",
    ),
    "wrappers": (
        f"{QISKIT}.submitting.submit",
        f"from {QISKIT}.wrappers import QCSCSamplerV2",
        f"{QISKIT}.wrappers",
    ),
    "facades": (
        f"{QISKIT}.wrappers.sampler",
        "import qiskit_ibm_runtime",
        "qiskit_ibm_runtime",
    ),
    "tasks": (
        f"{QISKIT}.presentation.tables",
        f"from {QISKIT}.submitting import pub_locations",
        f"{QISKIT}.submitting.pub_locations",
    ),
    "job-service": (
        f"{QISKIT}.cache",
        f"import {QISKIT}.services.local.store",
        f"{QISKIT}.services.local.store",
    ),
    "emulator": (
        f"{QISKIT}.blocks",
        f"from {QISKIT}.testing import Faults",
        f"{QISKIT}.testing",
    ),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of all packages in one folder, where they are when they are installed."""
    folder = tmp_path_factory.mktemp("layers") / "sources"
    for distribution in DISTRIBUTIONS:
        shutil.copytree(ROOT / "packages" / distribution / "src", folder, dirs_exist_ok=True)
    return folder


def lint_imports(sources: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    config = ("--config", ROOT / "pyproject.toml")
    # It looks in its current folder first, and breaks lines at the terminal's width.
    environment = clean_environment(COLUMNS="200")
    return run([command, *config, "--no-cache"], cwd=sources, env=environment, check=False)


def test_the_contracts_are_kept(sources: Path):
    done = lint_imports(sources)
    assert done.returncode == 0, done.stdout
    assert f"{len(CONTRACTS)} kept, 0 broken" in done.stdout


@pytest.fixture(scope="module")
def found_broken(sources: Path) -> dict[str, str]:
    """What is said of each contract that is found broken when all breaches are there."""
    breached = sources.with_name("breached")
    shutil.copytree(sources, breached)
    for module, planted, _ in BREACHES.values():
        with breached.joinpath(*module.split(".")).with_suffix(".py").open("a") as file:
            file.write(f"\n\ndef planted():\n    {planted}\n")
    done = lint_imports(breached)
    assert done.returncode == 1, done.stdout
    # Below the list of all contracts stand those that are broken, each below its name underlined.
    sections = re.split(r"^(.+)\n-+\n", done.stdout, flags=re.MULTILINE)[1:]
    said = dict(zip(sections[::2], sections[1::2], strict=True))
    return {name: said[name] for name in said if name in CONTRACTS.values()}


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_breach_of_a_contract_is_noticed(contract: str, found_broken: dict[str, str]):
    module, _, imported = BREACHES[contract]
    # Another breach may break this contract too, so its own one must be named.
    named = rf"^-\s+{re.escape(module)} -> {re.escape(imported)} \(l\."
    assert re.search(named, found_broken[CONTRACTS[contract]], re.MULTILINE), found_broken


def test_core_imports_the_standard_library_and_msgspec_and_itself():
    # A contract names what is forbidden; here everything is, but for what is named.
    graph = grimp.build_graph(
        CORE,
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )
    foreign = {
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if imported not in {"msgspec", *sys.stdlib_module_names}
        and not f"{imported}.".startswith(f"{CORE}.")
    }
    of_prefect = {pair for pair in foreign if pair[0].startswith(f"{CORE}.prefect.")}
    assert {imported for _, imported in of_prefect} == {"anyio", "prefect"}
    foreign -= of_prefect
    # They say how the values of a library are stored. The record's reader loads one by its name
    # when a record holds such a value, and not before.
    assert foreign == {
        ("qcsc_prefect.core.container.dateutil_types", "dateutil"),
        ("qcsc_prefect.core.container.numpy_types", "numpy"),
        ("qcsc_prefect.core.container.qiskit_types", "qiskit"),
    }


def test_no_module_takes_private_names_of_another(sources: Path):
    taken = [
        (file.name, alias.name)
        for file in sorted(sources.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(), file))
        if isinstance(node, ast.ImportFrom)
        and (node.level or (node.module or "").partition(".")[0] == "qcsc_prefect")
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert taken == []


# ---- what is loaded, and what it costs ----


def in_new_process(code: str, tmp_path: Path) -> dict[str, float | list[str]]:
    environment = clean_environment(PREFECT_HOME=str(tmp_path / "home"))
    return json.loads(run([sys.executable, "-P", "-c", code], env=environment).stdout)


IMPORT_AFTER = """
import json, sys, time
{before}
loaded = set(sys.modules)
start = time.process_time()  # what other processes do meanwhile does not count
import {module}
seconds = time.process_time() - start
new = sorted({{name.partition(".")[0] for name in set(sys.modules) - loaded}})
print(json.dumps({{"seconds": seconds, "loaded": new}}))
"""


@pytest.mark.parametrize(
    "module",
    [CORE, f"{CORE}.reference", f"{CORE}.retry", f"{CORE}.errors", f"{CORE}.conformance"],
)
def test_importing_core_loads_nothing_but_msgspec(module: str, tmp_path: Path):
    # With what msgspec itself takes where it finds it, such as typing_extensions.
    code = IMPORT_AFTER.format(before="import msgspec", module=module)
    loaded = set(in_new_process(code, tmp_path)["loaded"])
    # The standard library's copy looks for Java's package `org`; its multiprocessing gives the main
    # module a second name.
    assert loaded - sys.stdlib_module_names - {"org", "__mp_main__"} == {"qcsc_prefect"}


def test_importing_core_costs_less_than_50_ms_beyond_msgspec(tmp_path: Path):
    code = IMPORT_AFTER.format(before="import msgspec", module=CORE)
    # The least of several runs: everything else that the machine does only adds to it.
    seconds = min(in_new_process(code, tmp_path)["seconds"] for _ in range(9))
    assert seconds < 0.050


#: What flows import, in this order, before they have a job to send or a result to show.
EARLY = (
    QISKIT,
    f"{QISKIT}.cache",
    f"{QISKIT}.retry",
    f"{QISKIT}.fetching.metadata",
    f"{QISKIT}.presentation",
)
LATE = (
    *("matplotlib", "numpy", "qiskit", "qiskit_aer", "qiskit_ibm_runtime", "requests"),
    *("samplomatic", f"{QISKIT}.testing"),
)
LOADED_EARLY = f"""
import importlib, json, sys
loaded = {{}}
for module in {EARLY!r}:
    importlib.import_module(module)
    loaded[module] = [name for name in {LATE!r} if name in sys.modules]
print(json.dumps(loaded))
"""


def test_what_is_dear_is_not_imported_before_it_is_needed(tmp_path: Path):
    assert in_new_process(LOADED_EARLY, tmp_path) == {module: [] for module in EARLY}


def test_importing_the_qiskit_package_costs_little_beyond_prefect(tmp_path: Path):
    prefect = "from prefect import flow, task\nfrom prefect.blocks.core import Block"
    beyond = IMPORT_AFTER.format(before=prefect, module=QISKIT)
    alone = IMPORT_AFTER.format(before="", module="prefect.main")
    runs = [in_new_process(beyond, tmp_path) for _ in range(2)]
    of_prefect = min(in_new_process(alone, tmp_path)["seconds"] for _ in range(2))
    # 0.045 when this was written.
    assert min(each["seconds"] for each in runs) < 0.25 * of_prefect
