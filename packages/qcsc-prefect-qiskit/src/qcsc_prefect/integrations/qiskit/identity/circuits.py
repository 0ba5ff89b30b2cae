"""Circuits: everything about one that can change what a job returns.

Instructions are written in blocks of columns instead of one by one: what is done, on which qubits
and bits, with which parameters. Each distinct operation is written once and then known by its
number, so an instruction costs a few look-ups and a few bytes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from qiskit.circuit import (
    Barrier,
    Clbit,
    Delay,
    Measure,
    Parameter,
    ParameterExpression,
    ParameterVectorElement,
    Qubit,
    Reset,
)

from qcsc_prefect.core.canonical import canonical_bytes
from qcsc_prefect.core.canonical_arrays import iter_typed_array_blocks
from qcsc_prefect.core.canonical_path import join_path
from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.identity.expressions import type_tree
from qcsc_prefect.integrations.qiskit.identity.operations import (
    operation_tree,
    value_tree,
)
from qcsc_prefect.integrations.qiskit.identity.parameters import ParameterNumbers, expression_tree
from qcsc_prefect.integrations.qiskit.identity.registry import identity_registry

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from qiskit.circuit import CircuitInstruction, Operation, QuantumCircuit

    from qcsc_prefect.core.canonical import CanonicalWriter

__all__ = ["CircuitForm", "CircuitScope"]

#: Instructions in one block of columns; a part of the encoding.
BLOCK_INSTRUCTIONS = 4096

_SCOPELESS = frozenset({Measure, Reset, Barrier})


@dataclass(frozen=True)
class CircuitScope:
    """A circuit, and what the encodings of all circuits of one PUB share.

    Attributes:
        circuit: The circuit.
        numbers: The numbers of the parameters.
        written: The canonical bytes of custom operations by their id, each with the operation
            itself so that its id stays taken.
    """

    circuit: QuantumCircuit
    numbers: ParameterNumbers = field(default_factory=ParameterNumbers)
    written: dict[int, tuple[Operation, bytes]] = field(default_factory=dict)

    def nested(self, circuit: QuantumCircuit) -> CircuitForm:
        """Return the form of a circuit inside this one: a body or a definition."""
        scope = CircuitScope(circuit, self.numbers, self.written)
        return CircuitForm(scope, has_metadata=False)


@dataclass(frozen=True)
class CircuitForm:
    """A circuit on its way into the canonical encoding.

    Attributes:
        scope: The circuit and what it shares with others.
        has_metadata: Whether the metadata count; those of the PUB's own circuit do, since they
            come back with the result.
    """

    scope: CircuitScope
    has_metadata: bool = True


def header_tree(form: CircuitForm) -> dict[str, object]:
    """Return all of a circuit but its instructions and its global phase."""
    circuit = form.scope.circuit
    bits = {bit: index for index, bit in enumerate(circuit.clbits)}
    header: dict[str, object] = {
        "num_qubits": circuit.num_qubits,
        "num_clbits": circuit.num_clbits,
        "classical_registers": [
            [register.name, [bits[bit] for bit in register]] for register in circuit.cregs
        ],
        "variables": [
            [[variable.name, type_tree(variable.type)] for variable in variables]
            for variables in (
                circuit.iter_input_vars(),
                circuit.iter_captured_vars(),
                circuit.iter_declared_vars(),
            )
        ],
        "stretches": [
            [stretch.name for stretch in stretches]
            for stretches in (circuit.iter_captured_stretches(), circuit.iter_declared_stretches())
        ],
    }
    if form.has_metadata:
        header["metadata"] = circuit.metadata or {}
    return header


class _InstructionColumns:
    """Collects instructions and writes them block by block."""

    def __init__(self, scope: CircuitScope) -> None:
        self._scope = scope
        circuit = scope.circuit
        self._qubit_index: dict[Qubit, int] = {bit: i for i, bit in enumerate(circuit.qubits)}
        self._clbit_index: dict[Clbit, int] = {bit: i for i, bit in enumerate(circuit.clbits)}
        self._operations: dict[bytes, int] = {}
        self._operation_of_key: dict[Hashable, int] = {}
        self._expressions: dict[bytes, int] = {}
        self._new_operations: list[bytes] = []
        self._new_expressions: list[bytes] = []

    def write_block(
        self, writer: CanonicalWriter, first: int, instructions: Sequence[CircuitInstruction]
    ) -> None:
        """Write instructions, the first of which is number `first` of the circuit."""
        kinds: list[int] = []
        qubits: list[Qubit] = []
        clbits: list[Clbit] = []
        floats: list[float] = []
        parameters: list[int] = []
        expressions: list[int] = []
        known = self._operation_of_key
        number_of = self._scope.numbers.number
        self._new_operations, self._new_expressions = [], []
        for instruction in instructions:
            if instruction.is_standard_gate():
                signature = ""
                for value in instruction.params:
                    kind = type(value)
                    if kind is float:
                        floats.append(value)
                        signature += "f"
                    elif kind is ParameterVectorElement or kind is Parameter:
                        parameters.append(number_of(value))
                        signature += "p"
                    else:
                        signature += self._symbolic(value, floats, parameters, expressions)
                key = (instruction.name, signature, instruction.label)
                number = known.get(key)
                if number is None:
                    number = known[key] = self._standard_gate(*key, instruction)
            else:
                position = first + len(kinds)
                number = self._other_operation(instruction, position)
                clbits += instruction.clbits
            kinds.append(number)
            qubits += instruction.qubits
        for additions in (self._new_operations, self._new_expressions):
            writer.write_header(b"l", len(additions))
            for addition in additions:
                writer.write_raw(addition)
        _write_column(writer, "u", array("I", kinds))
        _write_column(writer, "u", array("I", map(self._qubit_index.__getitem__, qubits)))
        _write_column(writer, "u", array("I", map(self._clbit_index.__getitem__, clbits)))
        _write_column(writer, "f", array("d", floats))
        _write_column(writer, "u", array("I", parameters))
        _write_column(writer, "u", array("I", expressions))

    def _symbolic(
        self,
        value: ParameterExpression | float,
        floats: list[float],
        parameters: list[int],
        expressions: list[int],
    ) -> str:
        """Sort a parameter that is neither a float nor a bare parameter into its column."""
        if not isinstance(value, ParameterExpression):
            floats.append(float(value))
            return "f"
        tree = expression_tree(value, self._scope.numbers)
        if isinstance(tree, float):
            floats.append(tree)
            return "f"
        if isinstance(tree, list) and tree[0] == "p":
            parameters.append(cast("int", tree[1]))
            return "p"
        encoded = canonical_bytes(tree)
        number = self._expressions.setdefault(encoded, len(self._expressions))
        if number == len(self._expressions) - 1:
            self._new_expressions.append(encoded)
        expressions.append(number)
        return "e"

    def _standard_gate(
        self, name: str, signature: str, label: str | None, instruction: CircuitInstruction
    ) -> int:
        tree = ["standard", name, signature, label or None, len(instruction.qubits)]
        return self._intern(canonical_bytes(tree))

    def _intern(self, encoded: bytes) -> int:
        number = self._operations.get(encoded)
        if number is None:
            number = self._operations[encoded] = len(self._operations)
            self._new_operations.append(encoded)
        return number

    def _other_operation(self, instruction: CircuitInstruction, position: int) -> int:
        operation = instruction.operation
        kind = type(operation)
        key: Hashable = None
        if kind in _SCOPELESS:
            key = (kind, operation.label, operation.num_qubits)
        elif kind is Delay and type(operation.params[0]) in (int, float):
            duration = operation.params[0]
            key = (kind, operation.label, type(duration), duration, operation.unit)
        if key is not None:
            number = self._operation_of_key.get(key)
            if number is not None:
                return number
        try:
            number = self._intern(self._encoded(operation))
        except InputError as error:
            place = f"instructions[{position}].{operation.name}"
            error.path = join_path(place, error.path)
            raise
        if key is not None:
            self._operation_of_key[key] = number
        return number

    def _encoded(self, operation: Operation) -> bytes:
        memo = self._scope.written.get(id(operation))
        if memo is not None:
            return memo[1]
        tree = operation_tree(operation, self._scope)
        encoded = canonical_bytes(tree, registry=identity_registry)
        # Only a custom operation is the same object each time it is read from a circuit.
        if tree[0] == "custom":
            self._scope.written[id(operation)] = (operation, encoded)
        return encoded


def _write_column(writer: CanonicalWriter, kind: str, column: array[Any]) -> None:
    writer.write_array(kind, column.itemsize, (len(column),), iter_typed_array_blocks(column))


def _encode_circuit(writer: CanonicalWriter, form: CircuitForm) -> None:
    circuit = form.scope.circuit
    writer.write(header_tree(form))
    data = circuit._data  # noqa: SLF001 - `circuit.data` wraps each instruction once more
    count = len(data)
    columns = _InstructionColumns(form.scope)
    writer.write_header(b"I", count)
    for first in range(0, count, BLOCK_INSTRUCTIONS):
        columns.write_block(writer, first, data[first : first + BLOCK_INSTRUCTIONS])
    writer.write(value_tree(circuit.global_phase, form.scope))


def _describe_circuit(form: CircuitForm) -> object:
    """Return a circuit as a tree whose paths a person can follow; for reports of differences."""
    circuit = form.scope.circuit
    tree = header_tree(form)
    tree["instructions"] = [
        _describe_instruction(instruction, form.scope) for instruction in circuit.data
    ]
    tree["global_phase"] = value_tree(circuit.global_phase, form.scope)
    return tree


def _describe_instruction(
    instruction: CircuitInstruction, scope: CircuitScope
) -> dict[str, object]:
    circuit = scope.circuit
    tree: dict[str, object] = {"name": instruction.name}
    if instruction.is_standard_gate():
        tree["label"] = instruction.label or None
        tree["params"] = [value_tree(value, scope) for value in instruction.params]
    else:
        tree["operation"] = operation_tree(instruction.operation, scope)
    tree["qubits"] = [circuit.find_bit(bit).index for bit in instruction.qubits]
    tree["clbits"] = [circuit.find_bit(bit).index for bit in instruction.clbits]
    return tree


identity_registry.register(
    CircuitForm,
    tag="qiskit.circuit",
    version=1,
    encode=_encode_circuit,
    describe=_describe_circuit,
)
