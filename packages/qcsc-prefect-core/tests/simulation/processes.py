"""Machines and their processes, which live, die and begin again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from .calls import CallRun
from .faults import FAULTS
from .storage import Locks, SimulatedStorage
from .virtual_time import ProcessLoop

if TYPE_CHECKING:
    from .schedule import CallPlan, MachinePlan, ProcessPlan
    from .world import World

__all__ = ["Machine", "Process"]


class Machine:
    """A machine: its storage, its locks, its clock."""

    def __init__(self, number: int, plan: MachinePlan, storage: SimulatedStorage) -> None:
        self.number = number
        self.plan = plan
        self.storage = storage
        self.locks = Locks()


class Process:
    """A process, through all its lives.

    Args:
        world: Where it runs.
        number: Which it is.
        plan: What it does.
        machine: Where.
    """

    def __init__(self, world: World, number: int, plan: ProcessPlan, machine: Machine) -> None:
        self.world = world
        self.number = number
        self.plan = plan
        self.machine = machine
        self.faults = {
            (fault.operation, fault.nth): fault.roll
            for fault in world.schedule.faults
            if fault.process == number
        }
        self.counts: Counter[str] = Counter()
        self.left = list(plan.calls)
        self.lives = 0
        self.running: list[CallRun] = []
        self.loop: ProcessLoop
        self.name = f"machine {machine.number} process {number}"

    def start(self) -> None:
        """Begin a life, with the calls that no earlier one ended."""
        self.lives += 1
        plan = self.machine.plan
        self.loop = ProcessLoop(self.world.timeline, offset=plan.offset, rate=plan.rate)
        self.world.loops.append(self.loop)
        for call in self.left:
            self.loop.call_soon(self._begin, call)

    def _begin(self, plan: CallPlan) -> None:
        wait = plan.at - self.world.timeline.now
        self.loop.create_task(self._run(plan, max(0.0, wait)))

    async def _run(self, plan: CallPlan, wait: float) -> None:
        if wait:
            await asyncio.sleep(wait)
        for attempt in range(plan.reruns + 1):
            if attempt:
                await asyncio.sleep(1.0 + 20.0 * self.world.chance())
            call = CallRun(self, plan)
            call.task = self.loop.create_task(call.run())
            if plan.cancelled_at is not None and self.lives == 1:
                self.loop.call_later(plan.cancelled_at, call.task.cancel)
            await asyncio.wait([call.task])
            if call.ended != "error":
                break
        self.left.remove(plan)
        self.world.ended()

    def crash(self) -> None:
        """Die at once, and start again some time later."""
        if not self.loop.is_alive:
            return
        self.world.note(self.name, "is killed")
        self.loop.die()
        for call in self.running:
            call.died()
        self.running.clear()
        self.machine.locks.free_all(self)
        self.world.timeline.at(self.world.timeline.now + self.plan.restarted_after, self.start)

    def fault(self, name: str) -> tuple[str | None, float]:
        """Return the fault that meets this operation, and how much of a time it takes."""
        nth = self.counts[name]
        self.counts[name] = nth + 1
        roll = self.faults.get((name, nth))
        if roll is None:
            return None, 0.0
        faults = FAULTS[name]
        place = roll * len(faults)
        return faults[int(place)], place - int(place)
