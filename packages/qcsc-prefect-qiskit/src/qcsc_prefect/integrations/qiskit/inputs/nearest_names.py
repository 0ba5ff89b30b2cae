"""Says which of the known names somebody may have meant who wrote another one."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest_name"]


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like another one.

    Example:
        >>> nearest_name("shots", ["default_shots", "twirling"])
        'default_shots'
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    if close:
        return close[0]
    return next((one for one in names if name and name in one), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that asks whether the nearest known name was meant.

    Example:
        >>> did_you_mean("fake_manilla", ["fake_manila", "fake_lima"])
        " Did you mean 'fake_manila'?"
    """
    nearest = nearest_name(name, known)
    return "" if nearest is None else f" Did you mean {nearest!r}?"
