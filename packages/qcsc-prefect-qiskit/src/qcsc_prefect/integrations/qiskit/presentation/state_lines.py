"""One line of text for each change of a job's state."""

from __future__ import annotations

from qcsc_prefect.integrations.qiskit.presentation.wording import duration

__all__ = ["state_line"]


def state_line(
    *,
    job_id: str,
    backend_name: str | None,
    state: str,
    waited_seconds: float,
    queue_position: int | None = None,
) -> str:
    """Say in one line what state a job is in, for a log or a terminal.

    Example:
        >>> state_line(
        ...     job_id="d1c0", backend_name="ibm_x", state="QUEUED", waited_seconds=180,
        ...     queue_position=12,
        ... )
        'job d1c0 on ibm_x: QUEUED (position 12) after 3 min'
    """
    where = f" on {backend_name}" if backend_name else ""
    position = "" if queue_position is None else f" (position {queue_position:,})"
    return f"job {job_id}{where}: {state}{position} after {duration(waited_seconds)}"
