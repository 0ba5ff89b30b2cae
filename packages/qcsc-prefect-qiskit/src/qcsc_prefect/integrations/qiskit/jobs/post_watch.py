"""Notices what became of the request that creates a job, besides what the client returns.

The client repeats a POST that is answered by a 5xx, and behind a proxy also one whose connection
broke, and tells nobody where a later try succeeded; each of them may have created a job. It also
raises errors of its own after the job was accepted, if the answer cannot be read. Both decide
whether a job may exist that nobody knows of, so the answers are looked at here as they come in,
through the hook that ``requests`` offers for it. Nothing is changed about them.

Before it sends a job the client asks for several things, and no call of it can be stopped: one that
hangs in such a question would send the job whenever the answer comes. So the POST goes through a
gate, which whoever gives up waiting closes. `requests` lets an adapter stand between its session
and the network; the gate is there, behind whatever else a request may have to wait for.
"""

from __future__ import annotations

import contextvars
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from requests.adapters import BaseAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from requests import PreparedRequest, Response, Session

__all__ = ["GivenUpError", "PostGate", "PostWatch", "watch_posts"]


class GivenUpError(Exception):
    """Nobody waits for the submission any more, so it was not sent."""


class PostGate:
    """Decides whether one submission is sent or given up: what comes first holds for good.

    Every method may be called from any thread.

    Example:
        >>> gate = PostGate()
        >>> gate.close()
        True
        >>> sent = PostGate()
        >>> sent.enter()
        >>> sent.close()
        False
    """

    def __init__(self) -> None:
        self._entered = False
        self._closed = False
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Send the submission now; it may be sent again by the client then.

        Raises:
            GivenUpError: If the gate is closed.
        """
        with self._lock:
            if self._closed:
                raise GivenUpError
            self._entered = True

    def close(self) -> bool:
        """Let nothing be sent any more that has not been sent.

        Returns:
            Whether the submission has not been sent, and so never will be.
        """
        with self._lock:
            self._closed = not self._entered
            return self._closed


@dataclass
class PostWatch:
    """What became of the requests of one submission.

    Attributes:
        accepted: Whether one was answered by a success.
        sent_again: Whether one was answered after earlier tries.
        last_method: Method of the last request of any kind that was answered.
        gate: What lets the submission be sent.
    """

    gate: PostGate = field(default_factory=PostGate)
    accepted: bool = False
    sent_again: bool = False
    last_method: str | None = None


_watch: contextvars.ContextVar[PostWatch | None] = contextvars.ContextVar(
    "post_watch", default=None
)


@contextmanager
def watch_posts(session: Session, gate: PostGate) -> Iterator[PostWatch]:
    """Watch the POSTs that this thread sends through a session inside the block.

    Args:
        session: The session of the native client's connection.
        gate: What lets them be sent.

    Yields:
        What became of them so far.
    """
    hooks = session.hooks["response"]
    if _note not in hooks:
        hooks.append(_note)
    for prefix, adapter in tuple(session.adapters.items()):
        if not isinstance(adapter, _GatedAdapter):
            # Not by mount(), which takes other adapters out for a moment: other threads use them.
            session.adapters[prefix] = _GatedAdapter(adapter)
    watch = PostWatch(gate)
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


def _note(response: Response, **_: object) -> None:
    watch = _watch.get()
    if watch is None:
        return
    watch.last_method = response.request.method
    if watch.last_method != "POST":
        return
    watch.accepted = watch.accepted or response.ok
    retries = response.raw.retries
    watch.sent_again = watch.sent_again or bool(retries is not None and retries.history)


class _GatedAdapter(BaseAdapter):
    """Sends what another adapter sends, but no submission that was given up.

    Args:
        behind: The adapter of the native client.
    """

    def __init__(self, behind: BaseAdapter) -> None:
        super().__init__()
        self._behind = behind

    def send(self, request: PreparedRequest, *arguments: Any, **more: Any) -> Response:
        watch = _watch.get()
        if watch is not None and request.method == "POST":
            watch.gate.enter()
        return self._behind.send(request, *arguments, **more)

    def close(self) -> None:
        self._behind.close()
