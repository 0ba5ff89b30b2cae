"""Notices what became of the request that creates a job, besides what the client returns.

The client repeats a POST that is answered by a 5xx, and behind a proxy also one whose connection
broke, and tells nobody where a later try succeeded; each of them may have created a job. It also
raises errors of its own after the job was accepted, if the answer cannot be read. Both decide
whether a job may exist that nobody knows of, so the answers are looked at here as they come in,
through the hook that ``requests`` offers for it. Nothing is changed about them.
"""

from __future__ import annotations

import contextvars
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from requests import Response, Session

__all__ = ["PostWatch", "watch_posts"]


@dataclass
class PostWatch:
    """What became of the requests of one submission.

    Attributes:
        accepted: Whether one was answered by a success.
        sent_again: Whether one was answered after earlier tries.
        last_method: Method of the last request of any kind that was answered.
    """

    accepted: bool = False
    sent_again: bool = False
    last_method: str | None = None


_watch: contextvars.ContextVar[PostWatch | None] = contextvars.ContextVar(
    "post_watch", default=None
)


@contextmanager
def watch_posts(session: Session) -> Iterator[PostWatch]:
    """Watch the POSTs that this thread sends through a session inside the block.

    Args:
        session: The session of the native client's connection.

    Yields:
        What became of them so far.
    """
    hooks = session.hooks["response"]
    if _note not in hooks:
        hooks.append(_note)
    watch = PostWatch()
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
