"""The one account of these tests. Its credentials stand in no file, database or log."""

from __future__ import annotations

import os
import secrets

from qcsc_prefect.integrations.qiskit.testing import EmulatedAccount, EmulatedService

__all__ = ["ACCOUNT", "check_access_tokens", "credentials"]

#: All processes of a test session have the same, so that one search at the end is enough.
ACCOUNT = EmulatedAccount(
    token=os.environ.setdefault("QCSC_PREFECT_TESTS_API_KEY", secrets.token_urlsafe(33))
)
#: How the access tokens begin that the emulated service gives out: with their kind.
_ANY_ACCESS_TOKEN = "eyJhbGciOiAiUlMyNTYiLCAidHlwIjogIkpXVCJ9"


def credentials() -> dict[str, str]:
    """Return what to look for, by names that may be shown."""
    return {"API key": ACCOUNT.token, "access token": _ANY_ACCESS_TOKEN}


def check_access_tokens(service: EmulatedService) -> None:
    """Fail unless the tokens that a service gave out begin as is said here."""
    assert service.access_tokens
    assert all(token.startswith(_ANY_ACCESS_TOKEN) for token in service.access_tokens)
