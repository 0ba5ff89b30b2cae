"""An emulated service that runs in another process, as seen from here."""

from __future__ import annotations

import math
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec

from qcsc_prefect.core.errors import QCSCPrefectError
from qcsc_prefect.integrations.qiskit.testing.control import (
    CONTROL_PREFIX,
    ScheduleChange,
    ServiceDescription,
)
from qcsc_prefect.integrations.qiskit.testing.exchange import RequestRecord, endpoint_named
from qcsc_prefect.integrations.qiskit.testing.faults import Fault, FaultInjector, RateLimit
from qcsc_prefect.integrations.qiskit.testing.jobs import JobRecord

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.testing.exchange import Endpoint
    from qcsc_prefect.integrations.qiskit.testing.jobs import JobEnd

_Shown = TypeVar("_Shown")

_OK = 300
_CONTROL_TIMEOUT_SECONDS = 30.0


class EmulatorControlError(QCSCPrefectError, RuntimeError):
    """The emulator in the other process refused what it was asked for."""


class RemoteEmulator:
    """Steers and inspects an `EmulatedService` that another process runs.

    Args:
        root_url: Its address, ``http://127.0.0.1:PORT``.

    Example:
        >>> from qcsc_prefect.integrations.qiskit.testing import EmulatedService, RemoteEmulator
        >>> with EmulatedService() as service:
        ...     remote = RemoteEmulator(service.root_url)
        ...     remote.faults.close("submit", when="after")
        ...     print(len(remote.jobs), [fault.endpoint for fault in service.faults.pending])
        0 [<Endpoint.SUBMIT: 'submit'>]
    """

    def __init__(self, root_url: str) -> None:
        self._connection = _ControlConnection(root_url)
        self.faults: FaultInjector = _RemoteFaults(self._connection)

    @property
    def description(self) -> ServiceDescription:
        """How a client is pointed at the service."""
        return self._connection.show("service", ServiceDescription)

    @property
    def jobs(self) -> list[JobRecord]:
        """The jobs that were created, the oldest first, each as it is now."""
        return self._connection.show("jobs", list[JobRecord])

    @property
    def requests(self) -> list[RequestRecord]:
        """The requests that arrived, the oldest first."""
        return self._connection.show("requests", list[RequestRecord])

    def count(self, endpoint: Endpoint | str | None = None) -> int:
        """Return how many requests arrived at one endpoint, or at all of them."""
        wanted = None if endpoint is None else endpoint_named(endpoint)
        return sum(record.endpoint == wanted or wanted is None for record in self.requests)

    def clear_requests(self) -> None:
        """Forget the requests that arrived, to count anew."""
        self._connection.change("DELETE", "requests")

    def set_schedule(self, *, queued_seconds: float = 0.0, running_seconds: float = 0.0) -> None:
        """Set how long jobs that are submitted from now on are queued and run."""
        change = ScheduleChange(
            None if math.isinf(queued_seconds) else queued_seconds,
            None if math.isinf(running_seconds) else running_seconds,
        )
        self._connection.change("PUT", "schedule", change)

    def set_clock(self, *, ahead_seconds: float) -> None:
        """Let the service's clock be ahead, as `EmulatedService.set_clock`."""
        self._connection.change("PUT", "clock", ahead_seconds)

    def release_jobs(self, job_id: str | None = None) -> None:
        """Let one job, or all there are, end as soon as they have been simulated."""
        self._connection.change("POST", "release", job_id)

    def revoke_access_tokens(self) -> None:
        """Answer 401 to every access token given out so far; new ones can be had."""
        self._connection.change("DELETE", "access-tokens")


class _RemoteFaults(FaultInjector):
    def __init__(self, connection: _ControlConnection) -> None:
        self._connection = connection

    def inject(self, fault: Fault) -> None:
        self._connection.change("POST", "faults", fault)

    def inject_limit(self, limit: RateLimit) -> None:
        self._connection.change("POST", "rate-limits", limit)

    def plan_ends(self, ends: list[JobEnd]) -> None:
        self._connection.change("POST", "job-ends", ends)

    def hide_new_jobs(self, seconds: float) -> None:
        self._connection.change("PUT", "visibility-delay", seconds)

    def clear(self) -> None:
        self._connection.change("DELETE", "faults")


class _ControlConnection:
    """Sends one request at a time, each on a connection of its own and past any proxy."""

    def __init__(self, root_url: str) -> None:
        self._address = urlsplit(root_url).netloc

    def show(self, name: str, shown_type: type[_Shown]) -> _Shown:
        return msgspec.json.decode(self._exchange("GET", name, b""), type=shown_type)

    def change(self, method: str, name: str, value: object = None) -> None:
        self._exchange(method, name, msgspec.json.encode(value))

    def _exchange(self, method: str, name: str, body: bytes) -> bytes:
        connection = HTTPConnection(self._address, timeout=_CONTROL_TIMEOUT_SECONDS)
        try:
            connection.request(method, CONTROL_PREFIX + name, body)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, HTTPException) as error:
            raise EmulatorControlError(
                f"Asked the emulator at {self._address} to {method} {name}; nothing answered: "
                f"{error}. Is it still running?"
            ) from error
        finally:
            connection.close()
        if response.status >= _OK:
            raise EmulatorControlError(
                f"Asked the emulator at {self._address} to {method} {name}; it answered "
                f"{response.status}: {answer.decode(errors='replace')}"
            )
        return answer
