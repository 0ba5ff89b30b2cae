"""What goes into a container comes out of it: types, bits, order."""

from __future__ import annotations

import datetime as dt
import math
import os
import struct
import time
import uuid
import zoneinfo
from collections import OrderedDict
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from dateutil import tz
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from qcsc_prefect.core.container.format import (
    StoredValue,
    decode_container,
    encode_container,
    read_about,
    read_container,
)
from qcsc_prefect.core.container.value_types import Part, ValueType, register_value_type
from qcsc_prefect.core.errors import ConfigurationError, RecordError, UnsupportedTypeError

EXAMPLES = int(os.environ.get("QCSC_PREFECT_FUZZ_EXAMPLES", "150"))


def same(one: object, other: object) -> bool:
    """Whether two values are alike down to types, bits, order of dicts and memory order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack("<d", one) == struct.pack("<d", other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, np.ndarray):
        return same_array(one, other)
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, dt.datetime | dt.time):
        return one == other and one.fold == other.fold and repr(one.tzinfo) == repr(other.tzinfo)
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    return one == other


def same_array(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    # Gaps between the elements are not kept; what is left is numpy's own copy in order "K".
    dense = other.copy(order="K")
    if one.nbytes and (one.flags.c_contiguous, one.strides) != (
        dense.flags.c_contiguous,
        dense.strides,
    ):
        return False
    if one.dtype.hasobject:
        return same(one.ravel().tolist(), other.ravel().tolist())
    return one.tobytes() == other.tobytes()


def through(value: object, codec: str = "zlib") -> object:
    return decode_container(encode_container(value, codec=codec).to_bytes())


time_zones = (
    st.none()
    | st.just(dt.UTC)
    | st.sampled_from(sorted(zoneinfo.available_timezones())).map(zoneinfo.ZoneInfo)
    | st.builds(
        dt.timezone,
        st.integers(-1000, 1000).map(lambda m: dt.timedelta(minutes=m)),
        st.text("ab", min_size=1),
    )
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(width=64)
    | st.complex_numbers()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.datetimes(timezones=time_zones)
    | st.dates()
    | st.timedeltas()
    | st.uuids()
    | st.fractions()
    | st.decimals()
)
keys = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.binary()
    | st.tuples(st.integers(), st.text())
)
plain = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.frozensets(st.integers() | st.text())
    ),
    max_leaves=20,
)
array_dtypes = (
    npst.scalar_dtypes()
    | npst.unicode_string_dtypes(max_len=5)
    | npst.byte_string_dtypes(max_len=5)
    | npst.datetime64_dtypes()
    | npst.array_dtypes(npst.scalar_dtypes(), max_size=4, allow_subarrays=True)
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(plain, st.sampled_from(["none", "zlib", "zstd"]))
def test_plain_values_come_back_exactly(value, codec):
    assert same(through(value, codec), value)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_arrays_come_back_exactly(data):
    dtype = data.draw(array_dtypes)
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    size = math.prod(shape) * dtype.itemsize
    raw = data.draw(st.binary(min_size=size, max_size=size))
    if dtype.kind in "US" or dtype.kind == "V":
        raw = bytes(size)
    array = np.ndarray(shape, dtype, buffer=bytearray(raw) or None)
    array = array.transpose(data.draw(st.permutations(range(array.ndim))))
    back = through(array)
    assert same(back, array)
    assert back.flags.writeable
    assert back.flags.aligned


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        np.arange(10)[::-2],
        np.broadcast_to(np.int8(3), (2, 5)),
        np.array(["a", "ümlaut", ""]),
        np.array([b"a\0b", b""]),
        np.array([1, 2], ">u2"),
        np.array([1.5, np.nan, -0.0], np.float16),
        np.array([1, 1 / 3], np.longdouble),
        np.array([1 + 2j], np.clongdouble),
        np.array(["2026-01-01", "NaT"], "M8[25s]"),
        np.array([(1, 2.5, "x")], [("a", "<i4"), ("b", ">f8"), ("c", "U3")]),
        np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        np.zeros(2, np.dtype({"names": ["a"], "formats": ["i2"], "offsets": [6], "itemsize": 9})),
        np.zeros(2, np.dtype([("m", "<f4", (2, 3))])),
        np.zeros(3, "V5"),
        np.ndarray((3,), "<U0"),
        np.zeros((0, 4)),
        np.array(7),
        np.array([1, None, "x", (2, [3])], object),
        np.array(["text", "other"], np.dtypes.StringDType()),
        np.array(["text", None], np.dtypes.StringDType(na_object=None)),
    ],
    ids=lambda array: f"{array.dtype}"[:40],
)
def test_an_array_of_every_kind_comes_back(array):
    assert same(through(array), array)


def test_an_object_array_without_axes_keeps_its_list():
    array = np.empty((), object)
    array[()] = [1, 2]
    assert through(array)[()] == [1, 2]


@pytest.mark.parametrize("scalar_type", sorted(set(np.sctypeDict.values()), key=str))
def test_every_numpy_scalar_comes_back(scalar_type):
    if scalar_type is np.object_:
        pytest.skip("there are no scalars of it")
    scalar = {
        np.void: lambda: np.array([(1, 2.0)], "i4,f8")[0],
        np.str_: lambda: np.str_("a\0"),
        np.bytes_: lambda: np.bytes_(b"a\0"),
        np.datetime64: lambda: np.datetime64("2026-02-03T04", "h"),
        np.timedelta64: lambda: np.timedelta64(3, "D"),
    }.get(scalar_type, lambda: scalar_type(1))()
    assert same(through(scalar), scalar)


@pytest.mark.parametrize(
    "value",
    [
        {1: "int", "1": "str", (1, "a"): "tuple", None: 0, 2.5: 1, b"k": 2},
        OrderedDict([("z", 1), ("a", 2)]),
        {"nested": {"z": [(), [], {}, set(), frozenset({3})]}},
        struct.unpack("<d", struct.pack("<Q", 0x7FF8DEADBEEF0001))[0],
        -(2**63),
        2**64 - 1,
        2**64,
        -(2**63) - 1,
        10**5000,
        {10**5000: [1], "s": {10**5000, 1}},
        "\ud800 lone",
        b"x" * 100_000,
        bytearray(b"abc"),
        slice(1, None, -2),
        range(3, 10, 2),
        ...,
        dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        dt.time(1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2), "CEST")),
        uuid.UUID(int=5),
        Decimal("-0.10"),
        Fraction(1, 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_special_values_come_back(value):
    assert same(through(value), value)


def test_a_local_time_that_is_read_elsewhere_keeps_its_instant(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        when = dt.datetime(2026, 7, 1, 12, tzinfo=tz.tzlocal())
        stored = encode_container(when).to_bytes()
        assert type(decode_container(stored).tzinfo) is tz.tzlocal
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        elsewhere = decode_container(stored)
        assert elsewhere == dt.datetime(2026, 7, 1, 16, tzinfo=dt.UTC)
        assert elsewhere.hour == 12
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"result": [1, {"x": object()}]}, "result[1]['x']"),
        ([{(1, 2): {"y": print}}], "[0][(1, 2)]['y']"),
        ({"a": np.ma.masked_array([1])}, "a"),
        ({"a": np.array([1, object()], object)}, "a[1]"),
        ({"t": {object(): 1}}, "t (a key)"),
        ({"c": type("Counts", (dict,), {})()}, "c"),
        (object(), ""),
    ],
)
def test_a_value_without_a_place_is_refused_with_its_path(value, path):
    with pytest.raises(UnsupportedTypeError) as caught:
        encode_container(value)
    assert caught.value.path == path
    assert path in str(caught.value)


def test_a_value_that_contains_itself_is_refused():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(UnsupportedTypeError, match="contains itself"):
        encode_container({"loop": endless})


def test_a_hundred_levels_come_back_and_one_more_is_refused():
    value: object = "leaf"
    for _ in range(100):
        value = [value]
    assert through(value) == value
    with pytest.raises(UnsupportedTypeError, match="deeper than 100"):
        encode_container([value])


def test_the_same_value_gives_the_same_bytes():
    def stored() -> bytes:
        return encode_container({"s": {"b", "a", 3}, "x": np.arange(5)}).to_bytes()

    assert stored() == stored()


def test_facts_about_the_origin_are_read_alone():
    stored = encode_container([1], about={"vendor": "imaginary 2.0"}).to_bytes()
    assert read_about(stored) == {"vendor": "imaginary 2.0"}
    assert read_container(stored).about == {"vendor": "imaginary 2.0"}


@pytest.mark.parametrize("codec", ["none", "zlib", "zstd"])
@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_buffers_of_every_size_come_back(codec, size):
    orderly = np.arange(size, dtype=np.uint8)
    noise = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    orderly_back, noise_back = through([orderly, noise], codec)
    assert np.array_equal(orderly, orderly_back)
    assert np.array_equal(noise, noise_back)


def test_an_unknown_codec_is_refused():
    with pytest.raises(ConfigurationError, match="lzma"):
        encode_container(1, codec="lzma")  # type: ignore[arg-type]


class Reading:
    """A value of an imaginary vendor."""

    def __init__(self, volts: float) -> None:
        self.volts = volts


class CalibratedReading(Reading):
    """Another one."""


def _reading_type(name: str, python_type: type[Reading], **options: object) -> ValueType[Reading]:
    return ValueType(
        name,
        python_type,
        lambda reading: [Part(".volts", reading.volts)],
        lambda parts: python_type(*parts),  # type: ignore[arg-type]
        **options,  # type: ignore[arg-type]
    )


def test_another_package_adds_its_own_type():
    register_value_type(_reading_type("imaginary_a/Reading", Reading))
    back = through({"r": Reading(0.25)})
    assert type(back["r"]) is Reading
    assert back["r"].volts == 0.25
    with pytest.raises(UnsupportedTypeError, match=r"r\.volts"):
        through({"r": Reading(print)})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="registered twice"):
        register_value_type(_reading_type("imaginary_a/Reading", CalibratedReading))


def test_a_type_that_is_not_installed_is_refused_or_kept():
    value = {"span": StoredValue("nowhere/Span", [1, (2, b"x")]), "n": 3}
    stored = encode_container(value).to_bytes()
    with pytest.raises(RecordError, match="'nowhere'"):
        decode_container(stored)
    kept = read_container(stored, missing_types="keep")
    assert kept.value == value
    assert kept.missing_types == ("nowhere/Span",)
    assert encode_container(kept.value).to_bytes() == stored


def test_a_type_that_is_not_installed_is_read_as_one_that_is():
    register_value_type(_reading_type("imaginary_b/Reading", CalibratedReading))
    stored = encode_container(StoredValue("nowhere/Better", [1.5], ["imaginary_b/Reading"]))
    back = read_container(stored.to_bytes(), missing_types="keep")
    assert type(back.value) is CalibratedReading
    assert back.missing_types == ("nowhere/Better",)
    with pytest.raises(RecordError):
        decode_container(stored.to_bytes())
