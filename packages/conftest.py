"""What the tests of all packages share: a Prefect of their own, far from the user's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before Prefect is imported: it reads them then.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="qcsc-prefect-tests-")
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
os.environ.pop("PREFECT_API_URL", None)
# A fault without end ends for a test after a second, not after a minute.
os.environ["QCSC_PREFECT_PATIENCE_SECONDS"] = "1"
os.environ["QCSC_PREFECT_ANSWER_SECONDS"] = "20"


@pytest.fixture(scope="session")
def prefect_server(api_of_this_process: str) -> None:
    """A real Prefect server for the whole session."""


@pytest.fixture
def prefect_home(prefect_server: None, tmp_path: Path) -> Iterator[Path]:
    """A home, with result storage and local jobs, for one test."""
    from prefect.settings import PREFECT_HOME, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    home = tmp_path / "prefect-home"
    storage = home / "storage"
    with temporary_settings({PREFECT_HOME: home, PREFECT_LOCAL_STORAGE_PATH: storage}):
        yield home
