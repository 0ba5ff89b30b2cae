"""The backends of this machine, each made once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.errors.config_failures import own_backend_failure

if TYPE_CHECKING:
    from qiskit.providers import BackendV2

__all__ = ["LocalBackends"]


class LocalBackends:
    """The local backends of this process, by the name that jobs give.

    Args:
        config: A configuration with a ``get_backend`` of its own; None for the client's backends.

    Example:
        >>> LocalBackends().backend("fake_manila").num_qubits
        5
    """

    def __init__(self, config: QiskitRuntimeConfig | None = None) -> None:
        self._config = config
        self._made: dict[str, BackendV2] = {}
        self._lock = threading.Lock()

    def backend(self, name: str) -> BackendV2:
        """Return the backend of a name; blocks.

        Raises:
            QiskitRuntimeConfigError: If there is none of this name, or the configuration's own
                method fails.
        """
        with self._lock:
            if name not in self._made:
                self._made[name] = self._new(name)
            return self._made[name]

    def _new(self, name: str) -> BackendV2:
        if self._config is None:
            return QiskitRuntimeConfig(channel="local", backend_name=name).get_backend()
        try:
            return self._config.get_backend()
        except QiskitRuntimeConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - a method of somebody's own
            method = self._config.get_backend.__qualname__
            failure = own_backend_failure(method, error, self._config.secrets())
        raise failure
