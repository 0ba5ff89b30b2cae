"""Wheels of the packages, what they require, and fresh environments; for the checks beside it."""

from __future__ import annotations

import email
import os
import subprocess
import zipfile
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.version import Version
from release_tags import MODULES, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.specifiers import SpecifierSet

PACKAGES = tuple(MODULES)


class CheckFailedError(Exception):
    """Something does not hold; the message says what, and what to do."""


def run(
    *command: str | Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command, with additions to this process's environment, and return what it prints.

    Raises:
        CheckFailedError: If it fails, with its output.
    """
    words = [str(word) for word in command]
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(
        words, cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CheckFailedError(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def build_wheel(package: str, tree: Path, folder: Path) -> Path:
    """Build the wheel of a package from a tree of the repository."""
    run("uv", "build", "-q", "--wheel", "--out-dir", folder, tree / "packages" / package)
    (wheel,) = folder.glob(f"{package.replace('-', '_')}-*.whl")
    return wheel


def requirements_of(wheel: Path) -> list[Requirement]:
    """Return what a wheel requires, its extras included, without the extras' markers."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    found = [Requirement(written) for written in metadata.get_all("Requires-Dist", [])]
    for requirement in found:
        requirement.marker = None
    return found


def lower_bound(specifiers: SpecifierSet) -> Version | None:
    """Return the lowest version that is allowed, or None if any is."""
    return max((Version(one.version) for one in specifiers if one.operator == ">="), default=None)


def upper_bound(specifiers: SpecifierSet) -> Version | None:
    """Return the lowest version that is not allowed any more, or None if there is none."""
    return min((Version(one.version) for one in specifiers if one.operator == "<"), default=None)


def new_environment(folder: Path, python: str | Path) -> Path:
    """Make an empty environment and return its interpreter."""
    run("uv", "venv", "-q", "--python", python, folder)
    return folder / "bin" / "python"
