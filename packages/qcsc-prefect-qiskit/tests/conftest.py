"""What the tests of tasks share: an account on an emulated service, and a configuration for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.testing import EmulatedService


@pytest.fixture
def emulated() -> Iterator[EmulatedService]:
    with EmulatedService(["fake_manila"], seed=7) as service, service.client_environment():
        yield service
    get_service_pool().clear()


@pytest.fixture
def config(emulated: EmulatedService) -> QiskitRuntimeConfig:
    return QiskitRuntimeConfig(**emulated.runtime_config_fields())
