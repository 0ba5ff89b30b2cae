"""Where the engine keeps its records and intents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

__all__ = ["Ledger"]


class Ledger(Protocol):
    """Small JSON records under keys, and a lock on each key.

    A record appears whole or not at all, and is on storage when `write` returns. The engine seals
    what it writes, so a ledger need not tell damaged records from others.
    """

    async def read(self, key: str) -> Mapping[str, object] | None:
        """Return what was written under a key, or None where there is nothing.

        Raises:
            StorageUnreadableError: If something may be there, and cannot be read.
        """

    async def write(self, key: str, content: Mapping[str, object]) -> None:
        """Write a record, in the place of what lay there.

        Args:
            key: Where to.
            content: What JSON can hold.

        Raises:
            OSError: If it cannot be written; storage of other kinds raises errors of its own.
        """

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Wait for the lock of a key, and hold it inside the block.

        It must be free as soon as its holder has died.
        """
