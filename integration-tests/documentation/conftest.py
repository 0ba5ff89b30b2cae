"""A Prefect server that all pages share; each has a home, a folder and an account of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.testing import EmulatedService

# Before Prefect is imported: it reads them then.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="qcsc-prefect-pages-")
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
os.environ.pop("PREFECT_API_URL", None)


@pytest.fixture(scope="session")
def api_url(api_of_this_process: str) -> str:
    """The address of a real Prefect server."""
    return api_of_this_process


@pytest.fixture
def account() -> Iterator[EmulatedService]:
    """An account in the environment, as users have one, on an emulated service."""
    from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
    from qcsc_prefect.integrations.qiskit.testing import EmulatedService

    # Connections are pooled by configuration, and each page's account has the same one.
    get_service_pool().clear()
    before = dict(os.environ)
    with EmulatedService(backends={"ibm_kawasaki": "fake_manila"}, seed=7) as service:
        os.environ.update(service.account_environment)
        yield service
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def page_environment(
    api_url: str, account: EmulatedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """A folder to work in and a home, here and in the environment for processes that are started.

    Variables that a page sets are taken back with those of its account.
    """
    from prefect.settings import PREFECT_HOME, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    home = tmp_path / "home"
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with temporary_settings({PREFECT_HOME: home, PREFECT_LOCAL_STORAGE_PATH: home / "storage"}):
        yield {"PREFECT_HOME": str(home), "PREFECT_API_URL": api_url}
