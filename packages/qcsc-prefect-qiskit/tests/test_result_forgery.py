"""Forged records that name Qiskit's and the client's types: an error of ours, or a value.

What is forged has a valid hash, as whoever can write to the storage can make one. The long form::

    QCSC_PREFECT_FUZZ_EXAMPLES=100000 uv run pytest -n0 -k "container or forge" packages
"""

from __future__ import annotations

import contextlib
import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qcsc_prefect.core.container.format import StoredValue, decode_container, encode_container
from qcsc_prefect.core.container.value_types import Buffer, value_type_named
from qcsc_prefect.core.errors import RecordError
from qcsc_prefect.integrations.qiskit.results.client_value_types import VALUE_TYPES

EXAMPLES = int(os.environ.get("QCSC_PREFECT_FUZZ_EXAMPLES", "200"))
NAMES = [value_type.name for value_type in VALUE_TYPES] + [
    f"qiskit/{name}"
    for name in (
        *("BitArray", "DataBin", "PubResult", "SamplerPubResult", "PrimitiveResult"),
        *("Pauli", "PauliList", "SparsePauliOp"),
    )
]
arrays = st.sampled_from(
    [
        np.zeros((2, 1), np.uint8),
        np.zeros((2, 3), bool),
        np.zeros(2, bool),
        np.array(["a"]),
        np.array(1.5),
        np.zeros((0,), complex),
    ]
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["_data", "shape", "self", "__class__", "__dict__", "keys", "start", "parts"])
    | st.binary(max_size=3)
    | arrays
    | st.binary(max_size=9).map(lambda raw: Buffer(memoryview(raw)))
)
parts = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 3), inner, max_size=3)
        # A stored value is written as a value of the type that it names.
        | st.builds(StoredValue, st.sampled_from(NAMES), st.lists(inner, max_size=5))
    ),
    max_leaves=15,
)


def test_every_name_is_a_type():
    assert all(value_type_named(name) for name in NAMES)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(NAMES), st.lists(parts, max_size=5))
def test_a_forged_value_is_refused_or_built(name, forged_parts):
    stored = encode_container(StoredValue(name, forged_parts)).to_bytes()
    # Any other error than ours leaves this block and fails the test.
    with contextlib.suppress(RecordError):
        decode_container(stored)
