"""An output of a task as base64 text, and back: a container in zstd, in pieces."""

from __future__ import annotations

import functools
from importlib.metadata import version
from typing import TYPE_CHECKING

from qcsc_prefect.core.container import decode_container, encode_container

from .base64_pieces import decode_pieces, encode_pieces, text_pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def encode_output(output: object) -> Iterator[bytes]:
    """The base64 text of an output's container, piece by piece.

    Raises:
        UnsupportedTypeError: The output, or a value inside it, has no place in a container.
    """
    container = encode_container(output, codec="zstd", about=producer_versions())
    return encode_pieces(container.chunks)


def decode_output(text: bytes | memoryview) -> object:
    """The output whose base64 text this is.

    Raises:
        RecordError: The text is damaged, or this release cannot read it.
    """
    return decode_output_pieces(text_pieces(text))


def decode_output_pieces(pieces: Iterable[bytes | memoryview]) -> object:
    """The output whose base64 text these pieces are.

    Args:
        pieces: The text; every piece but the last has a multiple of four characters.

    Raises:
        RecordError: The text is damaged, or this release cannot read it.
    """
    return decode_container(decode_pieces(pieces))


@functools.cache
def producer_versions() -> dict[str, str]:
    """The versions of the packages that make and store results."""
    packages = ("qcsc-prefect-core", "qcsc-prefect-qiskit", "qiskit", "qiskit-ibm-runtime", "numpy")
    return {package: version(package) for package in packages}
