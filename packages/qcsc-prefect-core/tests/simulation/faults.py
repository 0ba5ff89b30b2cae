"""What can go wrong with each operation of a process."""

from __future__ import annotations

__all__ = ["FAULTS", "roll_of"]

#: What can meet a submission. ``late``: accepted at once, the answer takes minutes; ``slow``: it
#: takes long until it is accepted; ``doubled``: accepted twice, as where a proxy repeats it.
_SUBMISSION_FAULTS = (
    "crash before",
    "crash after",
    "crash after",
    "lost before",
    "lost before",
    "lost after",
    "lost after",
    "lost after",
    "doubled",
    "doubled and lost",
    "too many",
    "not sent",
    "refused",
    "late",
    "slow",
    "cancel before",
    "cancel after",
)
_QUESTION_FAULTS = (
    "crash before",
    "crash after",
    "fails",
    "fails",
    "forbidden",
    "late",
    "cancel before",
)
_WRITE_FAULTS = (
    "crash before",
    "crash after",
    "crash after",
    "not written",
    "written, and an error",
    "slow",
    "cancel before",
)
_READ_FAULTS = ("crash before", "unreadable", "slow", "cancel before")
_LOCK_FAULTS = ("crash before", "crash after", "cancel before")

#: What can meet each operation.
FAULTS = {
    "submit": _SUBMISSION_FAULTS,
    "search": _QUESTION_FAULTS,
    "beside": _QUESTION_FAULTS,
    "late": _QUESTION_FAULTS,
    "status": _QUESTION_FAULTS,
    "cancel": _QUESTION_FAULTS,
    "write": _WRITE_FAULTS,
    "read": _READ_FAULTS,
    "lock": _LOCK_FAULTS,
}


def roll_of(operation: str, fault: str) -> float:
    """Return a number in [0, 1) by which a plan means a fault of an operation."""
    faults = FAULTS[operation]
    return (faults.index(fault) + 1e-6) / len(faults)
