"""Pauli evolution gates: the operator, term by term in its order, and how it is synthesized."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qiskit.circuit import ParameterExpression
from qiskit.circuit.library import PauliEvolutionGate
from qiskit.quantum_info import SparseObservable, SparsePauliOp
from qiskit.synthesis import LieTrotter, MatrixExponential, QDrift, SuzukiTrotter
from qiskit.synthesis.evolution import ProductFormula

from qcsc_prefect.core.canonical.paths import LocatedErrors
from qcsc_prefect.core.errors import UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.inputs.canonical.deep_stack import call_on_deep_stack
from qcsc_prefect.integrations.qiskit.inputs.canonical.parameters import (
    constant_value,
    expression_form,
)

if TYPE_CHECKING:
    from qiskit.synthesis.evolution import EvolutionSynthesis

    from qcsc_prefect.integrations.qiskit.inputs.canonical.parameters import ParameterNumbers

__all__ = ["operator_tree", "pauli_evolution_tree"]


def pauli_evolution_tree(gate: PauliEvolutionGate, numbers: ParameterNumbers) -> dict[str, object]:
    """Return an evolution gate as its operator, its time and its synthesis.

    Unlike in an observable the order of the terms counts, since a product formula follows it.

    Raises:
        UnsupportedTypeError: If the synthesis is not one of Qiskit's product formulas or holds a
            function of the user's.
    """
    operators = gate.operator if isinstance(gate.operator, list) else [gate.operator]
    with LocatedErrors("operator"):
        trees = [operator_tree(operator, numbers) for operator in operators]
    with LocatedErrors("time"):
        time = _number_tree(gate.time, numbers)
    with LocatedErrors("synthesis"):
        synthesis = _synthesis_tree(gate.synthesis)
    return {
        "kind": "pauli_evolution",
        "label": _own_label(gate),
        "num_qubits": gate.num_qubits,
        "operator": trees if isinstance(gate.operator, list) else trees[0],
        "time": time,
        "synthesis": synthesis,
    }


def _own_label(gate: PauliEvolutionGate) -> str | None:
    """Return a label that somebody chose; the one that Qiskit makes up says nothing more.

    It also differs between versions of Qiskit.
    """
    made_up = PauliEvolutionGate(gate.operator).label
    return None if gate.label == made_up else gate.label or None


def operator_tree(
    operator: SparsePauliOp | SparseObservable, numbers: ParameterNumbers
) -> list[object]:
    """Return an operator's terms in the order in which it holds them."""
    if isinstance(operator, SparsePauliOp):
        if operator.coeffs.dtype == object:
            coefficients: object = call_on_deep_stack(
                lambda: [_number_tree(value, numbers) for value in operator.coeffs]
            )
        else:
            coefficients = operator.coeffs.astype(np.complex128)
        paulis = operator.paulis
        bits = [np.packbits(plane, axis=1, bitorder="little") for plane in (paulis.x, paulis.z)]
        return ["sparse_pauli_op", operator.num_qubits, bits, paulis.phase, coefficients]
    if isinstance(operator, SparseObservable):
        return [
            "sparse_observable",
            operator.num_qubits,
            np.asarray(operator.bit_terms).astype(np.uint8),
            np.asarray(operator.indices).astype(np.uint32),
            np.asarray(operator.boundaries).astype(np.uint64),
            np.asarray(operator.coeffs).astype(np.complex128),
        ]
    raise UnsupportedTypeError(f"an operator of type {type(operator).__name__} has no form")


def _number_tree(value: complex | ParameterExpression, numbers: ParameterNumbers) -> object:
    if isinstance(value, ParameterExpression):
        return expression_form(value, numbers)
    return constant_value(value)


def _synthesis_tree(synthesis: EvolutionSynthesis) -> list[object]:
    name = type(synthesis).__name__
    if type(synthesis) is MatrixExponential:
        return [name]
    if not isinstance(synthesis, ProductFormula) or type(synthesis) not in (
        LieTrotter,
        SuzukiTrotter,
        QDrift,
    ):
        raise UnsupportedTypeError(f"an evolution synthesis of type {name} has no form")
    # The formula's own `settings` leave out some of these, and refuse nothing for QDrift.
    state = vars(synthesis)
    if state["_atomic_evolution"] is not None:
        raise UnsupportedTypeError(f"{name} with an atomic evolution of its own has no form")
    return [
        name,
        {
            "order": synthesis.order,
            "reps": synthesis.reps,
            "insert_barriers": synthesis.insert_barriers,
            "preserve_order": synthesis.preserve_order,
            "cx_structure": state["_cx_structure"],
            "wrap": state["_wrap"],
        },
    ]
