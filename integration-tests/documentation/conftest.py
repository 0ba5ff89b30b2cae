"""A Prefect server that all pages share; each page has a home and a working folder of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before Prefect is imported: it reads them then.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="qcsc-prefect-pages-")
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
os.environ.pop("PREFECT_API_URL", None)


@pytest.fixture(scope="session")
def api_url() -> Iterator[str]:
    """The address of a real Prefect server."""
    from prefect.settings import get_current_settings
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        url = get_current_settings().api.url
        assert url is not None
        yield url


@pytest.fixture
def page_environment(
    api_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """A folder to work in and a home, here and in the environment for processes that are started.

    Variables that a page sets are taken back after it.
    """
    from prefect.settings import PREFECT_HOME, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    home = tmp_path / "home"
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before = dict(os.environ)
    with temporary_settings({PREFECT_HOME: home, PREFECT_LOCAL_STORAGE_PATH: home / "storage"}):
        yield {"PREFECT_HOME": str(home), "PREFECT_API_URL": api_url}
    os.environ.clear()
    os.environ.update(before)
