"""Parameters of instructions: numbers, symbols, arrays, texts, circuits, and lists of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.circuit import AnnotatedOperation, Instruction, ParameterExpression, QuantumCircuit
from qiskit.circuit.classical import expr
from qiskit.quantum_info import Clifford, SparseObservable, SparsePauliOp

from qcsc_prefect.core.canonical.paths import LocatedErrors, child_path
from qcsc_prefect.core.errors import UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.inputs.canonical import expressions
from qcsc_prefect.integrations.qiskit.inputs.canonical.evolution import operator_tree
from qcsc_prefect.integrations.qiskit.inputs.canonical.parameters import (
    constant_value,
    expression_form,
)
from qcsc_prefect.integrations.qiskit.inputs.canonical.registry import identity_registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from qiskit.circuit import Operation

    from qcsc_prefect.core.canonical.writer import CanonicalWriter
    from qcsc_prefect.integrations.qiskit.inputs.canonical.circuits import CircuitScope

__all__ = ["located_tree", "value_tree"]

#: The type in which an array of a kind is written, since its width is an accident of how it was
#: made. Texts and dates are written item by item.
_WIDEST: dict[str, type[np.generic] | None] = {
    "b": np.bool_,
    "i": np.int64,
    "u": np.uint64,
    "f": np.float64,
    "c": np.complex128,
    **dict.fromkeys("USMm"),
}


@dataclass(frozen=True)
class _Items:
    """A list or a mapping among the parameters, looked into no sooner than it is written."""

    items: Sequence[object] | dict[object, object]
    scope: CircuitScope

    def trees(self) -> object:
        """Return the same with the tree of each item in its place."""
        scope = self.scope
        if isinstance(self.items, dict):
            return {
                key: located_tree(child_path(key), item, scope) for key, item in self.items.items()
            }
        return [located_tree(f"[{i}]", item, scope) for i, item in enumerate(self.items)]


def located_tree(step: str, value: object, scope: CircuitScope) -> object:
    """Return the tree of a parameter; `step` leads to it in the path of an error."""
    with LocatedErrors(step):
        return value_tree(value, scope)


@singledispatch
def value_tree(value: object, scope: CircuitScope) -> object:  # noqa: ARG001
    """Return a parameter of an instruction as a plain value, an array, a tree or a circuit.

    Raises:
        UnsupportedTypeError: If the parameter has no canonical form.
    """
    kind = type(value)
    raise UnsupportedTypeError(
        f"a parameter of type {kind.__module__}.{kind.__qualname__} has no canonical form"
    )


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
    extended = value.dtype in (np.longdouble, np.clongdouble)
    if value.dtype.kind not in _WIDEST or (extended and value.dtype != _WIDEST[value.dtype.kind]):
        raise UnsupportedTypeError(f"an array of dtype {value.dtype} has no canonical form")
    return np.asarray(value, dtype=_WIDEST[value.dtype.kind])


@value_tree.register(ParameterExpression)
def _(value: ParameterExpression, scope: CircuitScope) -> object:
    return {"expression": expression_form(value, scope.numbers)}


@value_tree.register(expr.Expr)
def _(value: expr.Expr, scope: CircuitScope) -> object:
    return {"classical": expressions.expression_form(value, scope.circuit)}


@value_tree.register(list)
@value_tree.register(tuple)
@value_tree.register(dict)
def _(value: Sequence[object] | dict[object, object], scope: CircuitScope) -> object:
    return _Items(value, scope)


@value_tree.register(SparsePauliOp)
@value_tree.register(SparseObservable)
def _(value: SparsePauliOp | SparseObservable, scope: CircuitScope) -> object:
    return operator_tree(value, scope.numbers)


@value_tree.register(QuantumCircuit)
@value_tree.register(Instruction)
@value_tree.register(AnnotatedOperation)
@value_tree.register(Clifford)
def _(value: QuantumCircuit | Operation, scope: CircuitScope) -> object:
    return scope.nested(value)


def _encode_items(_: CanonicalWriter, value: _Items) -> list[tuple[str, object]]:
    return [("", value.trees())]


identity_registry.register(
    _Items, tag="qiskit.items", version=1, encode=_encode_items, describe=_Items.trees
)
