"""Jobs of one input that several machines sent: which one is kept, while they are waited for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from qcsc_prefect.core.engine.cancelling import NO_ANSWER
from qcsc_prefect.core.engine.identity import (
    DEFAULT_VISIBILITY_DELAY,
    content_tag,
    input_tag_of,
)
from qcsc_prefect.core.engine.job_age import age_of, submission_time
from qcsc_prefect.core.engine.log import ENGINE_LOGGER
from qcsc_prefect.core.engine.lookup import SubmissionLookup
from qcsc_prefect.core.engine.service import JobState

if TYPE_CHECKING:
    from qcsc_prefect.core.engine.log import RunLogger
    from qcsc_prefect.core.engine.service import AnyService, JobStatus
    from qcsc_prefect.core.reference import JobReference

__all__ = ["kept_in_its_place", "settle_late"]

#: How old a job is, in seconds, when it is looked whether others stand beside it. The search shows
#: a new job within the last of them.
_LOOKS_BESIDE: Final = (*range(2, 16, 2), 20, 25, DEFAULT_VISIBILITY_DELAY)
#: Jobs that are looked for within so many seconds are looked for together.
_TOGETHER: Final = 2.0


async def settle_late(
    service: AnyService, reference: JobReference, logger: RunLogger = ENGINE_LOGGER
) -> None:
    """Go on to look for jobs of the same input that other machines sent, and that show late.

    All of them settle on the oldest: the others are cancelled as long as they wait in the queue,
    and whoever waits for one of them fetches the oldest in its place. It ends half a minute after
    the job was submitted; run it beside the wait for the job, and cancel it with that.

    Args:
        service: Where the job runs.
        reference: The job.
        logger: Where to say which jobs were cancelled.
    """
    lookup = _lookup_of(service, reference, logger)
    submitted_at = submission_time(reference)
    if lookup is None or submitted_at is None:
        return
    loop = asyncio.get_running_loop()
    since = submitted_at - timedelta(seconds=DEFAULT_VISIBILITY_DELAY)
    for age in _LOOKS_BESIDE:
        wait = age - age_of(reference, await service.now())
        if wait < 0:
            continue
        # At the same moments for all jobs, which then share a search.
        await asyncio.sleep(wait + -(loop.time() + wait) % _TOGETHER)
        try:
            await lookup.settle_late(str(reference.job_id), since)
        except NO_ANSWER as error:
            logger.info(
                "Whether another machine submitted the input of job %s could not be checked: %s",
                reference.job_id,
                error,
            )


async def kept_in_its_place(
    service: AnyService,
    reference: JobReference,
    status: JobStatus,
    logger: RunLogger = ENGINE_LOGGER,
) -> JobReference | None:
    """Return the job that another machine kept when it cancelled this one as its duplicate.

    Args:
        service: Where the job ran.
        reference: The job.
        status: How it ended.
        logger: Where to say which job is taken for it.
    """
    if status.state is not JobState.CANCELLED or status.ran_too_long:
        return None
    lookup = _lookup_of(service, reference, logger)
    if lookup is None:
        return None
    try:
        kept = await lookup.job_repeated_by(str(reference.job_id))
    except NO_ANSWER as error:
        logger.warning(
            "Job %s was cancelled; whether that was done because another job of the same input is "
            "kept could not be checked: %s",
            reference.job_id,
            error,
        )
        return None
    if kept is None:
        return None
    logger.warning(
        "Job %s was cancelled as a duplicate of job %s, which is fetched in its place",
        reference.job_id,
        kept.job_id,
    )
    return msgspec.structs.replace(
        reference,
        job_id=kept.job_id,
        backend_name=kept.backend_name or reference.backend_name,
        submitted_at=None if kept.created_at is None else kept.created_at.isoformat(),
        program_type=kept.program or reference.program_type,
        session_id=kept.session_id,
    )


def _lookup_of(
    service: AnyService, reference: JobReference, logger: RunLogger
) -> SubmissionLookup | None:
    """Return what finds the jobs of the same input, where a job was submitted once."""
    tag = input_tag_of(reference.tags)
    if tag is None or reference.backend_name is None:
        return None
    return SubmissionLookup(
        service,
        tag,
        reference.backend_name,
        None,
        logger,
        content_tag=content_tag(reference.content_digest),
    )
