# /// script
# requires-python = ">=3.11"
# dependencies = ["packaging>=24"]
# ///
"""Runs wheels of this commit together with the oldest versions of each other that they allow.

    uv run python .github/scripts/mixed_versions.py [--short | --imports]

Each package is released alone, and users upgrade one and keep the others. So four sets must run:

1. the wrappers of this commit on the oldest qiskit package that they allow, and on its oldest core;
2. wrappers and qiskit package of this commit on the oldest core that this qiskit package allows;
3. the oldest wrappers that allow the qiskit package of this commit, with this and this core;
4. the oldest qiskit package that allows the core of this commit, with this and its oldest wrappers.

The oldest version that a wheel allows is the lower bound in its metadata. Released wheels are built
from their tags; while a version is not released, the wheel of this commit stands in for it. Nothing
of ours is taken from the index, where versions below 0.4 are another project's. Sets that come out
equal run once, and a set of releases that this commit does not change is left out.

In each set every module is imported, and the wrappers' tests run; with ``--short`` they run in the
first and the third, with ``--imports`` in none.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version
from release_tags import MODULES, ROOT, git, released_versions
from wheels import (
    PACKAGES,
    CheckFailedError,
    build_wheel,
    lower_bound,
    new_environment,
    requirements_of,
    run,
)

if TYPE_CHECKING:
    from packaging.requirements import Requirement

CORE, QISKIT, WRAPPERS = PACKAGES
TEST_TOOLS = ("pytest", "pytest-asyncio", "pytest-benchmark", "pytest-xdist")

#: The emulated service is left out: it needs an extra.
IMPORT_EVERYTHING = f"""
import importlib, pkgutil
for name in {tuple(MODULES.values())}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if ".testing" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""

RAISE_THE_BOUND = (
    "If {package} needs something new of {needed}, raise the lower bound of {needed} in "
    "packages/{package}/pyproject.toml to the version that has it."
)
KEEP_THE_NAMES = (
    "Released versions of {package} use something of {needed} that is gone. Bring it back, or "
    "announce the break with a version of {needed} that their range leaves out."
)


@dataclass(frozen=True)
class Source:
    """A package as it is at a tag, or in this commit where there is none."""

    package: str
    version: Version
    tag: str | None = None

    def __str__(self) -> str:
        return f"{self.package} {self.version} ({self.tag or 'this commit'})"


@dataclass
class Sources:
    """The packages of this commit and of the tags, unpacked and built where they are needed."""

    folder: Path
    _wheels: dict[Source, Path] = field(default_factory=dict)

    def here(self, package: str) -> Source:
        """Return a package of this commit; where it is as it was released, this is the release."""
        folder = f"packages/{package}"
        text = (ROOT / folder / "pyproject.toml").read_text(encoding="utf-8")
        version = Version(tomllib.loads(text)["project"]["version"])
        tag = released_versions(package).get(version)
        changed = tag and git("diff", "--name-only", tag, "--", f"{folder}/src", f"{folder}/*.toml")
        return Source(package, version, None if changed else tag)

    def released(self, package: str) -> list[Source]:
        """Return the releases of a package, the oldest first."""
        versions = released_versions(package)
        return [Source(package, version, versions[version]) for version in reversed(versions)]

    def tree(self, source: Source) -> Path:
        """Return the repository as it is at a source."""
        if source.tag is None:
            return ROOT
        folder = self.folder / source.tag
        if not folder.exists():
            archive = self.folder / f"{source.tag}.tar"
            git("archive", "--output", str(archive), source.tag)
            with tarfile.open(archive) as files:
                files.extractall(folder, filter="data")
        return folder

    def wheel(self, source: Source) -> Path:
        """Return the wheel of a source."""
        if source not in self._wheels:
            folder = self.folder / "wheels" / (source.tag or "this-commit")
            self._wheels[source] = build_wheel(source.package, self.tree(source), folder)
        return self._wheels[source]

    def requirement(self, source: Source, package: str) -> Requirement:
        """Return what a source requires of another package."""
        (found,) = (one for one in requirements_of(self.wheel(source)) if one.name == package)
        return found

    def oldest_allowed(self, package: str, by: Source) -> Source:
        """Return the version of a package that is the lower bound of another.

        Raises:
            CheckFailedError: If there is no such version.
        """
        requirement = self.requirement(by, package)
        bound = lower_bound(requirement.specifier)
        for source in (*self.released(package), self.here(package)):
            if source.version == bound:
                return source
        raise CheckFailedError(
            f"{by} requires {requirement}, and there is no {package} {bound}: no tag "
            f"{package}-v{bound}, and this commit is {self.here(package).version}. Write a bound "
            "that exists; if the tags are not in this clone: git fetch --tags"
        )

    def oldest_allowing(self, package: str, needed: Source) -> Source:
        """Return the oldest version of a package whose range has another; else this commit's."""
        for source in self.released(package):
            if self.requirement(source, needed.package).specifier.contains(needed.version):
                return source
        return self.here(package)


@dataclass(frozen=True)
class Mixture:
    """One set of core, qiskit and wrappers, for the sake of one that requires another of them."""

    sources: tuple[Source, Source, Source]
    package: str = field(compare=False)
    needed: str = field(compare=False)
    advice: str = field(compare=False)

    def __str__(self) -> str:
        return ", ".join(map(str, self.sources))

    @property
    def remedy(self) -> str:
        """What to do if it does not run."""
        return self.advice.format(package=self.package, needed=self.needed)


def mixtures(sources: Sources) -> list[Mixture]:
    """Return the sets that must run, each once, and only those with something of this commit."""
    core, qiskit, wrappers = map(sources.here, PACKAGES)
    oldest_qiskit = sources.oldest_allowed(QISKIT, by=wrappers)
    its_core = sources.oldest_allowed(CORE, by=oldest_qiskit)
    oldest_core = sources.oldest_allowed(CORE, by=qiskit)
    older_wrappers = sources.oldest_allowing(WRAPPERS, qiskit)
    older_qiskit = sources.oldest_allowing(QISKIT, core)
    its_wrappers = sources.oldest_allowing(WRAPPERS, older_qiskit)
    found = [
        Mixture((its_core, oldest_qiskit, wrappers), WRAPPERS, QISKIT, RAISE_THE_BOUND),
        Mixture((oldest_core, qiskit, wrappers), QISKIT, CORE, RAISE_THE_BOUND),
        Mixture((core, qiskit, older_wrappers), WRAPPERS, QISKIT, KEEP_THE_NAMES),
        Mixture((core, older_qiskit, its_wrappers), QISKIT, CORE, KEEP_THE_NAMES),
    ]
    return [one for one in dict.fromkeys(found) if any(not source.tag for source in one.sources)]


def check(mixture: Mixture, sources: Sources, python: Path, *, tests: bool) -> str:
    """Install a set, import it and run its wrappers' tests; return what the tests say.

    Raises:
        CheckFailedError: If it does not install, fit together, import or pass.
    """
    extras = {QISKIT: "[aer]"}
    wanted = [
        f"{source.package}{extras.get(source.package, '')} @ {sources.wheel(source).as_uri()}"
        for source in mixture.sources
    ]
    home = {"PREFECT_HOME": str(sources.folder / "home")}
    try:
        install = ("uv", "pip", "install", "-q", "--python", python)
        again = [f"--reinstall-package={package}" for package in PACKAGES]
        run(*install, *again, *wanted, *TEST_TOOLS)
        run("uv", "pip", "check", "--python", python)
        run(python, "-P", "-c", IMPORT_EVERYTHING, cwd=sources.folder, environment=home)
        if not tests:
            return "imported"
        tree = sources.tree(mixture.sources[2])
        file = f"packages/{WRAPPERS}/tests/test_wrappers.py"
        # -P: not the sources of the tree, but what was installed.
        # What other versions of what we need warn of is no error here.
        quiet = ("-q", "-W", "default", "--disable-warnings")
        printed = run(python, "-P", "-m", "pytest", *quiet, file, cwd=tree)
        return printed.strip().splitlines()[-1]
    except CheckFailedError as error:
        raise CheckFailedError(
            f"These do not run together: {mixture}.\n{error}\n{mixture.remedy}"
        ) from error


def main() -> int:
    """Run each set; return 1 with a message if one does not run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    less = parser.add_mutually_exclusive_group()
    less.add_argument("--short", action="store_true", help="run the wrappers' tests in two sets")
    less.add_argument("--imports", action="store_true", help="run them in none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mixed-") as folder:
        sources = Sources(Path(folder))
        try:
            for package in PACKAGES:
                if not sources.released(package):
                    sys.stdout.write(f"{package} has no release yet: this commit stands in\n")
            # One environment: what is not ours is installed and compiled once.
            python = new_environment(sources.folder / "environment", sys.executable)
            found = mixtures(sources)
            if not found:
                sys.stdout.write("no package differs from its release\n")
            for mixture in found:
                tests = mixture.package == WRAPPERS if arguments.short else not arguments.imports
                said = check(mixture, sources, python, tests=tests)
                sys.stdout.write(f"{mixture}: {said}\n")
        except CheckFailedError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
