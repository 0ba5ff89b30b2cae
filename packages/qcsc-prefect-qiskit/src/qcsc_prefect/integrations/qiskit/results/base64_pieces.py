"""Base64 in pieces, because Python's own codec holds the interpreter's lock while it works.

One call over 100 MB stops every other thread, and so an event loop, for a quarter of a second;
a piece of 1 MiB stops it for a millisecond.
"""

from __future__ import annotations

import binascii
import io
from typing import TYPE_CHECKING, Final

from qcsc_prefect.core.errors import DamagedRecordError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A whole number of three-byte groups, so that the pieces' texts can be joined.
_RAW_PIECE: Final = 3 << 18
_TEXT_PIECE: Final = 4 << 18


def encode_pieces(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The base64 text of the chunks' joined bytes, piece by piece, without line ends."""
    rest = b""
    for chunk in chunks:
        view = memoryview(chunk)
        start = 0
        if rest:
            start = min(_RAW_PIECE - len(rest), view.nbytes)
            rest += view[:start]
            if len(rest) < _RAW_PIECE:
                continue
            yield binascii.b2a_base64(rest, newline=False)
        end = view.nbytes - (view.nbytes - start) % _RAW_PIECE
        for offset in range(start, end, _RAW_PIECE):
            yield binascii.b2a_base64(view[offset : offset + _RAW_PIECE], newline=False)
        rest = bytes(view[end:])
    if rest:
        yield binascii.b2a_base64(rest, newline=False)


def decode_text(text: bytes | memoryview) -> memoryview:
    """The bytes of a base64 text as `encode_pieces` makes it.

    Raises:
        DamagedRecordError: It is no such text.
    """
    view = memoryview(text)
    raw = io.BytesIO()
    for offset in range(0, view.nbytes, _TEXT_PIECE):
        piece = view[offset : offset + _TEXT_PIECE]
        try:
            raw.write(binascii.a2b_base64(piece, strict_mode=True))
        except binascii.Error as exc:
            raise DamagedRecordError(f"The record's text is not base64: {exc}.") from exc
    return raw.getbuffer()
