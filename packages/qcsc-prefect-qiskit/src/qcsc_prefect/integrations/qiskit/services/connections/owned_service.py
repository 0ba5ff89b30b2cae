"""Takes the native service into the care of this package: its requests, and how it signs in.

Each connection of a service gets the adapter of `wire`, the moment it is made and before it sends
anything. The client makes its connections at many places, and every one of them is the "active" one
before it is used; so that is where they are met.

The client's token manager lets one thread at a time ask for a token. Where that fails it goes on
taking the request for one under way: every later call waits until a minute is over, asks once more,
and sends the bare API key. So a wrong key, which the token service refuses at once, costs minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibm_cloud_sdk_core import ApiException, IAMTokenManager
from qiskit_ibm_runtime import QiskitRuntimeService
from qiskit_ibm_runtime.exceptions import IBMNotAuthorizedError

from qcsc_prefect.integrations.qiskit.errors.translation import note_secret
from qcsc_prefect.integrations.qiskit.services.connections.shared_checks import share_checks
from qcsc_prefect.integrations.qiskit.services.connections.wire import own_requests, wait_out
from qcsc_prefect.integrations.qiskit.services.connections.wire_limits import WireLimits

if TYPE_CHECKING:
    from qiskit_ibm_runtime.api.client import RuntimeClient

__all__ = ["OwnedRuntimeService", "own_connection", "own_service"]

#: What the token service answers to a key that it does not know, or that is not to be used.
_REFUSALS = frozenset({400, 401, 403})


class OwnedRuntimeService(QiskitRuntimeService):  # type: ignore[misc]
    """The native service, each of whose connections sends its requests by this package's rules."""

    @property
    def _active_api_client(self) -> RuntimeClient:
        connection: RuntimeClient = self.__dict__["_active_api_client"]
        return connection

    @_active_api_client.setter
    def _active_api_client(self, connection: RuntimeClient) -> None:
        own_connection(connection)
        self.__dict__["_active_api_client"] = connection


class _PromptTokenManager(IAMTokenManager):  # type: ignore[misc]
    """The client's token manager, which notices that asking for a token has failed."""

    def get_token(self) -> str:
        return wait_out(
            self._get_token,
            patience=WireLimits.current().patience,
            doing="Asking for an access token",
        )

    def _get_token(self) -> str:
        try:
            return str(super().get_token())
        except Exception:
            self.request_time = 0  # no request is under way any more
            if self._is_token_expired():
                raise
            # It was to be renewed before its time, and is good until then.
            return str(self.access_token)


def own_connection(connection: RuntimeClient) -> None:
    """Take one connection of a native service into care; to do it twice is fine.

    Args:
        connection: The connection, such as ``backend._api_client``.
    """
    session = connection._session  # noqa: SLF001 - the client hides it
    own_requests(session)
    share_checks(connection)
    tokens = session.auth.tm
    note_secret(str(tokens.apikey))
    if not isinstance(tokens, _PromptTokenManager):
        # Made inside of the client, from the account; nothing but its class says how it waits.
        tokens.__class__ = _PromptTokenManager
        tokens.request_time = 0
        tokens.http_config = {**tokens.http_config, "timeout": WireLimits.current().answer}


def own_service(service: QiskitRuntimeService) -> None:
    """Take a native service into care that somebody else has made, and sign in.

    Blocks for one request where the service was made without a token.

    Args:
        service: The native service; nothing is done to one that is not the client's own for
            accounts.

    Raises:
        IBMNotAuthorizedError: If the token service refuses the API key. Where no answer came, or
            one that may pass, the client's own way is left to it: it sends the bare key.
    """
    if not isinstance(service, QiskitRuntimeService):
        return
    if type(service) is QiskitRuntimeService:
        service.__class__ = OwnedRuntimeService  # the connections that it makes from now on
    connections = (service._active_api_client, *service._api_clients.values())  # noqa: SLF001
    for connection in connections:
        own_connection(connection)
    tokens = connections[0]._session.auth.tm  # noqa: SLF001
    if tokens.access_token is not None:
        return
    try:
        tokens.get_token()
    except ApiException as error:
        if error.status_code in _REFUSALS:
            raise IBMNotAuthorizedError(f"The API key was refused: {error.message}") from error
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        pass  # no answer, or one that cannot be read: it may pass
