"""How a vendor's test makes faults happen, and what is said of the vendor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qcsc_prefect.core.engine.service import JobState

__all__ = ["ConformanceReport", "FaultUnavailableError", "Faults", "Finding"]


class FaultUnavailableError(Exception):
    """A fault that cannot be made to happen here; what needs it is not checked."""


class Faults(ABC):
    """Makes the service misbehave. Leave out what you cannot; what needs it is not checked.

    Each fault strikes once, at the next request of its kind, unless it says otherwise.
    """

    @abstractmethod
    def jobs(self) -> Mapping[str, JobState]:
        """Return the jobs that there are, in truth: not through the service that is checked."""

    @abstractmethod
    def clear(self) -> None:
        """Take every fault back, and let go of the jobs that are held."""

    async def fetch(self, job_id: str) -> object:  # noqa: ARG002 - for those who can
        """Fetch the result of a job that is done, by the vendor's code, for ``==`` to compare."""
        raise FaultUnavailableError

    def drop_answer(self) -> None:
        """Accept the next submission, and close the connection without an answer."""
        raise FaultUnavailableError

    def cut_answer(self) -> None:
        """Accept the next submission, and end the answer in its middle."""
        raise FaultUnavailableError

    def time_out_answer(self) -> None:
        """Accept the next submission, and answer 504, as a gateway does."""
        raise FaultUnavailableError

    def refuse(self) -> None:
        """Refuse the next submission for good, by a 4xx."""
        raise FaultUnavailableError

    def limit(self, seconds: int) -> None:  # noqa: ARG002
        """Refuse the next submission by a 429 whose Retry-After names these seconds."""
        raise FaultUnavailableError

    def break_questions(self) -> None:
        """Answer the next search and the next question for a status by a 503."""
        raise FaultUnavailableError

    def show_late(self, seconds: float) -> None:  # noqa: ARG002
        """Let searches show no job that is younger than this, until `clear`."""
        raise FaultUnavailableError

    def hold(self) -> None:
        """Let jobs that are submitted from now on wait in the queue, until `clear`."""
        raise FaultUnavailableError

    def fail_next_job(self) -> None:
        """Let the next job that is submitted fail."""
        raise FaultUnavailableError

    def vanish(self, job_id: str) -> None:  # noqa: ARG002
        """Let the service forget a job."""
        raise FaultUnavailableError

    def truncate_result(self) -> None:
        """Send half of the next result, so that its end is missing."""
        raise FaultUnavailableError


@dataclass(frozen=True)
class Finding:
    """What was not right.

    Attributes:
        scenario: What happened.
        expected: What should have come of it.
        seen: What came of it.
        jobs_made: How many jobs were made meanwhile.
    """

    scenario: str
    expected: str
    seen: str
    jobs_made: int

    def __str__(self) -> str:
        return (
            f"{self.scenario}\n    expected: {self.expected}\n    seen:     {self.seen}\n"
            f"    jobs made: {self.jobs_made}"
        )


@dataclass(frozen=True)
class ConformanceReport:
    """What `check_vendor` says of a vendor; its text is meant to be read.

    Attributes:
        passed: The scenarios in which everything was right.
        findings: What was not right in the others.
        not_checked: The scenarios whose faults could not be made.
    """

    passed: tuple[str, ...]
    findings: tuple[Finding, ...]
    not_checked: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether nothing was wrong."""
        return not self.findings

    def __str__(self) -> str:
        counts = (
            f"{len(self.passed)} right, {len(self.findings)} not right, "
            f"{len(self.not_checked)} not checked"
        )
        unchecked = [f"{scenario}\n    not checked" for scenario in self.not_checked]
        return "\n".join([counts, *map(str, self.findings), *unchecked])
