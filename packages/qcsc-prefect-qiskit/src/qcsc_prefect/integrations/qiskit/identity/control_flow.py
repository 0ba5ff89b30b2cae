"""Control flow: branches, loops, switches and boxes, each with the circuits that it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qiskit.circuit import (
    CASE_DEFAULT,
    BoxOp,
    BreakLoopOp,
    ContinueLoopOp,
    ForLoopOp,
    IfElseOp,
    SwitchCaseOp,
    WhileLoopOp,
)
from qiskit.circuit.classical import expr

from qcsc_prefect.core.errors import UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.identity.annotations import annotation_tree
from qcsc_prefect.integrations.qiskit.identity.expressions import (
    condition_tree,
    expression_form,
    resource_tree,
)
from qcsc_prefect.integrations.qiskit.identity.parameters import constant_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qiskit.circuit import ControlFlowOp

    from qcsc_prefect.integrations.qiskit.identity.circuits import CircuitScope

__all__ = ["control_flow_tree"]


def control_flow_tree(operation: ControlFlowOp, scope: CircuitScope) -> list[object]:
    """Return a control-flow operation as its kind, its label, what steers it, and its bodies.

    Raises:
        UnsupportedTypeError: If the kind of control flow is not known.
    """
    circuit = scope.circuit
    bodies = [scope.nested(body) for body in operation.blocks]
    size = [operation.num_qubits, operation.num_clbits]
    head = [operation.name, operation.label or None, size]
    match operation:
        case IfElseOp() | WhileLoopOp():
            return [*head, condition_tree(operation.condition, circuit), bodies]
        case ForLoopOp():
            indices, parameter, _ = operation.params
            number = None if parameter is None else _loop_variable(parameter, scope)
            return [*head, _index_tree(indices, scope), number, bodies]
        case SwitchCaseOp():
            target = operation.target
            if isinstance(target, expr.Expr):
                target_tree = expression_form(target, circuit)
            else:
                target_tree = resource_tree(target, circuit)
            labels = [
                [["default"] if label is CASE_DEFAULT else int(label) for label in case]
                for case, _ in operation.cases_specifier()
            ]
            return [*head, target_tree, labels, bodies]
        case BreakLoopOp() | ContinueLoopOp():
            return list(head)
        case BoxOp():
            annotations = [annotation_tree(annotation) for annotation in operation.annotations]
            return [*head, _box_duration(operation, scope), annotations, bodies]
    raise UnsupportedTypeError(f"control flow of type {type(operation).__name__} has no form")


def _loop_variable(parameter: object, scope: CircuitScope) -> list[object]:
    if isinstance(parameter, expr.Expr):
        return ["classical", expression_form(parameter, scope.circuit)]
    return ["p", scope.numbers.number(parameter)]


def _index_tree(indices: range | Sequence[int] | expr.Expr, scope: CircuitScope) -> list[object]:
    """Return a loop's indices; a range and the same indices one by one are alike."""
    if isinstance(indices, expr.Expr):
        return ["classical", expression_form(indices, scope.circuit)]
    values = indices if isinstance(indices, range) else tuple(int(index) for index in indices)
    if len(values) == 0:
        return ["range", 0, 0, 0]
    start = values[0]
    step = values[1] - start if len(values) > 1 else 0
    progression = range(start, start + step * len(values), step) if step else (start,)
    if len(progression) == len(values) and all(
        one == other for one, other in zip(values, progression, strict=True)
    ):
        return ["range", start, step, len(values)]
    return ["indices", list(values)]


def _box_duration(operation: BoxOp, scope: CircuitScope) -> object:
    duration = operation.duration
    if duration is None:
        return None
    if isinstance(duration, expr.Expr):
        return ["classical", expression_form(duration, scope.circuit)]
    return [constant_value(duration), operation.unit]
