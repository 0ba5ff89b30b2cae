"""In how many processes the tests run, where the command line does not say it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Let one file run in this process: its tests stay together, and no other has to start."""
    files = {argument.partition("::")[0] for argument in config.args}
    alone = len(files) == 1 and Path(config.invocation_params.dir, *files).is_file()
    return 0 if alone else None
