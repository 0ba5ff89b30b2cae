"""Which path means which endpoint, who may use it, and the answers that do not concern jobs."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from qcsc_prefect.integrations.qiskit.testing.exchange import (
    NO_CODE,
    Endpoint,
    Response,
    error_response,
    json_response,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qcsc_prefect.integrations.qiskit.testing.accounts import (
        AccessTokens,
        EmulatedAccount,
        EmulatedInstance,
    )
    from qcsc_prefect.integrations.qiskit.testing.backends import EmulatedBackend
    from qcsc_prefect.integrations.qiskit.testing.exchange import JSONValue, Request
    from qcsc_prefect.integrations.qiskit.testing.job_endpoints import JobEndpoints

NOT_AUTHENTICATED = 1200
"""The service's code for a request without a good token."""

NOT_AUTHORIZED = 1201
"""The service's code for a request that the account is not allowed to make."""


@dataclass(frozen=True)
class Route:
    """What a path means.

    Attributes:
        endpoint: The endpoint.
        name: The job id, backend name, session id or plan in the path; empty where there is none.
    """

    endpoint: Endpoint
    name: str = ""


@dataclass(frozen=True)
class Caller:
    """Who sent a request: the account, and the instance that the request is for."""

    account: EmulatedAccount
    instance: EmulatedInstance


_RUNTIME_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", r"/backends", Endpoint.BACKENDS),
    ("GET", r"/backends/([^/]+)/configuration", Endpoint.CONFIGURATION),
    ("GET", r"/backends/([^/]+)/properties", Endpoint.PROPERTIES),
    ("GET", r"/backends/([^/]+)/status", Endpoint.STATUS),
    ("GET", r"/instances/usage", Endpoint.USAGE),
    ("POST", r"/jobs", Endpoint.SUBMIT),
    ("GET", r"/jobs", Endpoint.SEARCH),
    ("GET", r"/jobs/([^/]+)", Endpoint.JOB),
    ("DELETE", r"/jobs/([^/]+)", Endpoint.DELETE),
    ("GET", r"/jobs/([^/]+)/results", Endpoint.RESULT),
    ("GET", r"/jobs/([^/]+)/metrics", Endpoint.METRICS),
    ("GET", r"/jobs/([^/]+)/logs", Endpoint.LOGS),
    ("POST", r"/jobs/([^/]+)/cancel", Endpoint.CANCEL),
    ("PUT", r"/jobs/([^/]+)/tags", Endpoint.TAGS),
    ("POST", r"/sessions", Endpoint.SESSION),
    ("GET", r"/sessions/([^/]+)", Endpoint.SESSION),
    ("PATCH", r"/sessions/([^/]+)", Endpoint.SESSION),
    ("DELETE", r"/sessions/([^/]+)/close", Endpoint.SESSION),
)

_API_PREFIX = "/api/v1"


def route(request: Request) -> Route:
    """Return which endpoint a request is for.

    The client finds its endpoints on several hosts; only the catalog's path needs the host to be
    told from a path of the service itself.
    """
    if request.path == "/identity/token":
        return Route(Endpoint.TOKEN)
    if request.path == "/v3/resources/search":
        return Route(Endpoint.INSTANCES)
    _, found, path = request.path.partition(_API_PREFIX)
    if not found:
        return Route(Endpoint.UNKNOWN)
    if request.host.startswith("globalcatalog."):
        return Route(Endpoint.PLAN, path.lstrip("/"))
    for method, pattern, endpoint in _RUNTIME_ROUTES:
        match = re.fullmatch(pattern, path)
        if match and method == request.method:
            return Route(endpoint, match.group(1) if match.groups() else "")
    return Route(Endpoint.UNKNOWN)


class Endpoints:
    """Answers requests as the service would, from accounts, backends and jobs.

    Args:
        accounts: The accounts that can sign in.
        tokens: The access tokens given out to them.
        backends: The backends, by name.
        job_endpoints: What answers requests about jobs.
    """

    def __init__(
        self,
        accounts: tuple[EmulatedAccount, ...],
        tokens: AccessTokens,
        backends: Mapping[str, EmulatedBackend],
        job_endpoints: JobEndpoints,
    ) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._backends = backends
        self._job_endpoints = job_endpoints

    def answer(self, request: Request, asked: Route) -> Response:
        """Carry a request out and return the answer."""
        match asked.endpoint:
            case Endpoint.TOKEN:
                response = self._exchange_api_key(request)
            case Endpoint.INSTANCES:
                response = self._search_instances(request)
            case Endpoint.PLAN:
                response = self._describe_plan(asked.name)
            case Endpoint.UNKNOWN:
                message = f"There is no endpoint {request.method} {request.path}."
                response = error_response(404, message, code=NO_CODE)
            case _:
                response = self._answer_caller(request, asked)
        return response

    def _answer_caller(self, request: Request, asked: Route) -> Response:
        caller = self._caller(request)
        if isinstance(caller, Response):
            return caller
        match asked.endpoint:
            case Endpoint.BACKENDS:
                return self._list_backends(caller)
            case Endpoint.CONFIGURATION | Endpoint.PROPERTIES | Endpoint.STATUS:
                return self._describe_backend(caller, asked)
            case Endpoint.USAGE:
                return _describe_usage(caller.instance)
            case _:
                return self._job_endpoints.answer(request, asked, caller)

    def _caller(self, request: Request) -> Caller | Response:
        account = self._tokens.account_of(request.headers.get("authorization", ""))
        if account is None:
            return error_response(
                401,
                "Authentication failed.",
                code=NOT_AUTHENTICATED,
                solution="Send an access token that was given out for a known API key.",
            )
        crn = request.headers.get("service-crn", "")
        instance = next((i for i in account.instances if i.crn == crn), None)
        if instance is None:
            return error_response(
                403,
                f"The account has no access to the instance {crn!r}.",
                code=NOT_AUTHORIZED,
                solution="Choose an instance of the account.",
            )
        return Caller(account, instance)

    def _exchange_api_key(self, request: Request) -> Response:
        form = parse_qs(request.body.decode("utf-8", "replace"))
        access_token = self._tokens.issue(form.get("apikey", [""])[-1])
        if access_token is None:
            return json_response(
                {
                    "errorCode": "BXNIM0415E",
                    "errorMessage": "Provided API key could not be found.",
                },
                400,
            )
        return json_response(
            {
                "access_token": access_token,
                "refresh_token": "not_supported",
                "token_type": "Bearer",
                "expires_in": int(self._tokens.lifetime),
                "expiration": int(time.time() + self._tokens.lifetime),
            }
        )

    def _search_instances(self, request: Request) -> Response:
        account = self._tokens.account_of(request.headers.get("authorization", ""))
        if account is None:
            return error_response(401, "Authentication failed.", code=NOT_AUTHENTICATED)
        items: list[JSONValue] = [
            {
                "crn": instance.crn,
                "name": instance.name,
                "service_plan_unique_id": _plan_id(instance),
                "doc": {"extensions": [{"backends": list(self._backends_of(instance))}]},
                "tags": [],
            }
            for instance in account.instances
        ]
        return json_response({"items": items, "limit": 100})

    def _describe_plan(self, plan_id: str) -> Response:
        for account in self._accounts:
            for instance in account.instances:
                if _plan_id(instance) == plan_id:
                    return json_response(
                        {
                            "id": plan_id,
                            "overview_ui": {"en": {"display_name": instance.plan.title()}},
                            "metadata": {"pricing": {"type": instance.pricing_type}},
                        }
                    )
        return error_response(404, f"There is no plan {plan_id!r}.", code=NO_CODE)

    def _list_backends(self, caller: Caller) -> Response:
        devices: list[JSONValue] = [
            backend.listing(self._job_endpoints.queue_length(name))
            for name, backend in self._backends_of(caller.instance).items()
        ]
        return json_response({"devices": devices})

    def _describe_backend(self, caller: Caller, asked: Route) -> Response:
        backend = self._backends_of(caller.instance).get(asked.name)
        if backend is None:
            return error_response(
                404,
                f"The instance has no backend {asked.name!r}.",
                code=NO_CODE,
                solution="Choose one from the list of backends.",
            )
        match asked.endpoint:
            case Endpoint.CONFIGURATION:
                return json_response(backend.configuration())
            case Endpoint.PROPERTIES:
                return json_response(backend.properties())
            case _:
                return json_response(backend.status(self._job_endpoints.queue_length(asked.name)))

    def _backends_of(self, instance: EmulatedInstance) -> Mapping[str, EmulatedBackend]:
        return offered_backends(instance, self._backends)


def offered_backends(
    instance: EmulatedInstance, backends: Mapping[str, EmulatedBackend]
) -> Mapping[str, EmulatedBackend]:
    """Return those of the service's backends that an instance offers."""
    if instance.backends is None:
        return backends
    return {name: backends[name] for name in instance.backends}


def _plan_id(instance: EmulatedInstance) -> str:
    return f"plan-{instance.plan}-{instance.pricing_type}"


def _describe_usage(instance: EmulatedInstance) -> Response:
    usage: dict[str, JSONValue] = {
        "instance_id": instance.crn,
        "usage_consumed_seconds": 0,
        "usage_limit_reached": False,
    }
    if instance.usage_limit_seconds is not None:
        usage["usage_limit_seconds"] = instance.usage_limit_seconds
        usage["usage_limit_reached"] = instance.usage_limit_seconds <= 0
    return json_response(usage)
