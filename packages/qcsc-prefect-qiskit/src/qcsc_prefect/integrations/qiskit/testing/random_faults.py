"""Faults that strike at random, the same ones for the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit.testing.exchange import Endpoint
from qcsc_prefect.integrations.qiskit.testing.faults import Fault, FaultKind, status_fault

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.testing.faults import When

_LOSSES = (FaultKind.CLOSE, FaultKind.RESET)
_PASSING_STATUSES = (500, 502, 503)
_GATEWAY_TIMEOUT = 504
#: The least that the header ``Retry-After`` can ask for.
_COME_BACK_AFTER = 1.0


@dataclass(frozen=True, kw_only=True)
class RandomFaults:
    """How often which fault strikes an `EmulatedService` at random.

    All of them pass: a program that waits a moment and asks again gets through, and one that looks
    for its job for longer than `hidden` finds it. The n-th request of each endpoint, and the n-th
    job, meet the same with the same seed, whatever else is asked in between.

    Attributes:
        lost_requests: Share of requests that are lost on their way and not carried out.
        lost_answers: Share of requests that are carried out, and whose answer is lost, cut short,
            or a gateway's 504. A result is not lost so, because that of a private job is handed out
            once.
        failures: Share of requests that are answered by 500, 502 or 503 and not carried out.
        refusals: Share of requests that are answered by 429, with a ``Retry-After`` of a second for
            a submission.
        late: Share of answers that come late.
        latest: By how many seconds at most.
        hidden: For how many seconds at most the search does not show a new job.
        in_a_row: How many requests of one endpoint in a row meet a fault at most; late answers do
            not count.

    Raises:
        ConfigurationError: A share is none, the shares of faults sum up to more than 1, or a number
            is negative.

    Example:
        >>> RandomFaults(lost_answers=0.5, hidden=2.0).lost_requests
        0.05
    """

    lost_requests: float = 0.05
    lost_answers: float = 0.1
    failures: float = 0.03
    refusals: float = 0.02
    late: float = 0.2
    latest: float = 0.1
    hidden: float = 0.5
    in_a_row: int = 2

    def __post_init__(self) -> None:
        shares = (self.lost_requests, self.lost_answers, self.failures, self.refusals)
        if not all(0 <= share <= 1 for share in (*shares, self.late, sum(shares))):
            raise ConfigurationError(
                f"{self} cannot be: each share lies between 0 and 1, and so does the sum of "
                "lost_requests, lost_answers, failures and refusals."
            )
        if min(self.latest, self.hidden, self.in_a_row) < 0:
            raise ConfigurationError(f"{self} cannot be: a time or a number is negative.")


class Chance:
    """Draws the faults of one service; not safe to use from several threads.

    Args:
        bounds: How often which fault strikes.
        seed: Equal seeds draw equal faults.
    """

    def __init__(self, bounds: RandomFaults, seed: int) -> None:
        self._bounds = bounds
        self._seed = seed
        self._drawn: dict[str, random.Random] = {}
        self._in_a_row: dict[Endpoint, int] = {}
        self._hidden: dict[str, float] = {}

    def strike(self, endpoint: Endpoint) -> list[Fault]:
        """Draw what the next request of an endpoint meets: a delay, another fault, or both."""
        # Always as many numbers, so that each request has its own, whatever the bounds are.
        draw = self._numbers(endpoint)
        which, kind, is_late, seconds = (draw.random() for _ in range(4))
        faults = []
        if is_late < self._bounds.late:
            delay = seconds * self._bounds.latest
            faults.append(Fault(FaultKind.DELAY, endpoint, seconds=delay))
        fault = self._fault(endpoint, which, kind)
        row = self._in_a_row.get(endpoint, 0) + 1
        if fault is None or row > self._bounds.in_a_row:
            row = 0
        else:
            faults.append(fault)
        self._in_a_row[endpoint] = row
        return faults

    def hidden_seconds(self, job_id: str) -> float:
        """Return for how long the search does not show a job; jobs are asked for by their age."""
        if job_id not in self._hidden:
            self._hidden[job_id] = self._numbers("jobs").random() * self._bounds.hidden
        return self._hidden[job_id]

    def _numbers(self, name: str) -> random.Random:
        if name not in self._drawn:
            # The same numbers on every Python: a text is hashed by SHA-512.
            self._drawn[name] = random.Random(f"{self._seed} {name}")  # noqa: S311 - no secret
        return self._drawn[name]

    def _fault(self, endpoint: Endpoint, which: float, kind: float) -> Fault | None:
        bounds = self._bounds
        if (which := which - bounds.lost_requests) < 0:
            return Fault(_LOSSES[_index(kind, len(_LOSSES))], endpoint)
        if (which := which - bounds.lost_answers) < 0:
            # The result of a private job is handed out once: its answer must not get lost.
            when: When = "before" if endpoint is Endpoint.RESULT else "after"
            index = _index(kind, 4)
            if index < len(_LOSSES):
                return Fault(_LOSSES[index], endpoint, when=when)
            if index == len(_LOSSES) and when == "after":
                return Fault(FaultKind.TRUNCATE, endpoint, when=when)
            return status_fault(endpoint, _GATEWAY_TIMEOUT, when=when)
        if (which := which - bounds.failures) < 0:
            index = _index(kind, len(_PASSING_STATUSES))
            return status_fault(endpoint, _PASSING_STATUSES[index])
        if which - bounds.refusals < 0:
            retry_after = _COME_BACK_AFTER if endpoint is Endpoint.SUBMIT else None
            return status_fault(endpoint, 429, retry_after=retry_after)
        return None


def drawn_by(bounds: RandomFaults | None, seed: int | None) -> Chance | None:
    """Return what draws faults within these bounds, or None where none are wanted.

    Raises:
        ConfigurationError: There is no seed.
    """
    if bounds is None:
        return None
    if seed is None:
        raise ConfigurationError(
            "Random faults without a seed would never come again as they were. Pass seed= as well."
        )
    return Chance(bounds, seed)


def _index(drawn: float, choices: int) -> int:
    return int(drawn * choices)
