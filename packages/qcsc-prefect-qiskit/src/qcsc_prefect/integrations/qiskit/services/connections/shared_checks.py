"""What the client asks before each job: asked once for the jobs of a moment, while all is well.

Before it sends a job the client asks whether the instance has time left and whether the backend is
active, and warns where that is not so. These are two of the three requests of a submission, and
jobs that are sent together get the same answers.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

# From here, since its own module has another name before 0.51.
from qiskit_ibm_runtime.qiskit_runtime_service import RuntimeClient

from qcsc_prefect.integrations.qiskit.services.connections.wire import is_submitting

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SharingConnection", "share_checks"]

#: For so many seconds an answer that gives no cause for a warning is taken for the next jobs too.
_SHARED_FOR: Final = 5.0
#: So many seconds a submission waits for the answer that another one has asked for.
_WAITS_FOR: Final = 1.0


class SharingConnection(RuntimeClient):  # type: ignore[misc]
    """A connection of the native client whose submissions share what is asked before each."""

    _lately: dict[str, tuple[float, dict[str, Any]]]
    _asking: threading.Lock

    def cloud_usage(self) -> Any:
        """Return how much of the instance is used."""
        return self._shared(
            "usage",
            super().cloud_usage,
            # No more of it: the client computes with the rest.
            lambda answer: (
                {"usage_limit_reached": False} if answer["usage_limit_reached"] is False else None
            ),
        )

    def backend_status(self, backend_name: str) -> Any:
        """Return how a backend stands."""
        ask = super().backend_status
        return self._shared(
            f"status of {backend_name}",
            lambda: ask(backend_name),
            lambda answer: (
                dict(answer)
                if (answer["operational"], answer["status_msg"]) == (True, "active")
                else None
            ),
        )

    def _shared(
        self,
        question: str,
        ask: Callable[[], Any],
        all_is_well: Callable[[Any], dict[str, Any] | None],
    ) -> Any:
        if not is_submitting():
            return ask()
        is_held = self._asking.acquire(timeout=_WAITS_FOR)
        try:
            asked_at, known = self._lately.get(question, (0.0, None))
            if known is not None and time.monotonic() - asked_at < _SHARED_FOR:
                return dict(known)
            asked_at, answer = time.monotonic(), ask()
            try:
                good = all_is_well(answer)
            except (KeyError, TypeError):
                good = None  # the client says what it makes of it
            if good is not None:
                self._lately[question] = asked_at, good
            return answer
        finally:
            if is_held:
                self._asking.release()


def share_checks(connection: RuntimeClient) -> None:
    """Let the submissions on a connection share their checks; to say it twice is fine.

    Args:
        connection: The connection; one of somebody's own class is left alone.
    """
    if type(connection) is RuntimeClient:
        connection._lately, connection._asking = {}, threading.Lock()  # noqa: SLF001
        connection.__class__ = SharingConnection
