"""Steers an emulator from another process, over the port that it serves clients on."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from qcsc_prefect.integrations.qiskit.testing.exchange import NO_CODE, Response, error_response
from qcsc_prefect.integrations.qiskit.testing.faults import Fault, RateLimit
from qcsc_prefect.integrations.qiskit.testing.jobs import JobEnd, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcsc_prefect.integrations.qiskit.testing.dispatcher import RequestLog
    from qcsc_prefect.integrations.qiskit.testing.exchange import Request
    from qcsc_prefect.integrations.qiskit.testing.fault_queue import Faults
    from qcsc_prefect.integrations.qiskit.testing.job_store import JobStore

CONTROL_PREFIX = "/__emulator__/"
"""The start of every path that steers the emulator; such requests are not noted in the log."""


class ServiceDescription(msgspec.Struct, frozen=True):
    """What another process must know to point a client at an emulated service.

    Attributes:
        root_url: The address of the server.
        url: The URL for the client's ``url``.
        environment: The environment variables that the client needs for it.
        token: The API key of the first account.
        instance: The CRN of its first instance.
        backends: The names of the backends.
    """

    root_url: str
    url: str
    environment: dict[str, str]
    token: str
    instance: str
    backends: list[str]


class ScheduleChange(msgspec.Struct, frozen=True):
    """How long jobs are queued and run; None stands for ever, which JSON cannot write."""

    queued_seconds: float | None
    running_seconds: float | None

    def schedule(self) -> Schedule:
        """Return the schedule that is meant."""
        return Schedule(
            math.inf if self.queued_seconds is None else self.queued_seconds,
            math.inf if self.running_seconds is None else self.running_seconds,
        )


class Control:
    """Answers the requests under `CONTROL_PREFIX`.

    Args:
        description: Asked for what the service looks like from outside.
        faults: The faults of the service.
        store: Its jobs.
        log: Its requests.
        revoke: Makes its access tokens useless.
    """

    def __init__(
        self,
        description: Callable[[], ServiceDescription],
        faults: Faults,
        store: JobStore,
        log: RequestLog,
        revoke: Callable[[], None],
    ) -> None:
        self._description = description
        self._faults = faults
        self._store = store
        self._log = log
        self._revoke = revoke

    def answer(self, request: Request) -> Response:
        """Carry a request out and return the answer."""
        asked = f"{request.method} {request.path.removeprefix(CONTROL_PREFIX)}"
        try:
            if request.method == "GET":
                return self._show(asked)
            return self._change(asked, request.body)
        except (msgspec.MsgspecError, ValueError) as error:
            return error_response(400, str(error), code=NO_CODE)

    def _show(self, asked: str) -> Response:
        match asked:
            case "GET service":
                shown: object = self._description()
            case "GET jobs":
                shown = [job.record() for job in self._store.all()]
            case "GET requests":
                shown = self._log.records
            case "GET faults":
                shown = self._faults.pending
            case _:
                return _unknown(asked)
        return Response(200, msgspec.json.encode(shown))

    def _change(self, asked: str, body: bytes) -> Response:
        match asked:
            case "POST faults":
                self._faults.inject(msgspec.json.decode(body, type=Fault))
            case "POST rate-limits":
                self._faults.inject_limit(msgspec.json.decode(body, type=RateLimit))
            case "POST job-ends":
                self._faults.plan_ends(msgspec.json.decode(body, type=list[JobEnd]))
            case "PUT visibility-delay":
                self._faults.hide_new_jobs(msgspec.json.decode(body, type=float))
            case "DELETE faults":
                self._faults.clear()
            case "DELETE requests":
                self._log.clear()
            case "DELETE access-tokens":
                self._revoke()
            case "PUT schedule":
                change = msgspec.json.decode(body, type=ScheduleChange)
                self._store.schedule = change.schedule()
            case "PUT clock":
                ahead = msgspec.json.decode(body, type=float)
                self._store.clock_ahead = timedelta(seconds=ahead)
            case "POST release":
                self._store.release(msgspec.json.decode(body, type=str | None))
            case _:
                return _unknown(asked)
        return Response(204)


def _unknown(asked: str) -> Response:
    return error_response(404, f"The emulator cannot be asked to {asked}.", code=NO_CODE)
