"""Keeps the native client from waiting a minute after it was refused an access token.

The client's token manager lets one thread at a time ask for a token. Where that fails it goes on
taking the request for one under way: every later call waits until a minute is over, asks once more,
and sends the bare API key. So a wrong key, which the token service refuses at once, costs minutes.
"""

from __future__ import annotations

from ibm_cloud_sdk_core import ApiException, IAMTokenManager
from qiskit_ibm_runtime import QiskitRuntimeService
from qiskit_ibm_runtime.exceptions import IBMNotAuthorizedError

__all__ = ["sign_in_promptly"]

#: What the token service answers to a key that it does not know, or that is not to be used.
_REFUSALS = frozenset({400, 401, 403})


class _PromptTokenManager(IAMTokenManager):  # type: ignore[misc]
    """The client's token manager, which notices that asking for a token has failed."""

    def get_token(self) -> str:
        try:
            return str(super().get_token())
        except Exception:
            self.request_time = 0  # no request is under way any more
            if self._is_token_expired():
                raise
            # It was to be renewed before its time, and is good until then.
            return str(self.access_token)


def sign_in_promptly(service: QiskitRuntimeService) -> None:
    """Let every call of a service that needs a new access token end as soon as it is refused.

    Blocks for one request where the service was made without a token.

    Args:
        service: The native service; nothing is done to one that has been here before, nor to one
            that is not the client's own for accounts.

    Raises:
        IBMNotAuthorizedError: If the token service refuses the API key. Where no answer came, or
            one that may pass, the client's own way is left to it: it sends the bare key.
    """
    if not isinstance(service, QiskitRuntimeService):
        return
    connections = (service._active_api_client, *service._api_clients.values())  # noqa: SLF001
    new = [
        tokens
        for tokens in (connection._session.auth.tm for connection in connections)  # noqa: SLF001
        if not isinstance(tokens, _PromptTokenManager)
    ]
    for tokens in new:
        # Made inside of the client, from the account; nothing but its class says how it waits.
        tokens.__class__ = _PromptTokenManager
        tokens.request_time = 0
    without_token = [tokens for tokens in new if tokens.access_token is None]
    if not without_token:
        return
    try:
        without_token[0].get_token()
    except ApiException as error:
        if error.status_code in _REFUSALS:
            raise IBMNotAuthorizedError(f"The API key was refused: {error.message}") from error
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        pass  # no answer, or one that cannot be read: it may pass
