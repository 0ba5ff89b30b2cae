"""The time of day, from one place that a simulation can set.

Durations go by the event loop's own time, so a loop with a time of its own simulates them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """Tells the time of day on this machine."""

    def now(self) -> datetime:
        """Return the present, with its time zone."""


class SystemClock:
    """The operating system's clock."""

    def now(self) -> datetime:
        """Return the present, in UTC."""
        return datetime.now(UTC)


SYSTEM_CLOCK: Final = SystemClock()
