"""Walks through all orders in which two machines submit one input, with a fault for each.

A run is repeated with each sequence of choices in turn: which of the two is answered next by the
service, wherever both have asked. What happens on a machine alone is no choice, since nobody else
sees it. Nothing takes time but pauses, and a pause ends when nobody waits for an answer. From its
third search on, a process is answered at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

from .faults import FAULTS, roll_of
from .runs import quietly
from .schedule import CallPlan, FaultPlan, MachinePlan, ProcessPlan, Schedule
from .world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .world import Broken

__all__ = ["DECISIVE", "EVERY", "Walk", "all_orders", "walked"]

#: A fault that one of the two meets: the operation, which of its kind, and what goes wrong.
Met = tuple[str, int, str]

#: Those that are walked through with each change: a process that dies, an answer that is lost and
#: storage that fails, wherever that leaves something else behind.
DECISIVE: tuple[Met, ...] = (
    *(
        ("submit", 0, fault)
        for fault in ("crash before", "crash after", "lost before", "lost after")
    ),
    ("submit", 0, "too many"),
    *(("write", nth, "crash before") for nth in range(3)),
    *(("write", nth, "not written") for nth in range(3)),
    ("write", 2, "crash after"),
    ("search", 0, "crash before"),
    ("search", 0, "forbidden"),
    ("beside", 0, "crash before"),
    ("beside", 0, "fails"),
    ("read", 0, "unreadable"),
    ("read", 1, "unreadable"),
    ("cancel", 0, "crash after"),
)

#: All there are, at the first of each operation, and at the first three writes.
EVERY: tuple[Met, ...] = tuple(
    (name, nth, fault)
    for name, faults in FAULTS.items()
    for nth in range({"write": 3, "read": 2, "late": 0, "status": 0}.get(name, 1))
    for fault in dict.fromkeys(faults)
)


@dataclass
class Walk:
    """What a walk was.

    Attributes:
        pairs: Pairs of faults.
        runs: Runs, one for each order.
        longest: Most choices in one run.
        seconds: Processor time.
        broken: Schedules that broke a promise, the choices, and what broke.
    """

    pairs: int = 0
    runs: int = 0
    longest: int = 0
    seconds: float = 0.0
    broken: list[tuple[Schedule, list[int], Broken]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{self.runs} orders of {self.pairs} pairs of faults in {self.seconds:.1f} s of "
            f"processor time; at most {self.longest} choices in one run"
        ]
        lines += [
            f"{broken.promise}: {schedule!r}, choices {choices}"
            for schedule, choices, broken in self.broken
        ]
        return "\n".join([*lines, f"{len(self.broken)} broke a promise"])


def walked(faults: tuple[Met, ...] = DECISIVE, lags: tuple[float, ...] = (0.0, 25.0)) -> Walk:
    """Walk through all orders of two submissions of one input, on two machines.

    Args:
        faults: What each of the two meets once, or nothing.
        lags: Seconds after which the service shows a job; where it does not show it at once, both
            wait for their jobs.
    """
    walk = Walk()
    began = time.process_time()
    with quietly():
        for one, other in combinations_with_replacement((None, *faults), 2):
            walk.pairs += 1
            for lag in lags:
                _walk_orders(_schedule((one, other), lag), walk)
    walk.seconds = time.process_time() - began
    return walk


def _walk_orders(schedule: Schedule, walk: Walk) -> None:
    for choices, world in all_orders(schedule):
        walk.runs += 1
        walk.longest = max(walk.longest, len(choices))
        if world.broken is not None:
            walk.broken.append((schedule, choices, world.broken))


def all_orders(schedule: Schedule) -> Iterator[tuple[list[int], World]]:
    """Run a schedule in each order, and yield the choices that were made."""
    prefix: list[int] = []
    while True:
        made: list[tuple[int, int]] = []

        def choose(among: int) -> int:
            if among == 1:
                return 0
            choice = prefix[len(made)] if len(made) < len(prefix) else 0  # noqa: B023
            made.append((choice, among))  # noqa: B023
            return choice

        world = World(schedule, chance=lambda: 0.999)
        world.timeline.choose = choose
        world.run()
        yield [choice for choice, _ in made], world
        while made and made[-1][0] + 1 == made[-1][1]:
            made.pop()
        if not made:
            return
        prefix = [choice for choice, _ in made]
        prefix[-1] += 1


def _schedule(met: tuple[Met | None, Met | None], lag: float) -> Schedule:
    call = CallPlan(waits=lag > 0, reruns=1)
    return Schedule(
        seed=0,
        order=0,
        machines=(MachinePlan(), MachinePlan()),
        processes=(ProcessPlan(0, (call,), 0.1), ProcessPlan(1, (call,), 0.1)),
        faults=tuple(
            FaultPlan(process, name, nth, roll_of(name, fault))
            for process, one in enumerate(met)
            if one is not None
            for name, nth, fault in (one,)
        ),
        lag=lag,
        queue=(45.0, 45.0),
    )
