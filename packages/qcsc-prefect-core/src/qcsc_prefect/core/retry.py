"""Whether the same call may succeed later, answered from facts that an error carries.

The answer is one of four: retry, do not, look first, unknown. It comes from HTTP
statuses, codes of the service, exception types named by module, and what the error says of
itself; from the error or from whatever stands behind it. Messages are never searched.

A package for one vendor's client adds what it knows of that client to :data:`COMMON_RULES`::

    RULES = COMMON_RULES.extended(
        types={"acme.errors.JobLost": RetryAnswer.DO_NOT},
        service_codes={7: RetryAnswer.RETRY},
    )
    advice = advise_retry(error, RULES)
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from qcsc_prefect.core.error_facts import (
    ErrorFacts,
    error_type_names,
    group_members,
    is_error,
    iter_error_chain,
    read_attribute,
    read_error_facts,
    retry_after_seconds,
)
from qcsc_prefect.core.errors import SubmissionUncertainError
from qcsc_prefect.core.retry_names import (
    check_answers,
    check_keys,
    check_readers,
    check_type_names,
)

__all__ = [
    "COMMON_RULES",
    "ErrorFacts",
    "FactReader",
    "RetryAdvice",
    "RetryAnswer",
    "RetryRules",
    "advise_retry",
    "error_type_names",
    "iter_error_chain",
    "read_error_facts",
    "retry_after_seconds",
]

_log = logging.getLogger(__name__)

#: Reads, from an error of a known type, facts that stand in no usual attribute.
FactReader = Callable[[BaseException], ErrorFacts]


class RetryAnswer(Enum):
    """Whether the same call may succeed later.

    ``LOOK_FIRST`` is the answer to a submission that may have made a job: whoever sends it again
    without looking for that job may pay twice.

    In a table of rules ``UNKNOWN`` means that the type says nothing and what stands behind the
    error decides.
    """

    RETRY = "retry"
    DO_NOT = "do not retry"
    LOOK_FIRST = "look first"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RetryAdvice:
    """The answer for one error, and the facts it rests on.

    Attributes:
        answer: Retry, do not, look first, or unknown.
        because: The fact that decided, for a log or a message: ``HTTP status 503``.
        status: HTTP status found on the error or behind it.
        service_code: The service's code found there.
        retry_after: Seconds that the service asked to wait, found there.
        decided_by: The error that carried the deciding fact; None where none decided. It may
            hold a request with its credentials: never store or log it whole.
    """

    answer: RetryAnswer
    because: str
    status: int | None = None
    service_code: int | str | None = None
    retry_after: float | None = None
    decided_by: BaseException | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class RetryRules:
    """A table of what types, statuses and codes mean.

    Attributes:
        types: Answer for an exception type by ``module.qualified_name``. The nearest base that
            has a rule counts.
        last_resort_types: The same, asked only where nothing in the whole chain decides: for
            wrappers whose cause knows better, if they have one.
        statuses: Answer for an HTTP status.
        status_classes: Answer for a hundred of HTTP statuses, asked where `statuses` is silent.
        service_codes: Answer for a code of the service. A code is more specific than the status
            it comes with, and decides before it.
        errnos: Answer for the ``errno`` of an OSError.
        readers: Readers of further facts, by the type that they can read.
    """

    types: Mapping[str, RetryAnswer] = field(default_factory=dict)
    last_resort_types: Mapping[str, RetryAnswer] = field(default_factory=dict)
    statuses: Mapping[int, RetryAnswer] = field(default_factory=dict)
    status_classes: Mapping[int, RetryAnswer] = field(default_factory=dict)
    service_codes: Mapping[int | str, RetryAnswer] = field(default_factory=dict)
    errnos: Mapping[int, RetryAnswer] = field(default_factory=dict)
    readers: Mapping[str, FactReader] = field(default_factory=dict)

    def extended(
        self,
        *,
        types: Mapping[str, RetryAnswer] | None = None,
        last_resort_types: Mapping[str, RetryAnswer] | None = None,
        statuses: Mapping[int, RetryAnswer] | None = None,
        service_codes: Mapping[int | str, RetryAnswer] | None = None,
        readers: Mapping[str, FactReader] | None = None,
    ) -> RetryRules:
        """Return these rules with others added; where both speak, the added ones count.

        Args:
            types: Further answers for exception types.
            last_resort_types: Further answers for types that are asked last.
            statuses: Further answers for HTTP statuses.
            service_codes: Further answers for codes of the service.
            readers: Further readers of facts.

        Returns:
            New rules; these ones stay as they are.

        Raises:
            ConfigurationError: If a value is no answer or no reader, or a status, a code or a name
                can never match: it is no ``module.qualified_name``, or stands for something else
                than an exception type, or for a type that calls itself otherwise. A name whose
                module is not imported yet is taken on trust.

        Example:
            >>> rules = COMMON_RULES.extended(statuses={418: RetryAnswer.RETRY})
            >>> rules.statuses[418]
            <RetryAnswer.RETRY: 'retry'>
        """
        for where, added in (
            ("types", types),
            ("last_resort_types", last_resort_types),
            ("statuses", statuses),
            ("service_codes", service_codes),
        ):
            check_answers(added or {}, RetryAnswer, where)
        check_keys(statuses or {}, service_codes or {})
        check_readers(readers or {})
        for where, names in (
            ("types", types),
            ("last_resort_types", last_resort_types),
            ("readers", readers),
        ):
            check_type_names(names or {}, where)
        return RetryRules(
            types=MappingProxyType({**self.types, **(types or {})}),
            last_resort_types=MappingProxyType(
                {**self.last_resort_types, **(last_resort_types or {})}
            ),
            statuses=MappingProxyType({**self.statuses, **(statuses or {})}),
            status_classes=self.status_classes,
            service_codes=MappingProxyType({**self.service_codes, **(service_codes or {})}),
            errnos=self.errnos,
            readers=MappingProxyType({**self.readers, **(readers or {})}),
        )

    def facts(self, error: BaseException) -> ErrorFacts:
        """Read what one error states, by the usual attributes and by the readers.

        Args:
            error: The error; those behind it are not asked.

        Returns:
            The facts; all None where the error states nothing.
        """
        facts = read_error_facts(error)
        for name in error_type_names(error):
            if reader := self.readers.get(name):
                try:
                    facts = facts.completed_by(reader(error))
                except Exception as failure:  # noqa: BLE001 - an error that cannot be read still needs an answer
                    _log.warning("the reader of %s failed: %s", name, type(failure).__name__)
        return facts


#: What holds for any client on any service: the network errors of the standard library, HTTP
#: statuses by RFC 9110 and their widespread extensions, and the errors that mean a mistake in
#: the program or its end.
COMMON_RULES = RetryRules(
    types=MappingProxyType(
        {
            # The network, or the other side, let go.
            "builtins.ConnectionError": RetryAnswer.RETRY,
            "builtins.TimeoutError": RetryAnswer.RETRY,
            "socket.gaierror": RetryAnswer.RETRY,
            "http.client.HTTPException": RetryAnswer.RETRY,
            "ssl.SSLError": RetryAnswer.RETRY,
            # Not the network: a certificate or a URL does not mend itself.
            "ssl.SSLCertVerificationError": RetryAnswer.DO_NOT,
            "http.client.InvalidURL": RetryAnswer.DO_NOT,
            # An answer that is empty, cut, or the page of a gateway instead.
            "json.decoder.JSONDecodeError": RetryAnswer.RETRY,
            "httpx.TransportError": RetryAnswer.RETRY,
            "httpx.DecodingError": RetryAnswer.RETRY,
            # A refused connection passes, a refused certificate does not: what is behind knows.
            "httpx.ConnectError": RetryAnswer.UNKNOWN,
            "httpx.UnsupportedProtocol": RetryAnswer.DO_NOT,
            "httpx.LocalProtocolError": RetryAnswer.DO_NOT,
            "httpx.TooManyRedirects": RetryAnswer.DO_NOT,
            "httpx.InvalidURL": RetryAnswer.DO_NOT,
            # A mistake in the program is the same mistake in ten minutes.
            "builtins.ArithmeticError": RetryAnswer.DO_NOT,
            "builtins.AssertionError": RetryAnswer.DO_NOT,
            "builtins.AttributeError": RetryAnswer.DO_NOT,
            "builtins.ImportError": RetryAnswer.DO_NOT,
            "builtins.LookupError": RetryAnswer.DO_NOT,
            "builtins.NameError": RetryAnswer.DO_NOT,
            "builtins.NotImplementedError": RetryAnswer.DO_NOT,
            "builtins.RecursionError": RetryAnswer.DO_NOT,
            "builtins.SyntaxError": RetryAnswer.DO_NOT,
            "builtins.TypeError": RetryAnswer.DO_NOT,
            # Somebody wants this to end.
            "asyncio.exceptions.CancelledError": RetryAnswer.DO_NOT,
            "concurrent.futures._base.CancelledError": RetryAnswer.DO_NOT,
            "builtins.GeneratorExit": RetryAnswer.DO_NOT,
            "builtins.KeyboardInterrupt": RetryAnswer.DO_NOT,
            "builtins.SystemExit": RetryAnswer.DO_NOT,
        }
    ),
    last_resort_types=MappingProxyType({"httpx.ConnectError": RetryAnswer.RETRY}),
    statuses=MappingProxyType(
        {
            408: RetryAnswer.RETRY,  # the server gave up waiting for the request
            425: RetryAnswer.RETRY,
            429: RetryAnswer.RETRY,
            501: RetryAnswer.DO_NOT,  # not implemented
            505: RetryAnswer.DO_NOT,  # HTTP version not supported
        }
    ),
    status_classes=MappingProxyType({4: RetryAnswer.DO_NOT, 5: RetryAnswer.RETRY}),
    errnos=MappingProxyType(
        dict.fromkeys((errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH), RetryAnswer.RETRY)
    ),
)


def advise_retry(error: object, rules: RetryRules = COMMON_RULES) -> RetryAdvice:
    """Answer whether the same call may succeed later.

    The error is asked first, then what stands behind it, nearest first. At each of them count,
    in this order: its own ``retryable``; a rule for its type; the service's code that belongs
    to its status; the status; the ``errno``. The first that decides ends the search. For a
    group of errors all members must be worth a retry, and one that is not is enough to refuse.

    It never raises, whatever it is handed: what cannot be read is no fact.

    Before all this: where a `SubmissionUncertainError` stands anywhere, behind the error or in a
    group, the answer is ``LOOK_FIRST``, whatever else it and the others say.

    Args:
        error: Any exception, or what Prefect holds as ``state.data``: also a record of a result
            that is an exception. For anything else the answer is ``UNKNOWN``.
        rules: What types, statuses and codes mean.

    Returns:
        The answer and the facts. Where nothing decides the answer is ``UNKNOWN``, and the
        caller chooses by what a needless or a missing retry would cost.

    Example:
        >>> from qcsc_prefect.core.errors import JobError
        >>> advise_retry(JobError("no answer", status=503)).because
        'HTTP status 503'
        >>> advise_retry(ValueError("no 503 here")).answer
        <RetryAnswer.UNKNOWN: 'unknown'>
    """
    # Prefect's record of a result holds it under this name; core does not know Prefect.
    held = error if is_error(error) else read_attribute(error, "result")
    if not is_error(held):
        return RetryAdvice(RetryAnswer.UNKNOWN, f"no error: {type(error).__name__}")
    for uncertain in iter_error_chain(held, with_members=True):
        if is_error(uncertain, SubmissionUncertainError):
            because = f"{_name(uncertain)}: look for the job before sending it again"
            return _advice(RetryAnswer.LOOK_FIRST, because, [rules.facts(uncertain)], uncertain)
    try:
        return _advise(held, rules)
    except Exception as failure:  # noqa: BLE001 - whoever asks has an error at hand, and needs an answer
        # An attribute that fails when it is compared.
        name = type(failure).__name__
        _log.warning("no advice on a %s: reading it failed (%s)", type(held).__name__, name)
        return RetryAdvice(RetryAnswer.UNKNOWN, f"the error could not be read ({name})")


def _advise(error: BaseException, rules: RetryRules) -> RetryAdvice:
    # Groups may be nested deeper than calls can be: whoever asks about a member waits in a list.
    of_groups: dict[int, RetryAdvice | None] = {}
    asking = [_advice_on(error, rules, of_groups)]
    advice: RetryAdvice | None = None
    while True:
        try:
            member = asking[-1].send(advice)
        except StopIteration as end:
            answer: RetryAdvice = end.value
            asking.pop()
            if not asking:
                return answer
            advice = answer
        else:
            asking.append(_advice_on(member, rules, of_groups))
            advice = None


def _advice_on(
    error: BaseException, rules: RetryRules, of_groups: dict[int, RetryAdvice | None]
) -> Generator[BaseException, RetryAdvice | None, RetryAdvice]:
    """Return the advice on an error; yields members of groups, and is sent the advice on each.

    `of_groups` has the advice on groups by their ids; None for one whose members are being asked.
    """
    chain = list(iter_error_chain(error))
    facts = [rules.facts(link) for link in chain]
    for position, link in enumerate(chain):
        if id(link) not in of_groups:
            of_groups[id(link)] = None
            members = []
            for member in group_members(link):
                members.append((yield member))  # noqa: PERF401 - a comprehension cannot yield
            of_groups[id(link)] = _advice_on_group(members)
        advice = of_groups[id(link)]
        if advice is not None and advice.answer is not RetryAnswer.UNKNOWN:
            return advice
        answer, because = _decide(link, facts[position:], rules)
        if answer is not RetryAnswer.UNKNOWN:
            return _advice(answer, because, facts, link)
    for link in chain:
        answer, name = _rule_for_type(link, rules.last_resort_types)
        if answer is not RetryAnswer.UNKNOWN:
            return _advice(answer, f"{name} without a cause that says more", facts, link)
    return _advice(RetryAnswer.UNKNOWN, f"nothing known about {_name(error)}", facts, None)


def _advice_on_group(members: Sequence[RetryAdvice | None]) -> RetryAdvice | None:
    told = [advice for advice in members if advice is not None]
    for answer in (RetryAnswer.DO_NOT, RetryAnswer.UNKNOWN):
        for advice in told:
            if advice.answer is answer:
                return advice
    # All are worth a retry: the one with the longest pause speaks for the group.
    return max(told, key=lambda advice: advice.retry_after or 0.0, default=None)


def _decide(
    link: BaseException, facts: list[ErrorFacts], rules: RetryRules
) -> tuple[RetryAnswer, str]:
    """Return what one link of the chain decides; `facts` are its own and those behind it."""
    own = facts[0]
    if own.retryable is not None:
        answer = RetryAnswer.RETRY if own.retryable else RetryAnswer.DO_NOT
        return answer, f"{_name(link)} says so"
    answer, name = _rule_for_type(link, rules.types)
    if answer is not RetryAnswer.UNKNOWN:
        return answer, name
    code = _code_of_answer(facts)
    if code is not None and code in rules.service_codes:
        return rules.service_codes[code], f"service code {code}"
    if own.status is not None:
        answer = _rule_for_status(own.status, rules)
        if answer is not RetryAnswer.UNKNOWN:
            return answer, f"HTTP status {own.status}"
    number = read_attribute(link, "errno") if is_error(link, OSError) else None
    if isinstance(number, int) and number in rules.errnos:
        return rules.errnos[number], errno.errorcode[number]
    return RetryAnswer.UNKNOWN, ""


def _code_of_answer(facts: list[ErrorFacts]) -> int | str | None:
    """Return the service's code that belongs to the first link's own code or status.

    Wrappers copy the status of the answer and drop its body, so the code may stand further
    back. It belongs to this answer as long as no other status comes between.
    """
    own = facts[0]
    if own.service_code is not None or own.status is None:
        return own.service_code
    for behind in facts[1:]:
        if behind.status not in {None, own.status}:
            return None
        if behind.service_code is not None:
            return behind.service_code
    return None


def _rule_for_type(
    error: BaseException, rules: Mapping[str, RetryAnswer]
) -> tuple[RetryAnswer, str]:
    for name in error_type_names(error):
        if name in rules:
            return rules[name], name
    return RetryAnswer.UNKNOWN, ""


def _rule_for_status(status: int, rules: RetryRules) -> RetryAnswer:
    of_class = rules.status_classes.get(status // 100, RetryAnswer.UNKNOWN)
    return rules.statuses.get(status, of_class)


def _advice(
    answer: RetryAnswer,
    because: str,
    facts: list[ErrorFacts],
    decided_by: BaseException | None,
) -> RetryAdvice:
    known = ErrorFacts()
    for each in facts:
        known = known.completed_by(each)
    return RetryAdvice(
        answer=answer,
        because=because,
        status=known.status,
        service_code=known.service_code,
        retry_after=known.retry_after,
        decided_by=decided_by,
    )


def _name(error: BaseException) -> str:
    return error_type_names(error)[0]
