"""The canonical encoding tells different values apart, and nothing else."""

from __future__ import annotations

import array
import hashlib
import math
import struct
import subprocess
import sys
from collections import OrderedDict, UserDict, namedtuple
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcsc_prefect.core import (
    CanonicalRegistry,
    CanonicalWriter,
    build_input_digest,
    build_result_cache_key,
    build_submit_cache_key,
    canonical_bytes,
    digest_value,
    explain_difference,
)
from qcsc_prefect.core.errors import InputError, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Iterator

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=6)
    | st.complex_numbers()
)
keys = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=4)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


def model(value: object) -> object:
    """A hashable stand-in that is equal exactly for values that count as equal."""
    if isinstance(value, dict):
        return ("dict", frozenset((model(key), model(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return ("list", tuple(model(item) for item in value))
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    if isinstance(value, complex):
        return ("complex", struct.pack("<dd", value.real, value.imag))
    return (type(value).__name__, value)


def shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(item, random)) for key, item in value.items()]
        random.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return tuple(shuffled(item, random) for item in value)
    return value


@settings(max_examples=600)
@given(trees, trees)
def test_two_trees_share_a_digest_exactly_if_they_are_equal(one: object, other: object) -> None:
    assert (digest_value(one) == digest_value(other)) == (model(one) == model(other))


@settings(max_examples=300)
@given(trees, st.randoms(use_true_random=False))
def test_the_order_of_a_dict_and_the_kind_of_a_sequence_do_not_count(
    tree: object, random: Any
) -> None:
    assert digest_value(shuffled(tree, random)) == digest_value(tree)


@settings(max_examples=300)
@given(trees, trees)
def test_the_encoding_is_prefix_free(one: object, other: object) -> None:
    left, right = canonical_bytes(one), canonical_bytes(other)
    assert left == right or not (left.startswith(right) or right.startswith(left))


@settings(max_examples=300)
@given(trees, trees)
def test_a_difference_is_named_exactly_where_there_is_one(one: object, other: object) -> None:
    found = explain_difference({"a": one}, {"a": other})
    assert bool(found) == (model(one) != model(other))
    assert all(difference.path.startswith("a") for difference in found)


ALL_DIFFERENT: list[object] = [
    None,
    False,
    True,
    0,
    1,
    -1,
    2**64,
    -(2**64),
    0.0,
    -0.0,
    1.0,
    math.inf,
    -math.inf,
    math.nan,
    struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0],
    math.pi,
    math.nextafter(math.pi, 4),
    1j,
    complex(0.0, -0.0),
    "",
    "0",
    "1",
    "None",
    "é",
    "e\u0301",
    "\ud800",
    b"",
    b"0",
    [],
    [[]],
    [None],
    {},
    {"a": None},
    {"a": None, "b": None},
    {1: None},
    {"1": None},
    {None: None},
    set(),
    {1},
    {1, 2},
    [1, 2],
    [1, [2]],
    [[1], 2],
    ["ab", "c"],
    ["a", "bc"],
    np.zeros(2),
    np.zeros(2, np.float32),
    np.zeros(2, np.int64),
    np.zeros(2, np.uint64),
    np.zeros(2, bool),
    np.zeros(2, complex),
    np.zeros((2, 1)),
    np.zeros((1, 2)),
    np.zeros(0),
    np.zeros((0, 2)),
    np.float64(2.5),
    np.array(2.5),
    np.array(["a"]),
    np.array(["b"]),
    np.array([b"a"]),
    np.array(["a"], object),
    np.array([["a"]], object),
    np.array("a", object),
    np.array([None, 1], object),
    np.array(["2020-01-01"], "M8[D]"),
    np.array(["2020-01-02"], "M8[D]"),
    np.array(["2020-01-01"], "M8[s]"),
    np.array(["NaT"], "M8[s]"),
    np.array([3], "m8[s]"),
    np.array([3], "m8[25s]"),
]


def test_values_that_look_alike_differ() -> None:
    encodings = [canonical_bytes(value) for value in ALL_DIFFERENT]
    assert len(set(encodings)) == len(encodings)


Point = namedtuple("Point", "x y")


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
        (UserDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ({Colour.RED: 1}, {"red": 1}),
        (frozenset({1, "a"}), {"a", 1}),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[1:3], b"bc"),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.complex64(1j), 1j),
        ({np.int64(1): 2}, {1: 2}),
        (array.array("d", [1.5]), np.array([1.5])),
        (np.arange(6.0).reshape(2, 3).T, np.ascontiguousarray(np.arange(6.0).reshape(2, 3).T)),
        (np.arange(12)[::3], np.array([0, 3, 6, 9])),
        (np.arange(4, dtype=">i4"), np.arange(4, dtype="<i4")),
        (np.arange(4)[::-1], np.array([3, 2, 1, 0])),
        (np.array(["a"]), np.array(["a"], "U9")),
        (np.array(["2020"], ">M8[D]"), np.array(["2020"], "<M8[D]")),
        (np.broadcast_to(1.0, (3, 2)), np.ones((3, 2))),
    ],
)
def test_equal_contents_are_equal_whatever_holds_them(one: object, other: object) -> None:
    assert canonical_bytes(one) == canonical_bytes(other)


def test_large_arrays_of_any_layout_are_equal() -> None:
    values = np.random.default_rng(1).normal(size=(3, 200, 301))
    expected = digest_value(values)
    assert digest_value(np.asfortranarray(values)) == expected
    assert digest_value(np.moveaxis(np.moveaxis(values, 0, 2).copy(), 2, 0)) == expected
    assert digest_value(values.astype(">f8")) == expected
    wide = np.zeros((3, 400, 301))
    wide[:, ::2] = values
    assert digest_value(wide[:, ::2]) == expected
    changed = values.copy()
    changed[1, 100, 150] = np.nextafter(changed[1, 100, 150], 9)
    assert digest_value(changed) != expected


def test_long_lists_are_streamed() -> None:
    pieces: list[int] = []
    writer = CanonicalWriter(lambda piece: pieces.append(len(piece)))
    writer.write([float(number) for number in range(100_000)])
    writer.flush()
    assert sum(pieces) == 9 + 9 * 100_000
    assert max(pieces) < 100_000


class Unknown:
    def __repr__(self) -> str:
        raise AssertionError("an object's repr is not a part of its identity")

    __str__ = __repr__


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"options": {"environment": {"callback": Unknown()}}}, "options.environment.callback"),
        ({"pubs": [1, [Unknown()]]}, "pubs[1][0]"),
        ({"a key": Unknown()}, "['a key']"),
        ({"f": lambda: None}, "f"),
        ({"d": np.array([[1, object()]])}, "d[0][1]"),
        ({"d": np.array([(1, 2.0)], "i4,f8")}, "d"),
        ({"d": np.ma.masked_array([1.0, 2.0], mask=[True, False])}, "d"),
        ({"d": np.longdouble(1)}, "d"),
        ({"d": array.array("u", "ab")}, "d"),
        ({"d": range(3)}, "d"),
        ({"d": {(1, 2): 3}}, "d[<tuple>]"),
        ({"d": memoryview(np.arange(4))}, "d"),
    ],
)
def test_an_unknown_type_is_refused_with_its_path(value: object, path: str) -> None:
    with pytest.raises(UnsupportedTypeError) as caught:
        digest_value(value)
    assert caught.value.path == path
    assert isinstance(caught.value, TypeError)
    assert str(caught.value).startswith(path)


def test_a_value_that_contains_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(InputError, match="nested"):
        digest_value(endless)


@pytest.mark.parametrize("kind", ["list", "dict", "array", "set", "type"])
def test_values_nested_deeper_than_python_calls(kind: str) -> None:
    registry = registry_of()

    def build(innermost: object) -> object:
        value = innermost
        for level in range(20_000):
            if kind == "list":
                value = [level, value]
            elif kind == "dict":
                value = {"inside": value}
            elif kind == "array":
                value = np.array([None, value], object) if level % 2 else (value,)
            elif kind == "set":
                value = (frozenset([1, 2]), value)
            else:
                value = Detuning(level, value)
        return value

    found = [digest_value(build(innermost), registry=registry) for innermost in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    with pytest.raises(UnsupportedTypeError) as caught:
        digest_value({"start": [build({"end": Unknown()})]}, registry=registry)
    assert caught.value.path.startswith("start[0]")
    assert caught.value.path.endswith(".end")
    assert len(caught.value.path) <= 200


def test_differences_inside_of_arrays_of_objects_are_named() -> None:
    one, other = (np.array([[1, "a"], [None, x]], object) for x in (2**2000, 3))
    [found] = explain_difference({"a": one}, {"a": other})
    assert str(found) == "a[1][1]: an integer of 2001 bits and 3"
    [found] = explain_difference({"a": np.array(["x"])}, {"a": np.array(["y"])})
    assert str(found) == "a[0]: 'x' and 'y'"


class Detuning:
    def __init__(self, hertz: float, note: object = None) -> None:
        self.hertz = hertz
        self.note = note


class Chirp(Detuning):
    pass


def registry_of(version: int = 1, tag: str = "acme.detuning") -> CanonicalRegistry:
    def encode(_: CanonicalWriter, value: Detuning) -> Iterator[tuple[str, object]]:
        yield "hertz", value.hertz
        yield "note", value.note

    registry = CanonicalRegistry()
    registry.register(
        Detuning,
        tag=tag,
        version=version,
        encode=encode,
        describe=lambda value: {"hertz": value.hertz, "note": value.note},
    )
    return registry


def test_a_registered_type_is_written_under_its_tag_and_version() -> None:
    registry = registry_of()
    digests = {
        digest_value([Detuning(1.0)], registry=registry),
        digest_value([Detuning(2.0)], registry=registry),
        digest_value([Detuning(1.0)], registry=registry_of(version=2)),
        digest_value([Detuning(1.0)], registry=registry_of(tag="acme.other")),
        digest_value([1.0, None]),
    }
    assert len(digests) == 5
    assert digest_value(Chirp(1.0), registry=registry) == digest_value(
        Detuning(1.0), registry=registry
    )
    with pytest.raises(UnsupportedTypeError, match="Detuning"):
        digest_value(Detuning(1.0))
    with pytest.raises(UnsupportedTypeError) as caught:
        digest_value({"drive": Detuning(1.0, {"by": Unknown()})}, registry=registry)
    assert caught.value.path == "drive.note.by"
    with pytest.raises(ValueError, match="already"):
        registry.register(Detuning, tag="b", version=1, encode=lambda writer, value: None)
    with pytest.raises(ValueError, match="another type"):
        registry.register(Unknown, tag="acme.detuning", version=1, encode=lambda w, v: None)
    one, other = {"drives": [Detuning(1.0)]}, {"drives": [Detuning(1.5)]}
    found = explain_difference(one, other, registry=registry)
    assert [str(difference) for difference in found] == ["drives[0].hertz: 1.0 and 1.5"]


def test_differences_are_named_in_words() -> None:
    one = {"values": np.zeros((3, 4)), "options": {"a": 1, "b": [1, 2, 3]}, "only": None}
    other = {"values": np.zeros((3, 4)), "options": {"a": 1, "b": [1, 2]}, "more": "x"}
    other["values"][1, 2] = -0.0
    assert [str(difference) for difference in explain_difference(one, other)] == [
        "values: 1 of 12 values, the first at [1, 2]: 0.0 and -0.0",
        "options.b: 3 and 2 items",
        "only: None and nothing",
        "more: nothing and 'x'",
    ]
    assert len(explain_difference(one, other, limit=2)) == 2


def test_an_input_digest_depends_on_every_one_of_its_parts() -> None:
    base: dict[str, Any] = {
        "prefix": "acme-anneal-input",
        "inputs": {"couplings": [[0, 1, -1.0]]},
        "cache_scope": "flow",
        "flow_name": "ising",
        "cache_namespace": "n",
        "extra": {"device": 1},
    }
    changes: list[dict[str, Any]] = [
        {},
        {"prefix": "acme-other-input"},
        {"inputs": {"couplings": [[0, 1, 1.0]]}},
        {"flow_name": "other"},
        {"flow_name": None},
        {"cache_scope": "global"},
        {"cache_namespace": None},
        {"extra": None},
        {"extra": {}},
    ]
    digests = {build_input_digest(**{**base, **change}) for change in changes}
    assert len({digest.rpartition("-")[2] for digest in digests}) == len(changes)
    for digest in digests:
        assert len(digest.rpartition("-")[2]) == 64
    both = {**base, "cache_scope": "global"}
    assert build_input_digest(**both) == build_input_digest(**{**both, "flow_name": "other"})
    for wrong in (
        {"cache_scope": "task"},
        {"prefix": "Acme"},
        {"inputs": {"extra": 1}},
        {"inputs": [1]},
    ):
        with pytest.raises(InputError, match=r"cache_scope|prefix|taken|a mapping of names"):
            build_input_digest(**{**base, **wrong})


def test_cache_keys_hold_the_configuration() -> None:
    keys = {
        build(prefix, **{name: text}, configuration=configuration)  # type: ignore[operator]
        for build, name in (
            (build_submit_cache_key, "input_digest"),
            (build_result_cache_key, "job_id"),
        )
        for prefix in ("acme", "other")
        for text in ("a", "b")
        for configuration in (None, "lab", {"instance": "lab"}, {"instance": None}, {})
    }
    assert len(keys) == 2 * 2 * 2 * 5


def test_digests_are_the_same_in_another_process_with_another_hash_seed() -> None:
    program = (
        "from qcsc_prefect.core import digest_value;"
        "print(digest_value({'b': {1, 'x', b'y'}, 'a': [1.5, None, {'z': 2, 'k': True}]}))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert printed == {digest_value({"a": [1.5, None, {"k": True, "z": 2}], "b": {b"y", "x", 1}})}


def test_the_specification_is_enough_to_write_the_bytes() -> None:
    """The example of docs/identity.md, built by hand."""

    def text(value: str) -> bytes:
        return b"s" + struct.pack("<Q", len(value)) + value.encode()

    expected = (
        b"d"
        + struct.pack("<Q", 2)
        + text("seed")
        + b"N"
        + text("shots")
        + (b"i" + struct.pack("<Q", 2) + struct.pack("<h", 1024))
    )
    assert canonical_bytes({"shots": 1024, "seed": None}) == expected
    whole = b"qcsc-prefect/canonical" + struct.pack("<Q", 1) + text("") + expected
    assert digest_value({"shots": 1024, "seed": None}) == hashlib.sha256(whole).hexdigest()
