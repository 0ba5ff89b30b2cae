"""What must hold before a package is published; the release workflow and its dry run call this.

    python .github/scripts/release_check.py check TAG
    python .github/scripts/release_check.py build TAG --dist FOLDER
    python .github/scripts/release_check.py test TAG --dist FOLDER

A tag names one package and its version, such as ``qcsc-prefect-core-v0.4.0``. The folder receives
two others: ``release`` holds what is to be published, ``siblings`` the wheels of the other packages
of the same commit, from which a test may install. Needs uv and the standard library.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "packages"
TAG = re.compile(r"(?P<package>qcsc-prefect-[a-z]+)-v(?P<version>\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)")
IMPORTS = {
    "qcsc-prefect-core": "qcsc_prefect.core",
    "qcsc-prefect-qiskit": "qcsc_prefect.integrations.qiskit",
    "qcsc-prefect-wrappers": "qcsc_prefect.integrations.qiskit.wrappers",
}
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
    if match is None or match["package"] not in IMPORTS:
        raise NotReadyError(
            f"The tag {tag!r} names no release; write it like qcsc-prefect-core-v0.4.0, with one "
            f"of {', '.join(IMPORTS)}."
        )
    return Release(match["package"], match["version"])


def check(release: Release) -> None:
    """Check that sources and changelog say what the tag says.

    Raises:
        NotReadyError: If they do not.
    """
    project = tomllib.loads((release.folder / "pyproject.toml").read_text(encoding="utf-8"))
    written = project["project"]["version"]
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


def build(release: Release, dist: Path) -> None:
    """Build the sdist, the wheel from it, and the wheels of the siblings."""
    run("uv", "build", "-q", "--package", release.package, "--out-dir", dist / "release")
    for sibling in IMPORTS:
        if sibling != release.package:
            run(
                "uv", "build", "-q", "--wheel", "--package", sibling, "--out-dir", dist / "siblings"
            )
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
        links = ("--find-links", dist / "siblings")
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
        f"importlib.import_module({IMPORTS[release.package]!r})\n"
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
