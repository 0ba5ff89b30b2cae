"""The layers: core knows nobody, the qiskit package knows core, the wrappers know both.

Imports are read from the sources, lazy ones inside functions included, and then measured: what is
loaded, and how long that takes.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .environments import ROOT, clean_environment, run

CORE = "qcsc_prefect.core"
QISKIT = "qcsc_prefect.integrations.qiskit"
WRAPPERS = "qcsc_prefect.integrations.qiskit.wrappers"
SOURCES = {
    CORE: ROOT / "packages" / "qcsc-prefect-core" / "src",
    QISKIT: ROOT / "packages" / "qcsc-prefect-qiskit" / "src",
    WRAPPERS: ROOT / "packages" / "qcsc-prefect-wrappers" / "src",
}

#: Modules of core that say how the values of a library are stored. The record's reader loads one
#: by its name when a record holds such a value, and not before.
VALUE_TYPES = {
    "qcsc_prefect.core.container_dateutil": "dateutil",
    "qcsc_prefect.core.container_numpy": "numpy",
    "qcsc_prefect.core.container_qiskit": "qiskit",
}


@dataclass(frozen=True)
class Import:
    """One import: of what, by whom, and whether only type checkers see it."""

    importer: str
    imported: str
    for_types_only: bool

    @property
    def root(self) -> str:
        return self.imported.partition(".")[0]

    def is_of(self, package: str) -> bool:
        return f"{self.imported}.".startswith(f"{package}.")


def imports_of(package: str) -> list[Import]:
    source = SOURCES[package]
    found = []
    for file in sorted((source / package.replace(".", "/")).rglob("*.py")):
        parts = file.relative_to(source).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        parent = name if is_package else name.rpartition(".")[0]
        tree = ast.parse(file.read_text(), file)
        hidden = {id(node) for block in type_checking_blocks(tree) for node in ast.walk(block)}
        for node in ast.walk(tree):
            found += [
                Import(name, imported, id(node) in hidden) for imported in imported_by(node, parent)
            ]
    assert found, f"no sources of {package}"
    return found


def type_checking_blocks(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from node.body


def imported_by(node: ast.AST, parent: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    module = node.module or ""
    if node.level:
        base = parent.split(".")[: len(parent.split(".")) - node.level + 1]
        module = ".".join([*base, *([node.module] if node.module else [])])
    # ``from package import name`` may name a module.
    return [f"{module}.{alias.name}" for alias in node.names]


def test_core_imports_the_standard_library_and_msgspec_and_itself():
    foreign = {
        (each.importer, each.root)
        for each in imports_of(CORE)
        if not each.for_types_only
        and each.root not in sys.stdlib_module_names
        and each.root != "msgspec"
        and not each.is_of(CORE)
    }
    assert foreign == set(VALUE_TYPES.items())


def test_no_module_of_core_imports_one_that_knows_a_library():
    importers = {
        (each.importer, module)
        for each in imports_of(CORE)
        for module in VALUE_TYPES
        if each.is_of(module) and not each.for_types_only
    }
    assert importers == set()


def test_the_qiskit_package_imports_no_wrappers():
    of_wrappers = [each for each in imports_of(QISKIT) if each.is_of(WRAPPERS)]
    # Type checkers see the exported names; at run time they are looked up when they are asked for.
    assert of_wrappers
    assert {(each.importer, each.for_types_only) for each in of_wrappers} == {(QISKIT, True)}


def test_the_wrappers_import_tasks_and_nothing_of_the_client():
    roots = {each.root for each in imports_of(WRAPPERS)} - sys.stdlib_module_names
    assert roots <= {"qcsc_prefect", "prefect", "qiskit"}


def test_no_package_takes_another_ones_private_names():
    taken = [
        (each.importer, each.imported)
        for package in SOURCES
        for each in imports_of(package)
        if each.root == "qcsc_prefect"
        and any(part.startswith("_") for part in each.imported.split("."))
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
start = time.perf_counter()
import {module}
seconds = time.perf_counter() - start
new = sorted({{name.partition(".")[0] for name in set(sys.modules) - loaded}})
print(json.dumps({{"seconds": seconds, "loaded": new}}))
"""


@pytest.mark.parametrize("module", [CORE, f"{CORE}.reference", f"{CORE}.retry", f"{CORE}.errors"])
def test_importing_core_loads_nothing_but_msgspec(module: str, tmp_path: Path):
    # With what msgspec itself takes where it finds it, such as typing_extensions.
    code = IMPORT_AFTER.format(before="import msgspec", module=module)
    loaded = set(in_new_process(code, tmp_path)["loaded"])
    # The standard library's copy looks for Java's package `org`.
    assert loaded - sys.stdlib_module_names - {"org"} == {"qcsc_prefect"}


def test_importing_core_costs_less_than_50_ms_beyond_msgspec(tmp_path: Path):
    code = IMPORT_AFTER.format(before="import msgspec", module=CORE)
    # The least of several runs: everything else that the machine does only adds to it.
    seconds = min(in_new_process(code, tmp_path)["seconds"] for _ in range(9))
    assert seconds < 0.050


def test_importing_the_qiskit_package_costs_little_beyond_prefect(tmp_path: Path):
    prefect = "from prefect import flow, task\nfrom prefect.blocks.core import Block"
    beyond = IMPORT_AFTER.format(before=prefect, module=QISKIT)
    alone = IMPORT_AFTER.format(before="", module="prefect.main")
    runs = [in_new_process(beyond, tmp_path) for _ in range(2)]
    heavy = {"qiskit", "qiskit_ibm_runtime", "qiskit_aer", "numpy", "matplotlib", "samplomatic"}
    for each in runs:
        assert not heavy & set(each["loaded"])
    of_prefect = min(in_new_process(alone, tmp_path)["seconds"] for _ in range(2))
    # 0.045 when this was written.
    assert min(each["seconds"] for each in runs) < 0.25 * of_prefect
