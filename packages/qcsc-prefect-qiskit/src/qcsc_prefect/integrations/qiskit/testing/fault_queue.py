"""Which request meets which of the injected faults."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from qcsc_prefect.integrations.qiskit.testing.faults import (
    Fault,
    FaultInjector,
    FaultKind,
    RateLimit,
)

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.testing.exchange import Endpoint
    from qcsc_prefect.integrations.qiskit.testing.jobs import JobEnd
    from qcsc_prefect.integrations.qiskit.testing.random_faults import Chance


class Faults(FaultInjector):
    """The faults of one emulated service; every method can be called from any thread.

    Args:
        chance: Draws what strikes a request besides; None for nothing.

    Example:
        >>> from qcsc_prefect.integrations.qiskit.testing import Faults
        >>> faults = Faults()
        >>> faults.answer("job", status=503, times=2)
        >>> faults.close("submit", when="after")
        >>> [(fault.kind.value, fault.times) for fault in faults.pending]
        [('status', 2), ('close', 1)]
        >>> faults.clear()
    """

    def __init__(self, chance: Chance | None = None) -> None:
        self._chance = chance
        self._faults: list[Fault] = []
        self._limits: list[tuple[RateLimit, deque[float]]] = []
        self._ends: list[JobEnd] = []
        self._visibility_delay = 0.0
        self._cleared = threading.Event()
        self._lock = threading.Lock()

    def hide_new_jobs(self, seconds: float) -> None:
        """Keep jobs out of the search until they are this old; by their id they are found."""
        with self._lock:
            self._visibility_delay = seconds

    def clear(self) -> None:
        """Take all faults back, and let go of the requests that a delay holds back."""
        with self._lock:
            self._faults.clear()
            self._limits.clear()
            self._ends.clear()
            self._chance = None
            self._visibility_delay = 0.0
            self._cleared.set()
            self._cleared = threading.Event()

    @property
    def cleared(self) -> threading.Event:
        """Set when the faults that there are now are taken back."""
        with self._lock:
            return self._cleared

    @property
    def pending(self) -> tuple[Fault, ...]:
        """The faults that wait for requests, in the order in which they strike."""
        with self._lock:
            return tuple(self._faults)

    def shows(self, job_id: str, age: float) -> bool:
        """Whether the search shows a job of this age in seconds."""
        with self._lock:
            hidden = 0.0 if self._chance is None else self._chance.hidden_seconds(job_id)
            return age >= max(hidden, self._visibility_delay)

    def next_job_end(self) -> JobEnd | None:
        """Take the end that was planned for the next job, or None."""
        with self._lock:
            return self._ends.pop(0) if self._ends else None

    def strike(self, endpoint: Endpoint) -> list[Fault]:
        """Take the faults that the next request of an endpoint meets: delays and one other.

        What was injected comes before what is drawn at random.
        """
        delays: list[Fault] = []
        others: list[Fault] = []
        remaining: list[Fault] = []
        with self._lock:
            for fault in self._faults:
                struck = delays if fault.kind is FaultKind.DELAY else others
                if fault.endpoint not in (None, endpoint) or (struck is others and others):
                    remaining.append(fault)
                    continue
                struck.append(fault)
                if fault.times is None:
                    remaining.append(fault)
                elif fault.times > 1:
                    remaining.append(replace(fault, times=fault.times - 1))
            self._faults = remaining
            if not others:
                others += self._over_limit(endpoint)
            if self._chance is not None:
                drawn = self._chance.strike(endpoint)
                delays += [fault for fault in drawn if fault.kind is FaultKind.DELAY]
                others = others or [fault for fault in drawn if fault.kind is not FaultKind.DELAY]
        return delays + others

    def _over_limit(self, endpoint: Endpoint) -> list[Fault]:
        now = time.monotonic()
        for limit, passed in self._limits:
            if limit.endpoint is not endpoint:
                continue
            while passed and passed[0] <= now - limit.seconds:
                passed.popleft()
            if len(passed) >= limit.requests:
                return [limit.refusal(passed[0] + limit.seconds - now)]
            passed.append(now)
        return []

    def inject(self, fault: Fault) -> None:
        """Let a fault wait for its requests."""
        with self._lock:
            self._faults.append(fault)

    def inject_limit(self, limit: RateLimit) -> None:
        """Let a limit hold until `clear`."""
        with self._lock:
            self._limits.append((limit, deque()))

    def plan_ends(self, ends: list[JobEnd]) -> None:
        """Let the next jobs end so, one after the other."""
        with self._lock:
            self._ends += ends
