"""A Prefect server for benchmarks, whose log does not mix with their tables."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """Run a Prefect server; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
        env={
            **os.environ,
            "PREFECT_HOME": str(folder / "server"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health"):
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/api"
        # Prefect sends both from queues of this process. What it finds in them at the end of the
        # process it tries to send for ten seconds each, to a server that is gone.
        EventsWorker.drain_all()
        APILogWorker.drain_all()
    finally:
        process.terminate()
        process.wait()
