"""Puts words of others, numbers and names into the sentences of a message."""

from __future__ import annotations

__all__ = ["counted", "sentence"]


def sentence(text: str) -> str:
    """Return a text as one line that ends like a sentence.

    Example:
        >>> sentence("no such  backend"), sentence("'It was refused.'")
        ('no such backend.', "'It was refused.'")
    """
    one_line = " ".join(text.split())
    return one_line if one_line.rstrip("'\")").endswith((".", "!", "?")) else f"{one_line}."


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or the plural.

    Example:
        >>> counted(1, "PUB"), counted(2, "parameter")
        ('1 PUB', '2 parameters')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
