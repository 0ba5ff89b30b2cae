"""Results of real primitives, and every type that the client puts into one, come back exactly."""

from __future__ import annotations

import datetime as dt
import json
import math

import numpy as np
import pytest
from dateutil import tz
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Parameter
from qiskit.primitives import (
    BitArray,
    DataBin,
    PrimitiveResult,
    PubResult,
    SamplerPubResult,
    StatevectorEstimator,
    StatevectorSampler,
)
from qiskit.quantum_info import Pauli, PauliList, SparsePauliOp
from qiskit_aer.primitives import SamplerV2 as AerSampler
from qiskit_ibm_runtime import RuntimeDecoder, RuntimeEncoder
from qiskit_ibm_runtime import results as client_results
from qiskit_ibm_runtime.execution_span import (
    DoubleSliceSpan,
    ExecutionSpans,
    SliceSpan,
    TwirledSliceSpan,
    TwirledSliceSpanV2,
)

from qcsc_prefect.core.container.format import decode_container, encode_container
from qcsc_prefect.core.errors import UnsupportedTypeError


def through(value: object) -> object:
    return decode_container(encode_container(value, codec="zstd").to_bytes())


def assert_same(one: object, other: object) -> None:
    """Compare down to types, dtypes, shapes, names, metadata and bits."""
    assert type(one) is type(other)
    if isinstance(one, PrimitiveResult):
        assert_same(list(one), list(other))
        assert_same(one.metadata, other.metadata)
    elif isinstance(one, PubResult):
        assert_same(one.data, other.data)
        assert_same(one.metadata, other.metadata)
    elif isinstance(one, DataBin):
        assert_same(one.shape, other.shape)
        assert_same(dict(one.items()), dict(other.items()))
        for name in one:
            assert getattr(one, name) is one[name]
    elif isinstance(one, BitArray):
        assert (one.num_bits, one.shape, one.num_shots) == (
            other.num_bits,
            other.shape,
            other.num_shots,
        )
        assert_same(one.array, other.array)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
    elif isinstance(one, dict):
        assert_same(list(one), list(other))
        assert_same(list(one.values()), list(other.values()))
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, float) and math.isnan(one):
        assert math.isnan(other)
    else:
        assert one == other


def swept_circuit() -> QuantumCircuit:
    qubits, left, right = (
        QuantumRegister(3, "q"),
        ClassicalRegister(1, "left"),
        ClassicalRegister(2, "r_2"),
    )
    circuit = QuantumCircuit(qubits, left, right)
    theta = Parameter("theta")
    circuit.ry(theta, 0)
    circuit.cx(0, 1)
    circuit.measure(0, left[0])
    circuit.measure([1, 2], right)
    circuit.metadata = {
        "angles": (0.1, float("inf")),
        "nan": float("nan"),
        3: {"nested": [None, True, 2**100]},
        "when": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "raw": b"\x00\xff",
        "weights": np.array([1 + 1j], np.complex64),
        "complex": 1e-300j,
    }
    return circuit


def test_a_sampler_result_with_two_registers_and_a_sweep():
    values = np.linspace(0, 3, 6).reshape(2, 3)
    result = StatevectorSampler(seed=1).run([(swept_circuit(), values)], shots=77).result()
    back = through(result)
    assert_same(back, result)
    assert back[0].data.left.get_counts((1, 2)) == result[0].data.left.get_counts((1, 2))
    assert_same(back[0].join_data(), result[0].join_data())


def test_an_estimator_result():
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    pub = (circuit, [["ZZ"], ["XX"]])
    result = StatevectorEstimator(seed=1).run([pub, (circuit, "ZI")], precision=0.1).result()
    assert_same(through(result), result)


def test_an_aer_result():
    circuit = QuantumCircuit(40)
    circuit.h(0)
    for qubit in range(39):
        circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    sampler = AerSampler(seed=5, options={"backend_options": {"method": "stabilizer"}})
    result = sampler.run([circuit], shots=50).result()
    assert_same(through(result), result)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bit_arrays_of_every_shape(data):
    num_bits = data.draw(st.integers(0, 20))
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    shots = data.draw(st.integers(0, 4))
    full = (*shape, shots, -(-num_bits // 8))
    raw = data.draw(npst.arrays(np.uint8, full))
    order = data.draw(st.sampled_from("CF"))
    bits = BitArray(np.array(raw, order=order), num_bits)
    back = through(bits)
    assert_same(back, bits)
    assert back.array.flags.f_contiguous == bits.array.flags.f_contiguous


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_data_bins_with_fields_of_any_name(data):
    restricted = DataBin._RESTRICTED_NAMES | {"self"}
    names = data.draw(
        st.lists(st.text(min_size=1).filter(lambda n: n not in restricted), unique=True, max_size=4)
    )
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=2, max_side=3))
    fields = {name: np.zeros((*shape, 2), data.draw(npst.scalar_dtypes())) for name in names}
    data_bin = DataBin(shape=shape, **fields)
    assert_same(through(data_bin), data_bin)


START = dt.datetime(2026, 3, 4, 5, 6, 7, 890, tzinfo=tz.tzutc())
STOP = dt.datetime(2026, 3, 4, 5, 6, 9, tzinfo=tz.tzoffset("CET", 3600))
SPANS = [
    SliceSpan(START, STOP, {0: ((3, 4), slice(2, 7)), 2: ((5,), slice(0, 5))}),
    DoubleSliceSpan(START, STOP, {0: ((3, 4, 10), slice(2, 7), slice(1, 4))}),
    TwirledSliceSpan(START, STOP, {1: ((2, 3, 4), True, slice(0, 3), slice(0, 4))}),
    TwirledSliceSpanV2(START, STOP, {1: ((2, 3, 4), False, slice(0, 3), slice(0, 4), 7)}),
]


@pytest.mark.parametrize("span", SPANS, ids=lambda span: type(span).__name__)
def test_execution_spans(span):
    spans = ExecutionSpans([span, span])
    back = through({"execution": {"execution_spans": spans}})["execution"]["execution_spans"]
    assert type(back) is ExecutionSpans
    assert type(back[0]) is type(span)
    assert back == spans
    assert type(back[0].start.tzinfo) is type(span.start.tzinfo)
    assert repr(back) == repr(spans)
    for index in span.pub_idxs:
        np.testing.assert_array_equal(back[0].mask(index), span.mask(index))


def test_a_result_as_the_service_answers_it():
    # What the client decodes from the service's JSON carries dateutil's time zones.
    bits = BitArray.from_samples(["01", "11"])
    sent = PrimitiveResult(
        [SamplerPubResult(DataBin(c=bits), {"circuit_metadata": {}})],
        {"execution": {"execution_spans": ExecutionSpans(SPANS)}, "version": 2},
    )
    result = json.loads(json.dumps(sent, cls=RuntimeEncoder), cls=RuntimeDecoder)
    assert isinstance(result[0], SamplerPubResult)
    assert_same(through(result), result)


def test_what_the_client_side_primitives_return():
    chunk = client_results.ChunkSpan(START, STOP, [client_results.ChunkPart(0, 10)])
    metadata = client_results.Metadata(chunk_timing=[chunk])
    item_metadata = client_results.ItemMetadata(
        scheduler_timing=client_results.SchedulerTiming("q0,1,2", 480),
        stretch_values=[client_results.StretchValues("s", 3, 1, [(0, 3), (7, 2)])],
    )
    estimator_pub = client_results.EstimatorPubResult(
        DataBin(evs=np.array([0.5]), stds=np.array([0.1]), shape=(1,)),
        {"resilience": {"zne": {"extrapolators": np.array(["linear"])}}},
    )
    result = PrimitiveResult([estimator_pub], {"executor": metadata, "item": item_metadata})
    back = through(result)
    assert_same(back, result)
    assert back.metadata["executor"].chunk_timing[0].parts[0].size == 10


def test_the_raw_result_of_the_executor():
    item = client_results.QuantumProgramItemResult(
        {"meas": np.zeros((2, 3, 4), bool)}, client_results.ItemMetadata()
    )
    result = client_results.QuantumProgramResult(
        [item], client_results.Metadata(), {"post_processor": {"version": "v0.1"}}
    )
    result._semantic_role = "sampler_v2"
    back = through(result)
    assert type(back) is client_results.QuantumProgramResult
    assert type(back[0]) is client_results.QuantumProgramItemResult
    assert_same(dict(back[0]), dict(item))
    assert (back.metadata, back.passthrough_data) == (result.metadata, result.passthrough_data)
    assert back._semantic_role == "sampler_v2"


@pytest.mark.parametrize(
    "operator",
    [
        Pauli("-iXYZ"),
        PauliList(["XX", "-YZ", "iII"]),
        SparsePauliOp(["XX", "ZZ"], [1, 2j]),
        SparsePauliOp(PauliList(["-XX", "ZZ"]), [1, 2j], ignore_pauli_phase=True),
    ],
    ids=lambda operator: f"{type(operator).__name__}{operator.num_qubits}",
)
def test_operators(operator):
    back = through(operator)
    assert type(back) is type(operator)
    assert back == operator
    assert repr(back) == repr(operator)


class MyResult(PrimitiveResult):
    """A subclass that nobody registered."""


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (PrimitiveResult([PubResult(DataBin(foo=object()))]), "result[0].data.foo"),
        (
            PrimitiveResult([PubResult(DataBin(), {"k": [Parameter("a")]})]),
            "result[0].metadata['k'][0]",
        ),
        (PrimitiveResult([], {"circuit": QuantumCircuit(1)}), "result.metadata['circuit']"),
        (MyResult([]), "result"),
    ],
)
def test_what_has_no_place_is_named(value, path):
    with pytest.raises(UnsupportedTypeError) as caught:
        encode_container({"result": value})
    assert caught.value.path == path


def test_an_attribute_that_would_be_lost_is_refused():
    result = PrimitiveResult([])
    result.note = "mine"
    with pytest.raises(UnsupportedTypeError, match=r"result cannot be stored.*'note'"):
        encode_container({"result": result})
