"""Says what is wrong with a PUB that Qiskit refuses, for the mistakes that people make.

Qiskit names the line of its own code that stumbled: ``could not convert string to float: 'XX'`` for
two observables that are no list. It decides what is a PUB; here its answer is only explained.
"""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as shortened
from typing import TYPE_CHECKING, NamedTuple

from qiskit.circuit import QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.quantum_info import Pauli, SparseObservable, SparsePauliOp

from qcsc_prefect.integrations.qiskit.errors.sentences import counted, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qiskit.primitives.containers.estimator_pub import EstimatorPub
    from qiskit.primitives.containers.sampler_pub import SamplerPub

__all__ = ["PubMistake", "explain_pub", "misnamed_values"]

#: What Qiskit raises over something that is no PUB.
_REFUSALS = (QiskitError, ValueError, TypeError, AttributeError, KeyError, IndexError)
_OBSERVABLE = (str, Pauli, SparsePauliOp, SparseObservable)
_PARTS = {
    "sampler": ("circuit", "parameter_values", "shots"),
    "estimator": ("circuit", "observables", "parameter_values", "precision"),
}


class PubMistake(NamedTuple):
    """What is wrong with a PUB.

    Attributes:
        part: The part of the PUB that it is about; None where it is about the whole.
        words: What is wrong and what to write instead, in sentences.
    """

    part: str | None
    words: str


def explain_pub(pub: object, primitive: str, refusal: Exception) -> PubMistake:
    """Say what is wrong with what was handed in for a PUB.

    Example:
        >>> explain_pub((QuantumCircuit(2), "ZZ", "XX"), "estimator", ValueError("...")).part
        'parameter_values'
    """
    names = _PARTS[primitive]
    form = f"({', '.join(names)})"
    if isinstance(pub, QuantumCircuit) and primitive == "sampler":
        pub = (pub,)
    if isinstance(pub, QuantumCircuit):
        return PubMistake(
            None,
            "a circuit alone is no PUB of the estimator, which needs observables. Write a tuple "
            f"{form}; all but the circuit and the observables can be left out.",
        )
    if not isinstance(pub, tuple | list):
        wanted = "a circuit or a tuple" if primitive == "sampler" else "a tuple"
        return PubMistake(
            None, f"expected {wanted} {form}, got {shortened(pub)} ({type(pub).__name__})."
        )
    if not pub or not isinstance(pub[0], QuantumCircuit):
        first = shortened(pub[0]) if pub else "nothing"
        return PubMistake("circuit", f"the first part of a PUB is one circuit, here it is {first}.")
    if len(pub) > len(names):
        return PubMistake(None, f"it has {len(pub)} parts, and a PUB has at most those of {form}.")
    parts = dict(zip(names, pub, strict=False))
    mistake = _in_values(parts, form) or _in_observables(parts)
    return mistake or PubMistake(None, sentence(str(refusal)))


def misnamed_values(pub: SamplerPub | EstimatorPub) -> PubMistake | None:
    """Say which values of a PUB are of no parameter of its circuit; Qiskit finds that out late."""
    wanted = {parameter.name for parameter in pub.circuit.parameters}
    given = {name for names in pub.parameter_values.data for name in names}
    if given == wanted:
        return None
    return PubMistake(
        "parameter_values",
        f"the circuit has {counted(len(wanted), 'parameter')} ({_listed(wanted)}), and there are "
        f"values of {_listed(given)}.",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _in_values(parts: Mapping[str, object], form: str) -> PubMistake | None:
    circuit, values = parts["circuit"], parts.get("parameter_values")
    assert isinstance(circuit, QuantumCircuit)  # noqa: S101 - for the type checker
    if "observables" in parts and isinstance(values, _OBSERVABLE):
        return PubMistake(
            "parameter_values",
            f"this part holds the values of parameters, here it is the observable "
            f"{shortened(values)}. Several observables of one circuit are one list: "
            "(circuit, [observable, observable]).",
        )
    names = ", ".join(parameter.name for parameter in circuit.parameters) or "none"
    wanted = circuit.num_parameters
    if values is None:
        if not wanted:
            return None
        return PubMistake(
            "parameter_values",
            f"the circuit has {counted(wanted, 'parameter')} ({names}), and there are no values. "
            f"Write a tuple {form}.",
        )
    try:
        if not isinstance(values, Mapping | BindingsArray):
            values = {tuple(circuit.parameters): values}
        bindings = BindingsArray.coerce(values)
    except _REFUSALS as error:
        return PubMistake(
            "parameter_values",
            f"the circuit has {counted(wanted, 'parameter')} ({names}), and the values do not "
            f"fit: {sentence(str(error))} Their last axis runs along the parameters.",
        )
    given = bindings.num_parameters
    if given == wanted:
        return None
    return PubMistake(
        "parameter_values",
        f"there are values of {counted(given, 'parameter')}, and the circuit has {wanted} "
        f"({names}).",
    )


def _in_observables(parts: Mapping[str, object]) -> PubMistake | None:
    if "observables" not in parts:
        return None
    circuit, observables = parts["circuit"], parts["observables"]
    assert isinstance(circuit, QuantumCircuit)  # noqa: S101 - for the type checker
    if isinstance(observables, tuple):
        return PubMistake(
            "observables",
            f"several observables of one circuit are a list, here they are the tuple "
            f"{shortened(observables)}.",
        )
    for one in _each(observables):
        try:
            width = ObservablesArray.coerce(one).num_qubits
        except _REFUSALS as error:
            return PubMistake(
                "observables",
                f"{shortened(one)} is no observable: {sentence(str(error))} An observable is a "
                "label such as 'ZZ', a mapping of labels to coefficients, or a SparsePauliOp.",
            )
        if width != circuit.num_qubits:
            return PubMistake(
                "observables",
                f"the observable {shortened(one)} is about {counted(width, 'qubit')}, and the "
                f"circuit has {circuit.num_qubits}. For a transpiled circuit write "
                "observable.apply_layout(circuit.layout).",
            )
    return None


def _each(observables: object) -> Sequence[object]:
    """Return the observables one by one, in whatever lists they stand."""
    if isinstance(observables, list):
        return [one for item in observables for one in _each(item)]
    return [observables]
