"""A real Prefect server and real worker processes, to be killed."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

RUN_SECONDS = 120


@dataclass
class PrefectServer:
    """A Prefect server in its own process; everything it stores lies below `home`."""

    api_url: str
    home: Path


def wait_until(
    condition: Callable[[], bool], seconds: float, what: str, pause: float = 0.01
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(pause)


@dataclass
class Worker:
    """One process of the user's program."""

    pid: int
    ended: threading.Event = field(default_factory=threading.Event)
    code: int | None = None

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.ended.wait(30)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def wait(self) -> int | None:
        assert self.ended.wait(RUN_SECONDS), f"process {self.pid} hangs"
        return self.code


class Workers:
    """Starts processes of the user's program, forked from one that has imported everything."""

    def __init__(self) -> None:
        script = Path(__file__).parent / "worker.py"
        self._zygote = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._zygote.stdout.readline() == "ready\n"
        self._started: queue.Queue[Worker] = queue.Queue()
        self._running: dict[int, Worker] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, job: dict) -> Worker:
        self._zygote.stdin.write(json.dumps(job) + "\n")
        self._zygote.stdin.flush()
        return self._started.get(timeout=30)

    def close(self) -> None:
        self._zygote.stdin.close()
        self._zygote.wait(30)

    def _listen(self) -> None:
        for line in self._zygote.stdout:
            note = json.loads(line)
            if "started" in note:
                worker = Worker(note["started"])
                self._running[worker.pid] = worker
                self._started.put(worker)
            else:
                worker = self._running.pop(note["ended"])
                worker.code = note["code"]
                worker.ended.set()
