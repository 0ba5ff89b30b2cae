"""An imaginary vendor who sells annealing, as a server on this machine, for `custom_vendor.py`.

It keeps its jobs in memory. ``faults`` holds what goes wrong next, by the name of what is asked.

    uv run docs/examples/acme_server.py
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

PORT = 8765
Answer = tuple[int, Any]


class AcmeServer(ThreadingHTTPServer):
    """The vendor; ``with AcmeServer() as acme`` runs it in threads of this process.

    Args:
        port: Where to listen; 0 takes a free port.

    Attributes:
        jobs: What was accepted, by id, as the vendor shows it.
        faults: For each kind of request, what happens to the next ones: see `Acme.answer`.
        shown_after: Seconds after which a search shows a job.
        held: Whether new jobs wait in the queue.
        next_end: The state in which the next job ends.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Acme)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.numbers = itertools.count(1)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.shown_after = 0.0
        self.held = False
        self.next_end = "cold"
        self.fetched: set[str] = set()
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that were killed."""


class Acme(BaseHTTPRequestHandler):
    """Answers one request."""

    server: AcmeServer

    def do_POST(self) -> None:
        """Accept or cancel a job."""
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or "{}")
        match self.path.strip("/").split("/"):
            case ["jobs"]:
                self.answer("submit", lambda: (201, self.accepted(body)))
            case ["jobs", job_id, "cancel"]:
                self.answer("cancel", lambda: self.cancelled(job_id))

    def do_GET(self) -> None:
        """Show jobs, one job, or its result."""
        url = urlsplit(self.path)
        match url.path.strip("/").split("/"):
            case ["jobs"]:
                query = {name: value for name, [value] in parse_qs(url.query).items()}
                self.answer("search", lambda: (200, self.found(**query)))
            case ["jobs", job_id]:
                self.answer("status", lambda: self.shown(job_id))
            case ["jobs", job_id, "result"]:
                self.answer("result", lambda: self.result(job_id))

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""

    def answer(self, kind: str, carry_out: Callable[[], Answer]) -> None:
        """Carry a request out and answer it, or do what its fault says."""
        faults = self.server.faults[kind]
        fault = faults.pop(0) if faults else "none"
        match fault.split():
            case ["refuse"]:
                return self.send(400, {"code": "ACME-BAD"})
            case ["limit", seconds]:
                return self.send(429, {"code": "ACME-LIMIT"}, {"Retry-After": seconds})
            case ["break"]:
                return self.send(503, {"code": "ACME-DOWN"})
        with self.server.lock:
            status, content = carry_out()
        match fault:
            case "drop":
                self.close_connection = True
            case "hang":
                time.sleep(60)
            case "time out":
                self.send(504, {"code": "GATEWAY"})
            case "cut":
                self.send(status, content, half=True)
            case _:
                self.send(status, content)
        return None

    def send(
        self,
        status: int,
        content: Any,
        headers: dict[str, str] | None = None,
        *,
        half: bool = False,
    ) -> None:
        """Send an answer, or the first half of it as if it were whole."""
        body = json.dumps(content).encode()
        body = body[: len(body) // 2] if half else body
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def accepted(self, body: dict[str, Any]) -> dict[str, Any]:
        """Accept a job, which is paid for from now on."""
        job = {
            "id": f"acme-{next(self.server.numbers)}",
            "machine": "acme-1",
            "state": "waiting" if self.server.held else self.server.next_end,
            "created": datetime.now(UTC).isoformat(),
            **body,
        }
        self.server.next_end = "cold"
        self.server.jobs[job["id"]] = job
        return job

    def found(self, tag: str | None = None, since: str | None = None) -> list[dict[str, Any]]:
        """Return the jobs, or those with a tag, that are old enough to be shown."""
        shown = datetime.now(UTC) - timedelta(seconds=self.server.shown_after)
        return [
            job
            for job in self.server.jobs.values()
            if (tag is None or tag in job["tags"])
            and datetime.fromisoformat(job["created"]) <= shown
            and (since is None or job["created"] >= since)
        ]

    def shown(self, job_id: str) -> Answer:
        """Return one job."""
        if job_id not in self.server.jobs:
            return HTTPStatus.NOT_FOUND, {"code": "ACME-404"}
        return HTTPStatus.OK, self.server.jobs[job_id]

    def cancelled(self, job_id: str) -> Answer:
        """Cancel a job, unless it has ended."""
        job = self.server.jobs.get(job_id)
        if job is not None and job["state"] != "waiting":
            return HTTPStatus.CONFLICT, {"code": "ACME-ENDED"}
        if job is not None:
            job["state"] = "withdrawn"
        return self.shown(job_id)

    def result(self, job_id: str) -> Answer:
        """Return the spins of lowest energy; busy when it is asked for the first time."""
        if job_id not in self.server.jobs:
            return self.shown(job_id)
        if job_id not in self.server.fetched:
            self.server.fetched.add(job_id)
            return HTTPStatus.CONFLICT, {"code": "ACME-BUSY"}
        return HTTPStatus.OK, lowest_energy(self.server.jobs[job_id]["couplings"])


def lowest_energy(couplings: dict[str, float]) -> dict[str, Any]:
    """Try all spins; a coupling ``"a b"`` of strength J costs J times a times b."""
    names = sorted({name for pair in couplings for name in pair.split()})
    best: dict[str, Any] = {}
    for values in itertools.product([1, -1], repeat=len(names)):
        spins = dict(zip(names, values, strict=True))
        pairs = ((pair.split(), strength) for pair, strength in couplings.items())
        energy = sum(strength * spins[a] * spins[b] for (a, b), strength in pairs)
        if not best or energy < best["energy"]:
            best = {"energy": energy, "spins": spins}
    return best


if __name__ == "__main__":
    with AcmeServer(PORT) as acme:
        print(f"Acme sells annealing at {acme.url} until you press Ctrl-C")
        while True:
            time.sleep(1)
