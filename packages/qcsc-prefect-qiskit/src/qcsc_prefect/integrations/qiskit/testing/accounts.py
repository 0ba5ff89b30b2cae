"""Accounts, their instances, and the access tokens that are given out for an API key."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
import uuid
from dataclasses import dataclass, field

_REGION = "us-east"


def _new_crn() -> str:
    # The client reads the account's region from the sixth part, and 'bluemix' from the third.
    return (
        f"crn:v1:bluemix:public:quantum-computing:{_REGION}:"
        f"a/{secrets.token_hex(16)}:{uuid.uuid4()}::"
    )


@dataclass(frozen=True, kw_only=True)
class EmulatedInstance:
    """A service instance: jobs belong to one, and are seen through it only.

    Attributes:
        name: The name under which the client can ask for the instance.
        crn: Its Cloud Resource Name; a new one by default.
        plan: The name of its plan.
        pricing_type: The kind of plan, as the catalog of the service names it.
        backends: The backends that it offers; None stands for all of the emulated service.
        usage_limit_seconds: The quota of QPU time in seconds, or None for no limit.

    Example:
        >>> EmulatedInstance(name="team").crn.startswith("crn:v1:")
        True
    """

    name: str = "emulated"
    crn: str = field(default_factory=_new_crn)
    plan: str = "open"
    pricing_type: str = "free"
    backends: tuple[str, ...] | None = None
    usage_limit_seconds: int | None = None


@dataclass(frozen=True, kw_only=True)
class EmulatedAccount:
    """An account: an API key and the instances that it opens.

    Attributes:
        user_id: The name under which the account's jobs are kept.
        instances: What it can use; the first one is the account's default.
        token: The API key; a new random one by default, never shown in a representation.

    Example:
        >>> account = EmulatedAccount(user_id="alice")
        >>> account.token in repr(account)
        False
    """

    user_id: str = "emulated-user"
    instances: tuple[EmulatedInstance, ...] = field(default_factory=lambda: (EmulatedInstance(),))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(33), repr=False)

    def instance(self, crn_or_name: str) -> EmulatedInstance | None:
        """Return the instance with this CRN or name, or None where the account has none such."""
        for instance in self.instances:
            if crn_or_name in (instance.crn, instance.name):
                return instance
        return None


class AccessTokens:
    """Gives out access tokens for API keys, and knows which of them are still good.

    Args:
        accounts: The accounts whose API keys are known.
        lifetime: How long an access token is good, in seconds.
    """

    def __init__(self, accounts: tuple[EmulatedAccount, ...], lifetime: float) -> None:
        self.lifetime = lifetime
        self._accounts_by_key = {account.token: account for account in accounts}
        self._good: dict[str, tuple[EmulatedAccount, float]] = {}
        self._issued: list[str] = []
        self._lock = threading.Lock()

    def issue(self, api_key: str) -> str | None:
        """Return a new access token for an API key, or None where the key is not known."""
        account = self._accounts_by_key.get(api_key)
        if account is None:
            return None
        now = time.time()
        token = _unsigned_jwt(
            {
                "iam_id": account.user_id,
                "iat": int(now),
                "exp": int(now + self.lifetime),
                "jti": secrets.token_hex(16),
            }
        )
        with self._lock:
            self._good[token] = (account, now + self.lifetime)
            self._issued.append(token)
        return token

    @property
    def issued(self) -> tuple[str, ...]:
        """Every access token given out so far, the oldest first."""
        with self._lock:
            return tuple(self._issued)

    def account_of(self, authorization: str) -> EmulatedAccount | None:
        """Return whose ``Authorization`` header this is, or None where it opens nothing.

        A bearer token is taken, and the bare API key too, which the client falls back to when it
        cannot reach the token service.
        """
        scheme, _, credential = authorization.partition(" ")
        if scheme.lower() == "apikey":
            return self._accounts_by_key.get(credential)
        with self._lock:
            account, good_until = self._good.get(credential, (None, 0.0))
        return account if time.time() < good_until else None

    def revoke_all(self) -> None:
        """Make every access token given out so far useless; API keys stay good."""
        with self._lock:
            self._good.clear()


def _unsigned_jwt(claims: dict[str, str | int]) -> str:
    # The client reads the times inside and does not check the signature.
    def part(value: dict[str, str | int]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    signature = base64.urlsafe_b64encode(b"emulated").rstrip(b"=").decode()
    return f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part(claims)}.{signature}"
