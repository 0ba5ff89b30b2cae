"""Learns at which place in the queue jobs wait, for few requests.

The service says so in the metrics of a job, and for each job alone. So a job is asked for its place
when it is first seen in the queue, and is not spoken of before: then one line in the log says both.
Where many jobs are waited for, this takes a while, since no more requests are sent than the budget
allows. The places of a few jobs are asked for at every look, those of many every ten minutes.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from qcsc_prefect.integrations.qiskit.jobs.asking import CLIENT_ERRORS
from qcsc_prefect.integrations.qiskit.jobs.service import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qiskit_ibm_runtime.api.client import RuntimeClient

    from qcsc_prefect.integrations.qiskit.jobs.service import JobStatus

__all__ = ["QueuePositions", "RequestBudget"]

#: Of the five requests a second that waiting may cost, so many are for places in the queue.
_PER_SECOND = 2.0
_AT_ONCE = 10
#: Seconds after which a place in the queue is asked for again.
_GOOD_FOR = 600.0


class RequestBudget:
    """Allows so many requests a second; every method may be called in any thread.

    Args:
        per_second: Requests in a second, in the long run.
        at_once: Requests that may be saved up.

    Example:
        >>> budget = RequestBudget(per_second=0.001, at_once=2)
        >>> [budget.take(), budget.take(), budget.take()]
        [True, True, False]
    """

    def __init__(self, per_second: float, at_once: int) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._left = float(at_once)
        self._counted_at = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take one request from the budget; False where none is left."""
        with self._lock:
            now = time.monotonic()
            saved = self._left + (now - self._counted_at) * self._per_second
            self._left, self._counted_at = min(saved, float(self._at_once)), now
            if self._left < 1:
                return False
            self._left -= 1
            return True


class QueuePositions:
    """The places in the queue of jobs of one instance, as far as they were asked for."""

    def __init__(self) -> None:
        # Each with the time at which it was asked for.
        self._known: dict[str, tuple[float, int | None]] = {}
        self._budget = RequestBudget(_PER_SECOND, _AT_ONCE)

    def added(
        self, client: RuntimeClient, statuses: Mapping[str, JobStatus], *, again: bool
    ) -> dict[str, JobStatus | None]:
        """Add places in the queue to the statuses of jobs; blocks.

        Args:
            client: The native client's connection to the instance.
            statuses: Where the jobs stand.
            again: Whether to ask also for places that were asked for a moment ago.

        Returns:
            The same with the places of the jobs in the queue, where the service tells them; None
            for a job that has still to be asked for its place.
        """
        return {
            job_id: self._with_position(client, job_id, status, again=again)
            for job_id, status in statuses.items()
        }

    def _with_position(
        self, client: RuntimeClient, job_id: str, status: JobStatus, *, again: bool
    ) -> JobStatus | None:
        if status.state is not JobState.QUEUED:
            self._known.pop(job_id, None)
            return status
        if status.queue_position is not None:
            return status
        now = time.monotonic()
        asked_at, position = self._known.get(job_id, (-math.inf, None))
        if (again or now - asked_at >= _GOOD_FOR) and self._budget.take():
            asked_at, position = self._known[job_id] = now, _position(client, job_id)
        return None if asked_at == -math.inf else replace(status, queue_position=position)


def _position(client: RuntimeClient, job_id: str) -> int | None:
    try:
        metrics = client.job_metadata(job_id)
    except CLIENT_ERRORS:
        return None  # the position is a courtesy
    position = metrics.get("position_in_queue") if isinstance(metrics, dict) else None
    return position if isinstance(position, int) else None
