"""Durations, numbers and text as a person reads them."""

from __future__ import annotations

import html
import math

__all__ = ["bar", "duration", "markdown_code", "markdown_text", "with_uncertainty"]

_MINUTE = 60
_HOUR = 3600
_DAY = 86400


def duration(seconds: float) -> str:
    """Write a duration in the unit that fits it, to a precision that a person cares about.

    Example:
        >>> [duration(s) for s in (0.0421, 12.3, 200, 7500, 200_000)]
        ['0.042 s', '12.3 s', '3 min 20 s', '2 h 5 min', '2 d 7 h']
    """
    if seconds < _MINUTE:
        return f"{round(seconds, 3):.3g} s" if round(seconds, 1) < _MINUTE else "1 min"
    whole = round(seconds)
    for unit, name, smaller, smaller_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} s"


def with_uncertainty(value: float, standard_error: float | None) -> str:
    """Write a value with its standard error, cut to the digits that the error leaves meaning.

    The error keeps two significant digits and the value ends at the same decimal, the
    convention of the Guide to the Expression of Uncertainty in Measurement (JCGM 100:2008,
    7.2.6).

    Example:
        >>> with_uncertainty(-1.8573021, 0.00314)
        '-1.8573 ± 0.0031'
    """
    if standard_error is None or not math.isfinite(standard_error) or standard_error <= 0:
        return f"{value:.8g}"
    decimals = 1 - math.floor(math.log10(standard_error))
    if decimals < 0:
        return f"{value:.0f} ± {standard_error:.0f}"
    return f"{value:.{decimals}f} ± {standard_error:.{decimals}f}"


def bar(fraction: float, *, width: int = 20) -> str:
    """Draw a fraction of 0 to 1 as a bar of block characters, to an eighth of a character.

    Example:
        >>> bar(0.5, width=5)
        '██▌'
    """
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[rest]


def markdown_text(text: str) -> str:
    """Escape text for a cell of a Markdown table, so that it stands there as it is."""
    one_line = " ".join(text.split())
    for mark in "\\`*_[]|~":
        one_line = one_line.replace(mark, f"\\{mark}")
    return html.escape(one_line, quote=False)


def markdown_code(text: str) -> str:
    """Set text as inline code in a cell of a Markdown table."""
    one_line = " ".join(text.split()).replace("|", "\\|")
    # A backtick inside is harmless where the fence has more of them.
    fence = "``" if "`" in one_line else "`"
    pad = " " if "`" in one_line else ""
    return f"{fence}{pad}{one_line}{pad}{fence}"
