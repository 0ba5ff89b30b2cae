"""What must hold in the end, when all is quiet: there is one job for one input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .promises import REPEATED_WITHIN, UNSURE, had
from .schedule import VISIBILITY_DELAY

if TYPE_CHECKING:
    from .service import SimulatedJob
    from .world import World

__all__ = ["check_the_end"]

#: A job that is waited for is looked at for others until it is so old; a look takes its time.
_SETTLED = VISIBILITY_DELAY + 5.0


def check_the_end(world: World) -> None:
    """Look for jobs of one input that both ran, though somebody could have cancelled the later."""
    paid = [job for job in world.service.jobs.values() if job.was_paid]
    for place, job in enumerate(paid):
        for other in paid[:place]:
            if other.request == job.request and _is_repetition(world, job, other):
                world.break_promise(
                    "in the end there is one job for one input",
                    f"{other.job_id} of {other.created:.1f} s and {job.job_id} of "
                    f"{job.created:.1f} s both ran",
                )


def _is_repetition(world: World, job: SimulatedJob, other: SimulatedJob) -> bool:
    """Whether a job ran that should have been cancelled for an older one."""
    call = job.call
    if call.plan.refresh or not other.is_usable(call.locked_at):
        return False
    created_after = world.promises.created_after(call)
    if created_after is not None and other.created < created_after + UNSURE:
        return False
    if job.created - other.created > REPEATED_WITHIN - UNSURE:
        return False
    # Somebody has to be there who looks, while it still waits, and is answered.
    if not world.schedule.keeps_the_bound:
        return False
    return any(
        not had(watcher, "late", "cancel")
        and (
            _saw(job, (job, other), seen, since, until)
            or _saw(other, (job, other), seen, since, until)
        )
        for watcher in world.calls
        for seen, since, until in watcher.watched
    )


def _saw(
    watched: SimulatedJob,
    pair: tuple[SimulatedJob, SimulatedJob],
    seen: SimulatedJob,
    since: float,
    until: float,
) -> bool:
    """Whether somebody who waited for a job has seen both, while the later waited in the queue."""
    last_look = watched.created + VISIBILITY_DELAY
    later, older = pair
    return (
        seen is watched
        and since <= last_look - UNSURE
        and until >= watched.created + _SETTLED
        and all(job.shown_at <= last_look - 0.1 for job in pair)
        # A look goes back half a minute before the job that is waited for.
        and watched.created - older.created <= VISIBILITY_DELAY - UNSURE
        and later.queue_end >= watched.created + _SETTLED
        and older.is_usable(watched.created + _SETTLED)
    )
