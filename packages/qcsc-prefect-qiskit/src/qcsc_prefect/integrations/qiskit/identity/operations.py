"""Operations that are not plain standard gates, each as a tree of plain values.

Three kinds are told apart. Operations whose type is Qiskit's own and whose parameters say all:
the type and the parameters. Control flow: see :mod:`.control_flow`. Everything else, custom gates
above all: name, parameters and definition, recursively, which is also all that a serialized
circuit keeps of them.
"""

from __future__ import annotations

import re
from functools import singledispatch
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from qiskit.circuit import (
    AnnotatedOperation,
    Barrier,
    ControlFlowOp,
    ControlledGate,
    ControlModifier,
    Delay,
    Gate,
    Instruction,
    InverseModifier,
    Measure,
    ParameterExpression,
    PowerModifier,
    QuantumCircuit,
    Reset,
    Store,
    library,
)
from qiskit.circuit.classical import expr
from qiskit.quantum_info import Clifford, SparseObservable, SparsePauliOp

from qcsc_prefect.core.canonical_path import child_path, join_path
from qcsc_prefect.core.errors import InputError, UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.identity import expressions
from qcsc_prefect.integrations.qiskit.identity.control_flow import control_flow_tree
from qcsc_prefect.integrations.qiskit.identity.evolution import operator_tree, pauli_evolution_tree
from qcsc_prefect.integrations.qiskit.identity.parameters import constant_value, expression_form

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from qiskit.circuit import Operation

    from qcsc_prefect.integrations.qiskit.identity.circuits import CircuitScope

__all__ = ["operation_tree", "value_tree"]

#: Gates of Qiskit that name, size, control state and parameters determine, besides the standard
#: gates. Each keeps nothing else that its matrix or synthesis depends on.
_DETERMINED_BY_PARAMETERS = frozenset(
    {
        library.UnitaryGate,
        library.PauliGate,
        library.PermutationGate,
        library.DiagonalGate,
        library.Initialize,
        library.StatePreparation,
        library.HamiltonianGate,
        library.QFTGate,
        library.MCXGate,
        library.C4XGate,
        library.MCPhaseGate,
        library.LinearFunction,
    }
)

#: The type in which an array of a kind is written.
_WIDEST: dict[str, type[np.generic]] = {
    "b": np.bool_,
    "i": np.int64,
    "u": np.uint64,
    "f": np.float64,
    "c": np.complex128,
}

#: The name that Qiskit gives to a circuit without one, and to a gate made of it: a counter of the
#: process, so the same program gives another one when it is run again.
_COUNTED_NAME = re.compile(r"circuit-\d+(?:-\d+)?")

#: What every instruction keeps besides its contents proper.
_INSTRUCTION_STATE = frozenset(
    vars(Instruction("", 0, 0, [])).keys() | vars(Gate("", 0, [])).keys()
)


def operation_tree(operation: Operation, scope: CircuitScope) -> list[object]:
    """Return an operation as a tree of plain values, arrays and circuits.

    Args:
        operation: Any operation of a circuit.
        scope: The circuit in which it stands.

    Raises:
        UnsupportedTypeError: If the operation, or something inside it, cannot be encoded
            faithfully; `path` says where.
    """
    if isinstance(operation, Instruction):
        return _instruction_tree(operation, scope)
    if isinstance(operation, AnnotatedOperation):
        modifiers = [_modifier_tree(modifier, scope) for modifier in operation.modifiers]
        return ["annotated", operation_tree(operation.base_op, scope), modifiers]
    if isinstance(operation, Clifford):
        return ["clifford", operation.num_qubits, np.asarray(operation.tableau, dtype=bool)]
    raise UnsupportedTypeError(f"an operation of type {_name(operation)} has no canonical form")


def _instruction_tree(operation: Instruction, scope: CircuitScope) -> list[object]:
    kind = _type_of(operation)
    if kind is Delay:
        duration = _located("duration", operation.duration, scope)
        return ["delay", _label(operation), *_shape(operation), duration, operation.unit]
    if kind in (Measure, Reset, Barrier, Store):
        params = _params(operation, scope)
        return [kind.__name__.lower(), _label(operation), *_shape(operation), params]
    if isinstance(operation, ControlFlowOp):
        return control_flow_tree(operation, scope)
    if kind is library.PauliEvolutionGate:
        return pauli_evolution_tree(operation, scope.numbers)
    if _is_determined_by_parameters(kind):
        return _library_tree(operation, kind, scope)
    return _custom_tree(operation, scope)


def _type_of(operation: Instruction) -> type[Instruction]:
    # Singletons are instances of hidden subclasses of the gates that they stand for.
    return cast("type[Instruction]", operation.base_class)


def _is_determined_by_parameters(kind: type[Instruction]) -> bool:
    standard = vars(kind).get("_standard_gate")
    return standard is not None or kind in _DETERMINED_BY_PARAMETERS


def _label(operation: Instruction) -> str | None:
    # A serialized circuit does not tell an empty label from none, and drops the one that this gate
    # makes up from its base gate.
    if isinstance(operation, library.MCMTGate):
        return None
    return operation.label or None


def _shape(operation: Instruction) -> tuple[int, int]:
    return operation.num_qubits, operation.num_clbits


def _control_state(operation: Instruction) -> list[int] | None:
    if isinstance(operation, ControlledGate):
        return [operation.num_ctrl_qubits, operation.ctrl_state]
    return None


def _library_tree(
    operation: Instruction, kind: type[Instruction], scope: CircuitScope
) -> list[object]:
    return [
        "library",
        kind.__name__,
        operation.name,
        _label(operation),
        *_shape(operation),
        _control_state(operation),
        _params(operation, scope),
    ]


def _custom_tree(operation: Instruction, scope: CircuitScope) -> list[object]:
    definition = operation.definition
    name = operation.name
    if definition is not None:
        name = _COUNTED_NAME.sub("circuit", name)
    tree: list[object] = [
        "custom",
        "gate" if isinstance(operation, Gate) else "instruction",
        name,
        _label(operation),
        *_shape(operation),
        _control_state(operation),
        _params(operation, scope),
    ]
    if isinstance(operation, ControlledGate):
        tree.append(operation_tree(operation.base_gate, scope))
    if definition is None:
        tree.append(_hidden_state(operation, scope))
    else:
        tree.append(scope.nested(definition))
    return tree


def _hidden_state(operation: Instruction, scope: CircuitScope) -> list[object] | None:
    """Return what an opaque operation keeps beyond name and parameters, None if nothing.

    Without a definition its meaning lies in its class and its attributes.
    """
    kind = _type_of(operation)
    if kind in (Gate, Instruction, ControlledGate):
        return None
    extra = {
        name: value for name, value in vars(operation).items() if name not in _INSTRUCTION_STATE
    }
    trees: dict[str, object] = {}
    for name, value in sorted(extra.items()):
        trees[name] = _located(name, value, scope)
    return [kind.__module__, kind.__qualname__, trees]


def _modifier_tree(
    modifier: InverseModifier | ControlModifier | PowerModifier, scope: CircuitScope
) -> list[object]:
    if isinstance(modifier, InverseModifier):
        return ["inverse"]
    if isinstance(modifier, ControlModifier):
        return ["control", modifier.num_ctrl_qubits, modifier.ctrl_state]
    if isinstance(modifier, PowerModifier):
        return ["power", value_tree(modifier.power, scope)]
    raise UnsupportedTypeError(f"a modifier of type {type(modifier).__name__} has no form")


def _params(operation: Instruction, scope: CircuitScope) -> list[object]:
    return [
        _located(f"params[{index}]", value, scope) for index, value in enumerate(operation.params)
    ]


def _located(path: str, value: object, scope: CircuitScope) -> object:
    try:
        return value_tree(value, scope)
    except InputError as error:
        error.path = join_path(path, error.path)
        raise


@singledispatch
def value_tree(value: object, scope: CircuitScope) -> object:  # noqa: ARG001
    """Return a parameter of an instruction as a plain value, an array, a tree or a circuit.

    Args:
        value: The parameter.
        scope: The circuit in which the instruction stands.

    Raises:
        UnsupportedTypeError: If the parameter has no canonical form.
    """
    raise UnsupportedTypeError(f"a parameter of type {_name(value)} has no canonical form")


@value_tree.register(type(None))
@value_tree.register(bool)
@value_tree.register(str)
@value_tree.register(bytes)
@value_tree.register(np.bool_)
def _(value: object, scope: CircuitScope) -> object:  # noqa: ARG001
    return value


@value_tree.register(int)
@value_tree.register(float)
@value_tree.register(complex)
def _(value: complex, scope: CircuitScope) -> object:  # noqa: ARG001
    return constant_value(value)


@value_tree.register(np.number)
def _(value: np.number[Any], scope: CircuitScope) -> object:
    return value_tree(value.item(), scope)


@value_tree.register(np.ndarray)
def _(value: npt.NDArray[np.generic], scope: CircuitScope) -> object:  # noqa: ARG001
    # In the widest type of its kind, since its width is an accident of how it was made.
    if value.dtype.kind not in _WIDEST:
        raise UnsupportedTypeError(f"an array of dtype {value.dtype} has no canonical form")
    return np.asarray(value, dtype=_WIDEST[value.dtype.kind])


@value_tree.register(ParameterExpression)
def _(value: ParameterExpression, scope: CircuitScope) -> object:
    return ["expression", expression_form(value, scope.numbers)]


@value_tree.register(expr.Expr)
def _(value: expr.Expr, scope: CircuitScope) -> object:
    return ["classical", expressions.expression_form(value, scope.circuit)]


@value_tree.register(QuantumCircuit)
def _(value: QuantumCircuit, scope: CircuitScope) -> object:
    return scope.nested(value)


@value_tree.register(list)
@value_tree.register(tuple)
def _(value: Sequence[object], scope: CircuitScope) -> object:
    return [_located(child_path(index), item, scope) for index, item in enumerate(value)]


@value_tree.register(dict)
def _(value: dict[object, object], scope: CircuitScope) -> object:
    return {key: _located(child_path(key), item, scope) for key, item in value.items()}


@value_tree.register(SparsePauliOp)
@value_tree.register(SparseObservable)
def _(value: SparsePauliOp | SparseObservable, scope: CircuitScope) -> object:
    return operator_tree(value, scope.numbers)


@value_tree.register(Instruction)
@value_tree.register(AnnotatedOperation)
@value_tree.register(Clifford)
def _(value: Operation, scope: CircuitScope) -> object:
    return operation_tree(value, scope)


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
