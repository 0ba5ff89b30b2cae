# /// script
# requires-python = ">=3.11"
# dependencies = ["packaging>=24"]
# ///
"""What must hold before a package is published; the release workflow and its dry run call this.

    uv run .github/scripts/release_check.py check TAG
    uv run .github/scripts/release_check.py build TAG --dist FOLDER
    uv run .github/scripts/release_check.py test TAG --dist FOLDER

A tag names one package and its version, such as ``qcsc-prefect-core-v0.4.0``. The folder receives
two others: ``release`` holds what is to be published, ``siblings`` the wheels of the other packages
that it requires. They are built from their own release tags, so that nothing is tested with what
nobody can install.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from release_tags import MODULES, ROOT, git, released_versions

PACKAGES = ROOT / "packages"
TAG = re.compile(r"(?P<package>qcsc-prefect-[a-z]+)-v(?P<version>\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)")
EXTRAS = {"qcsc-prefect-qiskit": "[aer]", "qcsc-prefect-wrappers": ""}


class NotReadyError(Exception):
    """Something must be done before this can be released."""


@dataclass(frozen=True)
class Release:
    """One package in one version."""

    package: str
    version: str

    @property
    def folder(self) -> Path:
        """Where the package's sources lie."""
        return PACKAGES / self.package


def parse_tag(tag: str) -> Release:
    """Return what a tag asks to release.

    Raises:
        NotReadyError: If the tag is none of ours.
    """
    match = TAG.fullmatch(tag.removeprefix("refs/tags/"))
    if match is None or match["package"] not in MODULES:
        raise NotReadyError(
            f"The tag {tag!r} names no release; write it like qcsc-prefect-core-v0.4.0, with one "
            f"of {', '.join(MODULES)}."
        )
    return Release(match["package"], match["version"])


def check(release: Release) -> None:
    """Check that sources and changelog say what the tag says, and that the siblings are released.

    Raises:
        NotReadyError: If they do not, or are not.
    """
    pyproject = (release.folder / "pyproject.toml").read_text(encoding="utf-8")
    written = tomllib.loads(pyproject)["project"]["version"]
    if written != release.version:
        raise NotReadyError(
            f"The tag says {release.version}, packages/{release.package}/pyproject.toml says "
            f"{written}. Set it: uv version --package {release.package} {release.version}"
        )
    fragments = [path.name for path in (release.folder / "changes").glob("*.md")]
    if fragments:
        raise NotReadyError(
            f"Fragments are not in the changelog of {release.package} yet: {', '.join(fragments)}. "
            f"Put them there: just changelog {release.package}"
        )
    changelog = (release.folder / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(release.version)}\b", changelog, re.MULTILINE):
        raise NotReadyError(
            f"packages/{release.package}/CHANGELOG.md has no section '## {release.version}'."
        )
    required_releases(release.package, pyproject)


def required_releases(package: str, pyproject: str) -> dict[str, str]:
    """Return the siblings that a package requires, each with the tag of the release to install.

    Args:
        package: Name of the package.
        pyproject: The text of its pyproject.toml.

    Raises:
        NotReadyError: If no release of a sibling is within the required bounds.
    """
    found: dict[str, str] = {}
    for line in tomllib.loads(pyproject)["project"]["dependencies"]:
        required = Requirement(line)
        if required.name not in MODULES:
            continue
        released = released_versions(required.name)
        usable = list(required.specifier.filter(released))
        if not usable:
            known = ", ".join(str(version) for version in released) or "none"
            raise NotReadyError(
                f"{package} requires {required}, and no release of {required.name} is within these "
                f"bounds. Released, by the tags in this clone: {known}. Release {required.name} "
                "first; if that is done, fetch its tag: git fetch --tags"
            )
        tag = released[max(usable)]
        theirs = git("show", f"{tag}:packages/{required.name}/pyproject.toml")
        found |= {required.name: tag, **required_releases(required.name, theirs)}
    return found


def build(release: Release, dist: Path) -> None:
    """Build the sdist, the wheel from it, and the wheels of the siblings that it requires.

    Raises:
        NotReadyError: If something else comes out, or a sibling is not released.
    """
    run("uv", "build", "-q", "--package", release.package, "--out-dir", dist / "release")
    pyproject = (release.folder / "pyproject.toml").read_text(encoding="utf-8")
    for sibling, tag in required_releases(release.package, pyproject).items():
        with tempfile.TemporaryDirectory(prefix="sibling-") as folder:
            archive = Path(folder, "sources.tar")
            git("archive", "--output", str(archive), tag, f"packages/{sibling}")
            with tarfile.open(archive) as sources:
                sources.extractall(folder, filter="data")
            place = Path(folder, "packages", sibling)
            run("uv", "build", "-q", "--wheel", place, "--out-dir", dist / "siblings")
    built = sorted(path.name for path in (dist / "release").iterdir() if path.name[0] != ".")
    stem = f"{release.package.replace('-', '_')}-{release.version}"
    if built != [f"{stem}-py3-none-any.whl", f"{stem}.tar.gz"]:
        raise NotReadyError(f"Expected a wheel and an sdist of {stem}, built {', '.join(built)}.")


def test(release: Release, dist: Path) -> None:
    """Install the wheel in a fresh environment and run what its README shows.

    Raises:
        NotReadyError: If it does not install, fit together, import as the right version or run.
    """
    (wheel,) = (dist / "release").glob("*.whl")
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        python = Path(folder) / "environment" / "bin" / "python"
        run("uv", "venv", "-q", "--python", sys.executable, python.parents[1])
        wanted: list[Path | str] = [f"{release.package}{EXTRAS.get(release.package, '')} @ {wheel}"]
        if release.package == "qcsc-prefect-wrappers":
            wanted.append("qcsc-prefect-qiskit[aer]")
        siblings = dist / "siblings"
        links = ("--find-links", siblings) if siblings.exists() else ()
        run("uv", "pip", "install", "-q", "--python", python, *links, *wanted)
        run("uv", "pip", "check", "-q", "--python", python)
        program = Path(folder) / "program.py"
        program.write_text(program_that_shows(release), encoding="utf-8")
        environment = {
            "PREFECT_HOME": f"{folder}/prefect",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        }
        run(
            "env",
            *[f"{name}={value}" for name, value in environment.items()],
            python,
            "-P",
            program,
            cwd=Path(folder),
        )


def program_that_shows(release: Release) -> str:
    """Return a program that imports the package, checks its version, and runs its README."""
    readme = (release.folder / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    first = (
        "import importlib.metadata, importlib\n"
        f"assert importlib.metadata.version({release.package!r}) == {release.version!r}\n"
        f"importlib.import_module({MODULES[release.package]!r})\n"
    )
    return "\n".join([first, *blocks])


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command; show its output if it fails.

    Raises:
        NotReadyError: If it fails.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotReadyError(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")


def main() -> int:
    """Run one step; return 1 with a message if the package is not ready."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("step", choices=["check", "build", "test"])
    parser.add_argument("tag")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    arguments = parser.parse_args()
    try:
        release = parse_tag(arguments.tag)
        if arguments.step == "check":
            check(release)
        elif arguments.step == "build":
            build(release, arguments.dist.resolve())
        else:
            test(release, arguments.dist.resolve())
    except NotReadyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{arguments.step}: {release.package} {release.version} is ready\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
