"""What an error says about itself in typed form: status, code, type, and how long to wait.

Nothing here reads the words of a message. An error's text names job ids, URLs and whatever the
service felt like saying; a digit or a word that happens to stand there is not a fact.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeGuard, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "ErrorFacts",
    "Headers",
    "error_type_names",
    "group_members",
    "http_date",
    "is_error",
    "iter_error_chain",
    "read_attribute",
    "read_error_facts",
    "retry_after_seconds",
]

#: Attributes under which exceptions of HTTP clients carry the status of the answer.
_STATUS_ATTRIBUTES = ("status", "status_code", "http_status")
_LOWEST_STATUS, _HIGHEST_STATUS = 100, 599
# What the interpreter itself has set: a class may hide these behind attributes of its own.
_context: Callable[[BaseException], BaseException | None]
_context = vars(BaseException)["__context__"].__get__
_cause: Callable[[BaseException], BaseException | None]
_cause = vars(BaseException)["__cause__"].__get__
_members: Callable[[BaseException], tuple[BaseException, ...]]
_members = vars(BaseExceptionGroup)["exceptions"].__get__

_E = TypeVar("_E", bound=BaseException)
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)


@runtime_checkable
class Headers(Protocol):
    """Response headers of any HTTP client: whatever has a ``get`` that ignores case."""

    def get(self, key: str, /) -> object:
        """Return the value of a header, or None."""
        ...


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What one error, without its causes, states about itself.

    Attributes:
        retryable: The error's own answer to whether the same call may succeed later.
        status: HTTP status of the answer behind the error, 100 to 599.
        service_code: The service's own code of the error.
        retry_after: Seconds that the service asked to wait before the next try.
    """

    retryable: bool | None = None
    status: int | None = None
    service_code: int | str | None = None
    retry_after: float | None = None

    def completed_by(self, other: ErrorFacts) -> ErrorFacts:
        """Return these facts, with those that are missing taken from `other`.

        Args:
            other: The facts that fill the gaps.

        Returns:
            New facts; both given ones stay as they are.
        """
        return ErrorFacts(
            retryable=other.retryable if self.retryable is None else self.retryable,
            status=other.status if self.status is None else self.status,
            service_code=other.service_code if self.service_code is None else self.service_code,
            retry_after=other.retry_after if self.retry_after is None else self.retry_after,
        )


def iter_error_chain(
    error: BaseException, *, with_members: bool = False
) -> Iterator[BaseException]:
    """Yield an error and everything behind it, nearest first, each error once.

    A cause (``raise ... from``) comes before the context in which the error arose. A context
    that ``from None`` hides from tracebacks is yielded as well: clients that raise so leave
    their facts nowhere else. Members of an exception group are entered only where asked for:
    they stand beside each other, not behind each other.

    Args:
        error: The error to start from. Chains that run in a circle end where they close.
        with_members: Whether the members of exception groups belong to it.

    Yields:
        The error itself, then its causes and contexts.

    Example:
        >>> try:
        ...     try:
        ...         raise ConnectionResetError
        ...     except ConnectionResetError:
        ...         raise RuntimeError("no answer") from None
        ... except RuntimeError as caught:
        ...     [type(link).__name__ for link in iter_error_chain(caught)]
        ['RuntimeError', 'ConnectionResetError']
    """
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        link = waiting.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [near for near in (_context(link), _cause(link)) if near is not None]
        if with_members:
            waiting += group_members(link)


def group_members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the members of an exception group; those of any other error are none.

    Example:
        >>> group_members(ExceptionGroup("two", [ValueError(), OSError()]))
        (ValueError(), OSError())
    """
    return _members(error) if is_error(error, BaseExceptionGroup) else ()


def is_error(
    value: object,
    kind: type[_E] | tuple[type[_E], ...] = BaseException,  # type: ignore[assignment]
) -> TypeGuard[_E]:
    """Say whether a value is an exception of a kind, or of one of several, whatever it claims.

    Not ``isinstance``: that asks the object itself for its class, where it defines one.

    Example:
        >>> is_error(KeyError("x"), OSError)
        False
    """
    return issubclass(type(value), kind)


def error_type_names(error: BaseException) -> tuple[str, ...]:
    """Return ``module.qualified_name`` of the error's type and of each of its bases.

    Names stand for types so that a rule can speak of a class without importing its package.

    Example:
        >>> error_type_names(ConnectionResetError())[:3]
        ('builtins.ConnectionResetError', 'builtins.ConnectionError', 'builtins.OSError')
    """
    return tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)


def read_error_facts(error: BaseException) -> ErrorFacts:
    """Read the facts that an error carries in the usual attributes, without its causes.

    Understood are ``retryable``, ``retry_after`` (seconds) and ``service_code``; ``status``,
    ``status_code`` or ``http_status``, on the error or on its ``response``; and the Retry-After
    header in ``headers`` of the error or of its ``response``. A value of another type, or out
    of range as the -1 which some clients use for "none", is no fact.

    Args:
        error: Any exception.

    Returns:
        The facts; all None where the error states nothing.

    Example:
        >>> from qcsc_prefect.core.errors import JobError
        >>> read_error_facts(JobError("busy", status=429, retry_after=30.0)).status
        429
    """
    response = read_attribute(error, "response")
    retryable = read_attribute(error, "retryable")
    service_code = read_attribute(error, "service_code")
    return ErrorFacts(
        retryable=retryable if isinstance(retryable, bool) else None,
        status=_first_status(error, response),
        service_code=service_code
        if isinstance(service_code, int | str) and not isinstance(service_code, bool)
        else None,
        retry_after=_first_retry_after(error, response),
    )


def retry_after_seconds(headers: object, *, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks to wait.

    Both forms of RFC 9110, section 10.2.3, are read: seconds, and an HTTP date. A date is
    compared with the answer's own Date header where it has one, so that a local clock which is
    wrong does no harm.

    Args:
        headers: Response headers with a ``get`` that ignores case.
        now: The time to compare a date with where there is no Date header; by default the
            present.

    Returns:
        Seconds from now, 0.0 for a date that has passed, None without a readable header.

    Example:
        >>> retry_after_seconds({"Retry-After": "120"})
        120.0
    """
    value = _header(headers, "Retry-After")
    if not isinstance(value, str):
        return None
    if _SECONDS.fullmatch(value.strip()):
        return _usable_seconds(float(value))
    until = http_date(value)
    if until is None:
        return None
    since = http_date(_header(headers, "Date")) or now or datetime.now(UTC)
    return max(0.0, (until - since).total_seconds())


def read_attribute(owner: object, name: str) -> object:
    """Return an attribute of somebody else's object, None where there is none."""
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 - a foreign property may raise anything; it states no fact then
        return None


def _header(headers: object, name: str) -> object:
    try:
        return headers.get(name) if isinstance(headers, Headers | Mapping) else None
    except Exception:  # noqa: BLE001 - foreign headers may raise anything; they state no fact then
        return None


def _first_status(*owners: object) -> int | None:
    for owner in owners:
        for name in _STATUS_ATTRIBUTES:
            value = read_attribute(owner, name)
            if (
                isinstance(value, int)
                and not isinstance(value, bool)
                and _LOWEST_STATUS <= value <= _HIGHEST_STATUS
            ):
                return int(value)
    return None


def _first_retry_after(error: BaseException, response: object) -> float | None:
    stated = read_attribute(error, "retry_after")
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        return _usable_seconds(stated)
    for owner in (error, response):
        seconds = retry_after_seconds(read_attribute(owner, "headers"))
        if seconds is not None:
            return seconds
    return None


def _usable_seconds(stated: float) -> float | None:
    try:
        seconds = float(stated)
    except OverflowError:  # an integer of more than 308 digits
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def http_date(value: object) -> datetime | None:
    """Return the moment that a header names in one of HTTP's forms; None where it names none.

    Args:
        value: The header, such as ``"Wed, 25 Nov 2026 12:00:00 GMT"``.

    Example:
        >>> http_date("Wed, 25 Nov 2026 12:00:00 GMT").isoformat()
        '2026-11-25T12:00:00+00:00'
    """
    if not isinstance(value, str):
        return None
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the latter for a zone of many days
        return None
    # RFC 9110, section 5.6.7: the two older forms name no zone, and mean UTC.
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
