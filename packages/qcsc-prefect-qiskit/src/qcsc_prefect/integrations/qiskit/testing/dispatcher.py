"""Takes each request through the log, the injected faults and the endpoints."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from qcsc_prefect.integrations.qiskit.testing.endpoints import route
from qcsc_prefect.integrations.qiskit.testing.exchange import (
    RequestRecord,
    Response,
    error_response,
)
from qcsc_prefect.integrations.qiskit.testing.faults import FaultKind

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.testing.endpoints import Endpoints
    from qcsc_prefect.integrations.qiskit.testing.exchange import Endpoint, Request
    from qcsc_prefect.integrations.qiskit.testing.fault_queue import Faults
    from qcsc_prefect.integrations.qiskit.testing.faults import Fault

_DROPPING = frozenset({FaultKind.CLOSE, FaultKind.RESET})
_GATEWAY_PAGE = b"<html><body><h1>Bad gateway</h1></body></html>"


@dataclass(frozen=True)
class Delivery:
    """What is to be sent to the client.

    Attributes:
        response: The answer.
        damage: What is done to the connection while the answer is sent, or None.
    """

    response: Response
    damage: FaultKind | None = None


class RequestLog:
    """The requests that arrived, in their order; safe to use from several threads."""

    def __init__(self) -> None:
        self._records: dict[int, RequestRecord] = {}
        self._next = 0
        self._lock = threading.Lock()

    def begin(self, record: RequestRecord) -> int:
        """Note a request that arrived and return the number to finish it with."""
        with self._lock:
            self._next += 1
            self._records[self._next] = record
            return self._next

    def finish(self, number: int, status: int | None) -> None:
        """Note how a request was answered, unless it was cleared away in the meantime."""
        with self._lock:
            if number in self._records:
                self._records[number] = replace(self._records[number], status=status)

    def clear(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._records.clear()

    @property
    def records(self) -> tuple[RequestRecord, ...]:
        """The requests, the oldest first."""
        with self._lock:
            return tuple(self._records.values())


class Dispatcher:
    """Answers requests, and lets faults strike them.

    Args:
        endpoints: What carries requests out.
        faults: The injected faults.
        log: Where requests are noted.
    """

    def __init__(self, endpoints: Endpoints, faults: Faults, log: RequestLog) -> None:
        self._endpoints = endpoints
        self._faults = faults
        self._log = log

    def dispatch(self, request: Request, connection: int) -> Delivery:
        """Carry a request out, as far as the faults let it, and return what is to be sent.

        Args:
            request: The request.
            connection: The number of the connection it came over.
        """
        asked = route(request)
        cleared = self._faults.cleared
        struck = self._faults.strike(asked.endpoint)
        delays = [fault for fault in struck if fault.kind is FaultKind.DELAY]
        fault = next((fault for fault in struck if fault.kind is not FaultKind.DELAY), None)
        # Noted before the answer is due: whoever watches may act while it is held back.
        noted = fault or next(iter(delays), None)
        number = self._log.begin(
            _record(request, asked.endpoint, connection, noted.kind if noted else None)
        )

        cleared.wait(sum(delay.seconds for delay in delays if delay.when == "before"))
        if fault is None or fault.when == "after":
            response = self._endpoints.answer(request, asked)
        else:
            response = Response(204)
        cleared.wait(sum(delay.seconds for delay in delays if delay.when == "after"))

        delivery = Delivery(response) if fault is None else _struck(response, fault)
        status = None if delivery.damage in _DROPPING else delivery.response.status
        self._log.finish(number, status)
        return delivery


def _struck(response: Response, fault: Fault) -> Delivery:
    match fault.kind:
        case FaultKind.STATUS:
            headers = {}
            if fault.retry_after is not None:
                headers["Retry-After"] = f"{fault.retry_after:g}"
            return Delivery(
                error_response(fault.status, fault.text, code=fault.code, headers=headers)
            )
        case FaultKind.MALFORM:
            return Delivery(Response(200, _GATEWAY_PAGE, content_type="text/html"))
        case FaultKind.EMPTY:
            return Delivery(Response(200))
        case FaultKind.BODY:
            return Delivery(Response(200, fault.text.encode()))
        case FaultKind.STATE:
            return Delivery(_in_state(response, fault.text))
        case _:
            return Delivery(response, fault.kind)


def _in_state(response: Response, state: str) -> Response:
    if response.status != 200:  # noqa: PLR2004 - the status means what it says
        return response
    described = json.loads(response.body)
    described |= {"status": state, "state": {"status": state}}
    return replace(response, body=json.dumps(described).encode())


def _record(
    request: Request, endpoint: Endpoint, connection: int, fault: FaultKind | None
) -> RequestRecord:
    query = urlencode(request.query, doseq=True)
    return RequestRecord(
        time=datetime.now(UTC),
        method=request.method,
        path=f"{request.path}?{query}" if query else request.path,
        endpoint=endpoint,
        status=None,
        instance=request.headers.get("service-crn"),
        connection=connection,
        fault=fault,
    )
