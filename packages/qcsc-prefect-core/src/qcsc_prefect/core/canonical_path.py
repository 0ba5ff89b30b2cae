"""Paths that name one place inside a nested value, such as ``options.twirling.num_randomizations``.

Errors and reports of differences use the same notation: attribute style for keys that are
identifiers, brackets for indices and for every other key.
"""

from __future__ import annotations

__all__ = ["child_path", "join_path"]


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

    Args:
        parent: A path; an empty string for the root.
        child: A path that starts below ``parent``; an empty string for the parent itself.

    Returns:
        The whole path.

    Example:
        >>> join_path("options", "environment.callback"), join_path("pubs", "[0]")
        ('options.environment.callback', 'pubs[0]')
    """
    if not parent or not child:
        return parent or child
    return f"{parent}{child}" if child.startswith("[") else f"{parent}.{child}"
