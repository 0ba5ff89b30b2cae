"""A release that publishes nothing: the steps of the workflow, in a copy of the repository."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from .environments import DISTRIBUTIONS, ROOT, PrefectServer, run
from .repository_copies import commit, edit, git, step, version_of

CORE, QISKIT, WRAPPERS = DISTRIBUTIONS
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"


def write_changelog(repository: Path, package: str) -> None:
    """Do what ``just changelog`` does."""
    folder = repository / "packages" / package
    towncrier = [sys.executable, "-m", "towncrier", "build", "--yes", "--version"]
    place = ["--config", folder / "pyproject.toml", "--dir", folder]
    run([*towncrier, version_of(package), *place], cwd=repository)


def test_each_package_can_be_released_after_those_it_requires(
    repository: Path, prefect_server: PrefectServer, tmp_path: Path
):
    # In the workflow each README starts a server of its own, which takes half a minute here.
    server = {"PREFECT_API_URL": prefect_server.url}
    for package in DISTRIBUTIONS:
        write_changelog(repository, package)
        commit(repository, f"Release {package}")
        tag = f"{package}-v{version_of(package)}"
        dist = tmp_path / package
        for arguments in (
            ["check", tag],
            ["build", tag, "--dist", dist],
            ["test", tag, "--dist", dist],
        ):
            done = step(repository, "release_check", *arguments, **server)
            assert done.returncode == 0, done.stderr
        released = sorted(path.suffix for path in (dist / "release").glob("qcsc*"))
        assert released == [".gz", ".whl"]
        git(repository, "tag", tag)


def test_a_package_is_released_after_those_it_requires_and_with_their_releases(
    repository: Path, tmp_path: Path
):
    write_changelog(repository, QISKIT)
    tag = f"{QISKIT}-v{version_of(QISKIT)}"
    git(repository, "tag", f"{CORE}-v0.3.9")
    too_old = step(repository, "release_check", "check", tag)
    assert too_old.returncode == 1
    assert f"no release of {CORE} is within these bounds" in too_old.stderr
    assert "0.3.9. Release" in too_old.stderr
    git(repository, "tag", f"{CORE}-v{version_of(CORE)}")
    assert step(repository, "release_check", "check", tag).returncode == 0

    # What has changed since that tag is not released, and is not tested with.
    edit(repository, CORE, "src/qcsc_prefect/core/digest.py", "def digest_value(", "def new_name(")
    commit(repository, "Break core")
    assert step(repository, "release_check", "build", tag, "--dist", tmp_path).returncode == 0
    (wheel,) = (tmp_path / "siblings").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert b"def digest_value(" in archive.read("qcsc_prefect/core/digest.py")


@pytest.mark.parametrize("package", DISTRIBUTIONS)
def test_a_tag_must_say_what_the_sources_say(repository: Path, package: str):
    for required in DISTRIBUTIONS[: DISTRIBUTIONS.index(package)]:
        git(repository, "tag", f"{required}-v{version_of(required)}")
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


# ---- what callers rely on ----

#: A parameter of something public, for each package: where, what it says, and what it becomes.
PUBLIC_PARAMETERS = {
    CORE: ("src/qcsc_prefect/core/cache_keys.py", "    prefix: str,", "    kind: str,"),
    QISKIT: (
        "src/qcsc_prefect/integrations/qiskit/tasks.py",
        "    runtime_block_name: str",
        "    block: str",
    ),
    WRAPPERS: (
        "src/qcsc_prefect/integrations/qiskit/wrappers/sampler.py",
        "        shots: int",
        "        repetitions: int",
    ),
}


def breaking_changes(checked: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return how many changes the check found in each package that has an earlier release."""
    found = re.findall(r"^(\S+): (\d+) breaking changes", checked.stdout, re.MULTILINE)
    return {package: int(number) for package, number in found}


@pytest.fixture
def released_repository(repository: Path) -> Path:
    """A repository whose packages are all released, at the commit before the last."""
    for package in DISTRIBUTIONS:
        git(repository, "tag", f"{package}-v{version_of(package)}")
    git(repository, "commit", "-q", "--allow-empty", "-m", "Go on")
    return repository


def test_a_package_that_was_never_released_can_break_nobody(repository: Path):
    none_yet = step(repository, "api_check")
    assert none_yet.returncode == 0
    assert [f"{package}: skipped" in none_yet.stdout for package in DISTRIBUTIONS] == [True] * 3


def test_a_renamed_parameter_is_a_break_of_its_own_package_alone(released_repository: Path):
    # Each time one more of the packages is broken, and of the others the same is said as before.
    before = dict.fromkeys(DISTRIBUTIONS, 0)
    for package in DISTRIBUTIONS:
        edit(released_repository, package, *PUBLIC_PARAMETERS[package])
        broken = step(released_repository, "api_check")
        assert broken.returncode == 1, broken.stdout
        counts = breaking_changes(broken)
        assert counts[package] > 0
        assert counts == {**before, package: counts[package]}, broken.stdout
        before = counts

    for package in DISTRIBUTIONS:
        pyproject = f'version = "{version_of(package)}"'
        edit(released_repository, package, "pyproject.toml", pyproject, 'version = "0.99.0"')
    announced = step(released_repository, "api_check")
    assert announced.returncode == 0, announced.stdout
    assert announced.stdout.count("allowed by the new version") == len(DISTRIBUTIONS)


def test_modules_that_no_page_names_may_be_renamed(released_repository: Path):
    for package, name in ((CORE, "paths"), (QISKIT, "job_pages"), (WRAPPERS, "job")):
        for module in (released_repository / "packages").rglob("src/**/*.py"):
            text = module.read_text()
            module.write_text(re.sub(rf"\b{name} import\b", f"{name}_renamed import", text))
        (found,) = (released_repository / "packages" / package / "src").rglob(f"{name}.py")
        found.rename(found.with_name(f"{name}_renamed.py"))
    renamed = step(released_repository, "api_check")
    assert breaking_changes(renamed) == dict.fromkeys(DISTRIBUTIONS, 0), renamed.stdout

    # Of what a package exports, and of a module that a page names.
    edit(released_repository, CORE, "src/qcsc_prefect/core/__init__.py", '"save_result",', "")
    qiskit = "src/qcsc_prefect/integrations/qiskit/testing/__init__.py"
    edit(released_repository, QISKIT, qiskit, '"RateLimit",', "")
    # The page names it too, so that alone it would stay public.
    page = released_repository / "docs" / "reference" / "testing.md"
    shown = page.read_text()
    page.write_text(re.sub(r"\n::: \S+\.RateLimit\b.*", "", shown))
    assert page.read_text() != shown
    removed = step(released_repository, "api_check")
    assert removed.returncode == 1
    assert re.findall(r"^  (\S+): no longer public$", removed.stdout, re.MULTILINE) == [
        "qcsc_prefect.core.save_result",
        "qcsc_prefect.integrations.qiskit.testing.RateLimit",
    ]


def test_a_release_is_compared_with_the_final_one_before_it(released_repository: Path):
    edit(released_repository, CORE, *PUBLIC_PARAMETERS[CORE])
    commit(released_repository, "Break core")
    # The tag that starts the workflow is there already, at the commit that it releases.
    git(released_repository, "tag", f"{CORE}-v0.4.1")
    tagged = step(released_repository, "api_check")
    assert tagged.returncode == 1, tagged.stdout
    assert f"since {CORE}-v{version_of(CORE)} (the version must say so)" in tagged.stdout

    for pre_release in ("0.5.0rc1", "0.6.0a1"):
        git(released_repository, "tag", f"{CORE}-v{pre_release}")
    git(released_repository, "tag", f"{CORE}-v0.5.0")
    git(released_repository, "commit", "-q", "--allow-empty", "-m", "Go on")
    assert (
        f"{CORE}: 0 breaking changes since {CORE}-v0.5.0\n"
        in step(released_repository, "api_check").stdout
    )


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
    found = step(repository, "changes_check")
    assert found.returncode == 0
    assert "every change since main has its fragment" in found.stdout


def test_that_nothing_was_compared_is_said_aloud(repository: Path):
    git(repository, "branch", "-m", "main", "work")
    done = step(repository, "changes_check")
    assert done.returncode == 0
    assert "NOT CHECKED: there is no origin/main and no main" in done.stderr
    assert done.stdout == ""


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
