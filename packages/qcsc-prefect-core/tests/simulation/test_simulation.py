"""The engine keeps its promises in simulated schedules, and the simulation notices where not."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .faults import FAULTS
from .mutants import MUTANTS, DoesNotApplyError, Mutant, found_in
from .runs import quietly, run_seeds
from .schedule import made_from
from .tables import table_of
from .walk import DECISIVE, walked
from .world import World

#: Found at once, each by another promise.
_PLANTED = (
    "no intent is written before the job is sent",
    "the lock is not held over the search",
    "the youngest of several jobs is kept",
    "a record of a failed job is used",
)


def test_thousands_of_schedules_keep_every_promise() -> None:
    tally = run_seeds(range(5000))

    assert not tally.broken, str(tally)
    # Each fault met somebody, and most searches showed every job in time.
    assert {*tally.faults} == {
        f"{name}: {fault}" for name, faults in FAULTS.items() for fault in faults
    }
    assert tally.jobs > 5000
    assert 0.5 < tally.within / tally.runs < 1


def test_two_machines_keep_every_promise_in_every_order() -> None:
    walk = walked(DECISIVE)

    assert not walk.broken, str(walk)
    assert walk.pairs == 210
    assert walk.runs > 5000


@pytest.mark.parametrize("name", _PLANTED)
def test_a_planted_fault_is_found(name: str) -> None:
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name == name]

    assert found_in(mutant, 100) is not None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_fault_has_its_place(mutant: Mutant) -> None:
    import qcsc_prefect.core.engine

    folder = Path(qcsc_prefect.core.engine.__file__).parent
    planted = mutant.planted((folder / f"{mutant.module}.py").read_text())

    compile(planted, mutant.module, "exec")


def test_a_planted_fault_without_a_place_is_an_error() -> None:
    with pytest.raises(DoesNotApplyError, match="stands 2 times"):
        Mutant("twice", "once", "a", "b").planted("a b a")


def test_a_seed_makes_the_same_schedule_with_every_python() -> None:
    text = "\n".join(repr(made_from(seed)) for seed in range(200))

    assert hashlib.sha256(text.encode()).hexdigest() == (
        "89cd56a2d47a8e0c5053b7a5aa9577693ed4fbd5216f2058bfd36e47a0568155"
    )


def test_a_seed_makes_the_same_run_in_every_process() -> None:
    code = (
        "import hashlib\n"
        "from simulation.schedule import made_from\n"
        "from simulation.world import World\n"
        "text = ''\n"
        "for seed in range(40):\n"
        "    world = World(made_from(seed))\n"
        "    world.run()\n"
        "    text += repr([event[:3] for event in world.events])\n"
        "print(hashlib.sha256(text.encode()).hexdigest())\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }

    assert len(said) == 1


def test_a_table_says_who_did_what_when() -> None:
    with quietly():
        world = World(made_from(0))
        world.run()
    table = table_of(world)

    assert "seed 0, order" in table
    assert "accepts job-1" in table
    assert "is quiet; all begin again" in table
