"""Forms of what the client's encoder writes beside plain values: in options and in metadata.

Noise that was learned, noise models, coupling maps, dates, circuits, Pauli objects, results.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit
from qiskit.circuit import CircuitInstruction, Instruction, Parameter
from qiskit.circuit.parametertable import ParameterView
from qiskit.primitives.containers import BitArray, DataBin, PrimitiveResult, PubResult
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import PauliLindbladMap
from qiskit.result import Result
from qiskit.transpiler import CouplingMap

from qcsc_prefect.integrations.qiskit.inputs.canonical.circuits import (
    CircuitForm,
    CircuitScope,
    build_lazy_circuit,
)
from qcsc_prefect.integrations.qiskit.inputs.canonical.pubs import (
    estimator_pub_forms,
    sampler_pub_forms,
)
from qcsc_prefect.integrations.qiskit.inputs.canonical.registry import identity_registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcsc_prefect.core.canonical.writer import CanonicalWriter

__all__: list[str] = []


def _register(value_type: type, tag: str, describe: Callable[[Any], object]) -> None:
    """Register a type whose contents are those of a plain value."""

    def encode(_: CanonicalWriter, value: object) -> list[tuple[str, object]]:
        return [("", describe(value))]

    identity_registry.register(
        value_type, tag=f"qiskit.value.{tag}", version=1, encode=encode, describe=describe
    )


def _circuit(circuit: QuantumCircuit) -> object:
    # A form each time: the numbers of its parameters belong to it alone. Here their names count,
    # since nothing but its name can tell which parameter somebody means.
    build_lazy_circuit(circuit)
    names = [parameter.name for parameter in circuit.parameters]
    return {"circuit": CircuitForm(CircuitScope(circuit)), "parameters": names}


def _instruction(operation: Instruction) -> object:
    circuit = QuantumCircuit(operation.num_qubits, operation.num_clbits)
    circuit.append(operation, circuit.qubits, circuit.clbits, copy=False)
    return _circuit(circuit)


def _circuit_instruction(instruction: CircuitInstruction) -> object:
    # It has bits and no circuit that would number them.
    circuit = QuantumCircuit(list(instruction.qubits), list(instruction.clbits))
    circuit.append(instruction.operation, instruction.qubits, instruction.clbits, copy=False)
    places = [getattr(bit, "_index", None) for bit in instruction.qubits]
    return {"instruction": _circuit(circuit), "qubits": places}


def _lindblad_map(noise: PauliLindbladMap) -> object:
    return {"num_qubits": noise.num_qubits, "terms": noise.to_sparse_list()}


def _bindings(values: BindingsArray) -> object:
    return {"shape": values.shape, "data": [[list(key), array] for key, array in _items(values)]}


def _items(values: BindingsArray) -> list[tuple[tuple[str, ...], object]]:
    return sorted(values.data.items(), key=lambda item: item[0])


_register(QuantumCircuit, "circuit", _circuit)
_register(Instruction, "instruction", _instruction)
_register(CircuitInstruction, "circuit_instruction", _circuit_instruction)
_register(Parameter, "parameter", lambda parameter: parameter.name)
_register(ParameterView, "parameters", list)
_register(date, "date", lambda moment: moment.isoformat())
_register(CouplingMap, "coupling_map", lambda coupling: [list(edge) for edge in coupling])
_register(PauliLindbladMap, "pauli_lindblad_map", _lindblad_map)
_register(ObservablesArray, "observables", lambda observables: observables.tolist())
_register(BindingsArray, "bindings", _bindings)
_register(BitArray, "bits", lambda bits: {"array": bits.array, "num_bits": bits.num_bits})
_register(DataBin, "data", lambda data: {"shape": data.shape, "fields": dict(data.items())})
_register(SamplerPub, "sampler_pub", lambda pub: sampler_pub_forms([pub], None))
_register(EstimatorPub, "estimator_pub", lambda pub: estimator_pub_forms([pub], None))
_register(PubResult, "pub_result", lambda result: [result.data, result.metadata])
_register(PrimitiveResult, "primitive_result", lambda result: [list(result), result.metadata])
_register(Result, "result", lambda result: result.to_dict())


class _ByProtocol:
    """Stands for the types that say by a method of theirs what the client is to write."""


def _by_protocol(value: Any) -> object:
    """Return package, class and contents: what the client's encoder writes, without the module."""
    kind = type(value)
    return [kind.__module__.partition(".")[0], kind.__qualname__, _contents(value)]


def _contents(value: Any) -> object:
    if hasattr(value, "to_json"):
        return value.to_json()
    if hasattr(value, "settings"):
        return value.settings
    if hasattr(value, "_json"):
        return value._json()  # noqa: SLF001 - the client's own protocol
    name = type(value).__name__
    if name == "NoiseModel":
        return _without_ids(value.to_dict())
    if name == "NoiseLearnerResult":
        return [value.data, value.metadata]
    if name == "ExecutionSpans":
        return list(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    slices = {place: _plain_slices(part) for place, part in value._data_slices.items()}  # noqa: SLF001
    shots = getattr(value, "_pub_shots", None)
    return [value.start, value.stop, slices, None if shots is None else dict(shots)]


def _plain_slices(value: object) -> object:
    if isinstance(value, slice):
        return [value.start, value.stop, value.step]
    return [_plain_slices(part) for part in value] if isinstance(value, tuple) else value


def _without_ids(value: object) -> object:
    """Leave out what Aer draws at random for each error of a noise model."""
    if isinstance(value, dict):
        return {name: _without_ids(item) for name, item in value.items() if name != "id"}
    return [_without_ids(item) for item in value] if isinstance(value, (list, tuple)) else value


#: Classes of the client and of Aer without such a method, and those of `scipy`.
_KNOWN = frozenset(
    {
        "qiskit_aer.NoiseModel",
        "qiskit_ibm_runtime.NoiseLearnerResult",
        "qiskit_ibm_runtime.ExecutionSpans",
        "qiskit_ibm_runtime.ExecutionSpan",
    }
)


def _sparse_matrix(matrix: Any) -> object:
    entries = matrix.tocoo()
    return [matrix.format, list(matrix.shape), entries.row, entries.col, entries.data]


class _SparseMatrix:
    """Stands for the matrices of scipy, which may not be loaded."""


_register(_ByProtocol, "by_protocol", _by_protocol)
_register(_SparseMatrix, "sparse_matrix", _sparse_matrix)


def _stand_in(value_type: type) -> type | None:
    names = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in value_type.__mro__}
    if "scipy.spmatrix" in names:
        return _SparseMatrix
    protocol = any(hasattr(value_type, name) for name in ("to_json", "settings", "_json"))
    return _ByProtocol if protocol or names & _KNOWN else None


identity_registry.stand_in = _stand_in
