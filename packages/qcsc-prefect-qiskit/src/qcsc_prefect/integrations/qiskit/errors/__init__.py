"""Errors of the Qiskit package; the tree they belong to is drawn in `qcsc_prefect.core.errors`."""

from __future__ import annotations

from qcsc_prefect.core.errors import ConfigurationError

__all__ = ["QiskitRuntimeConfigError"]


class QiskitRuntimeConfigError(ConfigurationError, RuntimeError):
    """The service or the backend that a `QiskitRuntimeConfig` describes cannot be had.

    It is a ``ValueError``, as every `ConfigurationError`, and a ``RuntimeError``, as it was in 0.3.

    Attributes:
        retryable: True where the same configuration may lead to it later; None where what stands
            behind this error decides.
    """

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
