"""What is no regular file, or too large, is refused before it is read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from qcsc_prefect.core.container.archive import describe_result, load_result, save_result
from qcsc_prefect.core.errors import RecordError


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


PLACES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "link to a device without an end": lambda path: path.symlink_to("/dev/zero"),
    "link to a terminal": lambda path: path.symlink_to("/dev/tty"),
    "8 GiB that take no room": lambda path: (path.touch(), os.truncate(path, 8 << 30)),
    "empty": Path.touch,
    "link to a file of the system": lambda path: path.symlink_to("/proc/self/status"),
    "socket": _socket,
}


@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("read", [load_result, describe_result])
def test_an_archive_that_is_none_is_refused(tmp_path, monkeypatch, place, read):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    path = Path("run.qcsc")
    PLACES[place](path)
    with pytest.raises((RecordError, OSError), match=r"run\.qcsc|This is no container"):
        read(path)


def test_the_limit_is_a_setting(tmp_path, monkeypatch):
    path = tmp_path / "run.qcsc"
    save_result(path, {"raw": os.urandom(5000)})
    monkeypatch.setenv("QCSC_PREFECT_MAX_RECORD_BYTES", "2000")
    with pytest.raises(RecordError, match=r"no more than 4000.*QCSC_PREFECT_MAX_RECORD_BYTES"):
        load_result(path)
    monkeypatch.setenv("QCSC_PREFECT_MAX_RECORD_BYTES", "20000")
    assert len(load_result(path)["raw"]) == 5000
