"""Paths that name one place inside a nested value, such as ``options.twirling.num_randomizations``.

Errors and reports of differences use the same notation: attribute style for keys that are
identifiers, brackets for indices and for every other key. A long path is cut in the middle: its
start says which input is meant, and its end what stands there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcsc_prefect.core.errors import InputError

if TYPE_CHECKING:
    from types import TracebackType

#: Characters after which a path is cut, and how many are kept of its start and of its end.
LONGEST_PATH = 200
_KEPT = 96

_CUT = "..."

#: Steps at each end of a path that are looked at: more than are kept.
_LOOKED_AT = 200

__all__ = ["LocatedErrors", "child_path", "join_path", "join_steps", "show_path"]


def child_path(key: object) -> str:
    """Return the step from a container to one of its children.

    Args:
        key: A dict key or a list index.

    Returns:
        ``name`` for a string that is an identifier, ``[3]`` for an integer, ``['a b']`` for any
        other string, and ``[<type>]`` for a key of another type.

    Example:
        >>> child_path("shots"), child_path(3), child_path("a b")
        ('shots', '[3]', "['a b']")
    """
    if isinstance(key, str):
        return str(key) if key.isidentifier() else f"[{str(key)!r}]"
    if key is None or isinstance(key, (int, float)):
        return f"[{key!r}]"
    return f"[<{type(key).__name__}>]"


def join_path(parent: str, child: str) -> str:
    """Return the path of ``child``, which is itself a path relative to ``parent``.

    Example:
        >>> join_path("options", "environment.callback"), join_path("pubs", "[0]")
        ('options.environment.callback', 'pubs[0]')
        >>> len(join_path("options", "[1]" * 1000))
        193
    """
    if not parent or not child:
        path = parent or child
    else:
        path = f"{parent}{child}" if child.startswith("[") else f"{parent}.{child}"
    return path if len(path) <= LONGEST_PATH else _cut(path)


def join_steps(steps: list[str]) -> str:
    """Return the path that consists of steps, each a path relative to the one before.

    Example:
        >>> join_steps(["pubs", "[0]", "", "circuit"])
        'pubs[0].circuit'
    """
    if len(steps) > 2 * _LOOKED_AT:
        # None of those between them is kept.
        steps = steps[:_LOOKED_AT] + steps[-_LOOKED_AT:]
    path = ""
    for step in reversed(steps):
        path = join_path(step, path)
    return path


def _cut(path: str) -> str:
    """Leave out the middle, at the borders of steps where there are some."""
    start, end = path[:_KEPT], path[-_KEPT:]
    starts = [start.rfind(mark) for mark in ".["]
    ends = [place for mark in ".[" if (place := end.find(mark)) >= 0]
    if max(starts) > 0:
        start = start[: max(starts)]
    if ends:
        end = end[min(ends) :]
    return f"{start.rstrip('.')}{_CUT}{end.lstrip('.')}"


class LocatedErrors:
    """A context that puts a place in front of the path of an :class:`InputError` raised inside.

    Example:
        >>> try:
        ...     with LocatedErrors("pubs[0]"), LocatedErrors("shots"):
        ...         raise InputError("not a number")
        ... except InputError as error:
        ...     print(error.path)
        pubs[0].shots
    """

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, InputError):
            error.path = join_path(self._place, error.path)


def show_path(error: InputError) -> None:
    """Put an error's path in front of its message, once."""
    message = str(error)
    if error.path and not message.startswith(f"{error.path}: "):
        error.args = (f"{error.path}: {message}",)
