"""Circuits: everything about one that can change what a job returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qiskit.circuit.exceptions import CircuitError
from qiskit.circuit.library import BlueprintCircuit

from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.inputs.canonical.expressions import type_tree
from qcsc_prefect.integrations.qiskit.inputs.canonical.instructions import (
    BLOCK_INSTRUCTIONS,
    InstructionColumns,
)
from qcsc_prefect.integrations.qiskit.inputs.canonical.nesting import NestedForm
from qcsc_prefect.integrations.qiskit.inputs.canonical.operations import operation_tree
from qcsc_prefect.integrations.qiskit.inputs.canonical.parameters import ParameterNumbers
from qcsc_prefect.integrations.qiskit.inputs.canonical.params import located_tree, value_tree
from qcsc_prefect.integrations.qiskit.inputs.canonical.registry import identity_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qiskit.circuit import CircuitInstruction, Operation, Parameter, QuantumCircuit

    from qcsc_prefect.core.canonical.writer import CanonicalWriter

__all__ = ["CircuitForm", "CircuitScope", "build_lazy_circuit", "header_tree"]


def build_lazy_circuit(circuit: QuantumCircuit) -> None:
    """Build a circuit that Qiskit builds when somebody looks at it, such as ``QFT(3)``.

    Until then it holds no instruction, whatever it is to become.

    Raises:
        InputError: If it cannot be built, for example because its size is not set.
    """
    if isinstance(circuit, BlueprintCircuit):
        try:
            _ = circuit.data
        except (AttributeError, ValueError, CircuitError) as error:
            raise InputError(f"the {type(circuit).__name__} cannot be built: {error}") from error


@dataclass(frozen=True)
class CircuitScope:
    """A circuit, and what the encodings of all circuits of one PUB share.

    Attributes:
        circuit: The circuit.
        numbers: The numbers of the parameters.
        numbers_by_name: The same for the parameters that stand bare in this circuit.
        digests: What circuits inside of this one are written as, by their id, each with the
            circuit itself so that its id stays taken.
        is_inside: Whether the circuit stands inside the PUB's own, as a body or a definition.
    """

    circuit: QuantumCircuit
    numbers: ParameterNumbers = field(default_factory=ParameterNumbers)
    numbers_by_name: dict[str, int] = field(default_factory=dict)
    digests: dict[int, tuple[object, bytes]] = field(default_factory=dict)
    is_inside: bool = False

    def number(self, parameter: Parameter) -> int:
        """Return the number of one of this circuit's own parameters."""
        # Names are unique within one circuit, which Qiskit enforces.
        number = self.numbers_by_name.get(parameter.name)
        if number is None:
            number = self.numbers_by_name[parameter.name] = self.new_number(parameter)
        return number

    @property
    def new_number(self) -> Callable[[Parameter], int]:
        """What numbers a parameter whose name this circuit has not met yet."""
        return self.numbers.number if self.is_inside else self.numbers.number_by_name

    def nested(self, part: QuantumCircuit | Operation) -> NestedForm:
        """Return the form of what stands inside of an operation of this circuit."""
        return NestedForm(part, self)

    def inside(self, circuit: QuantumCircuit) -> CircuitForm:
        """Return the form of a circuit inside of this one: a body or a definition."""
        build_lazy_circuit(circuit)
        scope = CircuitScope(circuit, self.numbers, digests=self.digests, is_inside=True)
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


def _encode_circuit(writer: CanonicalWriter, form: CircuitForm) -> Iterator[tuple[str, object]]:
    circuit = form.scope.circuit
    yield "", header_tree(form)
    data = circuit._data  # noqa: SLF001 - `circuit.data` wraps each instruction once more
    count = len(data)
    columns = InstructionColumns(form.scope)
    writer.write_header(b"I", count)
    for first in range(0, count, BLOCK_INSTRUCTIONS):
        yield from columns.write_block(writer, first, data[first : first + BLOCK_INSTRUCTIONS])
    yield "", located_tree("global_phase", circuit.global_phase, form.scope)


def _describe_circuit(form: CircuitForm) -> object:
    """Return a circuit as a tree whose paths a person can follow; for reports of differences."""
    tree = header_tree(form)
    circuit = form.scope.circuit
    tree["data"] = [_describe_instruction(instruction, form.scope) for instruction in circuit.data]
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
    version=3,
    encode=_encode_circuit,
    describe=_describe_circuit,
)
