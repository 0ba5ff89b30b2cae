"""Another machine on the same account: what is stored here is not there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from prefect.settings import PREFECT_HOME, PREFECT_LOCAL_STORAGE_PATH, temporary_settings


def another_machine(folder: Path) -> AbstractContextManager[object]:
    """Let Prefect live in another folder for the length of a with statement."""
    return temporary_settings(
        {PREFECT_HOME: folder, PREFECT_LOCAL_STORAGE_PATH: folder / "storage"}
    )
