"""Decoded results share one buffer, which the garbage collector may meet in any order."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest

from qcsc_prefect.integrations.qiskit.results.base64_pieces import (
    decode_pieces,
    encode_pieces,
    text_pieces,
)


class Holder:
    """Holds arrays over a buffer in a cycle, as results in a failed run's traceback are held."""

    def __init__(self, buffer: memoryview) -> None:
        self.arrays = [np.frombuffer(buffer, np.uint8), np.frombuffer(buffer[1:], np.uint8)]
        self.itself = self


def test_arrays_over_a_decoded_buffer_are_collected_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
):
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    text = b"".join(encode_pieces([bytes(range(256)) * 400]))
    for _ in range(20):
        holder = Holder(decode_pieces(text_pieces(text)))
        assert holder.arrays[1][0] == 1
        del holder
        gc.collect()
    assert unraisable == []
