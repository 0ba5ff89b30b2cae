"""Containers that earlier releases wrote stay readable.

The files in ``golden/`` are never written again. Running this module as a script adds those that
are missing; their names tell the version of the format, what they hold, and the codec. Those of
version 1 were written by qcsc-prefect-core 0.4.0 on Python 3.11, numpy 2.4, x86-64.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pytest

from qcsc_prefect.core.container.format import decode_container, encode_container, read_about

GOLDEN = Path(__file__).parent / "golden"
ABOUT = {"qcsc-prefect-core": "0.4.0", "note": "golden"}
VALUES = {
    "plain": {
        "none": None,
        "flags": [True, False],
        "numbers": (0, -1, 2**63, 2**64, -(2**200), 0.1, float("inf"), -0.0, 1 - 2j),
        "texts": ["", "ümlaut \N{GRINNING FACE}", "\udcff"],
        "bytes": b"\x00\xff",
        "long bytes": bytes(range(256)) * 32,
        1: {(2, "a"): "any key", None: frozenset({3, "x"})},
        "time": dt.datetime(2026, 11, 23, 1, 2, 3, 4, dt.UTC),
        "zone": dt.datetime(2026, 7, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-4), "EDT")),
        "slice": slice(None, 5, -1),
    },
    "arrays": {
        "c order": np.arange(12, dtype="<i4").reshape(3, 4),
        "fortran order": np.asfortranarray(np.linspace(0, 1, 6).reshape(2, 3)),
        "mixed order": np.arange(24, dtype="<u2").reshape(2, 3, 4).transpose(1, 0, 2),
        "big endian": np.array([1.5, -2.5], ">f8"),
        "bool": np.array([True, False]),
        "half": np.array([1.5], "<f2"),
        "complex": np.array([[1 + 2j]], "<c16"),
        "text": np.array(["a", "ümlaut"]),
        "times": np.array(["2026-01-02", "NaT"], "<M8[D]"),
        "struct": np.array([(1, 2.5)], [("a", "<i4"), ("b", "<f8", (1,))]),
        "objects": np.array([1, "x", None], object),
        "no axes": np.array(3, "|i1"),
        "empty": np.zeros((0, 2), "<f4"),
        "scalar": np.float32(0.5),
    },
    # More than one piece of 1 MiB; left out uncompressed.
    "pieces": {"steps": np.arange(400_000, dtype="<u4") // 5000},
}
CODECS = ("none", "zlib", "zstd")
CASES = [(n, c) for n in VALUES for c in CODECS if (n, c) != ("pieces", "none")]


def write_missing() -> None:
    for name, codec in CASES:
        path = GOLDEN / f"container-v1-{name}-{codec}.qcsc"
        if not path.exists():
            container = encode_container(VALUES[name], codec=codec, about=ABOUT)
            path.write_bytes(container.to_bytes())


@pytest.mark.parametrize(("name", "codec"), CASES)
def test_a_golden_container_is_read(name, codec):
    stored = (GOLDEN / f"container-v1-{name}-{codec}.qcsc").read_bytes()
    value = decode_container(stored)
    # Encoding tells types, bits, orders and memory layouts apart, so equal bytes are equal values.
    assert (
        encode_container(value, codec="none").to_bytes()
        == encode_container(VALUES[name], codec="none").to_bytes()
    )
    assert read_about(stored) == ABOUT


def test_this_release_writes_what_the_golden_file_holds():
    stored = (GOLDEN / "container-v1-plain-none.qcsc").read_bytes()
    assert encode_container(VALUES["plain"], codec="none", about=ABOUT).to_bytes() == stored


def test_the_worked_example_of_the_specification():
    example = json.loads((GOLDEN / "container-v1-worked-example.json").read_text())
    stored = bytes.fromhex("".join(example["bytes"]))
    assert decode_container(stored) == {"shots": 5, "x": (1.5, b"\x01")}
    assert encode_container({"shots": 5, "x": (1.5, b"\x01")}, codec="none").to_bytes() == stored


if __name__ == "__main__":
    write_missing()
