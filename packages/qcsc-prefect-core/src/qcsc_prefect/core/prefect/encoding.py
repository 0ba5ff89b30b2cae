"""An output of a task as base64 text, and back: a container in zstd, in pieces."""

from __future__ import annotations

import contextlib
import functools
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from qcsc_prefect.core.container.format import DecodedContainer, encode_container, read_container
from qcsc_prefect.core.prefect.base64_pieces import decode_pieces, encode_pieces, text_pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Under which of the container's facts its record's key stands.
KEY_FACT = "key"


def encode_output(output: object, key: str | None = None) -> Iterator[bytes]:
    """The base64 text of an output's container, piece by piece.

    Args:
        output: The output.
        key: The key of the record that it is for, where that is known; the container names it.

    Raises:
        UnsupportedTypeError: The output, or a value inside it, has no place in a container.
    """
    about = producer_versions() if key is None else {**producer_versions(), KEY_FACT: key}
    container = encode_container(output, codec="zstd", about=about)
    return encode_pieces(container.chunks)


def decode_output(text: bytes | memoryview) -> DecodedContainer:
    """The output whose base64 text this is.

    Raises:
        RecordError: The text is damaged, or this release cannot read it.
    """
    return decode_output_pieces(text_pieces(text))


def decode_output_pieces(pieces: Iterable[bytes | memoryview]) -> DecodedContainer:
    """The output whose base64 text these pieces are.

    Args:
        pieces: The text; every piece but the last has a multiple of four characters.

    Raises:
        RecordError: The text is damaged, or this release cannot read it.
    """
    return read_container(decode_pieces(pieces))


@functools.cache
def producer_versions() -> dict[str, str]:
    """The versions of the packages that make and store results, as far as they are installed."""
    packages = ("qcsc-prefect-core", "qcsc-prefect-qiskit", "qiskit", "qiskit-ibm-runtime", "numpy")
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
