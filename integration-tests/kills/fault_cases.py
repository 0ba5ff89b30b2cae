"""Which faults strike which requests, and what may come of each.

A case is a way to the service, a situation that the program is in, an endpoint, a fault, and how
often it strikes. The long form takes every case that can be reached; the short one takes a part in
which each endpoint, and on each way each kind of fault, occurs at least once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from qcsc_prefect.core.retry import RetryAnswer
from qcsc_prefect.integrations.qiskit.testing import Endpoint, FaultInjector

__all__ = ["CHANGING", "FAULTS", "HANGS", "NEVER_ASKED", "Case", "all_cases", "short_cases"]

#: Seconds of a fault that no part of the program waits for; taking it back ends it.
HANGS = 3600.0

Inject = Callable[[FaultInjector, Endpoint | None, int | None], None]
Way = Literal["direct", "proxied"]


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        inject: Lets it strike an endpoint so many times.
        passes: Whether trying again later helps.
        status: The status that the client gets to see, where it gets to see one.
        after: Whether the request is carried out first, which matters where it changes something.
    """

    inject: Inject
    passes: bool = True
    status: int | None = None
    after: bool = False


def _answers(status: int, *, passes: bool = True, retry_after: float | None = None) -> Fault:
    def inject(faults: FaultInjector, endpoint: Endpoint | None, times: int | None) -> None:
        faults.answer(endpoint, status=status, times=times, retry_after=retry_after)

    return Fault(inject, passes=passes, status=status)


FAULTS: dict[str, Fault] = {
    # Somebody has to do something about these.
    "400": _answers(400, passes=False),
    "401": _answers(401, passes=False),
    "403": _answers(403, passes=False),
    "404": _answers(404, passes=False),
    "409": _answers(409, passes=False),
    # These pass.
    "429": _answers(429),
    "429 with Retry-After": _answers(429, retry_after=1),
    "500": _answers(500),
    "502": _answers(502),
    "503": _answers(503),
    "504": _answers(504),
    "520": _answers(520),
    "524": _answers(524),
    "closed": Fault(lambda f, e, n: f.close(e, times=n)),
    "reset": Fault(lambda f, e, n: f.close(e, times=n, reset=True)),
    "truncated": Fault(lambda f, e, n: f.truncate(e, times=n), after=True),
    "cut": Fault(lambda f, e, n: f.truncate(e, times=n, announced=False), after=True),
    "malformed": Fault(lambda f, e, n: f.malform(e, times=n), after=True),
    "empty": Fault(lambda f, e, n: f.empty(e, times=n), after=True),
    "null": Fault(lambda f, e, n: f.replace_body(e, None, times=n), after=True),
    "delayed": Fault(lambda f, e, n: f.delay(0.3, e, times=n)),
    "hangs": Fault(lambda f, e, n: f.delay(HANGS, e, times=n, when="after"), after=True),
    # The request is carried out, and its answer is another one.
    "504 after": Fault(
        lambda f, e, n: f.answer(e, status=504, times=n, when="after"), status=504, after=True
    ),
    "closed after": Fault(lambda f, e, n: f.close(e, times=n, when="after"), after=True),
    "reset after": Fault(lambda f, e, n: f.close(e, times=n, when="after", reset=True), after=True),
}
#: To a request that changes nothing they are what their namesakes are.
_ONLY_WHERE_SOMETHING_CHANGES = ("504 after", "closed after", "reset after")
CHANGING = frozenset({Endpoint.SUBMIT, Endpoint.CANCEL, Endpoint.SESSION})

Situation = Literal[
    "plain",
    "waiting",
    "renewing",
    "beaten",
    "replaced",
    "cancelling",
    "session",
    "ending session",
]
"""What the program is doing when the fault strikes.

``plain``: it begins, to submit and to fetch. ``waiting``: it has submitted and begins to fetch.
``renewing``: the same, and its access token has just been revoked.
``beaten``: another machine has just submitted the same, so that its own job is cancelled.
``replaced``: the other machine cancels the job in the queue while it is waited for; so it has to
find the one that is kept. ``cancelling``: its wait is cancelled, and the job with it. ``session``:
it opens a session. ``ending session``: it closes one.
"""

_READ = (
    Endpoint.TOKEN,
    Endpoint.BACKENDS,
    Endpoint.CONFIGURATION,
    Endpoint.PROPERTIES,
    Endpoint.USAGE,
    Endpoint.STATUS,
    Endpoint.SEARCH,
    Endpoint.JOB,
    Endpoint.RESULT,
    Endpoint.METRICS,
)
_DIRECT: tuple[tuple[Situation, Endpoint | None], ...] = (
    *(("plain", endpoint) for endpoint in (*_READ, Endpoint.SUBMIT, None)),
    ("waiting", None),
    ("renewing", Endpoint.TOKEN),
    ("beaten", Endpoint.CANCEL),
    ("replaced", Endpoint.SEARCH),
    ("cancelling", Endpoint.CANCEL),
    ("session", Endpoint.SESSION),
    ("ending session", Endpoint.SESSION),
)
#: The client finds its instances by itself only where nothing tells it not to.
_PROXIED = (*_DIRECT, ("plain", Endpoint.INSTANCES), ("plain", Endpoint.PLAN))
_SITUATIONS: dict[Way, tuple[tuple[Situation, Endpoint | None], ...]] = {
    "direct": _DIRECT,
    "proxied": _PROXIED,
}
#: No task of this project asks these, so nothing can go wrong with them.
NEVER_ASKED = (Endpoint.LOGS, Endpoint.TAGS, Endpoint.DELETE, Endpoint.UNKNOWN)


#: Of faults that strike whatever is asked, so many strike.
_SEVERAL = 3


@dataclass(frozen=True)
class Case:
    """One fault in one situation.

    Attributes:
        way: How the client reaches the service.
        situation: What the program does.
        endpoint: Which requests the fault strikes; None for all of them.
        name: The fault, one of `FAULTS`.
        times: How many requests it strikes; None for all until it is taken back.
    """

    way: Way
    situation: Situation
    endpoint: Endpoint | None
    name: str
    times: int | None

    @property
    def fault(self) -> Fault:
        """The fault itself."""
        return FAULTS[self.name]

    @property
    def id(self) -> str:
        """The case in words."""
        endpoint = self.endpoint or "everything"
        often = "without end" if self.times is None else str(self.times)
        return f"{self.way}-{self.situation}-{endpoint}-{self.name}-{often}"

    @property
    def must_succeed(self) -> bool:
        """Whether the flow must not notice the fault: no bad answer that passes ends one."""
        if self.name == "delayed" or self.is_waited_out:
            return True
        if self.endpoint in _COURTESIES or self.situation in _WITHOUT_EFFECT:
            return True
        if self.times is None:
            return False
        if self.fault.passes:
            return True
        # An access token may be refused that was good a minute ago; an API key may not.
        return self.name == "401" and self.endpoint not in {*_WHILE_SIGNING_IN, None}

    @property
    def is_waited_out(self) -> bool:
        """Whether the service says, as long as the fault lasts, that it takes no more jobs now."""
        return self.endpoint is Endpoint.SUBMIT and self.fault.status == _TOO_MANY_REQUESTS

    @property
    def may_be_uncertain(self) -> bool:
        """Whether nobody need know after the fault if there is a job."""
        return self.endpoint in (None, Endpoint.SUBMIT) and self.fault.passes

    @property
    def may_outlast_the_wait(self) -> bool:
        """Whether a wait with a limit may end with nothing but that the limit is over."""
        # A job that was just submitted need not be shown yet.
        unseen = self.name == "404" and self.endpoint in (None, Endpoint.JOB)
        return self.times is None and (self.fault.passes or unseen)

    @property
    def may_lose_the_kept_job(self) -> bool:
        """Whether it need not be found out which job another machine kept."""
        return self.situation == "replaced" and not self.must_succeed

    @property
    def answer(self) -> RetryAnswer:
        """Whether to try again, as an error must say."""
        return RetryAnswer.RETRY if self.fault.passes else RetryAnswer.DO_NOT

    @property
    def is_named(self) -> bool:
        """Whether an error must hold the status that the service answered with."""
        return self.answer is RetryAnswer.DO_NOT


_TOO_MANY_REQUESTS = 429
#: What a result does not depend on.
_COURTESIES = frozenset({Endpoint.METRICS})
_WITHOUT_EFFECT = frozenset({"beaten", "ending session"})
#: What is asked when a service object is made, with the API key.
_WHILE_SIGNING_IN = frozenset({Endpoint.TOKEN, Endpoint.INSTANCES, Endpoint.PLAN})


def all_cases() -> Iterator[Case]:
    """Yield every case that can be reached."""
    for way, situations in _SITUATIONS.items():
        for (situation, endpoint), name in itertools.product(situations, FAULTS):
            changes = endpoint is None or endpoint in CHANGING
            if name in _ONLY_WHERE_SOMETHING_CHANGES and not changes:
                continue
            yield Case(way, situation, endpoint, name, 1 if endpoint else _SEVERAL)
            yield Case(way, situation, endpoint, name, None)


def short_cases() -> Iterator[Case]:
    """Yield a part of them: each fault on each way, and each endpoint in each situation."""
    for way, chosen in _SHORT.items():
        for name, situation, endpoint, times in chosen:
            yield Case(way, situation, endpoint, name, times)


_SHORT: dict[Way, tuple[tuple[str, Situation, Endpoint | None, int | None], ...]] = {
    "direct": (
        ("400", "plain", Endpoint.STATUS, 1),
        ("401", "plain", Endpoint.SEARCH, 1),
        ("403", "plain", Endpoint.BACKENDS, 1),
        ("403", "plain", Endpoint.SUBMIT, 1),
        ("404", "plain", Endpoint.RESULT, 1),
        ("409", "cancelling", Endpoint.CANCEL, 1),
        ("429", "plain", Endpoint.JOB, 1),
        ("429 with Retry-After", "plain", Endpoint.SUBMIT, 1),
        ("500", "plain", Endpoint.CONFIGURATION, 1),
        ("502", "plain", Endpoint.PROPERTIES, 1),
        ("503", "plain", Endpoint.METRICS, None),
        ("504", "ending session", Endpoint.SESSION, 1),
        ("520", "plain", Endpoint.USAGE, 1),
        ("524", "session", Endpoint.SESSION, 1),
        ("closed", "plain", Endpoint.STATUS, 1),
        ("reset", "plain", Endpoint.PROPERTIES, 1),
        ("truncated", "plain", Endpoint.RESULT, 1),
        ("cut", "plain", Endpoint.JOB, 1),
        ("malformed", "plain", Endpoint.RESULT, None),
        ("malformed", "waiting", None, _SEVERAL),
        ("empty", "plain", Endpoint.SUBMIT, 1),
        ("null", "plain", Endpoint.USAGE, 1),
        ("delayed", "plain", Endpoint.TOKEN, 1),
        ("hangs", "plain", Endpoint.SEARCH, 1),
        ("504 after", "plain", Endpoint.SUBMIT, 1),
        ("closed after", "beaten", Endpoint.CANCEL, 1),
        ("502", "replaced", Endpoint.SEARCH, None),
        ("null", "session", Endpoint.SESSION, 1),
        ("reset after", "plain", Endpoint.SUBMIT, 1),
    ),
    "proxied": (
        ("400", "plain", Endpoint.TOKEN, 1),
        ("401", "plain", Endpoint.INSTANCES, 1),
        ("403", "plain", Endpoint.PLAN, 1),
        ("403", "plain", Endpoint.SEARCH, None),
        ("404", "plain", Endpoint.JOB, 1),
        ("409", "plain", Endpoint.USAGE, 1),
        ("429", "plain", Endpoint.SEARCH, 1),
        ("429 with Retry-After", "plain", Endpoint.RESULT, 1),
        ("500", "plain", Endpoint.BACKENDS, 1),
        ("502", "plain", Endpoint.SUBMIT, 1),
        ("503", "plain", Endpoint.INSTANCES, 1),
        ("504", "plain", Endpoint.STATUS, 1),
        ("520", "renewing", Endpoint.TOKEN, 1),
        ("524", "plain", Endpoint.JOB, 1),
        ("closed", "plain", Endpoint.SUBMIT, 1),
        ("reset", "session", Endpoint.SESSION, 1),
        ("truncated", "plain", Endpoint.METRICS, 1),
        ("cut", "plain", Endpoint.SUBMIT, 1),
        ("malformed", "plain", Endpoint.CONFIGURATION, 1),
        ("empty", "plain", Endpoint.PLAN, 1),
        ("null", "plain", Endpoint.SEARCH, 1),
        ("delayed", "plain", None, _SEVERAL),
        ("hangs", "plain", Endpoint.STATUS, 1),
        ("504 after", "cancelling", Endpoint.CANCEL, 1),
        ("closed after", "plain", Endpoint.SUBMIT, 1),
        ("reset after", "beaten", Endpoint.CANCEL, 1),
        ("409", "replaced", Endpoint.SEARCH, None),
        ("malformed", "plain", Endpoint.INSTANCES, 1),
    ),
}
