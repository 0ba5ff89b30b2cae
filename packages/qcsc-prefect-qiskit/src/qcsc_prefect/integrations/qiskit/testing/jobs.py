"""What was submitted, and how each job moves through its states."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping  # noqa: TC003 - records are read back from JSON by their types
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.testing.backends import EmulatedBackend
    from qcsc_prefect.integrations.qiskit.testing.exchange import JSONValue

INTERNAL_ERROR = 1000
"""The service's code for an error of its own."""

RAN_TOO_LONG = 1305
"""The service's code for a job that was stopped because it ran longer than it was allowed to."""


class JobState(StrEnum):
    """The states that the service knows."""

    QUEUED = "Queued"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


FINAL_STATES = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
"""The states that a job does not leave."""


@dataclass(frozen=True)
class Schedule:
    """How long a job stays in its first two states.

    Attributes:
        queued_seconds: Seconds in state Queued; ``math.inf`` keeps it there until it is released.
        running_seconds: Least seconds in state Running; the simulation can make it longer.
    """

    queued_seconds: float = 0.0
    running_seconds: float = 0.0

    @property
    def total_seconds(self) -> float:
        """The least time from creation to end, in seconds."""
        return self.queued_seconds + self.running_seconds


@dataclass(frozen=True)
class JobEnd:
    """How a job ends.

    Attributes:
        state: The final state; any other text is shown as it is, and the job never ends.
        reason: Why, in words.
        reason_code: Why, as the service's number.
    """

    state: str = JobState.COMPLETED
    reason: str | None = None
    reason_code: int | None = None


@dataclass(frozen=True)
class JobRecord:
    """One job as it was at the moment of asking.

    Attributes:
        id: The job id.
        program: The program id, ``sampler``, ``estimator`` or ``executor``.
        backend: The name of the backend.
        tags: The tags.
        params: The parameters as they were posted, not decoded: a JSON object.
        created: When the job was created (UTC).
        state: The state; one of `JobState`, or an unknown one that was injected.
        reason: Why the job failed or was cancelled, or None.
        reason_code: The same as the service's number.
        user_id: The account that submitted it.
        instance: The CRN of the instance it belongs to.
        private: Whether its result can be read only once.
        result_reads: How often its result was sent out.
        session_id: The session it belongs to, or None.
        cost: The maximum execution time in seconds that was asked for, or None.
        ended: When it reached a final state (UTC), or None.
    """

    id: str
    program: str
    backend: str
    tags: tuple[str, ...]
    params: Mapping[str, object] = field(repr=False)
    created: datetime
    state: str
    reason: str | None
    reason_code: int | None
    user_id: str
    instance: str
    private: bool
    result_reads: int
    session_id: str | None
    cost: int | None
    ended: datetime | None


@dataclass(frozen=True)
class Submission:
    """What was posted to create a job; the attributes are those of `JobRecord`."""

    program: str
    backend: EmulatedBackend
    params: dict[str, JSONValue] = field(repr=False)
    user_id: str
    instance: str
    tags: tuple[str, ...] = ()
    private: bool = False
    session_id: str | None = None
    cost: int | None = None


class Job:
    """A job that moves through its states by the clock; made and guarded by the `JobStore`."""

    def __init__(
        self, submission: Submission, schedule: Schedule, end: JobEnd, clock_ahead: timedelta
    ) -> None:
        self.id = secrets.token_hex(10)
        self.submission = submission
        self.tags = submission.tags
        self.created = datetime.now(UTC) + clock_ahead
        self.result_reads = 0
        self._created_at = time.monotonic()
        self._schedule = schedule
        self._end = end
        self._output: str | None = None
        self._output_at = math.inf
        self._cancelled_at = math.inf

    def resume(self, record: JobRecord) -> None:
        """Go on as a job that another service had: with its id, its age and its count of reads."""
        self.id, self.created, self.result_reads = record.id, record.created, record.result_reads
        self._created_at -= (datetime.now(UTC) - record.created).total_seconds()

    def finish(self, output: str, end: JobEnd | None = None) -> None:
        """Take the output of the program, and how the job ends where the program decided that.

        What comes after a cancellation changes nothing.
        """
        if self._cancelled_at < math.inf:
            return
        self._output = output
        self._output_at = time.monotonic()
        if end is not None:
            self._end = end

    def cancel(self) -> None:
        """Cancel the job now."""
        self._cancelled_at = time.monotonic()
        self._end = JobEnd(JobState.CANCELLED)

    def release(self) -> None:
        """Let the job end as soon as its program has run, whatever its schedule says."""
        self._schedule = Schedule(0.0, 0.0)

    @property
    def state(self) -> str:
        """The state at this moment."""
        return self._end_at(time.monotonic()).state

    def _end_at(self, now: float) -> JobEnd:
        """Return how the job ended, or the state it is in without a reason."""
        if now >= self._ended_at:
            return self._end
        if now < self._created_at + self._schedule.queued_seconds:
            return JobEnd(JobState.QUEUED)
        return JobEnd(JobState.RUNNING)

    @property
    def output(self) -> str | None:
        """What can be downloaded: the result, or the reason of a failure; None before the end."""
        return self._output if self.state in FINAL_STATES else None

    @property
    def started(self) -> datetime | None:
        """When the job left the queue, or None where it did not yet."""
        if self.state == JobState.QUEUED:
            return None
        return self._at(min(self._created_at + self._schedule.queued_seconds, self._ended_at))

    @property
    def ended(self) -> datetime | None:
        """When the job reached a final state, or None."""
        return self._at(self._ended_at) if self.state in FINAL_STATES else None

    @property
    def age(self) -> float:
        """Seconds since the job was created."""
        return time.monotonic() - self._created_at

    @property
    def _ended_at(self) -> float:
        by_schedule = self._created_at + self._schedule.total_seconds
        return min(self._cancelled_at, max(by_schedule, self._output_at))

    def _at(self, moment: float) -> datetime:
        return self.created + timedelta(seconds=moment - self._created_at)

    def record(self) -> JobRecord:
        """Return the job as it is at this moment."""
        submission, end = self.submission, self._end_at(time.monotonic())
        return JobRecord(
            id=self.id,
            program=submission.program,
            backend=submission.backend.name,
            tags=self.tags,
            params=submission.params,
            created=self.created,
            state=end.state,
            reason=end.reason,
            reason_code=end.reason_code,
            user_id=submission.user_id,
            instance=submission.instance,
            private=submission.private,
            result_reads=self.result_reads,
            session_id=submission.session_id,
            cost=submission.cost,
            ended=self._at(self._ended_at) if end.state in FINAL_STATES else None,
        )
