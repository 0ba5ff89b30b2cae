"""The faults that can be injected into the emulated service."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit.testing.exchange import NO_CODE, Endpoint, endpoint_named
from qcsc_prefect.integrations.qiskit.testing.jobs import (
    INTERNAL_ERROR,
    RAN_TOO_LONG,
    JobEnd,
    JobState,
)

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.testing.exchange import JSONValue

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
    BODY = "body"
    """The body is another JSON text."""
    STATE = "state"
    """The job is shown in another state."""


_CODES = {400: 1003, 401: 1200, 403: 1201, 404: 3250, 429: 1202, 503: 1999}
_SERVER_ERRORS = 500


def _code_for(status: int) -> int:
    """Return the service's code that fits a status; 0 where none is known."""
    return _CODES.get(status, INTERNAL_ERROR if status >= _SERVER_ERRORS else NO_CODE)


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
        text: The message in the body, the state of kind `FaultKind.STATE`, or the whole body of
            kind `FaultKind.BODY`.
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

    def __post_init__(self) -> None:
        if self.times is not None and self.times < 1:
            raise ConfigurationError(f"A fault cannot strike {self.times} times.")


@dataclass(frozen=True)
class RateLimit:
    """How many requests of one endpoint are let through.

    Attributes:
        endpoint: The endpoint.
        requests: How many requests are let through within the length of time.
        seconds: The length of time, in seconds.
        announced: Whether the refusal says with ``Retry-After`` when to come back.
    """

    endpoint: Endpoint
    requests: int
    seconds: float
    announced: bool = True

    def __post_init__(self) -> None:
        if self.requests < 1 or self.seconds <= 0:
            raise ConfigurationError(
                f"{self.requests} requests in {self.seconds} s lets nothing through."
            )

    def refusal(self, retry_after: float) -> Fault:
        """Return what a request too many is answered with.

        Args:
            retry_after: Seconds until the next request is let through.
        """
        return Fault(
            FaultKind.STATUS,
            self.endpoint,
            status=429,
            # The header holds whole seconds, and none may come back too early.
            retry_after=math.ceil(retry_after) if self.announced else None,
            code=_CODES[429],
            text=f"At most {self.requests} requests in {self.seconds:g} s are allowed.",
        )


def status_fault(
    endpoint: Endpoint | None,
    status: int,
    *,
    when: When = "before",
    retry_after: float | None = None,
) -> Fault:
    """Return the fault that answers one request with a status, and the code that fits it.

    Args:
        endpoint: The endpoint it strikes, or None for every one.
        status: The status.
        when: Whether the request is carried out first.
        retry_after: Seconds for the header ``Retry-After``, or None to leave it out.
    """
    return Fault(
        FaultKind.STATUS,
        endpoint,
        when=when,
        status=status,
        retry_after=retry_after,
        code=_code_for(status),
        text="An injected fault.",
    )


class FaultInjector(ABC):
    """The verbs that break an emulated service, from its own process or from another one.

    Faults of one endpoint strike in the order in which they were injected, one for each request;
    delays are added to them. ``times=None`` lets a fault strike until `clear` is called.
    """

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
        fault = status_fault(_endpoint(endpoint), status, when=when, retry_after=retry_after)
        code = fault.code if code is None else code
        self.inject(replace(fault, times=times, code=code, text=message))

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
        self.inject(Fault(FaultKind.DELAY, _endpoint(endpoint), times, when, seconds=seconds))

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
        self.inject(Fault(kind, _endpoint(endpoint), times, when))

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
        self.inject(Fault(kind, _endpoint(endpoint), times, "after"))

    def malform(self, endpoint: Endpoint | str | None, *, times: int | None = 1) -> None:
        """Answer 200 with a page of HTML instead of the body, as a gateway may."""
        self.inject(Fault(FaultKind.MALFORM, _endpoint(endpoint), times, "after"))

    def empty(self, endpoint: Endpoint | str | None, *, times: int | None = 1) -> None:
        """Answer 200 with an empty body."""
        self.inject(Fault(FaultKind.EMPTY, _endpoint(endpoint), times, "after"))

    def replace_body(
        self, endpoint: Endpoint | str | None, body: JSONValue, *, times: int | None = 1
    ) -> None:
        """Answer 200 with another body, JSON of a shape that the client need not expect.

        Args:
            endpoint: The endpoint, or None for every one.
            body: What the body says.
            times: How many requests, or None for all until `clear`.
        """
        text = json.dumps(body)
        self.inject(Fault(FaultKind.BODY, _endpoint(endpoint), times, "after", text=text))

    def show_state(self, state: str, *, times: int | None = 1) -> None:
        """Show the next requests for a job this state, which may be one that nobody knows."""
        self.inject(Fault(FaultKind.STATE, Endpoint.JOB, times, "after", text=state))

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
            code = INTERNAL_ERROR if code is None else code
            reason = reason or "An injected failure."
        self.plan_ends([JobEnd(state, reason, code)] * times)

    def stop_jobs(self, *, times: int = 1) -> None:
        """Let the next submitted jobs be stopped because they ran too long (code 1305)."""
        self.end_jobs(JobState.CANCELLED, times=times, reason="Ran too long", code=RAN_TOO_LONG)

    def limit_rate(
        self,
        endpoint: Endpoint | str,
        *,
        requests: int,
        seconds: float = 60.0,
        announced: bool = True,
    ) -> None:
        """Answer 429 to every request of an endpoint beyond so many in a length of time.

        Args:
            endpoint: The endpoint, mostly ``"submit"``.
            requests: How many requests are let through.
            seconds: The length of time, which moves along.
            announced: Whether the refusal says with ``Retry-After`` when to come back.
        """
        self.inject_limit(RateLimit(endpoint_named(endpoint), requests, seconds, announced))

    @abstractmethod
    def hide_new_jobs(self, seconds: float) -> None:
        """Keep jobs out of the search until they are this old; by their id they are found."""

    @abstractmethod
    def clear(self) -> None:
        """Take all faults back, and let go of the requests that a delay holds back."""

    @abstractmethod
    def inject(self, fault: Fault) -> None:
        """Let a fault wait for its requests."""

    @abstractmethod
    def inject_limit(self, limit: RateLimit) -> None:
        """Let a limit hold until `clear`."""

    @abstractmethod
    def plan_ends(self, ends: list[JobEnd]) -> None:
        """Let the next jobs end so, one after the other."""


def _endpoint(name: Endpoint | str | None) -> Endpoint | None:
    return None if name is None else endpoint_named(name)
