"""What every program of the emulated service takes and how it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.testing.exchange import JSONValue

BAD_INPUT = 1003
"""The service's code for a job whose input cannot be used."""

EXECUTION_FAILED = 1002
"""The service's code for a job that failed while it ran."""

Params: TypeAlias = "dict[str, JSONValue]"
"""The parameters of a job as they were posted, not decoded."""


class ProgramFailedError(Exception):
    """A program that ended without a result.

    Attributes:
        code: The service's code for the reason.
        message: The reason in words.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
