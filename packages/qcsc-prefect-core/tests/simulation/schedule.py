"""What happens in one run: plain data, made from a seed, and small enough to print."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, TypeVar

from .faults import roll_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CallPlan",
    "FaultPlan",
    "MachinePlan",
    "OutagePlan",
    "ProcessPlan",
    "Schedule",
    "made_from",
]

T = TypeVar("T")

#: How long the service's search may take to show a job, by the promise.
VISIBILITY_DELAY = 30.0
#: What a service shows within this, every search after the visibility delay has shown.
LAG_WITHIN = 25.0


@dataclass(frozen=True)
class MachinePlan:
    """A machine: its clock is wrong by so many seconds, and goes so fast."""

    offset: float = 0.0
    rate: float = 1.0


@dataclass(frozen=True)
class CallPlan:
    """One call of a process.

    Attributes:
        at: When it begins, in seconds.
        what: Which input it submits.
        content: With a chosen digest, what runs under it; None where the digest is computed.
        trusts: Whether it takes a job of the chosen digest whatever that ran.
        refresh: Whether it submits anew.
        lifetime: How old a job may be, in seconds; None for any age.
        waits: Whether it waits for the job, as the fetch task does.
        max_wait: For how long; None without end.
        reruns: How often it is made again if it fails.
        cancelled_at: Seconds after its beginning at which it is cancelled; None for never.
    """

    at: float = 0.0
    what: int = 0
    content: int | None = None
    trusts: bool = False
    refresh: bool = False
    lifetime: float | None = None
    waits: bool = False
    max_wait: float | None = None
    reruns: int = 0
    cancelled_at: float | None = None


@dataclass(frozen=True)
class ProcessPlan:
    """A process, on one of the machines.

    Attributes:
        machine: Which.
        calls: What it does; each call is a task of its own, and begins at its own time.
        restarted_after: Seconds after a crash at which it is started again.
    """

    machine: int
    calls: tuple[CallPlan, ...]
    restarted_after: float = 1.0


@dataclass(frozen=True)
class FaultPlan:
    """A fault that meets one operation of one process.

    Attributes:
        process: Which process.
        operation: The name of the operation.
        nth: Which of its operations of this name; they are counted across restarts.
        roll: Which fault of those that can meet it, and how long what takes long takes: [0, 1).
    """

    process: int
    operation: str
    nth: int
    roll: float


@dataclass(frozen=True)
class OutagePlan:
    """A time in which the service, or the storage of a machine, does not answer.

    Attributes:
        machine: Whose storage; None for the service.
        begin: From when.
        end: Until when.
    """

    machine: int | None
    begin: float
    end: float


@dataclass(frozen=True)
class Schedule:
    """Everything that a run is made from.

    Attributes:
        seed: Where it came from.
        order: Seed of what is left to chance while it runs: how long each operation takes.
        machines: The machines.
        processes: Their processes.
        faults: What goes wrong.
        outages: When nothing goes.
        shares_storage: Whether all machines have one storage.
        shares_searches: Whether the service answers what looks for others' jobs from a search for
            all jobs of the moment, as an adapter may that saves requests.
        clock_offset: By how much the service's clock is wrong.
        clock_rate: How fast it goes.
        lag: Longest time until a search shows a job.
        queue: Shortest and longest time in the queue.
        fails: Share of the jobs that end without a result.
        goes: Share of the finished jobs that are deleted.
    """

    seed: int
    order: int
    machines: tuple[MachinePlan, ...]
    processes: tuple[ProcessPlan, ...]
    faults: tuple[FaultPlan, ...] = ()
    outages: tuple[OutagePlan, ...] = ()
    shares_storage: bool = False
    shares_searches: bool = False
    clock_offset: float = 0.0
    clock_rate: float = 1.0
    lag: float = 0.0
    queue: tuple[float, float] = (60.0, 120.0)
    fails: float = 0.0
    goes: float = 0.0
    visibility_delay: float = field(default=VISIBILITY_DELAY)

    @property
    def keeps_the_bound(self) -> bool:
        """Whether the service shows every job as soon as the promise asks."""
        return self.lag <= LAG_WITHIN


#: Where faults are planned, and how often: what is rare and decisive more often than it happens.
_OPERATIONS = (
    ("submit", 10),
    ("search", 6),
    ("beside", 4),
    ("write", 8),
    ("read", 5),
    ("status", 4),
    ("cancel", 2),
    ("late", 2),
    ("lock", 1),
)
#: Faults that leave more behind together than each alone.
_CHAINS = (
    (("submit", 0, "lost after"), ("search", 1, "crash before")),
    (("submit", 0, "lost after"), ("search", 2, "crash after")),
    (("submit", 0, "crash after"), ("read", 2, "unreadable")),
    (("submit", 0, "crash after"), ("read", 3, "unreadable")),
    (("submit", 0, "crash after"), ("search", 2, "crash after")),
    (("write", 1, "crash before"), ("beside", 0, "crash before")),
    (("submit", 0, "lost after"), ("search", 1, "forbidden")),
)
_WEIGHTS = tuple(weight for _, weight in _OPERATIONS)


def made_from(seed: int) -> Schedule:
    """Return the schedule of a seed; the same with every version of Python."""
    return _Maker(seed).schedule()


class _Maker:
    """Makes a schedule, with nothing of `random` but what is the same everywhere."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = Random(seed).random

    def one_of(self, choices: Sequence[T], weights: Sequence[int] | None = None) -> T:
        if weights is None:
            return choices[int(self._random() * len(choices))]
        left = self._random() * sum(weights)
        for choice, weight in zip(choices, weights, strict=True):
            left -= weight
            if left < 0:
                return choice
        return choices[-1]

    def chance(self, share: float) -> bool:
        return self._random() < share

    def between(self, least: float, most: float) -> float:
        return round(least + (most - least) * self._random(), 2)

    def schedule(self) -> Schedule:
        machines = tuple(
            MachinePlan(self.between(-300, 300), 1.0 + self.between(-1, 1) * 1e-4)
            for _ in range(self.one_of((1, 2, 3, 4), (8, 9, 2, 1)))
        )
        # Everything at the same moment, one after the other, or both.
        spread = self.one_of((0.0, 0.5, 4.0, 40.0, 200.0), (4, 4, 3, 2, 1))
        refreshes = self.one_of((0.0, 0.3), (3, 1))
        chosen = self.chance(0.15)
        several = self.chance(0.2)
        lifetime = self.one_of((None, 45.0, 150.0, 1000.0), (8, 1, 1, 1))
        processes = []
        for machine in range(len(machines)):
            for _ in range(self.one_of((1, 2, 3), (6, 3, 1) if len(machines) > 1 else (3, 4, 1))):
                calls = tuple(
                    self._call(spread, refreshes, chosen, several, lifetime)
                    for _ in range(self.one_of((1, 2, 3), (8, 2, 1)))
                )
                after = self.one_of((0.1, self.between(0, 5), self.between(5, 120)))
                processes.append(ProcessPlan(machine, calls, after))
        count = self.one_of((0, 1, 2, 3, 5), (2, 5, 5, 3, 1))
        faults = tuple(self._fault(len(processes)) for _ in range(count))
        if self.chance(0.15):
            faults += self._chain(len(processes))
        outages = []
        if self.chance(0.1):
            begin = self.between(0, 30)
            outages.append(OutagePlan(None, begin, begin + self.between(0.5, 90)))
        if self.chance(0.1):
            begin = self.between(0, 10)
            machine = int(self._random() * len(machines))
            outages.append(OutagePlan(machine, begin, begin + self.between(0.5, 60)))
        return Schedule(
            seed=self._seed,
            order=int(self._random() * 2**30),
            machines=machines,
            processes=tuple(processes),
            faults=faults,
            outages=tuple(outages),
            shares_storage=len(machines) > 1 and self.chance(0.2),
            shares_searches=self.chance(0.3),
            clock_offset=self.between(-300, 300),
            clock_rate=1.0 + self.between(-1, 1) * 1e-4,
            lag=self.one_of((0.0, 3.0, LAG_WITHIN, 60.0), (3, 3, 4, 1)),
            queue=self.one_of(((0.0, 5.0), (37.0, 70.0), (0.0, 70.0)), (1, 6, 2)),
            fails=self.one_of((0.0, 0.3), (4, 1)),
            goes=self.one_of((0.0, 0.5), (9, 1)),
        )

    def _call(
        self, spread: float, refreshes: float, chosen: bool, several: bool, lifetime: float | None
    ) -> CallPlan:
        waits = self.chance(0.4)
        return CallPlan(
            at=self.between(0, spread),
            what=self.one_of((0, 1, 2)) if several else 0,
            content=self.one_of((0, 1), (3, 1)) if chosen else None,
            trusts=chosen and self.chance(0.2),
            refresh=self.chance(refreshes),
            lifetime=lifetime if self.chance(0.7) else None,
            waits=waits,
            max_wait=self.between(1, 60) if waits and self.chance(0.1) else None,
            reruns=self.one_of((0, 1, 2)),
            cancelled_at=self.between(0, 10) if self.chance(0.05) else None,
        )

    def _chain(self, processes: int) -> tuple[FaultPlan, ...]:
        """Return faults that are worse together."""
        process = int(self._random() * processes)
        return tuple(
            FaultPlan(process, name, nth, roll_of(name, fault))
            for name, nth, fault in self.one_of(_CHAINS)
        )

    def _fault(self, processes: int) -> FaultPlan:
        name, _ = self.one_of(_OPERATIONS, _WEIGHTS)
        return FaultPlan(
            process=int(self._random() * processes),
            operation=name,
            nth=self.one_of((0, 1, 2, 3, 4), (8, 4, 2, 1, 1)),
            roll=round(self._random(), 6),
        )
