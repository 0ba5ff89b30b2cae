"""Parameters and symbolic expressions of them.

A parameter is known by the order in which the encoding of its PUB first meets it, not by its name
or UUID: neither reaches the result, and values are bound to it by the same number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import qiskit

from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.inputs.canonical.deep_stack import call_on_deep_stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qiskit.circuit import Parameter, ParameterExpression
    from qiskit.circuit.parameterexpression import OPReplay

__all__ = ["ExpressionForm", "ParameterNumbers", "constant_value", "expression_form"]

#: A constant, or the steps of an expression: constants, ``["p", number]``, names of operators.
ExpressionForm = int | float | complex | list[object]

#: A constant, or an operator or a ``p`` with what it is applied to.
_Tree = int | float | complex | tuple[object, ...]

#: Operations inside of one another that Qiskit's own writer takes on a stack of the usual 8 MiB; a
#: few more end the process.
DEEPEST = 12_500 if tuple(map(int, qiskit.__version__.split(".")[:2])) >= (2, 6) else 5_500

_UNARY = {"SIN", "COS", "TAN", "ASIN", "ACOS", "ATAN", "EXP", "LOG", "SIGN", "CONJ", "ABS"}
_BINARY = {"ADD", "SUB", "MUL", "DIV", "POW"}
_REVERSED = {"RSUB": "SUB", "RDIV": "DIV", "RPOW": "POW"}


class ParameterNumbers:
    """Numbers the parameters of one PUB in the order in which they are met.

    Finding a parameter again means hashing it, which takes longer than all else that an
    instruction costs. So those that a circuit finds by name are only listed, until somebody asks
    for one by itself.
    """

    def __init__(self) -> None:
        self._listed: list[Parameter] = []
        self._numbers: dict[Parameter, int] = {}

    def number(self, parameter: Parameter) -> int:
        """Return a parameter's number, giving it the next one if it has none yet."""
        for listed in self._listed[len(self._numbers) :]:
            self._numbers[listed] = len(self._numbers)
        number = self._numbers.get(parameter)
        if number is None:
            number = self._numbers[parameter] = len(self._listed)
            self._listed.append(parameter)
        return number

    def number_by_name(self, parameter: Parameter) -> int:
        """Do the same for a circuit that has met no parameter of this name yet.

        Only the PUB's own circuit may ask: a circuit inside it knows some of the same parameters.
        """
        if self._numbers:
            return self.number(parameter)
        self._listed.append(parameter)
        return len(self._listed) - 1


def expression_form(expression: ParameterExpression, numbers: ParameterNumbers) -> ExpressionForm:
    """Return the structure of a symbolic expression, which may be of any size and depth.

    Args:
        expression: The expression; one without free parameters becomes its value.
        numbers: The numbers that stand for the parameters.

    Returns:
        The expression in postfix order, each operator behind its operands, where ``["p", n]`` is a
        parameter. A number that a float holds exactly is a float.

    Raises:
        InputError: If the expression has an operator without a canonical form, or is deeper than
            what Qiskit can write.
    """
    if expression.is_symbol():
        return [["p", numbers.number(_symbol_of(expression))]]
    return call_on_deep_stack(lambda: _compound_form(expression, numbers))


def _compound_form(expression: ParameterExpression, numbers: ParameterNumbers) -> ExpressionForm:
    if not expression.parameters:
        return constant_value(expression.numeric())
    # Qiskit has no public way to walk an expression; the steps that it writes into QPY are the
    # one form that all supported versions share.
    steps = expression._qpy_replay  # noqa: SLF001
    if len(steps) > DEEPEST:
        _refuse_deep(steps)
    stack: list[_Tree] = []

    def operand(value: object) -> _Tree:
        if value is None:
            return stack.pop()
        if isinstance(value, (int, float, complex)):
            return constant_value(value)
        return ("p", numbers.number(cast("Parameter", value)))

    for step in steps:
        operator = str(step.op).rpartition(".")[2]
        if operator in _UNARY:
            stack.append((operator, operand(step.lhs)))
        elif operator in _BINARY or operator in _REVERSED:
            right = operand(step.rhs)
            left = operand(step.lhs)
            if operator in _REVERSED:
                operator, left, right = _REVERSED[operator], right, left
            stack.append(_simplified(operator, left, right))
        else:
            raise InputError(f"a symbolic expression with the operation {operator} has no form")
    if len(stack) != 1:
        raise InputError("a symbolic expression could not be taken apart")
    return _postfix(stack[0])


def _refuse_deep(steps: Sequence[OPReplay]) -> None:
    depths: list[int] = []
    for step in steps:
        is_binary = str(step.op).rpartition(".")[2] not in _UNARY
        operands = (step.lhs, step.rhs) if is_binary else (step.lhs,)
        inside = [depths.pop() for operand in operands if operand is None]
        depths.append(1 + max(inside, default=0))
    if depths[-1] > DEEPEST:
        raise InputError(
            f"a symbolic expression of {depths[-1]} operations inside of one another is deeper "
            f"than the {DEEPEST} that Qiskit {qiskit.__version__} can write; assign its values, "
            "or put a parameter in the place of a part of it"
        )


def constant_value(value: complex) -> int | float | complex:
    """Return a number in its one form: a float where a float holds it exactly."""
    if isinstance(value, complex):
        return constant_value(value.real) if value.imag == 0 else value
    try:
        number = float(value)
    except OverflowError:
        return value
    return number if number == value or number != number else int(value)  # noqa: PLR0124 - NaN


def _simplified(operator: str, left: _Tree, right: _Tree) -> _Tree:
    # Newer versions write a parameter that has dropped out as `... + p*0`; older ones leave it out.
    if operator == "MUL" and (left == 0.0 or right == 0.0):
        return 0.0
    if operator == "ADD" and left == 0.0:
        return right
    if operator == "ADD" and right == 0.0:
        return left
    return (operator, left, right)


def _postfix(tree: _Tree) -> ExpressionForm:
    """Write a tree in postfix order; without recursion, since it may be as deep as it is long."""
    if not isinstance(tree, tuple):
        return tree
    steps: list[object] = []
    waiting: list[object] = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, tuple):
            steps.append(node)
        elif node[0] == "p":
            steps.append(list(node))
        else:
            # From the end: an operator, then its last operand, and all of it turned round.
            steps.append(node[0])
            waiting += node[1:]
    steps.reverse()
    return steps


def _symbol_of(expression: ParameterExpression) -> Parameter:
    if len(expression.parameters) == 1:
        return next(iter(expression.parameters))
    name = str(expression)
    return next(parameter for parameter in expression.parameters if parameter.name == name)
