"""The backends of this machine, each made once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.config_failures import config_failure
from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qiskit.providers import BackendV2

__all__ = ["LocalBackends"]


class LocalBackends:
    """The local backends of this process, by the name that jobs give.

    Args:
        own: A configuration's own way to its backend; None for those of the client.

    Example:
        >>> LocalBackends().backend("fake_manila").num_qubits
        5
    """

    def __init__(self, own: Callable[[], BackendV2] | None = None) -> None:
        self._own = own
        self._made: dict[str, BackendV2] = {}
        self._lock = threading.Lock()

    def backend(self, name: str) -> BackendV2:
        """Return the backend of a name; blocks.

        Args:
            name: A fake backend such as ``fake_manila``, or ``aer_simulator``.

        Raises:
            QiskitRuntimeConfigError: If there is none of this name, or the configuration's own
                method fails.
        """
        with self._lock:
            if name not in self._made:
                self._made[name] = self._new(name)
            return self._made[name]

    def _new(self, name: str) -> BackendV2:
        if self._own is None:
            return QiskitRuntimeConfig(channel="local", backend_name=name).get_backend()
        try:
            return self._own()
        except QiskitRuntimeConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - a method of somebody's own
            failure = config_failure(
                f"Tried to get the backend by {self._own.__qualname__}() of the configuration.",
                error,
            )
        raise failure
