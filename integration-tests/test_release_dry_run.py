"""A release that publishes nothing: the steps of the workflow, in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .environments import DISTRIBUTIONS, ROOT, clean_environment, run

CORE = "qcsc-prefect-core"
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"


def copied_repository(folder: Path) -> Path:
    """Copy what git tracks, and what it would, into a repository of its own with one commit."""
    listed = run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT).stdout
    for name in listed.splitlines():
        if (ROOT / name).exists() and not name.endswith(".png"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "Everything")
    return folder


def git(folder: Path, *arguments: str) -> None:
    run(["git", "-c", "user.name=t", "-c", "user.email=t@t.test", *arguments], cwd=folder)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def version_of(package: str) -> str:
    text = (ROOT / "packages" / package / "pyproject.toml").read_text()
    (found,) = re.findall(r'^version = "(.*)"$', text, re.MULTILINE)
    return found


def step(repository: Path, script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return run(
        [sys.executable, repository / ".github" / "scripts" / f"{script}.py", *arguments],
        cwd=repository,
        env=clean_environment(PATH=path),
        check=False,
        timeout=600,
    )


def write_changelog(repository: Path, package: str) -> None:
    """Do what ``just changelog`` does."""
    folder = repository / "packages" / package
    towncrier = [sys.executable, "-m", "towncrier", "build", "--yes", "--version"]
    place = ["--config", folder / "pyproject.toml", "--dir", folder]
    run([*towncrier, version_of(package), *place], cwd=repository)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return copied_repository(tmp_path / "repository")


def test_core_can_be_released(repository: Path, tmp_path: Path):
    write_changelog(repository, CORE)
    tag = f"{CORE}-v{version_of(CORE)}"
    dist = tmp_path / "dist"
    for arguments in (
        ["check", tag],
        ["build", tag, "--dist", dist],
        ["test", tag, "--dist", dist],
    ):
        done = step(repository, "release_check", *arguments)
        assert done.returncode == 0, done.stderr
    released = sorted(path.suffix for path in (dist / "release").glob("qcsc*"))
    assert released == [".gz", ".whl"]


@pytest.mark.parametrize("package", DISTRIBUTIONS)
def test_a_tag_must_say_what_the_sources_say(repository: Path, package: str):
    tag = f"{package}-v{version_of(package)}"
    (repository / "packages" / package / "changes" / "+now.fix.md").write_text("A fix.\n")
    unwritten = step(repository, "release_check", "check", tag)
    assert unwritten.returncode == 1
    assert "+now.fix.md" in unwritten.stderr

    write_changelog(repository, package)
    assert step(repository, "release_check", "check", tag).returncode == 0
    assert "A fix." in (repository / "packages" / package / "CHANGELOG.md").read_text()

    other = step(repository, "release_check", "check", f"{package}-v9.9.9")
    assert other.returncode == 1
    assert version_of(package) in other.stderr
    unknown = step(repository, "release_check", "check", "qcsc-prefect-executor-v0.4.0")
    assert unknown.returncode == 1
    assert "names no release" in unknown.stderr


def test_a_wheel_that_does_not_run_is_not_released(repository: Path, tmp_path: Path):
    (repository / "packages" / CORE / "src" / "qcsc_prefect" / "core" / "digest.py").write_text("")
    tag = f"{CORE}-v{version_of(CORE)}"
    assert step(repository, "release_check", "build", tag, "--dist", tmp_path).returncode == 0
    done = step(repository, "release_check", "test", tag, "--dist", tmp_path)
    assert done.returncode == 1
    assert "ImportError" in done.stderr


def test_breaking_callers_needs_a_new_version(repository: Path):
    none_yet = step(repository, "api_check")
    assert none_yet.returncode == 0
    assert f"{CORE}: skipped" in none_yet.stdout

    git(repository, "tag", f"{CORE}-v{version_of(CORE)}")
    same = step(repository, "api_check")
    assert same.returncode == 0, same.stdout
    assert f"{CORE}: 0 breaking changes" in same.stdout

    module = repository / "packages" / CORE / "src" / "qcsc_prefect" / "core" / "cache_keys.py"
    module.write_text(module.read_text().replace("def build_result_cache_key(", "def other_key("))
    broken = step(repository, "api_check")
    assert broken.returncode == 1
    assert "build_result_cache_key" in broken.stdout

    pyproject = repository / "packages" / CORE / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace(version_of(CORE), "0.99.0"))
    announced = step(repository, "api_check")
    assert announced.returncode == 0, announced.stdout
    assert "allowed by the new version" in announced.stdout


def test_a_change_needs_a_fragment(repository: Path):
    git(repository, "checkout", "-q", "-b", "work")
    package = repository / "packages" / CORE
    with (package / "src" / "qcsc_prefect" / "core" / "digest.py").open("a") as module:
        module.write("\n# changed\n")
    missing = step(repository, "changes_check", "main")
    assert missing.returncode == 1
    assert f"packages/{CORE}" in missing.stdout

    (package / "changes" / "+why.nothing.md").write_text("Why.\n")
    misnamed = step(repository, "changes_check", "main")
    assert misnamed.returncode == 1
    assert "+why.nothing.md" in misnamed.stdout

    (package / "changes" / "+why.nothing.md").rename(package / "changes" / "+why.fix.md")
    assert step(repository, "changes_check", "main").returncode == 0


def test_publishing_holds_the_right_to_publish_and_nothing_else():
    workflow = yaml.safe_load(WORKFLOW.read_text())
    jobs = workflow["jobs"]
    assert workflow["permissions"] == {"contents": "read"}
    assert [name for name, job in jobs.items() if "permissions" in job] == ["publish"]
    publish = jobs["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"] == "release"
    assert set(publish["needs"]) == set(jobs) - {"publish"}
    # It runs no code of this repository: it takes what was tested, and hands it over.
    assert [found["uses"].partition("@")[0] for found in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    commands = " ".join(found.get("run", "") for job in jobs.values() for found in job["steps"])
    assert re.findall(r"release_check\.py (\w+)", commands) == ["check", "build", "test"]
