"""One run of a schedule, from its beginning until all is quiet."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from .processes import Machine, Process
from .promises import Promises
from .quiet import check_the_end
from .schedule import CallPlan, MachinePlan, ProcessPlan
from .service import SimulatedService
from .storage import SimulatedStorage
from .virtual_time import DoesNotEndError, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .calls import CallRun
    from .schedule import Schedule
    from .service import Request, SimulatedJob
    from .virtual_time import ProcessLoop

__all__ = ["Broken", "Event", "World"]

#: When no fault is left and every job shows that was made: seconds after the last call.
_QUIET = 130.0


@dataclass(frozen=True)
class Broken:
    """A promise that was not kept.

    Attributes:
        promise: Which.
        why: What happened.
        at: When, in seconds.
    """

    promise: str
    why: str
    at: float


Event = tuple[float, str, str, object, tuple[object, ...]]


class World:
    """Everything that runs and is run, in one run.

    Args:
        schedule: What happens.
        chance: What the schedule leaves open; numbers in [0, 1).
    """

    def __init__(self, schedule: Schedule, chance: Callable[[], float] | None = None) -> None:
        self.schedule = schedule
        self.timeline = Timeline()
        self.chance = Random(schedule.order).random if chance is None else chance
        self.service = SimulatedService(schedule, self.chance)
        self.promises = Promises(self)
        self.loops: list[ProcessLoop] = []
        self.calls: list[CallRun] = []
        self.events: list[Event] = []
        self.hit: list[tuple[int, str, str]] = []
        self.broken: Broken | None = None
        self.is_quiet = False
        shared = SimulatedStorage()
        self.machines = [
            Machine(number, plan, shared if schedule.shares_storage else SimulatedStorage())
            for number, plan in enumerate(schedule.machines)
        ]
        self.processes: list[Process] = []
        self._left = 0

    def run(self) -> Broken | None:
        """Let everything happen; return the first promise that was not kept."""
        try:
            self._run([*self.schedule.processes])
            if self.broken is None:
                self.timeline.now += _QUIET
                self.is_quiet = True
                self.note("everybody", "is quiet; all begin again")
                self._run(self._reruns())
            if self.broken is None:
                check_the_end(self)
        except DoesNotEndError as error:
            self.break_promise("everything ends", str(error))
        finally:
            for loop in self.loops:
                loop.dispose()
        return self.broken

    def _run(self, plans: Sequence[ProcessPlan]) -> None:
        began = len(self.processes)
        for plan in plans:
            machine = self.machines[plan.machine]
            self.processes.append(Process(self, len(self.processes), plan, machine))
        self._left = sum(len(plan.calls) for plan in plans)
        for process in self.processes[began:]:
            process.start()
        done = self.timeline.run(lambda: not self._left or self.broken is not None)
        if not done:
            running = [call.name for call in self.calls if not call.ended]
            self.break_promise("everything ends", f"for ever: {', '.join(running)}")

    def _reruns(self) -> list[ProcessPlan]:
        """Return a call for each input on each machine that made one, and on a new machine."""
        now = self.timeline.now
        inputs: dict[tuple[int, int | None], list[int]] = {}
        for call in self.calls:
            machines = inputs.setdefault((call.plan.what, call.plan.content), [])
            if call.process.machine.number not in machines:
                machines.append(call.process.machine.number)
        fresh = len(self.machines)
        self.machines.append(Machine(fresh, MachinePlan(), SimulatedStorage()))
        plans: dict[int, list[CallPlan]] = {}
        for number, ((what, content), machines) in enumerate(inputs.items()):
            for place, machine in enumerate([*sorted(machines), fresh]):
                at = now + 200.0 * number + 40.0 * place
                plan = CallPlan(at=at, what=what, content=content)
                plans.setdefault(machine, []).append(plan)
        return [ProcessPlan(machine, tuple(calls)) for machine, calls in plans.items()]

    # What the processes tell the world.

    def ended(self) -> None:
        """Take note that a call of some process is over, with all its reruns."""
        self._left -= 1

    def accept(
        self, call: CallRun, request: Request, tags: Sequence[str], *, is_double: bool = False
    ) -> SimulatedJob:
        """Accept a job."""
        job = self.service.accept(self.timeline.now, request, tags, call)
        job.is_double = is_double
        self.note(
            "service",
            f"accepts {job.job_id}",
            "of %s; shows at %.1f s, runs at %.1f s",
            (call.name, job.shown_at, job.queue_end),
        )
        self.promises.accepted(call, job)
        return job

    def is_out(self, machine: Machine | None) -> bool:
        """Whether the service, or the storage of a machine, does not answer now."""
        if self.is_quiet:
            return False
        number = None if machine is None else machine.number
        return any(
            outage.machine == number and outage.begin <= self.timeline.now < outage.end
            for outage in self.schedule.outages
        )

    def note(
        self, who: str, what: str, message: object = "", args: tuple[object, ...] = ()
    ) -> None:
        """Take note of what happened."""
        self.events.append((self.timeline.now, who, what, message, args))

    def break_promise(self, promise: str, why: str) -> None:
        """Take note that a promise was not kept; the run ends there."""
        if self.broken is None:
            self.broken = Broken(promise, why, self.timeline.now)
