"""How long a submission is pursued, and when it is sent again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from qcsc_prefect.core.errors import SubmissionError, SubmissionUncertainError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qcsc_prefect.core.engine.log import RunLogger

__all__ = ["SubmissionPatience"]

T = TypeVar("T")

_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True)
class SubmissionPatience:
    """How long to go on with a submission that the service does not take; all in seconds.

    Attributes:
        limited: Longest time in which it is tried again where the service takes no more jobs for
            the moment; an hour lets 300 jobs pass where it takes five a minute.
        failing: The same where the service fails. What may have been accepted is sent again only
            when it was looked for in vain.
        first_pause: Pause after the first refusal, where the service does not say how long.
        longest_pause: What the pause grows to; it doubles with each refusal.
        come_back_later: The service's codes that say, whatever the status, that it takes no more
            jobs for the moment. The status 429 says so too.
    """

    limited: float = 3600.0
    failing: float = 600.0
    first_pause: float = 2.0
    longest_pause: float = 60.0
    come_back_later: frozenset[int | str] = frozenset()

    async def submit(
        self,
        attempt: Callable[[], Awaitable[T]],
        look_for_it: Callable[[SubmissionUncertainError], Awaitable[T | None]],
        logger: RunLogger,
    ) -> T:
        """Send a job, again and again as long as nothing comes of it that may pass.

        Args:
            attempt: Sends the job once.
            look_for_it: Looks for the job of an attempt whose answer was lost, until the service
                must show it; raises the error where that cannot be known.
            logger: Where to say that it is sent again.

        Returns:
            What the attempt, or the search, returned.

        Raises:
            SubmissionError: If the service refused the job for good, or for too long; then it
                carries the last refusal's facts.
            SubmissionUncertainError: If the answer was lost, and no job was found.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        pause = self.first_pause
        while True:
            try:
                return await attempt()
            except SubmissionUncertainError as error:
                found = await look_for_it(error)
                if found is not None:
                    return found
                if loop.time() - began > self.failing:
                    raise
                wait = pause
                logger.warning("No job came of that submission; sending it again in %g s", wait)
            except SubmissionError as error:
                is_limit = self._is_for_the_moment(error)
                if not is_limit and error.retryable is not True:
                    raise
                # A Retry-After of nothing, or of a moment that is over, says no more than none.
                wait = error.retry_after or pause
                if loop.time() + wait - began > (self.limited if is_limit else self.failing):
                    raise
                logger.info(
                    "The service takes no more jobs for the moment; sending again in %g s: %s"
                    if is_limit
                    else "The submission failed, and nothing was sent; trying again in %g s: %s",
                    wait,
                    error,
                )
            await asyncio.sleep(wait)
            pause = min(2 * pause, self.longest_pause)

    def _is_for_the_moment(self, error: SubmissionError) -> bool:
        """Whether the service refused the job, and only because there are too many now."""
        if error.retryable is False:
            return False  # a quota that is used up is a 429 too
        return error.status == _TOO_MANY_REQUESTS or error.service_code in self.come_back_later
