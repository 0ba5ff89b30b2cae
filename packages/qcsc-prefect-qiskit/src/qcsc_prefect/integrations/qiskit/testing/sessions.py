"""The sessions and batches that jobs of the emulated service can be put into."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.testing.exchange import JSONValue

__all__ = ["SESSION_CLOSED", "EmulatedSession", "SessionRecord", "SessionStore"]

SESSION_CLOSED = 1217
"""The service's code for a job that is meant for a session that takes no more of them."""


@dataclass(frozen=True)
class SessionRecord:
    """One session or batch as it was at the moment of asking.

    Attributes:
        id: Its id.
        mode: ``dedicated`` for a session, ``batch`` for a batch.
        backend: The name of its backend.
        instance: The CRN of the instance it belongs to.
        max_ttl: After how many seconds it closes by itself, or None.
        accepting_jobs: Whether it takes further jobs.
    """

    id: str
    mode: str
    backend: str | None
    instance: str
    max_ttl: int | None
    accepting_jobs: bool


class EmulatedSession:
    """A session or batch; it closes when it is told to, or when its time is over."""

    def __init__(
        self, *, mode: str, backend: str | None, instance: str, max_ttl: int | None
    ) -> None:
        self.id = str(uuid.uuid4())
        self.mode = mode
        self.backend = backend
        self.instance = instance
        self.max_ttl = max_ttl
        self._created = time.monotonic()
        self._closed = False

    @property
    def accepting_jobs(self) -> bool:
        """Whether it takes further jobs."""
        ended = self.max_ttl is not None and time.monotonic() >= self._created + self.max_ttl
        return not (self._closed or ended)

    def close(self) -> None:
        """Take no further jobs."""
        self._closed = True

    def record(self) -> SessionRecord:
        """Return the session as it is at this moment."""
        return SessionRecord(
            id=self.id,
            mode=self.mode,
            backend=self.backend,
            instance=self.instance,
            max_ttl=self.max_ttl,
            accepting_jobs=self.accepting_jobs,
        )

    def described(self) -> dict[str, JSONValue]:
        """Return it as the service describes it."""
        accepting = self.accepting_jobs
        return {
            "id": self.id,
            "mode": self.mode,
            "backend_name": self.backend,
            "max_ttl": self.max_ttl,
            "interactive_ttl": 60,
            "state": "open" if accepting else "closed",
            "accepting_jobs": accepting,
        }


class SessionStore:
    """Every session of one emulated service."""

    def __init__(self) -> None:
        self._sessions: dict[str, EmulatedSession] = {}
        self._lock = threading.Lock()

    def add(self, session: EmulatedSession) -> None:
        """Keep a new session."""
        with self._lock:
            self._sessions[session.id] = session

    def find(self, session_id: str, instance: str) -> EmulatedSession | None:
        """Return a session of an instance, or None."""
        with self._lock:
            session = self._sessions.get(session_id)
        return session if session is not None and session.instance == instance else None

    @property
    def records(self) -> tuple[SessionRecord, ...]:
        """The sessions, the oldest first, each as it is now."""
        with self._lock:
            return tuple(session.record() for session in self._sessions.values())
