"""Real-time classical expressions: variables, stretches and what is computed from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qiskit.circuit import Clbit, Duration
from qiskit.circuit.classical import expr, types

from qcsc_prefect.core.errors import InputError, UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.inputs.canonical.parameters import constant_value

if TYPE_CHECKING:
    from qiskit.circuit import ClassicalRegister, QuantumCircuit

__all__ = ["condition_tree", "duration_tree", "expression_form", "type_tree"]


def type_tree(value_type: types.Type) -> list[object]:
    """Return a classical type as its name and, where it has one, its width in bits."""
    if isinstance(value_type, types.Uint):
        return ["uint", value_type.width]
    for known, name in ((types.Bool, "bool"), (types.Float, "float"), (types.Duration, "duration")):
        if isinstance(value_type, known):
            return [name]
    raise UnsupportedTypeError(f"the classical type {type(value_type).__name__} has no form")


def duration_tree(duration: Duration) -> list[object]:
    """Return a duration as its unit and its value, an integer of ``dt`` or a float."""
    return [duration.unit(), duration.value()]


def condition_tree(
    condition: expr.Expr | Clbit | ClassicalRegister | tuple[Clbit | ClassicalRegister, int],
    circuit: QuantumCircuit,
) -> dict[str, object]:
    """Return the condition of a loop or a branch, or the target of a switch."""
    if isinstance(condition, expr.Expr):
        return {"expression": expression_form(condition, circuit)}
    if isinstance(condition, tuple):
        target, value = condition
        return {"bits": resource_tree(target, circuit), "value": int(value)}
    return {"bits": resource_tree(condition, circuit)}


def resource_tree(resource: Clbit | ClassicalRegister, circuit: QuantumCircuit) -> list[object]:
    """Return a classical bit or register by the indices of its bits in a circuit.

    Raises:
        InputError: If the circuit does not hold the bits.
    """
    bits = [resource] if isinstance(resource, Clbit) else list(resource)
    tag = "clbit" if isinstance(resource, Clbit) else "register"
    indices = {bit: index for index, bit in enumerate(circuit.clbits)}
    try:
        return [tag, [indices[bit] for bit in bits]]
    except KeyError:
        raise InputError(
            "a condition uses a classical bit that its circuit does not hold"
        ) from None


def expression_form(root: expr.Expr, circuit: QuantumCircuit) -> list[object]:
    """Return a classical expression in postfix order, each operation behind its operands.

    Args:
        root: The expression, nested to any depth.
        circuit: The circuit in which it stands, which gives its bits their indices.

    Returns:
        A list for each node: its kind, what it says besides its operands, its type.

    Raises:
        UnsupportedTypeError: If a node of the expression has no canonical form.
    """
    steps: list[object] = []
    waiting: list[expr.Expr] = [root]
    while waiting:
        # From the end: a node, then its last operand, and all of it turned round.
        node = waiting.pop()
        parts, operands = _node_parts(node, circuit)
        steps.append([*parts, type_tree(node.type)])
        waiting += operands
    steps.reverse()
    return steps


def _node_parts(
    node: expr.Expr, circuit: QuantumCircuit
) -> tuple[list[object], tuple[expr.Expr, ...]]:
    match node:
        case expr.Var():
            if node.standalone:
                return ["var", node.name], ()
            return ["resource", resource_tree(node.var, circuit)], ()
        case expr.Stretch():
            return ["stretch", node.name], ()
        case expr.Value():
            return ["value", _value_tree(node)], ()
        case expr.Cast():
            return ["cast"], (node.operand,)
        case expr.Unary():
            return ["unary", node.op.name], (node.operand,)
        case expr.Binary():
            return ["binary", node.op.name], (node.left, node.right)
        case expr.Index():
            return ["index"], (node.target, node.index)
    raise UnsupportedTypeError(
        f"a classical expression of type {type(node).__name__} has no canonical form"
    )


def _value_tree(node: expr.Value) -> object:
    if isinstance(node.value, Duration):
        return duration_tree(node.value)
    if isinstance(node.type, types.Bool):
        return bool(node.value)
    return constant_value(node.value) if isinstance(node.type, types.Float) else int(node.value)
