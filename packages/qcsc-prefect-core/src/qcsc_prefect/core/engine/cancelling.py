"""What becomes of work, and of a job, whose caller is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import nullcontext
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from qcsc_prefect.core.errors import ConfigurationError, JobError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractContextManager
    from typing import Any

    from qcsc_prefect.core.engine.log import RunLogger

__all__ = ["NO_ANSWER", "Shield", "after_cancellation", "finish_though_cancelled"]

T = TypeVar("T")

#: What asking the service about a job ends with where it does not answer. The second comes where
#: the account is refused by then.
NO_ANSWER = (JobError, ConfigurationError)

#: Keeps out what cancels again and again as long as its caller waits, as the scopes of anyio do:
#: ``lambda: anyio.CancelScope(shield=True)``.
Shield: TypeAlias = "Callable[[], AbstractContextManager[object]]"


async def finish_though_cancelled(
    work: Coroutine[Any, Any, T],
    after_cancellation: Callable[[asyncio.Task[T]], Awaitable[None]],
    *,
    seconds: float | None = None,
    shield: Shield = nullcontext,
) -> T:
    """Do some work, and do not let a cancellation of the caller end it in the middle.

    Args:
        work: What to do.
        after_cancellation: Called before the cancellation goes on to the caller, with the task of
            the work; is not cancelled itself.
        seconds: How long a cancelled caller waits for the end of the work; None for ever.
        shield: What the cancelled caller waits in.

    Returns:
        What the work returned.
    """
    task = asyncio.ensure_future(work)

    async def end() -> None:
        await asyncio.wait([task], timeout=seconds)
        if task.done() and not task.cancelled():
            task.exception()  # looked at: nobody else need, and asyncio would complain
        await after_cancellation(task)

    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _to_its_end(end(), shield)
        raise


async def after_cancellation(
    cancel: Callable[[], Coroutine[Any, Any, bool]],
    job_id: str,
    logger: RunLogger,
    *,
    during: str,
    cancel_job: bool,
    shield: Shield = nullcontext,
) -> None:
    """Leave a job alone or cancel it, and say which in the log; not cancelled itself.

    Args:
        cancel: Cancels the job; says whether that was in time.
        job_id: The job.
        logger: Logger of the task run.
        during: What was cancelled, as a noun: ``"wait"``.
        cancel_job: Whether to cancel the job.
        shield: What the cancelled caller waits in.
    """
    if not cancel_job:
        logger.warning(
            "The %s of job %s was cancelled; the job goes on and can be fetched later",
            during,
            job_id,
        )
        return
    try:
        cancelled = await _to_its_end(cancel(), shield)
    except NO_ANSWER as error:
        logger.warning(
            "The %s of job %s was cancelled, and the job could not be cancelled with it: %s",
            during,
            job_id,
            error,
        )
        return
    logger.warning(
        "The %s of job %s was cancelled; the job %s",
        during,
        job_id,
        "was cancelled with it" if cancelled else "had ended already",
    )


async def _to_its_end(work: Coroutine[Any, Any, T], shield: Shield) -> T:
    """Do what follows a cancellation, however often the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    with shield():
        while not task.done():
            # The caller passes on the cancellation that came first.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
    return task.result()
