"""The faults that can be injected into the emulated service, and which request meets which."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from qcsc_prefect.core.errors import ConfigurationError

from .exchange import Endpoint
from .jobs import RAN_TOO_LONG, JobEnd, JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

When = Literal["before", "after"]
"""Whether a fault strikes before the request is carried out, or after it and before the answer."""


class FaultKind(StrEnum):
    """What a fault does to the answer."""

    DELAY = "delay"
    """The answer comes later."""
    STATUS = "status"
    """Another status is answered."""
    CLOSE = "close"
    """The connection is closed without an answer."""
    RESET = "reset"
    """The connection is reset without an answer."""
    TRUNCATE = "truncate"
    """The body ends before its announced length."""
    CUT = "cut"
    """Half of the body is sent, and its length is not announced."""
    MALFORM = "malform"
    """The body is a text that is not JSON."""
    EMPTY = "empty"
    """The body is empty."""
    STATE = "state"
    """The job is shown in another state."""


@dataclass(frozen=True)
class Fault:
    """One injected fault.

    Attributes:
        kind: What it does.
        endpoint: The endpoint it strikes, or None for every one.
        times: How many requests it still strikes, or None for all until it is cleared.
        when: Whether the request is carried out first; faults of the body always let it be.
        status: The status of kind `FaultKind.STATUS`.
        seconds: The delay of kind `FaultKind.DELAY`.
        retry_after: Seconds for the header ``Retry-After``, or None to leave it out.
        code: The service's code in the body.
        text: The message in the body, or the state of kind `FaultKind.STATE`.
    """

    kind: FaultKind
    endpoint: Endpoint | None = None
    times: int | None = 1
    when: When = "before"
    status: int = 503
    seconds: float = 0.0
    retry_after: float | None = None
    code: int = 0
    text: str = ""


class Faults:
    """Injects faults into one emulated service; every method can be called from any thread.

    Faults of one endpoint strike in the order in which they were injected, one for each request;
    delays are added to them. ``times=None`` lets a fault strike until `clear` is called.

    Example:
        >>> from qcsc_prefect.integrations.qiskit.testing import Faults
        >>> faults = Faults()
        >>> faults.answer("job", status=503, times=2)
        >>> faults.close("submit", when="after")
        >>> [(fault.kind.value, fault.times) for fault in faults.pending]
        [('status', 2), ('close', 1)]
        >>> faults.clear()
    """

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._job_ends: list[JobEnd] = []
        self._visibility_delay = 0.0
        self._lock = threading.Lock()

    def answer(
        self,
        endpoint: Endpoint | str | None,
        *,
        status: int,
        times: int | None = 1,
        when: When = "before",
        retry_after: float | None = None,
        code: int | None = None,
        message: str = "An injected fault.",
    ) -> None:
        """Answer the next requests of an endpoint with an HTTP status.

        Args:
            endpoint: The endpoint, or None for every one.
            status: The status to answer.
            times: How many requests, or None for all until `clear`.
            when: ``"after"`` carries the request out before it answers so: a job is created.
            retry_after: Seconds for the header ``Retry-After``; None leaves it out.
            code: The service's code in the body; by default one that fits the status.
            message: The message in the body.
        """
        self._add(
            Fault(
                FaultKind.STATUS,
                _endpoint(endpoint),
                times,
                when,
                status=status,
                retry_after=retry_after,
                code=_CODES.get(status, 1000) if code is None else code,
                text=message,
            )
        )

    def delay(
        self,
        seconds: float,
        endpoint: Endpoint | str | None = None,
        *,
        times: int | None = None,
        when: When = "before",
    ) -> None:
        """Let requests wait for their answers.

        Args:
            seconds: How long each waits.
            endpoint: The endpoint, or None for every one.
            times: How many requests, or None for all until `clear`.
            when: ``"after"`` carries the request out first and then waits.
        """
        self._add(Fault(FaultKind.DELAY, _endpoint(endpoint), times, when, seconds=seconds))

    def close(
        self,
        endpoint: Endpoint | str | None,
        *,
        times: int | None = 1,
        when: When = "before",
        reset: bool = False,
    ) -> None:
        """Close the connection instead of answering.

        Args:
            endpoint: The endpoint, or None for every one.
            times: How many requests, or None for all until `clear`.
            when: ``"after"`` carries the request out before it closes: a job is created.
            reset: Send a reset (RST) instead of an orderly end (FIN).
        """
        kind = FaultKind.RESET if reset else FaultKind.CLOSE
        self._add(Fault(kind, _endpoint(endpoint), times, when))

    def truncate(
        self, endpoint: Endpoint | str | None, *, times: int | None = 1, announced: bool = True
    ) -> None:
        """Send half of the body and close the connection.

        Args:
            endpoint: The endpoint, or None for every one.
            times: How many requests, or None for all until `clear`.
            announced: Whether the full length stands in the header, so that the loss shows.
        """
        kind = FaultKind.TRUNCATE if announced else FaultKind.CUT
        self._add(Fault(kind, _endpoint(endpoint), times, "after"))

    def malform(self, endpoint: Endpoint | str | None, *, times: int | None = 1) -> None:
        """Answer 200 with a page of HTML instead of the body, as a gateway may."""
        self._add(Fault(FaultKind.MALFORM, _endpoint(endpoint), times, "after"))

    def empty(self, endpoint: Endpoint | str | None, *, times: int | None = 1) -> None:
        """Answer 200 with an empty body."""
        self._add(Fault(FaultKind.EMPTY, _endpoint(endpoint), times, "after"))

    def show_state(self, state: str, *, times: int | None = 1) -> None:
        """Show the next requests for a job this state, which may be one that nobody knows."""
        self._add(Fault(FaultKind.STATE, Endpoint.JOB, times, "after", text=state))

    def end_jobs(
        self,
        state: JobState | str,
        *,
        times: int = 1,
        reason: str | None = None,
        code: int | None = None,
    ) -> None:
        """Let the next submitted jobs end so, without running them.

        Args:
            state: ``"Failed"``, ``"Cancelled"``, or a state that nobody knows, which then stays.
            times: How many jobs.
            reason: Why, in words; a failed job has one by default.
            code: Why, as the service's number; a failed job has one by default.
        """
        if state == JobState.FAILED:
            code = 1000 if code is None else code
            reason = reason or "An injected failure."
        with self._lock:
            self._job_ends += [JobEnd(state, reason, code)] * times

    def stop_jobs(self, *, times: int = 1) -> None:
        """Let the next submitted jobs be stopped because they ran too long (code 1305)."""
        self.end_jobs(JobState.CANCELLED, times=times, reason="Ran too long", code=RAN_TOO_LONG)

    def hide_new_jobs(self, seconds: float) -> None:
        """Keep jobs out of the search until they are this old; by their id they are found."""
        with self._lock:
            self._visibility_delay = seconds

    def clear(self) -> None:
        """Take all faults back."""
        with self._lock:
            self._faults.clear()
            self._job_ends.clear()
            self._visibility_delay = 0.0

    @property
    def pending(self) -> Sequence[Fault]:
        """The faults that wait for requests, in the order in which they strike."""
        with self._lock:
            return tuple(self._faults)

    @property
    def visibility_delay(self) -> float:
        """How old a job must be to be found by the search, in seconds."""
        return self._visibility_delay

    def next_job_end(self) -> JobEnd | None:
        """Take the end that was planned for the next job, or None."""
        with self._lock:
            return self._job_ends.pop(0) if self._job_ends else None

    def strike(self, endpoint: Endpoint) -> list[Fault]:
        """Take the faults that the next request of an endpoint meets: delays and one other."""
        struck: list[Fault] = []
        with self._lock:
            for fault in list(self._faults):
                if fault.endpoint not in (None, endpoint):
                    continue
                if fault.kind is not FaultKind.DELAY and _has_answer_fault(struck):
                    continue
                struck.append(fault)
                self._use_up(fault)
        return struck

    def _add(self, fault: Fault) -> None:
        if fault.times is not None and fault.times < 1:
            raise ConfigurationError(f"A fault cannot strike {fault.times} times.")
        with self._lock:
            self._faults.append(fault)

    def _use_up(self, fault: Fault) -> None:
        if fault.times is None:
            return
        # Equal faults may stand in the list more than once, so the very object is looked for.
        index = next(i for i, other in enumerate(self._faults) if other is fault)
        if fault.times == 1:
            del self._faults[index]
        else:
            self._faults[index] = replace(fault, times=fault.times - 1)


_CODES = {400: 1003, 401: 1200, 403: 1201, 404: 3250, 429: 1202, 503: 1999}


def _has_answer_fault(faults: list[Fault]) -> bool:
    return any(fault.kind is not FaultKind.DELAY for fault in faults)


def _endpoint(name: Endpoint | str | None) -> Endpoint | None:
    if name is None:
        return None
    try:
        return Endpoint(name)
    except ValueError:
        known = ", ".join(endpoint.value for endpoint in Endpoint)
        raise ConfigurationError(f"No endpoint is called {name!r}; they are {known}.") from None
