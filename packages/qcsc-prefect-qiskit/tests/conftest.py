"""What the tests share: an account on an emulated service, and what reaches it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.services.ibm.instances import ConfiguredInstance
from qcsc_prefect.integrations.qiskit.services.ibm.runtime_service import RuntimeJobService
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

# What `pytest_plugins` would do, which only the outermost conftest may say; other packages' tests
# then would import the client too.
from qcsc_prefect.integrations.qiskit.testing.plugin import emulated_service, pytest_configure

__all__ = ["emulated_service", "pytest_configure"]


@pytest.fixture
def emulated(emulated_service: EmulatedService) -> Iterator[EmulatedService]:
    """A service of its own for each test, as the marker ``emulated_service`` says.

    To start one takes 5 ms, and a client of it 20.
    """
    yield emulated_service
    get_service_pool().clear()


@pytest.fixture
def config(emulated: EmulatedService) -> QiskitRuntimeConfig:
    return QiskitRuntimeConfig(**emulated.runtime_config_fields())


@pytest.fixture
def service(emulated: EmulatedService, config: QiskitRuntimeConfig) -> RuntimeJobService:
    """The account, as the engine sees it."""
    return RuntimeJobService(ConfiguredInstance(emulated.instance, config))
