"""Damaged, foreign and forged containers: an error of ours, and nothing executed.

The long form runs as many examples as it is told::

    QCSC_PREFECT_FUZZ_EXAMPLES=100000 uv run pytest -n0 -k "container or forge" packages
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import tracemalloc
import zlib
import zoneinfo

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qcsc_prefect.core.container.format import FORMAT_VERSION, decode_container, encode_container
from qcsc_prefect.core.container.nodes import has_more_nodes
from qcsc_prefect.core.container.value_types import value_type_named
from qcsc_prefect.core.errors import (
    ConfigurationError,
    DamagedRecordError,
    FormatVersionError,
    RecordError,
)

EXAMPLES = int(os.environ.get("QCSC_PREFECT_FUZZ_EXAMPLES", "300"))
PREAMBLE = struct.Struct("<8sHHIQ")
FORBIDDEN_EVENTS = (
    "compile",
    "ctypes.",
    "exec",
    "import",
    "marshal.",
    "os.exec",
    "os.posix_spawn",
    "os.system",
    "pickle.",
    "socket.",
    "subprocess.",
)


class Watch:
    """Records what an audit hook sees while it is on; a hook cannot be taken away again."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.on and event.startswith(FORBIDDEN_EVENTS):
            self.seen.append(f"{event} {arguments!r:.100}")

    def __enter__(self) -> Watch:
        self.seen.clear()
        self.on = True
        return self

    def __exit__(self, *_: object) -> None:
        self.on = False


watch = Watch()

VALUE = {
    "result": [np.arange(600, dtype="<i4").reshape(20, 30), np.array([1, "x", None], object)],
    "text": "ümlaut",
    "nested": {"a": (1, 2.5, 3j, b"raw", 2**80), "z": [None, True, slice(1, 2)]},
    "scalar": np.float32(0.5),
}


def stored(codec: str = "zlib") -> bytes:
    return encode_container(VALUE, codec=codec, about={"python": "3"}).to_bytes()


def sealed(head: bytes, body: bytes, version: int = FORMAT_VERSION) -> bytes:
    """A container with a valid hash around anything, as whoever can write to storage can make."""
    preamble = PREAMBLE.pack(b"\x89QCSC\r\n\x1a", version, 0, len(head), len(body))
    return preamble + hashlib.sha256(preamble + head + body).digest() + head + body


def around(tree: object, buffers: list[bytes] = []) -> bytes:  # noqa: B006
    raw = [msgspec.msgpack.encode(tree), *buffers]
    tables = [[len(b), [len(b)] if b else []] for b in raw]
    head = {"codec": "none", "piece_size": 1 << 20, "buffers": tables, "about": {}}
    return sealed(msgspec.msgpack.encode(head), b"".join(raw))


def read_watched(data: bytes) -> object:
    """Read, and insist that it ends in a value or in one of our errors, with nothing executed."""
    try:
        with watch:
            value = decode_container(data)
    except RecordError:
        value = None
    assert watch.seen == []
    return value


@pytest.fixture(scope="module", autouse=True)
def _providers_loaded():
    # Providers are imported on their first use; afterwards nothing may be.
    decode_container(stored())
    decode_container(encode_container([{1, 2}, zoneinfo.ZoneInfo("UTC")]).to_bytes())
    decode_container(stored("zstd"))
    for name in ("dateutil/tzutc", "qiskit/BitArray", "nowhere/nothing"):
        value_type_named(name)


def test_the_watch_sees_what_it_must():
    with watch:
        eval("1")
    assert any(event.startswith("compile") for event in watch.seen)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=400))
def test_foreign_bytes_are_refused(data):
    with pytest.raises(RecordError):
        decode_container(data)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data(), st.sampled_from(["none", "zlib", "zstd"]))
def test_every_damage_is_noticed(data, codec):
    whole = stored(codec)
    kind = data.draw(st.sampled_from(["flip", "cut", "grow", "swap"]))
    place = data.draw(st.integers(0, len(whole) - 1))
    if kind == "flip":
        bit = data.draw(st.integers(0, 7))
        damaged = whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
    elif kind == "cut":
        damaged = whole[:place]
    elif kind == "grow":
        damaged = whole[:place] + data.draw(st.binary(min_size=1, max_size=9)) + whole[place:]
    else:
        damaged = whole[place:] + whole[:place]
    if damaged != whole:
        with pytest.raises(DamagedRecordError):
            decode_container(damaged)


def test_a_newer_version_is_refused_by_its_number():
    with pytest.raises(FormatVersionError, match=f"version {FORMAT_VERSION + 1}"):
        decode_container(sealed(b"whatever", b"a later release lays out", FORMAT_VERSION + 1))


msgpack_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=25,
)
TAGS = ["l", "t", "d", "c", "i", "b", "u", "@", "x"]
TYPE_NAMES = [
    *(f"builtins/{n}" for n in ("set", "frozenset", "bytearray", "slice", "range", "Ellipsis")),
    *(f"builtins/{n}" for n in ("OrderedDict", "date", "datetime", "time", "timedelta")),
    *(f"builtins/{n}" for n in ("timezone", "ZoneInfo", "UUID", "Decimal", "Fraction")),
    *(f"numpy/{n}" for n in ("ndarray", "str", "bytes", "int64", "float16", "void")),
    *("numpy/datetime64", "numpy/nothing", "os/system", "builtins/eval", "", "/", "dateutil/tzutc"),
]
forms = st.sampled_from(["<f8", "|V3", "<M8[ns]", "|O", "<U2", "O8", "i4,f8", "<i8", "\0", "|S0"])
plain_nodes = (
    msgpack_values
    | forms
    | st.sampled_from(TYPE_NAMES)
    | st.lists(st.integers(0, 5), max_size=4).map(lambda items: ["l", *items])
    | st.sampled_from([["@", 0], ["@", 1], ["@", 2], ["@", 9], ["@", -1], ["@", True]])
)
nodes = st.recursive(
    plain_nodes,
    lambda inner: (
        st.tuples(st.sampled_from(TAGS), st.lists(inner, max_size=6)).map(
            lambda tagged: [tagged[0], *tagged[1]]
        )
        | st.tuples(st.sampled_from(TYPE_NAMES), st.lists(inner, max_size=6)).map(
            lambda typed: ["x", [typed[0]], *typed[1]]
        )
    ),
    max_leaves=20,
)
array_nodes = st.builds(
    lambda form, shape, axes, elements: ["x", ["numpy/ndarray"], form, shape, axes, *elements],
    forms | nodes,
    st.lists(st.integers(0, 2**40) | st.integers(0, 4), max_size=4).map(lambda s: ["l", *s])
    | nodes,
    st.permutations(range(3)).map(lambda s: ["l", *s]) | st.just(["l"]) | nodes,
    st.lists(nodes, max_size=3),
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(nodes | array_nodes, st.lists(st.binary(max_size=64), max_size=2))
@example(["x", ["os/system"], "true"], [])
@example(["x", ["builtins/bytearray"], 2**40], [])
@example(["x", ["numpy/ndarray"], "<f8", ["l", 2**40], ["l", 0], ["@", 1]], [b"x" * 8])
@example(["x", ["numpy/ndarray"], "|V0", ["l", 2**62, 2**62], ["l", 0, 1], ["@", 1]], [b""])
@example(["x", ["numpy/ndarray"], "|O", ["l", 2**40], ["l", 0]], [])
@example(["x", ["builtins/Decimal"], "9" * 50], [])
@example(["x", ["builtins/UUID"], "not bytes"], [])
@example(["x", ["builtins/ZoneInfo"], "../../etc/passwd"], [])
@example(["x", ["builtins/ZoneInfo"], "os.path"], [])
def test_a_forged_structure_executes_nothing(tree, buffers):
    read_watched(around(tree, buffers))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_forged_bytes_under_a_valid_hash_execute_nothing(head, body):
    read_watched(sealed(head, body))


heads = st.fixed_dictionaries(
    {
        "codec": st.sampled_from(["none", "zlib", "zstd", "pickle", ""]),
        "piece_size": st.sampled_from([0, 1, 3, 1 << 20, 1 << 24, 1 << 40, -1]),
        "buffers": st.lists(
            st.tuples(
                st.integers(-1, 70) | st.sampled_from([2**40, 2**63]),
                st.lists(st.integers(-2, 40), max_size=4),
            ),
            max_size=3,
        ),
    },
    optional={"about": st.dictionaries(st.text(max_size=3), st.text(max_size=3))},
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(heads, st.binary(max_size=100))
def test_a_forged_table_of_buffers_executes_nothing(head, body):
    read_watched(sealed(msgspec.msgpack.encode(head), body))


@pytest.mark.parametrize("depth", [101, 300, 5_000, 200_000])
def test_a_forged_nesting_is_refused(depth):
    packed = b"\x92\xa1l" * depth + b"\xc0"
    head = {
        "codec": "none",
        "piece_size": 1 << 24,
        "buffers": [[len(packed), [len(packed)]]],
    }
    with pytest.raises(DamagedRecordError):
        decode_container(sealed(msgspec.msgpack.encode(head), packed))


@pytest.mark.parametrize("tree", [["@", 1], ["l", ["@", 1]], ["d", "k", ["@", 1]], ["b", ["l"]]])
def test_a_buffer_outside_a_typed_value_is_refused(tree):
    with pytest.raises(DamagedRecordError):
        decode_container(around(tree, [b"raw"]))


def test_a_piece_that_grows_is_refused_before_it_has_grown():
    bomb = zlib.compress(bytes(50_000_000), 9)
    head = {"codec": "zlib", "piece_size": 1 << 20, "buffers": [[1000, [len(bomb)]]]}
    with pytest.raises(DamagedRecordError, match="another size"):
        decode_container(sealed(msgspec.msgpack.encode(head), bomb))


def head_of(*tables: tuple[int, list[int]], piece_size: int = 1 << 20) -> bytes:
    return msgspec.msgpack.encode(
        {"codec": "zlib", "piece_size": piece_size, "buffers": tables, "about": {}}
    )


def array_of(size: int, *buffers: int) -> list[object]:
    return [
        "l",
        *(["x", ["numpy/ndarray"], "|u1", ["l", size], ["l", 0], ["@", n]] for n in buffers),
    ]


def bombs(limit: int) -> dict[str, bytes]:
    """Small files that would take twice the limit and more."""
    piece = zlib.compress(bytes(1 << 20), 9)
    twice = 2 * limit
    once = msgspec.msgpack.encode(array_of(twice, 1))
    often = msgspec.msgpack.encode(array_of(limit // 16, *[1] * 32))
    lists = b"\xdd" + (twice // 64).to_bytes(4, "big") + b"\x90" * (twice // 64)
    packed = zlib.compress(lists, 9)
    large = (twice, [len(piece)] * (twice >> 20))
    small = (limit // 16, [len(piece)] * (limit >> 24))
    return {
        "a large buffer": sealed(
            head_of((len(once), [len(once)]), large), once + piece * len(large[1])
        ),
        "a buffer named often": sealed(
            head_of((len(often), [len(often)]), small), often + piece * len(small[1])
        ),
        "a size below zero beside a large one": sealed(
            head_of((len(once), [len(once)]), large, (-twice, [])), once + piece * len(large[1])
        ),
        "a structure of empty lists": sealed(
            head_of((len(lists), [len(packed)]), piece_size=1 << 24), packed
        ),
    }


@pytest.mark.parametrize("name", list(bombs(1 << 26)))
def test_a_container_that_would_take_more_than_the_limit_is_refused_before(monkeypatch, name):
    limit = 1 << 26
    monkeypatch.setenv("QCSC_PREFECT_MAX_RECORD_BYTES", str(limit))
    bomb = bombs(limit)[name]
    assert len(bomb) < limit >> 8
    tracemalloc.start()
    try:
        with pytest.raises(RecordError):
            decode_container(bomb)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < limit


def test_a_container_says_what_limit_it_needs(monkeypatch):
    whole = encode_container(np.zeros(1 << 16)).to_bytes()
    monkeypatch.setenv("QCSC_PREFECT_MAX_RECORD_BYTES", str(1 << 19))
    with pytest.raises(RecordError, match=r"524\d+ bytes.*QCSC_PREFECT_MAX_RECORD_BYTES"):
        decode_container(whole)
    monkeypatch.setenv("QCSC_PREFECT_MAX_RECORD_BYTES", str(1 << 20))
    assert decode_container(whole).shape == (1 << 16,)


@pytest.mark.parametrize("text", ["", "0", "-1", "1e9", "x", "\u0663", "9" * 19])
def test_a_limit_of_containers_that_is_no_number_is_refused(monkeypatch, text):
    whole = stored()
    monkeypatch.setenv("QCSC_PREFECT_MAX_RECORD_BYTES", text)
    with pytest.raises(ConfigurationError, match="QCSC_PREFECT_MAX_RECORD_BYTES"):
        decode_container(whole)


@settings(max_examples=EXAMPLES, deadline=None)
@given(msgpack_values)
def test_the_values_of_a_container_are_counted(value):
    def count(item: object) -> int:
        if isinstance(item, list):
            return 1 + sum(map(count, item))
        if isinstance(item, dict):
            return 1 + sum(count(key) + count(entry) for key, entry in item.items())
        return 1

    packed = msgspec.msgpack.encode(value)
    values = count(value)
    assert not has_more_nodes(packed, values)
    assert has_more_nodes(packed, values - 1)
