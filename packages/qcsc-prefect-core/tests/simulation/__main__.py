"""`just simulate`: runs schedules, one schedule, planted faults, or a walk through all orders."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import qcsc_prefect.core

from .mutants import MUTANTS, found_in
from .runs import quietly, run_seeds
from .schedule import made_from
from .shrinking import shrunk
from .tables import table_of
from .walk import EVERY, walked
from .world import World

#: Seeds within which each planted fault has to be found.
_FOR_MUTANTS = 10_000


def main() -> int:
    """Do what the command line asks for; 1 where a promise was broken, or a fault not found."""
    parser = argparse.ArgumentParser(prog="just simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100_000, help="how many schedules to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run this one, and print it")
    parser.add_argument("--until-broken", action="store_true", help="stop at the first failure")
    parser.add_argument("--mutants", action="store_true", help="look for planted faults instead")
    parser.add_argument("--walk", action="store_true", help="walk through all orders instead")
    parser.add_argument("--find", action="store_true", help="name the first failure alone")
    asked = parser.parse_args()
    if asked.find:
        return _find(range(asked.first, asked.first + asked.seeds))
    if asked.mutants:
        return _mutants(min(asked.seeds, _FOR_MUTANTS))
    if asked.walk:
        walk = walked(EVERY)
        print(walk)
        return bool(walk.broken)
    if asked.seed is not None:
        return _one(asked.seed)
    tally = run_seeds(
        range(asked.first, asked.first + asked.seeds), until_broken=asked.until_broken
    )
    print(tally)
    if tally.broken:
        seed, broken = tally.broken[0]
        print(f"\nThe shortest schedule found that breaks what seed {seed} breaks:\n")
        _print_shortest(seed, broken.promise)
    return bool(tally.broken)


def _find(seeds: range) -> int:
    """Say which engine is run, and the first failure; what `found_in` reads."""
    print(Path(qcsc_prefect.core.__file__).parent)
    tally = run_seeds(seeds, until_broken=True)
    for seed, broken in tally.broken:
        print(f"seed {seed}: {broken.promise}")
    print(f"{tally.runs} schedules")
    return bool(tally.broken)


def _one(seed: int) -> int:
    with quietly():
        world = World(made_from(seed))
        broken = world.run()
        print(table_of(world))
    if broken is None:
        print("\nevery promise was kept")
        return 0
    print("\nThe shortest schedule found that breaks the same promise:\n")
    _print_shortest(seed, broken.promise)
    return 1


def _print_shortest(seed: int, promise: str) -> None:
    with quietly():
        world = World(shrunk(made_from(seed), promise))
        world.run()
        print(table_of(world))
        print(f"\n{world.schedule!r}")


def _mutants(seeds: int) -> int:
    missed = 0
    for mutant in MUTANTS:
        found = found_in(mutant, seeds)
        missed += found is None
        print(f"{mutant.name:<70} {'NOT FOUND' if found is None else found}", flush=True)
    print(f"{len(MUTANTS) - missed} of {len(MUTANTS)} found within {seeds} seeds each")
    return bool(missed)


sys.exit(main())
