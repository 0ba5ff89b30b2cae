"""How long requests to the service may take, and how long its passing faults are waited out."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from typing import Final

from qcsc_prefect.core.errors import ConfigurationError

__all__ = ["WireLimits"]

#: A large input or result takes the service longer than a question.
_TRANSFER_FACTOR: Final = 5
#: Nothing that is to be paid for is given up as soon as a question.
_PURSUIT_FACTOR: Final = 10


@dataclass(frozen=True)
class WireLimits:
    """How long requests may take; all in seconds.

    Attributes:
        answer: The longest silence of the service during a question. Submissions and results may
            take five times as long.
        patience: How long a passing fault is waited out.

    Example:
        >>> WireLimits().transfer
        300.0
    """

    answer: float = 60.0
    patience: float = 60.0

    @classmethod
    def current(cls) -> WireLimits:
        """Return the limits that the environment variables set.

        Raises:
            ConfigurationError: If ``QCSC_PREFECT_ANSWER_SECONDS`` or
                ``QCSC_PREFECT_PATIENCE_SECONDS`` holds no number of seconds.
        """
        return cls(
            _seconds("QCSC_PREFECT_ANSWER_SECONDS", cls.answer),
            _seconds("QCSC_PREFECT_PATIENCE_SECONDS", cls.patience),
        )

    @property
    def connect(self) -> float:
        """How long it may take until there is a connection."""
        return min(10.0, self.answer)

    @property
    def transfer(self) -> float:
        """The longest silence of the service during a submission or the download of a result."""
        return _TRANSFER_FACTOR * self.answer

    @property
    def pursuit(self) -> float:
        """How long a submission is tried again while the service fails."""
        return _PURSUIT_FACTOR * self.patience


def _seconds(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    if text is None:
        return default
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < threading.TIMEOUT_MAX / _TRANSFER_FACTOR:
            return seconds
    raise ConfigurationError(
        f"The environment variable {variable} is {text:.40}, and should be a number of seconds, "
        f"such as {default:g}."
    )
