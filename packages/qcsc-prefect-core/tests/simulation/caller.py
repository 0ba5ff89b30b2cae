"""What a vendor's package does with the engine: submits a job once, waits for it, settles late."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from qcsc_prefect.core.engine.identity import ChosenInput, SubmissionIdentity, job_tag
from qcsc_prefect.core.engine.job_age import age_of, submission_time
from qcsc_prefect.core.engine.late import kept_in_its_place, settle_late
from qcsc_prefect.core.engine.once import Submitter
from qcsc_prefect.core.engine.service import AwaitedJob, JobState
from qcsc_prefect.core.engine.waiting import JobWatcher, WaitLimits, wait_for_job
from qcsc_prefect.core.reference import JobReference

from .service import BACKEND, Request

if TYPE_CHECKING:
    from qcsc_prefect.core.engine.service import JobStatus

    from .calls import CallRun
    from .schedule import CallPlan

__all__ = ["InputOf", "input_of", "job_of", "submitted"]

#: Inputs by their numbers: digest and settings. The first two differ in their settings alone.
_INPUTS = (("one", "fast"), ("one", "slow"), ("two", "fast"))


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class _Names:
    key: str
    tag: str
    digest: str


_NAMES = {
    (what, is_chosen): _Names(
        key=f"sim-{what}-{'chosen' if is_chosen else 'own'}",
        tag=job_tag("sim", settings, f"{digest}-{'chosen' if is_chosen else 'own'}"),
        digest=f"{digest}-{'chosen' if is_chosen else 'own'}",
    )
    for what, (digest, settings) in enumerate(_INPUTS)
    for is_chosen in (False, True)
}
_CONTENTS = tuple(
    ChosenInput(f"input-{_digits(str(content))}", [{"part": str(content)}], is_trusted=False)
    for content in (0, 1)
)
_TRUSTED = tuple(
    ChosenInput(chosen.content_digest, chosen.outline, is_trusted=True) for chosen in _CONTENTS
)


class InputOf:
    """An input, under the names by which the engine remembers it.

    Args:
        what: Which input.
        content: What runs under a chosen digest; None where it is computed.
        trusts: Whether a job of the chosen digest is taken whatever it ran.
        lifetime: How old a job may be, in seconds; None for any age.
    """

    def __init__(
        self, what: int, content: int | None, trusts: bool, lifetime: float | None
    ) -> None:
        names = _NAMES[what, content is not None]
        chosen = None
        if content is not None:
            chosen = (_TRUSTED if trusts else _CONTENTS)[content]
        self.key = names.key
        self.request = Request(what, content)
        self.identity = SubmissionIdentity(
            key=names.key,
            tag=names.tag,
            input_digest=names.digest,
            lifetime=None if lifetime is None else timedelta(seconds=lifetime),
            chosen=chosen,
        )
        self.draft = JobReference(
            primitive="sim",
            backend_name=BACKEND,
            input_digest=names.digest,
            content_digest=self.identity.content_digest,
            tags=list(self.identity.tags),
        )


_inputs: dict[tuple[object, ...], InputOf] = {}


def input_of(plan: CallPlan) -> InputOf:
    """Return the input of a call."""
    which = (plan.what, plan.content, plan.trusts, plan.lifetime)
    if which not in _inputs:
        _inputs[which] = InputOf(*which)
    return _inputs[which]


class _MachineClock:
    """A machine's own clock, which may be wrong."""

    def __init__(self, call: CallRun) -> None:
        self._call = call

    def now(self) -> datetime:
        """Return what it shows."""
        call = self._call
        offset = timedelta(seconds=call.process.machine.plan.offset)
        return call.world.service.clock(call.world.timeline.now) + offset


async def submitted(call: CallRun) -> JobReference:
    """Submit the input of a call once."""
    submitter = Submitter(call.client, call.log, clock=_MachineClock(call))
    given = call.input
    submission = await submitter.submit_once(
        given.request, given.draft, given.identity, call.ledger, refresh=call.plan.refresh
    )
    return submission.reference


async def job_of(call: CallRun, reference: JobReference) -> tuple[JobReference, bool]:
    """Wait for a job, settling on the oldest meanwhile, as the fetch task does.

    Returns:
        The job that ended in the end, and whether it failed.
    """
    while True:
        began = call.world.timeline.now
        settling = asyncio.create_task(settle_late(call.client, reference, call.log))
        try:
            status = await _ended(call, reference)
        finally:
            settling.cancel()
            call.world.promises.watched(call, reference, began)
        kept = await kept_in_its_place(call.client, reference, status, call.log)
        if kept is None:
            return reference, status.state is not JobState.DONE
        reference = kept


async def _ended(call: CallRun, reference: JobReference) -> JobStatus:
    job_id = str(reference.job_id)
    job = AwaitedJob(job_id, reference.tags or (), submission_time(reference))
    age = age_of(reference, await call.client.now())
    limits = WaitLimits(
        max_wait=call.plan.max_wait,
        first_pause=call.client.first_pause,
        not_found=max(0.0, call.input.identity.visibility_delay - age),
    )
    return await wait_for_job(call.client, job, limits, _unheard, watcher=JobWatcher(call.client))


def _unheard(_status: JobStatus, _waited: float) -> None:
    """Tell nobody how the job stands."""
