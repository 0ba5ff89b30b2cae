"""Base64 in pieces, because a codec holds the interpreter's lock while it works.

One call over 100 MB stops every other thread, and so an event loop, for a quarter of a second;
a piece of 1 MiB stops it for a millisecond. msgspec writes bytes as base64 between two quotation
marks; it takes half the time of Python's own codec to read them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from qcsc_prefect.core.errors import DamagedRecordError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A whole number of three-byte groups, so that the pieces' texts can be joined.
_RAW_PIECE: Final = 3 << 18
#: Characters of text that are decoded at once.
TEXT_PIECE: Final = 4 << 18

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(bytes)


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
            yield _encoded(rest)
        end = view.nbytes - (view.nbytes - start) % _RAW_PIECE
        for offset in range(start, end, _RAW_PIECE):
            yield _encoded(view[offset : offset + _RAW_PIECE])
        rest = bytes(view[end:])
    if rest:
        yield _encoded(rest)


def text_pieces(text: bytes | memoryview) -> Iterator[memoryview]:
    """A base64 text in pieces that can be decoded one by one."""
    view = memoryview(text)
    for offset in range(0, view.nbytes, TEXT_PIECE):
        yield view[offset : offset + TEXT_PIECE]


def decode_pieces(pieces: Iterable[bytes | memoryview]) -> memoryview:
    """The bytes of a base64 text as `encode_pieces` makes it.

    Args:
        pieces: The text; every piece but the last has a multiple of four characters.

    Raises:
        DamagedRecordError: It is no such text.
    """
    # Not a BytesIO and its buffer: a garbage collection that meets both at once closes the first
    # while the second is in use, which crashes Python 3.12.1 and is reported by 3.13.
    raw = bytearray()
    for piece in pieces:
        try:
            raw += _decoder.decode(b"".join((b'"', piece, b'"')))
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise DamagedRecordError(f"The record's text is not base64: {exc}.") from exc
    return memoryview(raw)


def _encoded(piece: bytes | memoryview) -> bytes:
    return _encoder.encode(piece)[1:-1]
