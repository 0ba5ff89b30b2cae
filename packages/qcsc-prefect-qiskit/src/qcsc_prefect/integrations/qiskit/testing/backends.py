"""The backends that the emulated service offers: what they say of themselves, and what runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qiskit_ibm_runtime.fake_provider import backends as fake_backends
from qiskit_ibm_runtime.fake_provider.fake_backend import FakeBackendV2

from qcsc_prefect.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcsc_prefect.integrations.qiskit.testing.exchange import JSONValue


class EmulatedBackend:
    """A backend of the service: a recorded device under the name that the client asks for.

    Attributes:
        name: The name that clients use.
        device: The recorded device, with its simulator.
        lock: Held while the device runs something: like a real one, it runs one job at a time.
    """

    def __init__(self, name: str, device: FakeBackendV2) -> None:
        self.name = name
        self.device = device
        self.lock = threading.Lock()
        self._configuration = self._recorded(device.conf_filename)
        self._properties = self._recorded(device.props_filename)

    @property
    def num_qubits(self) -> int:
        """The number of qubits of the device."""
        return int(self.device.num_qubits)

    def configuration(self) -> dict[str, JSONValue]:
        """Return the configuration as the service sends it."""
        return {**self._configuration, "backend_name": self.name, "simulator": False}

    def properties(self) -> dict[str, JSONValue]:
        """Return the properties as the service sends them."""
        return {**self._properties, "backend_name": self.name}

    def status(self, length_queue: int) -> dict[str, JSONValue]:
        """Return the status as the service sends it.

        Args:
            length_queue: How many jobs are waiting for the backend.
        """
        return {
            "state": True,
            "status": "active",
            "message": "available",
            "length_queue": length_queue,
            "backend_version": str(self._configuration.get("backend_version", "0.0.0")),
        }

    def listing(self, length_queue: int) -> dict[str, JSONValue]:
        """Return the entry in the list of backends.

        Args:
            length_queue: How many jobs are waiting for the backend.
        """
        return {
            "name": self.name,
            "qubits": self.num_qubits,
            "physical_qubits": self.num_qubits,
            "queue_length": length_queue,
            "status": {"name": "online", "reason": "available"},
        }

    def _recorded(self, filename: str) -> dict[str, JSONValue]:
        text = (Path(self.device.dirname) / filename).read_text(encoding="utf-8")
        recorded: dict[str, JSONValue] = json.loads(text)
        return recorded


def emulated_backends(
    chosen: Sequence[str] | Mapping[str, str],
) -> dict[str, EmulatedBackend]:
    """Return the chosen backends by the names that clients use.

    Args:
        chosen: Names of the client package's recorded devices, such as ``fake_manila``; or a
            mapping from the name that clients shall see to such a name, such as
            ``{"ibm_kingston": "fake_kingston"}``.

    Raises:
        ConfigurationError: No backend was chosen, or a name is not that of a recorded device.
    """
    devices = dict(chosen) if isinstance(chosen, Mapping) else {name: name for name in chosen}
    if not devices:
        raise ConfigurationError("An emulated service needs at least one backend.")
    return {
        name: EmulatedBackend(name, _recorded_device(device)) for name, device in devices.items()
    }


def _recorded_device(name: str) -> FakeBackendV2:
    known: dict[str, type[FakeBackendV2]] = {}
    for value in vars(fake_backends).values():
        if isinstance(value, type) and issubclass(value, FakeBackendV2):
            device: type[FakeBackendV2] = value
            known[device.backend_name] = device
    if name not in known:
        raise ConfigurationError(
            f"There is no recorded device {name!r} in the installed qiskit-ibm-runtime. "
            f"Known are: {', '.join(sorted(known))}."
        )
    return known[name]()
