"""One run of a native primitive that the client has checked, and that is not sent yet.

The client checks what it is given on the way to its own sending: options, circuits, angles, faulty
qubits, shots. What it then hands to its batch or session, for that to be sent, is kept here; so all
of it is checked before a batch or session is opened.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from qiskit.exceptions import QiskitError
from qiskit_ibm_runtime import RuntimeEncoder, Session
from qiskit_ibm_runtime.runtime_options import RuntimeOptions

from qcsc_prefect.core.errors import InputError

if TYPE_CHECKING:
    from typing import Any

    from qiskit_ibm_runtime import IBMBackend, RuntimeJobV2

__all__ = ["PreparedRun"]

#: What the client's encoder raises over values that it cannot write.
_NOT_WRITTEN = (TypeError, ValueError, OverflowError, AttributeError, KeyError, QiskitError)


class PreparedRun(Session):  # type: ignore[misc]
    """The mode in which a native primitive runs once, without sending anything.

    Args:
        backend: The native backend.
    """

    def __init__(self, backend: IBMBackend) -> None:
        super().__init__(backend, create_new=False)
        self._prepared: dict[str, Any] | None = None

    def _run(self, **arguments: Any) -> None:
        """Keep what the native primitive hands over to be sent."""
        RuntimeOptions(**arguments["options"]).validate(channel=self.service.channel)
        self._prepared = arguments

    def refuse_unsendable(self) -> None:
        """Refuse what the client cannot write, which it finds out only when it sends.

        Raises:
            InputError: If there is such a value; ``path`` says in what.
        """
        for part, value in self._arguments["inputs"].items():
            try:
                json.dumps(value, cls=RuntimeEncoder)
            except _NOT_WRITTEN as error:
                raise InputError(
                    f"{part} refused: the client cannot write them for the service "
                    f"({type(error).__name__}: {error}). Give numbers, text, lists and dicts, or "
                    "what Qiskit's own options and circuits take.",
                    path=part,
                ) from error

    def send(self, mode: Session | None) -> RuntimeJobV2:
        """Send it; blocks."""
        if mode is not None:
            return mode._run(**self._arguments)  # noqa: SLF001 - what the client's primitives call
        return super()._run(**self._arguments)

    @property
    def _arguments(self) -> dict[str, Any]:
        if self._prepared is None:
            message = "the native primitive has not been run"
            raise RuntimeError(message)
        return self._prepared
