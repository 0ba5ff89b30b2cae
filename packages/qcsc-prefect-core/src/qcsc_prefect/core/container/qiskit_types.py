"""Value types of the Qiskit SDK: what a primitive returns.

They are part of this package, and not of one that also needs Prefect, so that an archived result
opens wherever Qiskit itself is installed. Nothing here is imported before a container holds one
of these types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qiskit.primitives.containers import (
    BitArray,
    DataBin,
    PrimitiveResult,
    PubResult,
    SamplerPubResult,
)
from qiskit.quantum_info import (
    Pauli,
    PauliList,
    SparsePauliOp,
)

from qcsc_prefect.core.container.value_types import Part, ValueType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["VALUE_TYPES"]


def _primitive_result_parts(result: PrimitiveResult) -> Iterator[Part]:
    _refuse_other_attributes(result, {"_pub_results", "_metadata"})
    yield Part(".metadata", result.metadata)
    for index, pub_result in enumerate(result):
        yield Part(f"[{index}]", pub_result)


def _build_primitive_result(parts: Sequence[object]) -> PrimitiveResult:
    metadata, *pub_results = parts
    return PrimitiveResult(pub_results, metadata=_metadata(metadata))


def _pub_result_parts(result: PubResult) -> Iterator[Part]:
    _refuse_other_attributes(result, set())
    yield Part(".metadata", result.metadata)
    yield Part(".data", result.data)


def _build_pub_result(parts: Sequence[object]) -> PubResult:
    metadata, data = parts
    return PubResult(data, _metadata(metadata))


def _build_sampler_pub_result(parts: Sequence[object]) -> SamplerPubResult:
    metadata, data = parts
    return SamplerPubResult(data, _metadata(metadata))


def _data_bin_parts(data: DataBin) -> Iterator[Part]:
    _refuse_other_attributes(data, set(data))
    yield Part(".shape", data.shape)
    yield Part("", list(data))
    for name, value in data.items():
        yield Part(f".{name}", value)


def _build_data_bin(parts: Sequence[object]) -> DataBin:
    shape, names, *values = parts
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("a DataBin is made of a shape, names and values")
    return DataBin(shape=shape, **dict(zip(names, values, strict=True)))


def _bit_array_parts(bits: BitArray) -> Iterator[Part]:
    yield Part(".num_bits", bits.num_bits)
    yield Part(".array", bits.array)


def _build_bit_array(parts: Sequence[object]) -> BitArray:
    num_bits, array = parts
    return BitArray(array, num_bits)


def _pauli_parts(pauli: Pauli | PauliList) -> Iterator[Part]:
    yield Part(".z", pauli.z)
    yield Part(".x", pauli.x)
    yield Part(".phase", pauli.phase)


def _build_pauli(parts: Sequence[object]) -> Pauli:
    z, x, phase = parts
    return Pauli((z, x, phase))


def _build_pauli_list(parts: Sequence[object]) -> PauliList:
    z, x, phase = parts
    return PauliList.from_symplectic(z, x, phase)


def _sparse_pauli_op_parts(operator: SparsePauliOp) -> Iterator[Part]:
    yield Part(".paulis", operator.paulis)
    yield Part(".coeffs", operator.coeffs)


def _build_sparse_pauli_op(parts: Sequence[object]) -> SparsePauliOp:
    paulis, coeffs = parts
    if not isinstance(paulis, PauliList):
        raise TypeError("a SparsePauliOp is made of a PauliList and coefficients")
    return SparsePauliOp(paulis, coeffs, ignore_pauli_phase=True)


def _metadata(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("a result's metadata is a dict")
    return value


def _refuse_other_attributes(value: object, known: set[str]) -> None:
    others = sorted(set(getattr(value, "__dict__", ())) - known)
    if others:
        raise TypeError(f"somebody set the attribute {others[0]!r} on it, which has no place there")


VALUE_TYPES = (
    ValueType("qiskit/BitArray", BitArray, _bit_array_parts, _build_bit_array),
    ValueType("qiskit/DataBin", DataBin, _data_bin_parts, _build_data_bin),
    ValueType("qiskit/PubResult", PubResult, _pub_result_parts, _build_pub_result),
    ValueType(
        "qiskit/SamplerPubResult", SamplerPubResult, _pub_result_parts, _build_sampler_pub_result
    ),
    ValueType(
        "qiskit/PrimitiveResult",
        PrimitiveResult,
        _primitive_result_parts,
        _build_primitive_result,
    ),
    ValueType("qiskit/Pauli", Pauli, _pauli_parts, _build_pauli),
    ValueType("qiskit/PauliList", PauliList, _pauli_parts, _build_pauli_list),
    ValueType(
        "qiskit/SparsePauliOp", SparsePauliOp, _sparse_pauli_op_parts, _build_sparse_pauli_op
    ),
)
