"""What the tests share: the emulated service."""

from __future__ import annotations

# What `pytest_plugins` would do, which only the outermost conftest may say.
from qcsc_prefect.integrations.qiskit.testing.plugin import emulated_service, pytest_configure

__all__ = ["emulated_service", "pytest_configure"]
