"""Finds the shortest schedule that breaks the same promise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .schedule import CallPlan, MachinePlan, Schedule
from .world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["shrunk"]

#: Runs that are spent on it, and orders in which each shorter schedule is tried.
_MOST_RUNS = 4000
_ORDERS = 6


def shrunk(schedule: Schedule, promise: str) -> Schedule:
    """Return a schedule that breaks a promise and from which nothing can be left out.

    Args:
        schedule: One that breaks it.
        promise: Which.
    """
    runs = 0
    found = True
    while found and runs < _MOST_RUNS:
        found = False
        for shorter in _shorter(schedule):
            orders = [schedule.order, *range(_ORDERS)]
            for order in orders:
                runs += 1
                candidate = replace(shorter, order=order)
                broken = World(candidate).run()
                if broken is not None and broken.promise == promise:
                    schedule, found = candidate, True
                    break
            if found:
                break
    return schedule


def _shorter(schedule: Schedule) -> Iterator[Schedule]:
    """Yield schedules with something left out, the largest parts first."""
    for number in range(len(schedule.processes)):
        if len(schedule.processes) > 1:
            yield _without_process(schedule, number)
    for number in range(len(schedule.outages)):
        yield replace(schedule, outages=_without(schedule.outages, number))
    for number in range(len(schedule.faults)):
        yield replace(schedule, faults=_without(schedule.faults, number))
    for number, process in enumerate(schedule.processes):
        for call in range(len(process.calls)):
            if len(process.calls) > 1:
                shorter = replace(process, calls=_without(process.calls, call))
                yield replace(schedule, processes=_with(schedule.processes, number, shorter))
    yield from _plainer(schedule)
    for number, process in enumerate(schedule.processes):
        for place, call in enumerate(process.calls):
            for plainer in _plainer_calls(call):
                calls = _with(process.calls, place, plainer)
                changed = replace(process, calls=calls)
                yield replace(schedule, processes=_with(schedule.processes, number, changed))


def _plainer(schedule: Schedule) -> Iterator[Schedule]:
    plain = Schedule(seed=0, order=0, machines=(), processes=())
    for name in ("shares_storage", "shares_searches", "lag", "fails", "goes"):
        if getattr(schedule, name) != getattr(plain, name):
            yield replace(schedule, **{name: getattr(plain, name)})
    if schedule.clock_offset or schedule.clock_rate != 1.0:
        yield replace(schedule, clock_offset=0.0, clock_rate=1.0)
    machines = tuple(MachinePlan() for _ in schedule.machines)
    if machines != schedule.machines:
        yield replace(schedule, machines=machines)
    used = sorted({process.machine for process in schedule.processes})
    if len(used) < len(schedule.machines):
        place = {machine: number for number, machine in enumerate(used)}
        yield replace(
            schedule,
            machines=tuple(schedule.machines[machine] for machine in used),
            processes=tuple(
                replace(process, machine=place[process.machine]) for process in schedule.processes
            ),
            outages=tuple(
                replace(outage, machine=place.get(outage.machine))
                for outage in schedule.outages
                if outage.machine is None or outage.machine in place
            ),
        )


def _plainer_calls(call: CallPlan) -> Iterator[CallPlan]:
    plain = CallPlan()
    for name in ("cancelled_at", "max_wait", "lifetime", "reruns", "refresh", "trusts", "waits"):
        if getattr(call, name) != getattr(plain, name):
            yield replace(call, **{name: getattr(plain, name)})
    if call.at:
        yield replace(call, at=0.0)
        if call.at != round(call.at):
            yield replace(call, at=float(round(call.at)))


def _without_process(schedule: Schedule, number: int) -> Schedule:
    return replace(
        schedule,
        processes=_without(schedule.processes, number),
        faults=tuple(
            replace(fault, process=fault.process - (fault.process > number))
            for fault in schedule.faults
            if fault.process != number
        ),
    )


def _without(items: tuple, number: int) -> tuple:  # type: ignore[type-arg]
    return items[:number] + items[number + 1 :]


def _with(items: tuple, number: int, item: object) -> tuple:  # type: ignore[type-arg]
    return (*items[:number], item, *items[number + 1 :])
