# /// script
# requires-python = ">=3.11"
# dependencies = ["packaging>=24"]
# ///
"""Tests the built wheels with the oldest, or with the newest, of what they require themselves.

    uv run python .github/scripts/resolution.py lowest-direct [--short] [TEST ...]
    uv run python .github/scripts/resolution.py highest [--short] [TEST ...]

The bounds in the wheels must be those that run: the oldest version that installs is the lower bound
itself, and the newest one belongs to the last release series below the upper bound (3.9.1 for
``<3.10``, 2.4.6 for ``<3``). Neither the lock nor the workspace's environment is used or touched.
With ``--with qiskit-ibm-runtime==0.49.*`` something between the bounds runs; these are then not
compared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from release_tags import ROOT
from wheels import (
    PACKAGES,
    CheckFailedError,
    build_wheel,
    lower_bound,
    new_environment,
    requirements_of,
    run,
    upper_bound,
)

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

#: The oldest dependencies run on the oldest Python: the newest has no wheels of some of them.
PYTHON = {"lowest-direct": "3.11", "highest": sys.executable}
TEST_TOOLS = ("hypothesis", "pytest", "pytest-asyncio", "pytest-benchmark", "pytest-xdist")

CORE, QISKIT, WRAPPERS = (f"packages/{package}/tests" for package in PACKAGES)
QISKIT_SHORT = (
    f"{QISKIT}/test_client_side_primitives.py::test_an_older_client_says_what_it_lacks",
    f"{QISKIT}/test_client_side_primitives.py::test_auto_is_what_the_clients_own_names_are",
    f"{QISKIT}/test_every_client.py",
    f"{QISKIT}/test_identity_client_values.py",
    f"{QISKIT}/test_identity_vectors.py",
    f"{QISKIT}/test_result_records.py",
    f"{QISKIT}/test_tasks.py",
)
SHORT = (
    f"{CORE}/test_canonical_vectors.py",
    f"{CORE}/test_golden_containers.py",
    *QISKIT_SHORT,
    f"{WRAPPERS}/test_wrappers.py",
)
#: No test twice: pytest 8.3 passes over a folder of which it has had a file.
LONG = (CORE, *QISKIT_SHORT, f"{QISKIT}/test_local_jobs.py", f"{WRAPPERS}/test_wrappers.py")
#: Clients before 0.49 do not find the emulated service in the ways that these tests use.
LONG_WITH_NEW_CLIENTS = (
    f"{QISKIT}/test_client_side_primitives.py",
    f"{QISKIT}/test_execution_modes.py",
    f"{QISKIT}/test_golden_results.py",
    f"{QISKIT}/test_paying_once.py",
    "integration-tests/kills/test_kills.py",
)


def resolve(resolution: str, wheels: list[Path], more: list[str], folder: Path) -> Path:
    """Write the versions that a resolution comes to into a file of requirements.

    Args:
        resolution: As uv names them.
        wheels: Those of the packages.
        more: Further requirements.
        folder: Where the file is written.
    """
    wanted = folder / "wanted.txt"
    pins = folder / "pins.txt"
    # Only what stands here counts as direct; so what the wheels require is repeated.
    direct = [
        requirement
        for wheel in wheels
        for requirement in requirements_of(wheel)
        if requirement.name not in PACKAGES
    ]
    packages = [f"{name} @ {wheel.as_uri()}" for name, wheel in zip(PACKAGES, wheels, strict=True)]
    wanted.write_text("\n".join([*packages, *map(str, direct), *more]), encoding="utf-8")
    python = ("--python", PYTHON[resolution])
    layout = ("--quiet", "--no-header", "--no-annotate", "--output-file", pins)
    run("uv", "pip", "compile", "--resolution", resolution, *python, *layout, wanted)
    return pins


def complaint(resolution: str, bounds: SpecifierSet, came: Version) -> str | None:
    """Say what is wrong with bounds under which a version came, or None if they are what ran."""
    if resolution == "lowest-direct":
        lower = lower_bound(bounds)
        if lower == came:
            return None
        allowed = "has no lower bound" if lower is None else f"is allowed from {lower}"
        return f"{allowed}, and {came} is the oldest that installs: write >={came}"
    upper = upper_bound(bounds)
    if upper is None:
        return None
    series = upper.release
    while len(series) > 1 and series[-1] == 0:
        series = series[:-1]
    *start, last = (*came.release, *(0 for _ in series))[: len(series)]
    after = (*start, last + 1)
    if after == series:
        return None
    written = ".".join(map(str, after))
    return f"is allowed below {upper}, and {came} is the newest that installs: write <{written}"


def check_bounds(resolution: str, wheels: list[Path], pins: Path) -> list[str]:
    """Print what the direct dependencies came to, and return what is wrong with their bounds."""
    lines = map(Requirement, pins.read_text(encoding="utf-8").splitlines())
    came = {canonicalize_name(line.name): str(line.specifier).lstrip("=") for line in lines}
    complaints = []
    for package, wheel in zip(PACKAGES, wheels, strict=True):
        for requirement in requirements_of(wheel):
            if requirement.name in PACKAGES:
                continue
            version = Version(came[canonicalize_name(requirement.name)])
            sys.stdout.write(f"{package}: {requirement} -> {version}\n")
            found = complaint(resolution, requirement.specifier, version)
            if found:
                complaints.append(f"packages/{package}/pyproject.toml: {requirement.name} {found}")
    return complaints


def main() -> int:
    """Resolve, compare, install and test; return 1 if anything fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("resolution", choices=PYTHON)
    parser.add_argument("--short", action="store_true", help="a minute's choice of the tests")
    parser.add_argument("--with", dest="more", action="append", default=[], metavar="REQUIREMENT")
    parser.add_argument("tests", nargs="*")
    arguments = parser.parse_args()
    resolution = arguments.resolution
    tests = arguments.tests or list(SHORT if arguments.short else LONG)
    if resolution == "highest" and not (arguments.tests or arguments.short):
        tests += LONG_WITH_NEW_CLIENTS
    with tempfile.TemporaryDirectory(prefix="resolution-") as name:
        folder = Path(name)
        try:
            wheels = [build_wheel(package, ROOT, folder) for package in PACKAGES]
            pins = resolve(resolution, wheels, arguments.more, folder)
            complaints = check_bounds(resolution, wheels, pins)
            if complaints and not arguments.more:
                raise CheckFailedError("\n".join(complaints))
            python = new_environment(folder / "environment", PYTHON[resolution])
            install = ("uv", "pip", "install", "-q", "--python", python)
            # The tools of the tests are as new as they come, under the versions to be tested.
            run(*install, "--requirements", pins, "--constraints", pins, *TEST_TOOLS)
            run("uv", "pip", "check", "--python", python)
        except CheckFailedError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        sys.stdout.flush()
        # In a new environment each process compiles what it imports, which few tests do not repay.
        processes = ("-n", "0") if arguments.short else ()
        # -P: not the sources of this folder, but what was installed.
        # What other versions of what we need warn of is no error here.
        quiet = ("-q", "-W", "default", "--disable-warnings")
        command = [python, "-P", "-m", "pytest", *quiet, *processes, *tests]
        return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
