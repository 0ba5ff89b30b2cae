"""One request and its answer, and the names of the endpoints that exchange them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - records are read back from JSON by their types
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from qcsc_prefect.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"
"""What a JSON document can hold."""

NO_CODE = 0
"""Stands where public material names no code of the service for an error."""


class Endpoint(StrEnum):
    """The endpoints of the emulated service, by the names used to count and to break them."""

    TOKEN = "token"  # noqa: S105 - a name, not a secret
    """``POST /identity/token``: an API key is exchanged for an access token."""
    INSTANCES = "instances"
    """``POST /v3/resources/search``: the instances that an account can use."""
    PLAN = "plan"
    """``GET /api/v1/{plan}`` of the catalog: the plan that an instance runs under."""
    BACKENDS = "backends"
    """``GET /backends``: the backends of one instance."""
    CONFIGURATION = "configuration"
    """``GET /backends/{name}/configuration``."""
    PROPERTIES = "properties"
    """``GET /backends/{name}/properties``."""
    STATUS = "status"
    """``GET /backends/{name}/status``."""
    USAGE = "usage"
    """``GET /instances/usage``: the quota of one instance."""
    SUBMIT = "submit"
    """``POST /jobs``: a job is created."""
    SEARCH = "search"
    """``GET /jobs``: jobs are searched by tag, time, backend, program or state."""
    JOB = "job"
    """``GET /jobs/{id}``: one job and its state."""
    RESULT = "result"
    """``GET /jobs/{id}/results``."""
    METRICS = "metrics"
    """``GET /jobs/{id}/metrics``."""
    LOGS = "logs"
    """``GET /jobs/{id}/logs``."""
    CANCEL = "cancel"
    """``POST /jobs/{id}/cancel``."""
    TAGS = "tags"
    """``PUT /jobs/{id}/tags``."""
    DELETE = "delete"
    """``DELETE /jobs/{id}``."""
    SESSION = "session"
    """``/sessions`` and below: a session or batch is created, described or closed."""
    UNKNOWN = "unknown"
    """Any other request; answered with 404."""


def endpoint_named(name: str) -> Endpoint:
    """Return the endpoint of this name.

    Raises:
        ConfigurationError: No endpoint has the name.
    """
    try:
        return Endpoint(name)
    except ValueError:
        known = ", ".join(endpoint.value for endpoint in Endpoint)
        raise ConfigurationError(f"No endpoint is called {name!r}; they are {known}.") from None


@dataclass(frozen=True)
class Request:
    """A request as the server received it.

    Attributes:
        method: The HTTP method, in capitals.
        host: The host that the client meant, without the port; behind a proxy this is not the
            address of the emulator.
        path: The path without the query.
        query: The parameters of the query; each can be given several times.
        headers: The headers, with names in lower case.
        body: The body, empty where there was none.
    """

    method: str
    host: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes = b""

    def parameter(self, name: str) -> str | None:
        """Return the last value of one query parameter, or None where it is not given."""
        values = self.query.get(name)
        return values[-1] if values else None


@dataclass(frozen=True)
class Response:
    """An answer before it is written to the connection.

    Attributes:
        status: The HTTP status.
        body: The body in full.
        content_type: The media type of the body.
        headers: Further headers, such as ``Retry-After``.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RequestRecord:
    """What is remembered of one request; neither credentials nor bodies are.

    Attributes:
        time: When the request arrived (UTC).
        method: The HTTP method.
        path: The path with its query.
        endpoint: The endpoint that the path names.
        status: The status that was sent, or None where no answer was sent (yet).
        instance: The CRN that the client sent along, or None.
        connection: The number of the connection, counted from 1; requests on one kept-alive
            connection share it.
        fault: The fault that struck the request, as soon as it arrived; ``delay`` where it was
            delayed and nothing else; None where there was none.
    """

    time: datetime
    method: str
    path: str
    endpoint: Endpoint
    status: int | None
    instance: str | None
    connection: int
    fault: str | None = None


def json_response(
    value: JSONValue, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer whose body is a JSON document."""
    return Response(status, json.dumps(value).encode(), headers=headers or {})


def error_response(
    status: int,
    message: str,
    *,
    code: int,
    solution: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error in the shape the service uses.

    Args:
        status: The HTTP status.
        message: What went wrong.
        code: The service's own number for this error.
        solution: What the caller can do.
        headers: Further headers, such as ``Retry-After``.
    """
    error: dict[str, JSONValue] = {
        "code": code,
        "message": message,
        "solution": solution,
        "more_info": "",
    }
    return json_response({"errors": [error]}, status, headers)
