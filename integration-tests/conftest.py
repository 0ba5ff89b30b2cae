"""What the integration tests share: built wheels, and environments that hold them."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .environments import (
    DISTRIBUTIONS,
    ROOT,
    Built,
    PrefectServer,
    VirtualEnvironment,
    make_once,
    run,
    uv,
)
from .page_blocks import Documented
from .repository_copies import copied_repository

if TYPE_CHECKING:
    from conftest import StartedServer


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of this session share."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def built(session_folder: Path) -> Built:
    """Wheels and sdists of all packages; the wheels are built from the sdists."""

    def build(folder: Path) -> None:
        for name in DISTRIBUTIONS:
            run([uv(), "build", "-q", "--package", name, "-o", folder], cwd=ROOT)

    return Built(make_once(session_folder / "dist", build))


@pytest.fixture(scope="session")
def core_environment(session_folder: Path, built: Built) -> VirtualEnvironment:
    """The core package alone, by plain pip."""

    def make(folder: Path) -> None:
        environment = VirtualEnvironment.create(folder, with_pip=True)
        environment.pip_install(*built.find_links, built.wheel("qcsc-prefect-core"))

    return VirtualEnvironment(make_once(session_folder / "core-alone", make))


@pytest.fixture(scope="session")
def qiskit_environment(session_folder: Path, built: Built) -> VirtualEnvironment:
    """The qiskit package with what it needs, and without wrappers."""

    def make(folder: Path) -> None:
        environment = VirtualEnvironment.create(folder)
        environment.uv_install(*built.find_links, built.wheel("qcsc-prefect-qiskit"))

    return VirtualEnvironment(make_once(session_folder / "qiskit-alone", make))


@pytest.fixture(scope="session")
def whole_environment(session_folder: Path, built: Built) -> VirtualEnvironment:
    """All three packages by plain pip, with the simulator that the main job runs on.

    What they need is there before: uv links it in seconds, where pip unpacks it for a minute.
    """

    def make(folder: Path) -> None:
        environment = VirtualEnvironment.create(folder, with_pip=True)
        wanted = (
            *built.find_links,
            built.wheel("qcsc-prefect-wrappers"),
            "qcsc-prefect-qiskit[aer]",
        )
        environment.uv_install(*wanted)
        environment.uv_uninstall(*DISTRIBUTIONS)
        environment.pip_install(*wanted)

    return VirtualEnvironment(make_once(session_folder / "whole", make))


@pytest.fixture(scope="session")
def untouched_repository(session_folder: Path) -> Path:
    """What git tracks, and what it would, in a repository of its own with one commit."""
    return make_once(session_folder / "repository", copied_repository)


@pytest.fixture
def repository(untouched_repository: Path, tmp_path: Path) -> Path:
    """The same for one test, which may change it."""
    return shutil.copytree(untouched_repository, tmp_path / "repository", symlinks=True)


@pytest.fixture(scope="session")
def prefect_server(started_server: StartedServer) -> PrefectServer:
    """One server for the tests that do not need the embedded one; starting one takes long."""
    return PrefectServer(started_server.home, started_server.url)


_PASSED = pytest.StashKey[set[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note which tests have passed in this process."""
    report = yield
    if report.when == "call" and report.passed:
        item.session.stash.setdefault(_PASSED, set()).add(item.nodeid)
    return report


@pytest.fixture(scope="module")
def documented(request: pytest.FixtureRequest) -> Iterator[Documented]:
    """The how-to on several machines; a module runs every block that the page says it runs.

    Which blocks it runs is known when all of its tests have passed, in one process.
    """
    blocks = Documented()
    yield blocks
    chosen = [item for item in request.session.items if item.path == request.path]
    there = {name for name in vars(request.module) if name.startswith("test_")}
    passed = request.session.stash.get(_PASSED, set())
    whole = there <= {item.originalname for item in chosen}
    if whole and passed.issuperset(item.nodeid for item in chosen):
        assert blocks.left_for(request.path.name) == []
