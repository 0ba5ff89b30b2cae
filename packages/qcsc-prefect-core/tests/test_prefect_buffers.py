"""A decoded result's buffer may be garbage, which is collected in any order."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from qcsc_prefect.core.prefect.base64_pieces import (
    decode_pieces,
    encode_pieces,
    text_pieces,
)


class Holder:
    """Holds a buffer in a cycle, as the frames of a traceback do."""

    def __init__(self, buffer: memoryview) -> None:
        self.buffer = buffer
        self.itself = self


def test_a_decoded_buffer_in_a_cycle_is_collected_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
):
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    text = b"".join(encode_pieces([bytes(range(256)) * 400]))
    holder = Holder(decode_pieces(text_pieces(text)))
    assert holder.buffer[1] == 1
    del holder
    gc.collect()
    # Python 3.13 reports a BytesIO that is closed while its buffer is in use.
    assert unraisable == []
