"""The canonical encoding, pinned byte by byte.

``vectors/canonical.json`` holds values in a notation that JSON can carry, their canonical bytes and
their digests. `reference` below is the specification of ``docs/identity.md`` in its plainest form;
it wrote the file, and both it and the package must reproduce it. After a deliberate change of the
encoding, and of its version with it, ``QCSC_PREFECT_WRITE_VECTORS=1`` writes the file anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcsc_prefect.core import SCHEMA_VERSION, canonical_bytes, digest_value

VECTORS = Path(__file__).parent / "vectors" / "canonical.json"

ORIGIN = (
    "Written by the function `reference` of test_canonical_vectors.py, which follows "
    "docs/identity.md and shares no code with the package."
)

#: Values in the notation of the file: a kind and what it needs.
VALUES: list[list[Any]] = [
    ["none"],
    ["bool", False],
    ["bool", True],
    *(["int", str(n)] for n in (0, 1, -1, 127, 128, -128, -129, 255, 32767, 2**63, -(2**64))),
    *(["float", x.hex()] for x in (0.0, -0.0, 1.0, 0.1, 5e-324, 1.7976931348623157e308)),
    ["float", "inf"],
    ["float", "nan"],
    ["complex", (0.5).hex(), (-2.0).hex()],
    *(["str", text] for text in ("", "shots", "é", "日本", "\ud800", "a\x00b")),
    ["bytes", ""],
    ["bytes", "00ff10"],
    ["list"],
    ["list", ["none"], ["list", ["int", "1"]], ["str", "x"]],
    ["dict"],
    ["dict", [["str", "b"], ["int", "1"]], [["str", "aa"], ["none"]], [["int", "7"], ["none"]]],
    ["dict", [["none"], ["bool", True]], [["bool", True], ["none"]], [["str", ""], ["none"]]],
    ["set", ["int", "2"], ["str", "a"], ["int", "1"]],
    ["array", "float64", [2, 3], [0.5, -0.0, 1.0, 2.0, 3.0, 4.0]],
    ["array", "float32", [1], [0.25]],
    ["array", "int16", [2], [1, -2]],
    ["array", "uint64", [1], [2**63]],
    ["array", "bool", [3], [True, False, True]],
    ["array", "complex128", [], [1.0]],
    ["array", "float64", [0, 4], []],
    ["dict", [["str", "options"], ["dict", [["str", "shots"], ["int", "1024"]]]]],
]


def value_of(notation: list[Any]) -> Any:
    kind, *rest = notation
    match kind:
        case "none":
            return None
        case "int":
            return int(rest[0])
        case "float":
            return float.fromhex(rest[0])
        case "complex":
            return complex(*map(float.fromhex, rest))
        case "bytes":
            return bytes.fromhex(rest[0])
        case "list":
            return [value_of(item) for item in rest]
        case "dict":
            return {value_of(key): value_of(item) for key, item in rest}
        case "set":
            return {value_of(item) for item in rest}
        case "array":
            return np.array(rest[2], dtype=rest[0]).reshape(rest[1])
    return rest[0]


def reference(notation: list[Any]) -> bytes:
    def count(number: int) -> bytes:
        return struct.pack("<Q", number)

    kind, *rest = notation
    match kind:
        case "none":
            return b"N"
        case "bool":
            return b"T" if rest[0] else b"F"
        case "int":
            number = int(rest[0])
            size = abs(number).bit_length() // 8 + 1
            return b"i" + count(size) + (number % 2 ** (8 * size)).to_bytes(size, "little")
        case "float":
            return b"f" + struct.pack("<d", float.fromhex(rest[0]))
        case "complex":
            return b"c" + struct.pack("<dd", *map(float.fromhex, rest))
        case "str":
            text = rest[0].encode("utf-8", "surrogatepass")
            return b"s" + count(len(text)) + text
        case "bytes":
            data = bytes.fromhex(rest[0])
            return b"b" + count(len(data)) + data
        case "list":
            return b"l" + count(len(rest)) + b"".join(reference(item) for item in rest)
        case "dict":
            entries = sorted((reference(key), reference(item)) for key, item in rest)
            return b"d" + count(len(rest)) + b"".join(key + item for key, item in entries)
        case "set":
            return b"e" + count(len(rest)) + b"".join(sorted(reference(item) for item in rest))
        case "array":
            dtype = np.dtype(rest[0])
            code = {"f": "d" if dtype.itemsize == 8 else "f", "b": "?"}.get(dtype.kind)
            code = code or {"int16": "h", "uint64": "Q", "complex128": "dd"}[rest[0]]
            data = b"".join(
                struct.pack("<" + code, *((v, 0.0) if dtype.kind == "c" else (v,))) for v in rest[2]
            )
            head = b"a" + dtype.kind.encode() + bytes([dtype.itemsize]) + count(len(rest[1]))
            return head + b"".join(count(length) for length in rest[1]) + data
    raise AssertionError(kind)


def test_the_vectors_hold_every_value() -> None:
    if os.environ.get("QCSC_PREFECT_WRITE_VECTORS"):
        magic = b"qcsc-prefect/canonical" + struct.pack("<Q", SCHEMA_VERSION) + b"s" + bytes(8)
        vectors = [
            {
                "value": notation,
                "bytes": reference(notation).hex(),
                "digest": hashlib.sha256(magic + reference(notation)).hexdigest(),
            }
            for notation in VALUES
        ]
        content = {"origin": ORIGIN, "schema_version": SCHEMA_VERSION, "vectors": vectors}
        VECTORS.write_text(json.dumps(content, indent=1) + "\n")
    content = json.loads(VECTORS.read_text())
    assert content["schema_version"] == SCHEMA_VERSION
    assert [vector["value"] for vector in content["vectors"]] == json.loads(json.dumps(VALUES))


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_the_encoding_is_that_of_the_vectors(number: int) -> None:
    vector = json.loads(VECTORS.read_text())["vectors"][number]
    value = value_of(vector["value"])
    assert reference(vector["value"]).hex() == vector["bytes"]
    assert canonical_bytes(value).hex() == vector["bytes"]
    assert digest_value(value) == vector["digest"]
