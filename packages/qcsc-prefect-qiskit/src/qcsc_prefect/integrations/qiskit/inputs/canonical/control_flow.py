"""Control flow: branches, loops, switches and boxes, each with the circuits that it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qiskit.circuit import (
    CASE_DEFAULT,
    BoxOp,
    BreakLoopOp,
    ContinueLoopOp,
    ForLoopOp,
    IfElseOp,
    Parameter,
    SwitchCaseOp,
    WhileLoopOp,
)

from qcsc_prefect.core.canonical.paths import LocatedErrors
from qcsc_prefect.core.errors import UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.inputs.canonical.annotations import annotation_tree
from qcsc_prefect.integrations.qiskit.inputs.canonical.expressions import condition_tree
from qcsc_prefect.integrations.qiskit.inputs.canonical.params import located_tree

if TYPE_CHECKING:
    from qiskit.circuit import ControlFlowOp
    from qiskit.circuit.classical import expr

    from qcsc_prefect.integrations.qiskit.inputs.canonical.circuits import CircuitScope

__all__ = ["control_flow_tree"]


def control_flow_tree(operation: ControlFlowOp, scope: CircuitScope) -> dict[str, object]:
    """Return a control-flow operation as its kind, what steers it, and its bodies.

    Raises:
        UnsupportedTypeError: If the kind of control flow is not known.
    """
    circuit = scope.circuit
    blocks = [scope.nested(body) for body in operation.blocks]
    match operation:
        case IfElseOp() | WhileLoopOp():
            kind = "if_else" if isinstance(operation, IfElseOp) else "while_loop"
            with LocatedErrors("condition"):
                condition = condition_tree(operation.condition, circuit)
            return {"kind": kind, "condition": condition, "blocks": blocks}
        case ForLoopOp():
            indices, parameter, _ = operation.params
            indexset = _index_tree(indices, scope)
            variable = None if parameter is None else _loop_variable(parameter, scope)
            return {
                "kind": "for_loop",
                "params": [indexset, variable],
                "blocks": blocks,
            }
        case SwitchCaseOp():
            with LocatedErrors("target"):
                target = condition_tree(operation.target, circuit)
            cases = [
                [["default"] if label is CASE_DEFAULT else int(label) for label in case]
                for case, _ in operation.cases_specifier()
            ]
            return {"kind": "switch_case", "target": target, "cases": cases, "blocks": blocks}
        case BreakLoopOp():
            return {"kind": "break_loop"}
        case ContinueLoopOp():
            return {"kind": "continue_loop"}
        case BoxOp():
            return {
                "kind": "box",
                "duration": _box_duration(operation, scope),
                "annotations": [annotation_tree(each) for each in operation.annotations],
                "blocks": blocks,
            }
    raise UnsupportedTypeError(f"control flow of type {type(operation).__name__} has no form")


def _loop_variable(parameter: Parameter | expr.Var, scope: CircuitScope) -> object:
    if isinstance(parameter, Parameter):
        return {"parameter": scope.numbers.number(parameter)}
    return located_tree("params[1]", parameter, scope)


def _index_tree(indices: range | tuple[object, ...], scope: CircuitScope) -> object:
    """Return a loop's indices; a range and the same indices one by one are alike."""
    if not isinstance(indices, range):
        whole = [int(index) for index in indices if isinstance(index, (int, np.integer))]
        if len(whole) < len(indices):
            return located_tree("params[0]", indices, scope)
        progression = _progression(whole)
        if progression is None:
            return {"indices": whole}
        indices = progression
    if not indices:
        return {"start": 0, "step": 0, "length": 0}
    # Not `len`, which refuses what no list could hold.
    length = (indices[-1] - indices[0]) // indices.step + 1
    step = indices.step if length > 1 else 0
    return {"start": indices.start, "step": step, "length": length}


def _progression(indices: list[int]) -> range | None:
    """Return the range that has these indices, if there is one."""
    start = indices[0] if indices else 0
    step = indices[1] - start if len(indices) > 1 else 1
    if step == 0:
        return None
    found = range(start, start + step * len(indices), step)
    return found if list(found) == indices else None


def _box_duration(operation: BoxOp, scope: CircuitScope) -> object:
    if operation.duration is None:
        return None
    return [located_tree("duration", operation.duration, scope), operation.unit]
