"""Counts the values in a MessagePack text without making any of them.

A byte of the text can be an empty list or map, which takes 64 bytes and more as an object of
Python: a text of a megabyte that is made for it fills 64 megabytes. Whoever counts first need not
find out by running out of memory.
"""

from __future__ import annotations

from typing import Final

__all__ = ["has_more_nodes"]

#: First bytes that are followed by so many bytes: a number, a short text, a count of items.
_FIXED: Final = {
    **{first: first - 0xA0 for first in range(0xA0, 0xC0)},
    **dict.fromkeys([0xCC, 0xD0], 1),
    **dict.fromkeys([0xCD, 0xD1, 0xD4, 0xDC, 0xDE], 2),
    **dict.fromkeys([0xD5], 3),
    **dict.fromkeys([0xCA, 0xCE, 0xD2, 0xDD, 0xDF], 4),
    **dict.fromkeys([0xD6], 5),
    **dict.fromkeys([0xCB, 0xCF, 0xD3], 8),
    **dict.fromkeys([0xD7], 9),
    **dict.fromkeys([0xD8], 17),
}
#: First bytes that are followed by a length of so many bytes, and then the content.
_WITH_LENGTH: Final = {
    **dict.fromkeys([0xC4, 0xC7, 0xD9], 1),
    **dict.fromkeys([0xC5, 0xC8, 0xDA], 2),
    **dict.fromkeys([0xC6, 0xC9, 0xDB], 4),
}
#: Those of them that have a byte for their kind, too.
_EXTENSIONS: Final = frozenset({0xC7, 0xC8, 0xC9})


def has_more_nodes(packed: bytes, limit: int) -> bool:
    r"""Whether a MessagePack text holds more values than a limit, counting every one.

    Example:
        >>> has_more_nodes(b"\x93\x01\x02\xa1x", 4)
        False
        >>> has_more_nodes(b"\x93\x01\x02\xa1x", 3)
        True
    """
    end = len(packed)
    if end <= limit:
        return False  # a value takes a byte at least
    offset = count = 0
    while offset < end:
        count += 1
        if count > limit:
            return True
        first = packed[offset]
        offset += 1
        if first in _WITH_LENGTH:
            width = _WITH_LENGTH[first]
            offset += width + int.from_bytes(packed[offset : offset + width], "big")
            offset += first in _EXTENSIONS
        else:
            offset += _FIXED.get(first, 0)
    return False
