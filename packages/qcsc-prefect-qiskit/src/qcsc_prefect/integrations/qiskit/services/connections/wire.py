"""Owns how requests travel: what is sent again, for how long, and how long an answer may take.

The native client repeats requests by itself, a submission too, up to six times, each of which may
make a job; and it waits for some answers without end. ``requests`` has one place that decides both,
the adapter between a session and the network. The one here keeps these rules:

* A submission, or any other POST that makes something, is sent once. Where no connection came
  about it was not sent, and is sent as soon as there is one.
* A question, and what may be said twice (cancelling a job, closing a session), is asked again where
  a passing fault met it: at once, and then after growing pauses, as long as the patience lasts.
* Every request has a time limit, so that each thread of the client comes back.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from requests.adapters import HTTPAdapter
from requests.exceptions import HTTPError, RequestException
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from qcsc_prefect.core.error_facts import http_date, retry_after_seconds
from qcsc_prefect.core.prefect.task_runs import run_logger
from qcsc_prefect.core.retry import RetryAnswer, advise_retry
from qcsc_prefect.integrations.qiskit.errors.client_table import QISKIT_RETRY_RULES
from qcsc_prefect.integrations.qiskit.services.connections.wire_limits import WireLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from requests import PreparedRequest, Response, Session
    from urllib3 import ProxyManager
    from urllib3._base_connection import BaseHTTPConnection

__all__ = [
    "SentPost",
    "clock_ahead",
    "is_submitting",
    "own_requests",
    "wait_out",
    "watch_post",
    "whole_results",
]

T = TypeVar("T")

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 8.0
_TOO_MANY_REQUESTS: Final = 429
#: The header tells whole seconds, of an answer that was some time on its way.
_DATE_UNSURE: Final = timedelta(seconds=2)


@dataclass
class SentPost:
    """What became of the request that submits a job.

    Attributes:
        sent: Whether it may have reached the service.
        status: The status it was answered with; None where no answer came.
        asked: Whether an earlier request of the same call was answered.
    """

    sent: bool = False
    status: int | None = None
    asked: bool = False


_post: ContextVar[SentPost | None] = ContextVar("sent_post", default=None)
_whole: ContextVar[bool] = ContextVar("whole_results", default=False)


@contextlib.contextmanager
def watch_post() -> Iterator[SentPost]:
    """Watch the submission that this thread sends inside of the block.

    Yields:
        What became of it so far.
    """
    post = SentPost()
    token = _post.set(post)
    try:
        yield post
    finally:
        _post.reset(token)


def is_submitting() -> bool:
    """Return whether this thread is inside of `watch_post`."""
    return _post.get() is not None


@contextlib.contextmanager
def whole_results() -> Iterator[None]:
    """Ask again inside of the block for a result that is no JSON object.

    Outside of it one is taken as it comes: that of a failed job is the text of its failure, and
    that of a private job is handed out once.
    """
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def own_requests(session: Session, limits: WireLimits | None = None) -> None:
    """Let the requests of a session travel by the rules of this module; to say it twice is fine.

    Args:
        session: The session of one connection of the native client.
        limits: How long they may take; None for those of the environment.

    Raises:
        ConfigurationError: If the environment sets limits that are none.
    """
    for prefix, adapter in tuple(session.adapters.items()):
        if not isinstance(adapter, _Wire):
            # Not by mount(), which takes other adapters out for a moment: other threads use them.
            session.adapters[prefix] = _Wire(limits or WireLimits.current())


def clock_ahead(session: Session) -> timedelta:
    """Return how far the service's clock is ahead of this machine's, as its last answer says.

    Args:
        session: The session of one connection of the native client.

    Returns:
        The difference; nothing where it is below two seconds, which the answers cannot tell, and
        where no answer said what time it is.
    """
    told = [
        adapter.clock_ahead for adapter in session.adapters.values() if isinstance(adapter, _Wire)
    ]
    return next((ahead for ahead in told if ahead is not None), timedelta())


def wait_out(
    attempt: Callable[[], T],
    *,
    patience: float,
    doing: str,
    once: Callable[[], bool] = lambda: False,
) -> T:
    """Do what may be done any number of times until no passing fault meets it; blocks.

    It is tried twice at least, the second time at once: most faults strike one request only.

    Args:
        attempt: What to do.
        patience: How many seconds after the first failure the last try may begin.
        doing: What is tried, for the log.
        once: Whether what was tried just now must not be tried again.

    Returns:
        What it returned; what the last try raised is raised here.
    """
    pause = _FIRST_PAUSE
    ends: float | None = None
    while True:
        try:
            return attempt()
        except Exception as error:
            now = time.monotonic()
            if once() or not _may_pass(error):
                raise
            wait = _asked_for(error)
            if ends is None:
                ends = now + patience
                run_logger().warning(
                    "%s met a fault that may pass (%s); trying again for up to %g s",
                    doing,
                    _what(error),
                    patience,
                )
            else:
                wait = max(wait, pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                pause = min(2 * pause, _LONGEST_PAUSE)
            # The first repetition is at once, also after a silence that outlasted the patience.
            if wait > 0 and now + wait > ends:
                raise
        time.sleep(wait)


class _NotUsableError(Exception):
    """An answer that may be another one the next time."""

    def __init__(self, response: Response, what: str) -> None:
        super().__init__(what)
        self.response = response


def _asked_for(error: Exception) -> float:
    """Return how long the service asks to be left alone, in seconds."""
    if not isinstance(error, _NotUsableError):
        return 0.0
    is_limit = error.response.status_code == _TOO_MANY_REQUESTS
    return retry_after_seconds(error.response.headers) or (_FIRST_PAUSE if is_limit else 0.0)


def _what(error: Exception) -> str:
    return str(error) if isinstance(error, _NotUsableError) else type(error).__name__


class _Wire(HTTPAdapter):
    """Sends the requests of one connection of the native client.

    Args:
        limits: How long they may take.
    """

    def __init__(self, limits: WireLimits) -> None:
        super().__init__(max_retries=0)
        self._limits = limits
        self.clock_ahead: timedelta | None = None
        # A kept connection may be closed at the other end, which shows only after sending.
        self._fresh = _ConnectingAdapter(max_retries=0)

    def send(self, request: PreparedRequest, *arguments: Any, **more: Any) -> Response:
        path = urlsplit(request.url or "").path
        makes_something = request.method == "POST" and not path.endswith("/cancel")
        slow = makes_something or path.endswith("/results")
        silence = self._limits.transfer if slow else self._limits.answer
        more["timeout"] = (self._limits.connect, silence)
        doing = f"{request.method} {path}"
        if makes_something:
            response = self._send_once(request, *arguments, doing=doing, **more)
        else:
            response = self._ask(request, *arguments, doing=doing, **more)
        now = http_date(response.headers.get("Date"))
        if now is not None:
            ahead = now - datetime.now(UTC)
            self.clock_ahead = ahead if abs(ahead) > _DATE_UNSURE else timedelta()
        return response

    def close(self) -> None:
        super().close()
        self._fresh.close()

    def _send_once(
        self, request: PreparedRequest, *arguments: Any, doing: str, **more: Any
    ) -> Response:
        submits = doing.endswith("/jobs")
        post = (_post.get() if submits else None) or SentPost()

        def attempt() -> Response:
            _phase.connecting = False
            try:
                response = self._fresh.send(request, *arguments, **more)
            except RequestException:
                post.sent = not _phase.connecting
                raise
            post.sent, post.status = True, response.status_code
            response.content  # noqa: B018 - reads it, while the connection is there
            return response

        return wait_out(
            attempt, patience=self._limits.patience, doing=doing, once=lambda: post.sent
        )

    def _ask(self, request: PreparedRequest, *arguments: Any, doing: str, **more: Any) -> Response:
        def attempt() -> Response:
            response = super(_Wire, self).send(request, *arguments, **more)
            response.content  # noqa: B018 - reads it: what breaks off must be noticed here
            if not response.ok and _may_pass(HTTPError(response=response)):
                raise _NotUsableError(response, f"HTTP {response.status_code}")
            if request.method == "GET" and response.ok and not response.is_redirect:
                unreadable = _unreadable(doing, response.content)
                if unreadable is not None:
                    raise _NotUsableError(response, unreadable)
            return response

        try:
            response = wait_out(attempt, patience=self._limits.patience, doing=doing)
        except _NotUsableError as error:
            response = error.response  # the client says what it makes of it
        if (post := _post.get()) is not None:
            post.asked = True
        return response


def _may_pass(error: Exception) -> bool:
    if isinstance(error, _NotUsableError):
        return True
    return advise_retry(error, QISKIT_RETRY_RULES).answer is RetryAnswer.RETRY


def _unreadable(doing: str, body: bytes) -> str | None:
    """Return what is wrong with an answer; all but logs and some results are JSON objects."""
    if doing.endswith("/logs") or (doing.endswith("/results") and not _whole.get()):
        return None
    text = body.strip()
    if not text:
        return "an empty answer"
    if not text.startswith(b"{"):
        return "an answer that is no JSON object"
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        try:
            json.loads(text)  # it takes NaN, which results hold
        except (ValueError, RecursionError):
            return "a damaged answer"
    return None


class _Phase(threading.local):
    """Whether this thread is about to connect, so that nothing has been sent yet."""

    connecting = False


_phase = _Phase()


class _NotingConnection(HTTPConnection):
    def connect(self) -> None:
        _phase.connecting = True
        super().connect()
        _phase.connecting = False


class _NotingSecureConnection(HTTPSConnection):
    def connect(self) -> None:
        _phase.connecting = True
        super().connect()
        _phase.connecting = False


class _NotKept(HTTPConnectionPool):
    """Takes connections back closed."""

    def _put_conn(self, conn: BaseHTTPConnection | None) -> None:
        if conn is not None:
            conn.close()
        super()._put_conn(conn)


class _NotingPool(_NotKept):
    ConnectionCls = _NotingConnection


class _NotingSecurePool(_NotKept, HTTPSConnectionPool):
    ConnectionCls = _NotingSecureConnection


class _ConnectingAdapter(HTTPAdapter):
    """Connects anew for each request, and notes in `_phase` whether that failed."""

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = _NOTING_POOLS

    def proxy_manager_for(self, proxy: str, **more: Any) -> ProxyManager:
        manager: ProxyManager = super().proxy_manager_for(proxy, **more)
        if not proxy.lower().startswith("socks"):  # those connect in a way of their own
            manager.pool_classes_by_scheme = _NOTING_POOLS
        return manager


_NOTING_POOLS: Final = {"http": _NotingPool, "https": _NotingSecurePool}
