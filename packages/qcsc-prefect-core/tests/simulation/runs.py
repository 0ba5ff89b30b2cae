"""Runs schedules one after the other, and counts what they were."""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .schedule import made_from
from .world import World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .world import Broken

__all__ = ["Tally", "quietly", "run_seeds"]


@dataclass
class Tally:
    """What many runs were.

    Attributes:
        runs: How many there were.
        seconds: Processor time that they took.
        steps: Steps of event loops and of the world.
        jobs: Jobs that the service accepted.
        calls: Calls that were made.
        within: Runs in which the service showed every job in time.
        faults: Faults that met an operation, by name.
        broken: Seeds that broke a promise, and which.
    """

    runs: int = 0
    seconds: float = 0.0
    steps: int = 0
    jobs: int = 0
    calls: int = 0
    within: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[int, Broken]] = field(default_factory=list)

    def __str__(self) -> str:
        each = 1000 * self.seconds / max(1, self.runs)
        lines = [
            f"{self.runs} schedules in {self.seconds:.1f} s of processor time, {each:.2f} ms each: "
            f"{self.calls} calls, {self.jobs} jobs, {self.steps} steps; "
            f"{sum(self.faults.values())} faults of {len(self.faults)} kinds; "
            f"{self.within} with every job shown in time"
        ]
        lines += [f"seed {seed}: {broken.promise}: {broken.why}" for seed, broken in self.broken]
        lines.append(f"{len(self.broken)} broke a promise")
        return "\n".join(lines)


def run_seeds(seeds: Iterable[int], *, until_broken: bool = False) -> Tally:
    """Run the schedules of seeds.

    Args:
        seeds: The seeds.
        until_broken: Stop at the first that breaks a promise.
    """
    tally = Tally()
    with quietly():
        began = time.process_time()
        for seed in seeds:
            world = World(made_from(seed))
            broken = world.run()
            tally.runs += 1
            tally.steps += world.timeline.steps
            tally.jobs += len(world.service.jobs)
            tally.calls += len(world.calls)
            tally.within += world.schedule.keeps_the_bound
            tally.faults.update(f"{name}: {fault}" for _, name, fault in world.hit)
            if broken is not None:
                tally.broken.append((seed, broken))
                if until_broken:
                    break
        tally.seconds = time.process_time() - began
    return tally


@contextmanager
def quietly() -> Iterator[None]:
    """Collect garbage seldom, and say nothing of coroutines of processes that died."""
    before = gc.get_threshold()
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
        gc.collect()
        sys.unraisablehook = hook
