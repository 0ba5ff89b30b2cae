"""What a run was, as a table: who did what when."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .schedule import Schedule
    from .world import Event, World

__all__ = ["table_of"]

_WIDEST = 110


def table_of(world: World) -> str:
    """Return a table of everything that happened, and what broke at its end."""
    lines = [*_told(world.schedule), "", f"{'seconds':>9}  {'who':<30}  what"]
    lines += [_row(event) for event in world.events]
    if world.broken is not None:
        lines += ["", f"broken at {world.broken.at:.2f} s: {world.broken.promise}"]
        lines.append(f"  {world.broken.why}")
    return "\n".join(lines)


def _told(schedule: Schedule) -> Iterator[str]:
    yield f"seed {schedule.seed}, order {schedule.order}"
    yield (
        f"  {len(schedule.machines)} machines, jobs show within {schedule.lag:g} s and wait "
        f"{schedule.queue[0]:g} to {schedule.queue[1]:g} s"
        + (", one storage" if schedule.shares_storage else "")
        + (", searches are shared" if schedule.shares_searches else "")
    )
    for number, process in enumerate(schedule.processes):
        for call in process.calls:
            said = [
                f"{name}={value!r}"
                for name, value in vars(call).items()
                if value not in (None, False, 0)
            ]
            yield f"  machine {process.machine} process {number}: call({', '.join(said)})"
    for fault in schedule.faults:
        yield f"  fault: process {fault.process}, {fault.operation} {fault.nth} ({fault.roll})"
    for outage in schedule.outages:
        whose = "the service" if outage.machine is None else f"storage of machine {outage.machine}"
        yield f"  outage: {whose}, {outage.begin:.1f} to {outage.end:.1f} s"


def _row(event: Event) -> str:
    moment, who, what, message, args = event
    try:
        text = str(message) % args if args else str(message)
    except (TypeError, ValueError):
        text = f"{message} {args}"
    return f"{moment:9.2f}  {who:<30}  {f'{what} {text}'[:_WIDEST].rstrip()}"
