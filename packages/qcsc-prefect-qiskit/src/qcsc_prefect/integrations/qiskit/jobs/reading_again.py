"""Reads again what did not come whole: of a job that is done, reading costs nothing."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, TypeVar

from qcsc_prefect.core.errors import JobError
from qcsc_prefect.integrations.qiskit.task_runs import run_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["read_again"]

T = TypeVar("T")

#: Seconds before the second, third, ... reading: at once, since most of what breaks an answer is
#: over with it, and then less and less often.
_PAUSES: Final = (0.0, 1.0, 2.0, 4.0, 8.0)


async def read_again(read: Callable[[], Awaitable[T]], *, seconds: float) -> T:
    """Read something that may be read any number of times, again where that failed for the moment.

    Args:
        read: Reads it.
        seconds: How long after the first reading another one may begin.

    Returns:
        What was read.

    Raises:
        JobError: What the last reading raised; the first one, where trying again cannot help.
    """
    ends = time.monotonic() + seconds
    for pause in _PAUSES:
        try:
            return await read()
        except JobError as error:
            wait = max(pause, error.retry_after or 0.0)
            if error.retryable is not True or time.monotonic() + wait > ends:
                raise
            run_logger().info("%s Trying again in %g s", error, wait)
        await asyncio.sleep(wait)
    return await read()
