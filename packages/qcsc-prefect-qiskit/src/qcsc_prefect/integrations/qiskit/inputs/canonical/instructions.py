"""The instructions of a circuit, in blocks of columns.

Instructions are not written one by one but by column: what is done, on which qubits and bits, with
which parameters. Each distinct operation is written once and then known by its number, so that an
instruction costs a few look-ups and a few bytes. Most of the look-ups run inside ``map``, which is
where the time of this module goes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import chain, compress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from qiskit.circuit import (
    AnnotatedOperation,
    Barrier,
    Clbit,
    ControlFlowOp,
    Delay,
    Instruction,
    Measure,
    Parameter,
    ParameterExpression,
    ParameterVectorElement,
    Qubit,
    Reset,
)
from qiskit.circuit.exceptions import CircuitError

from qcsc_prefect.core.canonical.arrays import iter_typed_array_blocks
from qcsc_prefect.core.canonical.paths import LocatedErrors, join_path
from qcsc_prefect.core.canonical.writer import canonical_bytes
from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.inputs.canonical.deep_stack import call_on_deep_stack
from qcsc_prefect.integrations.qiskit.inputs.canonical.operations import operation_tree
from qcsc_prefect.integrations.qiskit.inputs.canonical.parameters import expression_form

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from qiskit.circuit import CircuitInstruction, Operation

    from qcsc_prefect.core.canonical.writer import CanonicalWriter
    from qcsc_prefect.integrations.qiskit.inputs.canonical.circuits import CircuitScope

__all__ = ["BLOCK_INSTRUCTIONS", "InstructionColumns"]

#: Instructions in one block of columns; a part of the encoding.
BLOCK_INSTRUCTIONS = 4096

#: Operations of which nothing counts but their type, their label and their size.
_PLAIN = frozenset({Measure, Reset, Barrier})

#: For each type of operation the plain one that it stands for: singletons have hidden types.
_PLAIN_KINDS: dict[type, type | None] = {}

_BARE = frozenset({Parameter, ParameterVectorElement})

_name_of = attrgetter("name")
_label_of = attrgetter("label")
_params_of = attrgetter("params")
_qubits_of = attrgetter("qubits")


@dataclass
class _ParameterColumns:
    """The parameters of a block's standard gates.

    Attributes:
        signatures: For each gate a letter for each of its parameters: the column that holds it.
        floats: The parameters that are numbers, letter ``f``.
        parameters: The numbers of those that are bare parameters, letter ``p``.
        expressions: The numbers of those that are expressions, letter ``e``.
    """

    signatures: Iterable[str]
    floats: list[float] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)
    expressions: list[int] = field(default_factory=list)


class InstructionColumns:
    """Writes the instructions of one circuit block by block.

    Args:
        scope: The circuit.
    """

    def __init__(self, scope: CircuitScope) -> None:
        self._scope = scope
        circuit = scope.circuit
        self._qubit_index: dict[Qubit, int] = {bit: i for i, bit in enumerate(circuit.qubits)}
        self._clbit_index: dict[Clbit, int] = {bit: i for i, bit in enumerate(circuit.clbits)}
        self._operations: dict[bytes, int] = {}
        self._operation_of_key: dict[Hashable, int] = {}
        self._same_operations: dict[int, tuple[Operation, int]] = {}
        self._expressions: dict[bytes, int] = {}
        self._new_operations: list[bytes] = []
        self._new_expressions: list[bytes] = []

    def write_block(
        self, writer: CanonicalWriter, first: int, instructions: Sequence[CircuitInstruction]
    ) -> Iterator[tuple[str, object]]:
        """Write a block of instructions, the first of which is number `first` of the circuit.

        Yields:
            The trees of operations, which the writer is to write before this goes on.
        """
        self._new_operations, self._new_expressions = [], []
        is_standard = [each.is_standard_gate() for each in instructions]
        standard = list(compress(instructions, is_standard))
        columns = self._parameter_columns(list(map(_params_of, standard)), first, instructions)
        keys = zip(
            map(_name_of, standard), columns.signatures, map(_label_of, standard), strict=True
        )
        known = self._operation_of_key
        kinds: list[int] = []
        clbits: list[Clbit] = []
        for instruction, is_known_kind in zip(instructions, is_standard, strict=True):
            if is_known_kind:
                key = next(keys)
                number = known.get(key)
                if number is None:
                    number = known[key] = self._standard_gate(*key, instruction)
            else:
                operation = _operation_of(instruction, first + len(kinds))
                number = self._known_operation(operation)
                if number is None:
                    place = f"data[{first + len(kinds)}].operation"
                    with LocatedErrors(place):
                        tree = operation_tree(operation, self._scope)
                    encoded = bytearray()
                    writer.divert(encoded.extend)
                    yield place, tree
                    writer.restore()
                    number = self._numbered(bytes(encoded))
                    self._remember(operation, number)
                clbits += instruction.clbits
            kinds.append(number)
        qubits = chain.from_iterable(map(_qubits_of, instructions))
        for additions in (self._new_operations, self._new_expressions):
            writer.write_header(b"l", len(additions))
            for addition in additions:
                writer.write_raw(addition)
        _write_column(writer, "u", array("I", kinds))
        _write_column(writer, "u", array("I", map(self._qubit_index.__getitem__, qubits)))
        _write_column(writer, "u", array("I", map(self._clbit_index.__getitem__, clbits)))
        _write_column(writer, "f", array("d", columns.floats))
        _write_column(writer, "u", array("I", columns.parameters))
        _write_column(writer, "u", array("I", columns.expressions))

    def _parameter_columns(
        self, params: list[list[Any]], first: int, instructions: Sequence[CircuitInstruction]
    ) -> _ParameterColumns:
        """Sort the parameters of the standard gates among some instructions into their columns."""
        values = list(chain.from_iterable(params))
        types = set(map(type, values))
        if types <= {float}:
            return _ParameterColumns(map("f".__mul__, map(len, params)), floats=values)
        if types <= _BARE:
            numbers = self._bare_numbers(values)
            return _ParameterColumns(map("p".__mul__, map(len, params)), parameters=numbers)
        # One thread for all of them.
        return call_on_deep_stack(lambda: self._sorted_columns(params, first, instructions))

    def _sorted_columns(
        self, params: list[list[Any]], first: int, instructions: Sequence[CircuitInstruction]
    ) -> _ParameterColumns:
        signatures: list[str] = []
        columns = _ParameterColumns(signatures)
        letters = ""
        try:
            for group in params:
                letters = ""
                for value in group:
                    letters += self._sort(value, columns)
                signatures.append(letters)
        except InputError as error:
            standard = [i for i, each in enumerate(instructions, first) if each.is_standard_gate()]
            place = f"data[{standard[len(signatures)]}].params[{len(letters)}]"
            error.path = join_path(place, error.path)
            raise
        return columns

    def _bare_numbers(self, parameters: list[Parameter]) -> list[int]:
        names = list(map(_name_of, parameters))
        numbers, new_number = self._scope.numbers_by_name, self._scope.new_number
        for name, parameter in zip(names, parameters, strict=True):
            if name not in numbers:
                numbers[name] = new_number(parameter)
        return list(map(numbers.__getitem__, names))

    def _sort(self, value: ParameterExpression | float, columns: _ParameterColumns) -> str:
        """Put one parameter into its column, and return the column's letter."""
        if type(value) in _BARE:
            columns.parameters.append(self._scope.number(value))
            return "p"
        tree: object = value
        if isinstance(value, ParameterExpression):
            tree = expression_form(value, self._scope.numbers)
        if isinstance(tree, float):
            columns.floats.append(tree)
            return "f"
        if isinstance(tree, list) and len(tree) == 1:
            columns.parameters.append(cast("int", tree[0][1]))
            return "p"
        encoded = canonical_bytes(tree)
        number = self._expressions.get(encoded)
        if number is None:
            number = self._expressions[encoded] = len(self._expressions)
            self._new_expressions.append(encoded)
        columns.expressions.append(number)
        return "e"

    def _standard_gate(
        self, name: str, signature: str, label: str | None, instruction: CircuitInstruction
    ) -> int:
        tree = {"kind": "standard", "name": name, "params": signature, "label": label or None}
        return self._numbered(canonical_bytes({**tree, "num_qubits": len(instruction.qubits)}))

    def _numbered(self, encoded: bytes) -> int:
        number = self._operations.get(encoded)
        if number is None:
            number = self._operations[encoded] = len(self._operations)
            self._new_operations.append(encoded)
        return number

    def _known_operation(self, operation: Operation) -> int | None:
        key = _plain_key(operation)
        if key is not None:
            return self._operation_of_key.get(key)
        same = self._same_operations.get(id(operation))
        return None if same is None else same[1]

    def _remember(self, operation: Operation, number: int) -> None:
        key = _plain_key(operation)
        if key is not None:
            self._operation_of_key[key] = number
        elif isinstance(operation, (AnnotatedOperation, ControlFlowOp)) or (
            isinstance(operation, Instruction) and operation.definition is not None
        ):
            # What has something inside is the same object each time it is read from a circuit.
            self._same_operations[id(operation)] = operation, number


def _operation_of(instruction: CircuitInstruction, number: int) -> Operation:
    """Return what an instruction does, which Qiskit makes where it is asked for."""
    try:
        return instruction.operation
    except CircuitError as error:
        # Qiskit 2.6 reads a delay of 1.5 us from a QPY file as one of 1.5 dt, which is none.
        path = f"data[{number}].operation"
        raise InputError(
            f"Qiskit cannot make this operation: {error.message}", path=path
        ) from error


def _plain_key(operation: Operation) -> Hashable | None:
    """Return what tells an operation that occurs all the time from others; None for the rest."""
    kind = type(operation)
    if kind not in _PLAIN_KINDS and isinstance(operation, Instruction):
        base = operation.base_class
        _PLAIN_KINDS[kind] = base if base in _PLAIN else None
    plain = _PLAIN_KINDS.get(kind)
    if plain is not None:
        return plain, operation.label, operation.num_qubits
    if kind is Delay:
        duration = operation.params[0]
        if type(duration) is int:
            return kind, operation.label, duration, operation.unit
        if type(duration) is float:
            return kind, operation.label, duration.hex(), operation.unit
    return None


def _write_column(writer: CanonicalWriter, kind: str, column: array[Any]) -> None:
    writer.write_array(kind, column.itemsize, (len(column),), iter_typed_array_blocks(column))
