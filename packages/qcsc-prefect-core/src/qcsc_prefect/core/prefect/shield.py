"""What a cancelled task of Prefect waits in, whose cancel scopes are those of anyio."""

from __future__ import annotations

import functools
from typing import Final

import anyio

__all__ = ["shielded"]

shielded: Final = functools.partial(anyio.CancelScope, shield=True)
