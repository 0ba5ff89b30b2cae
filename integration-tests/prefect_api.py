"""What the tests of several machines ask of a Prefect server."""

from __future__ import annotations

import base64
import json
import urllib.request
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PrefectAPI:
    """The REST API of a Prefect server that has a password.

    Attributes:
        url: Its address.
        credentials: User and password, ``user:password``.
    """

    url: str
    credentials: str

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Send one request and return its answer."""
        encoded = base64.b64encode(self.credentials.encode()).decode()
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Basic {encoded}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def is_healthy(self) -> bool:
        """Whether the server answers."""
        try:
            return bool(self.ask("GET", "/health"))
        except OSError:
            return False

    def start_run(self, deployment: str, **parameters: object) -> str:
        """Ask for a run of a deployment, ``flow/name``; return the run's id."""
        found = self.ask("GET", f"/deployments/name/{deployment}")
        started = self.ask(
            "POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters}
        )
        return str(started["id"])

    def state(self, run_id: str) -> str:
        """Return the type of a flow run's state; fail with its logs if it ended badly."""
        state = str(self.ask("GET", f"/flow_runs/{run_id}")["state_type"])
        assert state not in {"FAILED", "CANCELLED"}, self.logs(run_id)
        return state

    def logs(self, run_id: str) -> str:
        """Return what a flow run logged."""
        wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200}
        return "\n".join(line["message"] for line in self.ask("POST", "/logs/filter", wanted))

    def table(self, run_id: str, key: str) -> list[dict[str, Any]]:
        """Return the table artifact that a flow run made."""
        wanted = {"artifacts": {"key": {"any_": [key]}, "flow_run_id": {"any_": [run_id]}}}
        (found,) = self.ask("POST", "/artifacts/filter", wanted)
        table: list[dict[str, Any]] = json.loads(found["data"])
        return table
