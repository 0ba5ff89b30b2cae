"""Something costly that many tasks ask for at the same moment, and that one thread makes."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from qcsc_prefect.core.threads import call_for_others, settle

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MadeOnce", "make_once"]

T = TypeVar("T")


@dataclass(eq=False)
class MadeOnce(Generic[T]):
    """Something that is being made in a thread, or has been made."""

    made: Future[T] = field(default_factory=Future)
    made_at: float = 0.0

    def __post_init__(self) -> None:
        # A future that runs cannot be cancelled: one impatient task must not fail the others.
        self.made.set_running_or_notify_cancel()

    async def wait(self, seconds: float) -> T:
        """Wait until it is made; who stops waiting does not stop the making.

        Raises:
            TimeoutError: If it takes longer.
        """
        if self.made.done():
            return self.made.result()
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(self.made)

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self.made_at if self.made.done() else 0.0


def make_once(product: MadeOnce[T], make: Callable[[], T], forget: Callable[[], None]) -> None:
    """Make a product in a thread of its own.

    The thread belongs to no event loop: tasks of several loops may wait for the product, and the
    one that began may be cancelled, with its loop, before it is made.
    """

    def make_or_forget() -> T:
        try:
            made = call_for_others(make)
        except BaseException:
            forget()
            raise
        product.made_at = time.monotonic()
        return made

    in_context = functools.partial(
        contextvars.copy_context().run, settle, product.made, make_or_forget
    )
    threading.Thread(target=in_context, name="qcsc-prefect-service-pool", daemon=True).start()
