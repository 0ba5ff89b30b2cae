"""Looks for secrets where none may stand: in every file and database, through what encodes it.

A token does not lie about in plain text only. Results are stored in base64, archives are
compressed, Prefect's server spreads long values over the pages of a database, and one may stand
inside of the other. So whatever can be unpacked is unpacked, and each piece is searched.
"""

from __future__ import annotations

import base64
import bz2
import lzma
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from backports import zstd

__all__ = ["found_in", "found_in_text", "unpacked"]

#: Base64 of either alphabet, long enough to hold a secret.
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
#: It may be broken into lines, in a file of its own or inside of JSON.
_LINE_BREAKS = re.compile(rb"\\n|\r?\n")
_PLAIN_ALPHABET = bytes.maketrans(b"-_", b"+/")
_DATABASE = b"SQLite format 3\0"
#: Pages on their way into a database; its values are read through them.
_JOURNALS = ("-wal", "-shm", "-journal")
#: So many encodings deep a secret is looked for.
_DEPTH = 3
#: Values up to so many bytes are compared with those that were searched before.
_SHORT = 4096


def found_in(folder: Path, secrets: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which secrets stand anywhere below a folder, and where.

    Args:
        folder: Where to look.
        secrets: Texts to look for, by names that may be shown.

    Returns:
        For each secret that was found the files that hold it, with the table where it is a
        database.
    """
    found: dict[str, set[str]] = {}
    seen: set[bytes] = set()
    for place, content, depth in _contents_of(folder):
        # A database holds the same value many times.
        if content in seen:
            continue
        if len(content) < _SHORT:
            seen.add(content)
        for name in _found(content, secrets, depth):
            found.setdefault(name, set()).add(place)
    return found


def found_in_text(text: str, secrets: Mapping[str, str]) -> set[str]:
    """Return the names of those secrets that stand in a text, for example a log."""
    return _found(text.encode(), secrets)


def unpacked(content: bytes, depth: int = _DEPTH) -> Iterator[bytes]:
    """Yield bytes and whatever stands inside of them in base64 or compressed."""
    yield content
    if depth == 0:
        return
    for run_of_base64 in _BASE64.findall(_LINE_BREAKS.sub(b"", content)):
        for start in range(4):
            part = run_of_base64[start:].rstrip(b"=").translate(_PLAIN_ALPHABET)
            # A last character by itself is not a byte; two or three are, with their padding.
            part = part[: len(part) - (len(part) % 4 == 1)]
            yield from unpacked(base64.b64decode(part + b"=" * (-len(part) % 4)), depth - 1)
    for magic, decompress in _COMPRESSIONS:
        for match in re.finditer(re.escape(magic), content):
            try:
                yield from unpacked(decompress(content[match.start() :]), depth - 1)
            except (zlib.error, lzma.LZMAError, OSError, EOFError, zstd.ZstdError, ValueError):
                continue  # bytes that only look like it


def _found(content: bytes, secrets: Mapping[str, str], depth: int = _DEPTH) -> set[str]:
    wanted = {name: value.encode() for name, value in secrets.items()}
    return {
        name
        for piece in unpacked(content, depth)
        for name, value in wanted.items()
        if value in piece
    }


def _contents_of(folder: Path) -> Iterator[tuple[str, bytes, int]]:
    """Yield every file below a folder, and every value of the databases among them.

    Each comes with how many encodings deep it is worth a look.
    """
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        content = file.read_bytes()
        place = str(file.relative_to(folder))
        if content.startswith(_DATABASE):
            # Long values are spread over its pages: read them one by one. What was deleted still
            # stands in the file as it was.
            yield place, content, 0
            for table, value in _values_of(file):
                yield f"{place}, table {table}", value, _DEPTH
        else:
            yield place, content, 0 if file.name.endswith(_JOURNALS) else _DEPTH


def _values_of(database: Path) -> Iterator[tuple[str, bytes]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                yield from ((table, value.encode()) for value in row if isinstance(value, str))
                yield from ((table, value) for value in row if isinstance(value, bytes))


def _zlib(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data)


def _zstd(data: bytes) -> bytes:
    return zstd.ZstdDecompressor().decompress(data)


_COMPRESSIONS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (b"\x28\xb5\x2f\xfd", _zstd),
    (b"\xfd7zXZ\x00", lambda data: lzma.LZMADecompressor().decompress(data)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data)),
    (b"\x1f\x8b\x08", lambda data: zlib.decompressobj(31).decompress(data)),
    (b"\x78\x01", _zlib),
    (b"\x78\x9c", _zlib),
    (b"\x78\xda", _zlib),
]
