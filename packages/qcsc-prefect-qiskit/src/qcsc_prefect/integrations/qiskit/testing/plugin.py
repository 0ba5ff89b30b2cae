"""Fixtures for pytest; name this module in ``pytest_plugins`` to have them.

.. code-block:: python

    # conftest.py
    pytest_plugins = ["qcsc_prefect.integrations.qiskit.testing.plugin"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qcsc_prefect.integrations.qiskit.testing.service import EmulatedService

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that sets up the fixture."""
    config.addinivalue_line(
        "markers",
        "emulated_service(**settings): settings of the EmulatedService of the fixture "
        "`emulated_service`, such as backends=['fake_sherbrooke'] or queued_seconds=2.0",
    )


@pytest.fixture
def emulated_service(request: pytest.FixtureRequest) -> Iterator[EmulatedService]:
    """An emulated service of its own for each test, with the environment set up for the client.

    Settings come from the marker ``@pytest.mark.emulated_service(...)``, the nearest one first.
    Where a test is parametrized by ``seed``, that is the service's, unless the marker has one.
    """
    marker = request.node.get_closest_marker("emulated_service")
    settings = marker.kwargs if marker else {}
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if "seed" in parameters:
        settings = {"seed": parameters["seed"], **settings}
    with EmulatedService(**settings) as service, service.client_environment():
        yield service
