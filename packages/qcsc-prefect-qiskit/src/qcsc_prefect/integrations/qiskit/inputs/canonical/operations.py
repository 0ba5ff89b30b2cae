"""Operations that are not plain standard gates, each as a tree of plain values.

Three kinds are told apart. Operations whose type is Qiskit's own and whose parameters say all:
the type and the parameters. Control flow: see :mod:`.control_flow`. Everything else, custom gates
above all: name, parameters and definition, recursively, which is also all that a serialized
circuit keeps of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

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
    PowerModifier,
    Reset,
    Store,
    library,
)
from qiskit.quantum_info import Clifford

from qcsc_prefect.core.canonical.paths import LocatedErrors
from qcsc_prefect.core.errors import InputError, UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.inputs.canonical.control_flow import control_flow_tree
from qcsc_prefect.integrations.qiskit.inputs.canonical.evolution import pauli_evolution_tree
from qcsc_prefect.integrations.qiskit.inputs.canonical.params import located_tree

if TYPE_CHECKING:
    from qiskit.circuit import Operation

    from qcsc_prefect.integrations.qiskit.inputs.canonical.circuits import CircuitScope

__all__ = ["operation_tree"]

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

#: The name that Qiskit gives to a circuit without one, and to a gate made of it: a counter of the
#: process, so the same program gives another one when it is run again.
_COUNTED_NAME = re.compile(r"circuit-\d+(?:-\d+)?")

#: What every instruction keeps besides its contents proper.
_INSTRUCTION_STATE = frozenset(
    vars(Instruction("", 0, 0, [])).keys() | vars(Gate("", 0, [])).keys()
)


def operation_tree(operation: Operation, scope: CircuitScope) -> dict[str, object]:
    """Return an operation as a tree of plain values, arrays and what stands inside of it.

    Its keys are the operation's attributes where there are such, so that paths name what a user
    wrote.

    Raises:
        UnsupportedTypeError: If the operation, or something inside it, cannot be encoded
            faithfully; `path` says where.
    """
    if isinstance(operation, Instruction):
        return _instruction_tree(operation, scope)
    if isinstance(operation, AnnotatedOperation):
        modifiers = []
        for index, modifier in enumerate(operation.modifiers):
            with LocatedErrors(f"modifiers[{index}]"):
                modifiers.append(_modifier_tree(modifier, scope))
        base = scope.nested(operation.base_op)
        return {"kind": "annotated", "base_op": base, "modifiers": modifiers}
    if isinstance(operation, Clifford):
        return {"kind": "clifford", "tableau": np.asarray(operation.tableau, dtype=bool)}
    raise UnsupportedTypeError(f"an operation of type {_name(operation)} has no canonical form")


def _instruction_tree(operation: Instruction, scope: CircuitScope) -> dict[str, object]:
    kind = _type_of(operation)
    head = {"label": _label(operation), **_shape(operation)}
    if kind is Delay:
        duration = located_tree("duration", operation.duration, scope)
        return {"kind": "delay", **head, "duration": duration, "unit": operation.unit}
    if kind in (Measure, Reset, Barrier, Store):
        return {"kind": kind.__name__.lower(), **head, "params": _params(operation, scope)}
    if isinstance(operation, ControlFlowOp):
        return {**control_flow_tree(operation, scope), **head}
    if kind is library.PauliEvolutionGate:
        return pauli_evolution_tree(operation, scope.numbers)
    if _is_determined_by_parameters(kind):
        head["class"] = kind.__name__
        return {"kind": "library", **head, **_library_tree(operation, scope)}
    return {**_custom_tree(operation, scope), **head}


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


def _shape(operation: Instruction) -> dict[str, object]:
    return {"num_qubits": operation.num_qubits, "num_clbits": operation.num_clbits}


def _library_tree(operation: Instruction, scope: CircuitScope) -> dict[str, object]:
    tree = {"name": operation.name, "params": _params(operation, scope)}
    if isinstance(operation, ControlledGate):
        tree |= {"num_ctrl_qubits": operation.num_ctrl_qubits, "ctrl_state": operation.ctrl_state}
    return tree


def _custom_tree(operation: Instruction, scope: CircuitScope) -> dict[str, object]:
    try:
        definition = operation.definition
    except Exception as error:  # whoever wrote the operation may let out errors of any kind
        name = type(operation).__name__
        raise InputError(
            f"the definition of {name} cannot be built ({type(error).__name__}: {error}); correct "
            "its arguments, or put the circuit that it stands for in its place"
        ) from error
    tree = _library_tree(operation, scope)
    tree["kind"] = "gate" if isinstance(operation, Gate) else "instruction"
    if isinstance(operation, ControlledGate):
        tree["base_gate"] = scope.nested(operation.base_gate)
    if definition is None:
        return tree | _hidden_state(operation, scope)
    tree["name"] = _COUNTED_NAME.sub("circuit", operation.name)
    tree["definition"] = scope.nested(definition)
    return tree


def _hidden_state(operation: Instruction, scope: CircuitScope) -> dict[str, object]:
    """Return what an opaque operation keeps beyond name and parameters.

    Without a definition its meaning lies in its class and its attributes.
    """
    kind = _type_of(operation)
    if kind in (Gate, Instruction, ControlledGate):
        return {}
    attributes = {
        name: located_tree(name, value, scope)
        for name, value in sorted(vars(operation).items())
        if name not in _INSTRUCTION_STATE
    }
    return {"class": [kind.__module__, kind.__qualname__], "attributes": attributes}


def _modifier_tree(
    modifier: InverseModifier | ControlModifier | PowerModifier, scope: CircuitScope
) -> dict[str, object]:
    if isinstance(modifier, InverseModifier):
        return {"kind": "inverse"}
    if isinstance(modifier, ControlModifier):
        state = {"num_ctrl_qubits": modifier.num_ctrl_qubits, "ctrl_state": modifier.ctrl_state}
        return {"kind": "control", **state}
    if isinstance(modifier, PowerModifier):
        return {"kind": "power", "power": located_tree("power", modifier.power, scope)}
    raise UnsupportedTypeError(f"a modifier of type {type(modifier).__name__} has no form")


def _params(operation: Instruction, scope: CircuitScope) -> list[object]:
    return [
        located_tree(f"params[{index}]", value, scope)
        for index, value in enumerate(operation.params)
    ]


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
