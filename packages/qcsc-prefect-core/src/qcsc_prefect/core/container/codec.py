"""How the bytes of one buffer are stored: cut into pieces, and each piece compressed by itself.

Pieces keep every step short. Compressing and decompressing release the interpreter's lock, and
copying one piece of 1 MiB takes less than a millisecond, so an event loop beside the working
thread is never held up. A piece that does not become smaller is stored as it is.
"""

from __future__ import annotations

import importlib
import sys
import zlib
from typing import TYPE_CHECKING, Final, Literal

from qcsc_prefect.core.errors import ConfigurationError, DamagedRecordError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Codec", "StoredBuffer"]

Codec = Literal["none", "zlib", "zstd"]

#: Bytes of raw data in one piece that this release writes.
PIECE_SIZE: Final = 1 << 20
#: Bytes of raw data in one piece that a reader accepts, so that a forged table costs little.
MAX_PIECE_SIZE: Final = 1 << 24

_LEVEL: Final = 1
# backports.zstd is, call for call, the module that Python has had since 3.14.
_ZSTD_MODULE: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_SAMPLE_SIZE: Final = 1 << 14


class StoredBuffer:
    """Raw bytes as they lie in a container that is being read.

    Attributes:
        nbytes: How many bytes there are once decompressed.
    """

    __slots__ = ("_decompress", "_piece_size", "_pieces", "nbytes")

    def __init__(
        self,
        pieces: Sequence[memoryview],
        nbytes: int,
        piece_size: int,
        decompress: Callable[[memoryview, int], bytes],
    ) -> None:
        self._pieces = pieces
        self._piece_size = piece_size
        self._decompress = decompress
        self.nbytes = nbytes

    def read_into(self, target: memoryview) -> None:
        """Decompress into memory that the caller owns.

        Raises:
            DamagedRecordError: A piece does not decompress to what the table says.
            ValueError: The target has another size.
        """
        if target.nbytes != self.nbytes:
            raise ValueError(f"a buffer of {self.nbytes} bytes meets {target.nbytes} bytes")
        offset = 0
        for piece in self._raw_pieces():
            target[offset : offset + len(piece)] = piece
            offset += len(piece)

    def to_bytes(self) -> bytes:
        """Decompress into new bytes.

        Raises:
            DamagedRecordError: A piece does not decompress to what the table says.
        """
        return b"".join(self._raw_pieces())

    def _raw_pieces(self) -> Iterator[bytes | memoryview]:
        left = self.nbytes
        for piece in self._pieces:
            raw_size = min(left, self._piece_size)
            left -= raw_size
            if piece.nbytes == raw_size:
                yield piece
            else:
                yield self._decompress(piece, raw_size)


def raw_pieces(data: memoryview) -> Iterator[memoryview]:
    """Cut a buffer into the pieces that it is stored in; an empty buffer has none."""
    for offset in range(0, data.nbytes, PIECE_SIZE):
        yield data[offset : offset + PIECE_SIZE]


def piece_compressor(codec: Codec) -> Callable[[memoryview], bytes | memoryview]:
    """A function that compresses one piece, or gives it back where that makes it no smaller.

    Raises:
        ConfigurationError: There is no such codec, or its library is not installed.
    """
    compress = _compress_function(codec)

    def compress_piece(piece: memoryview) -> bytes | memoryview:
        packed = compress(piece)
        return packed if len(packed) < piece.nbytes else piece

    return compress_piece


def piece_decompressor(codec: str) -> Callable[[memoryview, int], bytes]:
    """A function that decompresses one piece to exactly the size it is told.

    Raises:
        RecordError: The codec's library is not installed.
        DamagedRecordError: There is no such codec.
    """
    if codec == "none":
        return _refuse_short_piece
    if codec == "zlib":
        return _zlib_decompress
    if codec == "zstd":
        return _zstd_decompressor()
    raise DamagedRecordError(f"The record names a codec that does not exist: {codec!r}.")


def _compress_function(codec: Codec) -> Callable[[memoryview], bytes | memoryview]:
    if codec == "none":
        return lambda piece: piece
    if codec == "zlib":
        return _zlib_compress
    if codec == "zstd":
        return _zstd_compressor()
    raise ConfigurationError(f"There is no codec {codec!r}; use 'none', 'zlib' or 'zstd'.")


def _zlib_compress(piece: memoryview) -> bytes | memoryview:
    # zlib spends 15 ms on each MiB of random bits only to make it larger; a sample tells.
    sample = piece[:_SAMPLE_SIZE]
    if len(zlib.compress(sample, _LEVEL)) >= sample.nbytes:
        return piece
    return zlib.compress(piece, _LEVEL)


def _zlib_decompress(piece: memoryview, raw_size: int) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        # One byte more than expected, so that a longer piece is noticed and never expanded.
        raw = decompressor.decompress(piece, raw_size + 1)
    except zlib.error as exc:
        raise DamagedRecordError(f"A piece of the record does not decompress: {exc}.") from exc
    return _checked(raw, raw_size, at_end=decompressor.eof and not decompressor.unused_data)


def _zstd_compressor() -> Callable[[memoryview], bytes]:
    try:
        zstd = importlib.import_module(_ZSTD_MODULE)
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            "The codec 'zstd' needs the package backports.zstd, which is not installed; "
            "install it, or use codec='zlib'."
        ) from exc
    compressor = zstd.ZstdCompressor(level=_LEVEL)

    def compress(piece: memoryview) -> bytes:
        packed: bytes = compressor.compress(piece, mode=compressor.FLUSH_FRAME)
        return packed

    return compress


def _zstd_decompressor() -> Callable[[memoryview, int], bytes]:
    try:
        zstd = importlib.import_module(_ZSTD_MODULE)
    except ModuleNotFoundError as exc:
        raise RecordError(
            "The record is compressed with zstd, and the package backports.zstd is not "
            "installed; install it to read the record."
        ) from exc

    def decompress(piece: memoryview, raw_size: int) -> bytes:
        decompressor = zstd.ZstdDecompressor()
        try:
            raw: bytes = decompressor.decompress(piece, raw_size + 1)
        except zstd.ZstdError as exc:
            raise DamagedRecordError(f"A piece of the record does not decompress: {exc}.") from exc
        return _checked(raw, raw_size, at_end=decompressor.eof and not decompressor.unused_data)

    return decompress


def _refuse_short_piece(piece: memoryview, raw_size: int) -> bytes:
    raise DamagedRecordError(
        f"A piece of the record holds {piece.nbytes} bytes where {raw_size} are announced."
    )


def _checked(raw: bytes, raw_size: int, *, at_end: bool) -> bytes:
    if len(raw) != raw_size or not at_end:
        raise DamagedRecordError("A piece of the record decompresses to another size.")
    return raw
