"""Goes on with a submission where the service takes no more jobs for the moment.

The service limits how many jobs an account may submit in a minute, and how many may wait. A job
that it refuses for that was not accepted, so sending it again cannot pay for it twice; the native
client does not do so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from qcsc_prefect.core.errors import SubmissionError, SubmissionUncertainError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qcsc_prefect.integrations.qiskit.task_runs import RunLogger

__all__ = ["RatePatience"]

_TOO_MANY_REQUESTS = 429
#: Codes of the service for too many requests, and for too many jobs that wait.
_COME_BACK_LATER = frozenset({1202, 1012, 3458})

T = TypeVar("T")


@dataclass(frozen=True)
class RatePatience:
    """How long to go on where the service takes no more jobs for the moment; all in seconds.

    Attributes:
        total: Longest time in which a submission is tried again; an hour lets 300 jobs pass where
            the service takes five a minute.
        first_pause: Pause after the first refusal, where the service does not say how long.
        longest_pause: What the pause grows to; it doubles with each refusal.
    """

    total: float = 3600.0
    first_pause: float = 2.0
    longest_pause: float = 60.0

    async def submit(self, attempt: Callable[[], Awaitable[T]], logger: RunLogger) -> T:
        """Send a job, again and again as long as the service takes no more jobs.

        Args:
            attempt: Sends the job once.
            logger: Where to say that the service refused it.

        Returns:
            What the attempt returned.

        Raises:
            SubmissionError: If the service refused the job for another reason, or for too long;
                in the latter case it carries the last refusal's facts.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.total
        pause = self.first_pause
        while True:
            try:
                return await attempt()
            except SubmissionError as error:
                # A Retry-After of nothing, or of a moment that is over, says no more than none.
                wait = error.retry_after or pause
                if not _is_for_the_moment(error) or loop.time() + wait > deadline:
                    raise
                logger.info(
                    "The service takes no more jobs for the moment; sending again in %g s: %s",
                    wait,
                    error,
                )
            await asyncio.sleep(wait)
            pause = min(2 * pause, self.longest_pause)


def _is_for_the_moment(error: SubmissionError) -> bool:
    """Whether the service refused the job, and only because there are too many now."""
    if isinstance(error, SubmissionUncertainError) or error.retryable is False:
        return False  # a quota that is used up is a 429 too
    return error.status == _TOO_MANY_REQUESTS or error.service_code in _COME_BACK_LATER
