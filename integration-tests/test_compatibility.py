"""The checks of bounds and of mixed versions can fail, each in a copy of the repository.

On the repository itself `.ci/run` runs them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .environments import DISTRIBUTIONS
from .repository_copies import commit, edit, git, step

CORE, QISKIT, WRAPPERS = DISTRIBUTIONS
PUBS = "src/qcsc_prefect/integrations/qiskit/inputs/pubs.py"
FACADE = "src/qcsc_prefect/integrations/qiskit/wrappers/facade.py"


def pyproject_of(repository: Path, package: str) -> Path:
    return repository / "packages" / package / "pyproject.toml"


def lower_bound(repository: Path, package: str, needed: str) -> str:
    text = pyproject_of(repository, package).read_text()
    (found,) = re.findall(rf'"{needed}(?:\[\w+\])?>=([0-9.]+),', text)
    return found


def version_in(repository: Path, package: str) -> str:
    text = pyproject_of(repository, package).read_text()
    (found,) = re.findall(r'(?m)^version = "(.*)"$', text)
    return found


def set_version(repository: Path, package: str, version: str) -> None:
    file = pyproject_of(repository, package)
    text = re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', file.read_text())
    file.write_text(text)


# ---- the bounds are those that run ----


@pytest.mark.parametrize(
    ("resolution", "edits", "said"),
    [
        (
            "lowest-direct",
            # Prefect needs a newer httpx, and core has a bound of its own for msgspec.
            {'"httpx>=0.27,': '"httpx>=0.20,', '"msgspec>=0.19,': '"msgspec'},
            [
                r"httpx is allowed from 0\.20, and \S+ is the oldest that installs: write >=0\.2",
                r"msgspec has no lower bound, and \S+ is the oldest that installs: write >=0",
            ],
        ),
        (
            "highest",
            {'"numpy>=2,<3"': '"numpy>=2,<99"'},
            [r"numpy is allowed below 99, and \d.* is the newest that installs: write <\d$"],
        ),
    ],
)
def test_a_bound_that_does_not_run_is_named(
    repository: Path, resolution: str, edits: dict[str, str], said: list[str]
):
    for old, new in edits.items():
        edit(repository, QISKIT, "pyproject.toml", old, new)
    done = step(repository, "resolution", resolution, "no-test-is-reached")
    assert done.returncode == 1
    named = done.stderr.splitlines()
    assert len(named) == len(said), done.stderr
    for line, expected in zip(named, said, strict=True):
        assert re.match(rf"packages/{QISKIT}/pyproject\.toml: {expected}", line), line


# ---- packages of different versions run together, as far as their bounds say ----


def test_a_change_that_other_versions_cannot_follow_is_named(repository: Path):
    bound = lower_bound(repository, WRAPPERS, QISKIT)
    set_version(repository, CORE, lower_bound(repository, QISKIT, CORE))
    set_version(repository, QISKIT, bound)
    rename = [(QISKIT, PUBS, "\n\ndef collect_pubs("), (WRAPPERS, FACADE, "import collect_pubs")]
    given = ["\n\nGIVEN = 1\n\n\ndef collect_pubs(", "import GIVEN, collect_pubs"]
    wanted = ["\n\nWANTED = 1\n\n\ndef collect_pubs(", "import WANTED, collect_pubs"]
    for (package, file, old), new in zip(rename, given, strict=True):
        edit(repository, package, file, old, new)
    commit(repository, "Release")
    for package in DISTRIBUTIONS:
        git(repository, "tag", f"{package}-v{version_in(repository, package)}")

    # Wrappers that want something new, and do not say so.
    set_version(repository, QISKIT, f"{bound}.1")
    for (package, file, _), old, new in zip(rename, given, wanted, strict=True):
        edit(repository, package, file, old, new)
    unsaid = step(repository, "mixed_versions", "--imports")
    assert unsaid.returncode == 1
    assert f"{QISKIT} {bound} ({QISKIT}-v{bound})" in unsaid.stderr
    assert "cannot import name 'WANTED'" in unsaid.stderr
    assert f"raise the lower bound of {QISKIT} in packages/{WRAPPERS}/pyproject" in unsaid.stderr

    # They say so; but what the released wrappers use is gone, in a version that these allow.
    raised = f"{QISKIT}>={bound}.1,"
    edit(repository, WRAPPERS, "pyproject.toml", f"{QISKIT}>={bound},", raised)
    gone = step(repository, "mixed_versions", "--imports")
    assert gone.returncode == 1
    assert "cannot import name 'GIVEN'" in gone.stderr
    assert f"Released versions of {WRAPPERS} use something of {QISKIT} that is gone" in gone.stderr

    edit(repository, QISKIT, PUBS, "\nWANTED = 1\n", "\nGIVEN = WANTED = 1\n")
    mended = step(repository, "mixed_versions", "--imports")
    assert mended.returncode == 0, mended.stderr
    core = f"{CORE} {version_in(repository, CORE)} ({CORE}-v{version_in(repository, CORE)})"
    new = f"{core}, {QISKIT} {bound}.1 (this commit), {WRAPPERS} {version_in(repository, WRAPPERS)}"
    released = f"{WRAPPERS}-v{version_in(repository, WRAPPERS)}"
    assert mended.stdout.splitlines() == [
        f"{new} (this commit): imported",
        f"{new} ({released}): imported",
    ]

    edit(repository, WRAPPERS, "pyproject.toml", raised, f"{QISKIT}>={bound}.7,")
    nowhere = step(repository, "mixed_versions", "--imports")
    assert nowhere.returncode == 1
    assert f"there is no {QISKIT} {bound}.7" in nowhere.stderr
