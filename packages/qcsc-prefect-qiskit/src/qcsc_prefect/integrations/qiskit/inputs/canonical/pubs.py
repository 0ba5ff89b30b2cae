"""PUBs: what a sampler or an estimator runs, in whatever form it is handed in."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
from qiskit.circuit import CircuitInstruction, QuantumCircuit
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub

from qcsc_prefect.core.canonical.paths import LocatedErrors
from qcsc_prefect.core.errors import InputError, UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.inputs.canonical.bindings import BoundValues, bound_values
from qcsc_prefect.integrations.qiskit.inputs.canonical.circuits import (
    CircuitForm,
    CircuitScope,
    build_lazy_circuit,
)
from qcsc_prefect.integrations.qiskit.inputs.canonical.observables import (
    Observables,
    observables_form,
)
from qcsc_prefect.integrations.qiskit.inputs.canonical.registry import identity_registry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qcsc_prefect.core.canonical.writer import CanonicalWriter

__all__ = [
    "EstimatorPubForm",
    "SamplerPubForm",
    "estimator_pub_forms",
    "sampler_pub_forms",
]


@dataclass(frozen=True)
class SamplerPubForm:
    """A sampler PUB on its way into the canonical encoding."""

    circuit: CircuitForm
    parameter_values: BoundValues
    shots: int | None


@dataclass(frozen=True)
class EstimatorPubForm:
    """An estimator PUB on its way into the canonical encoding."""

    circuit: CircuitForm
    observables: Observables
    parameter_values: BoundValues
    precision: float | None


def sampler_pub_forms(pubs: object, shots: object) -> list[SamplerPubForm]:
    """Take sampler PUBs in any form that the primitive accepts.

    Raises:
        InputError: If a PUB is not one; `path` names it.
    """
    default = _shots(shots)
    forms = []
    for index, pub in enumerate(_pub_list(pubs, SamplerPub)):
        with LocatedErrors(f"pubs[{index}]"):
            if isinstance(pub, SamplerPub):
                parts: tuple[object, ...] = (pub.circuit, pub.parameter_values, pub.shots)
            elif isinstance(pub, QuantumCircuit):
                parts = (pub, None, None)
            else:
                parts = _parts(pub, smallest=1, largest=3)
            scope = _scope(parts[0])
            with LocatedErrors("parameter_values"):
                values = bound_values(parts[1], scope)
            own = _shots(parts[2])
            forms.append(
                SamplerPubForm(CircuitForm(scope), values, default if own is None else own)
            )
    return forms


def estimator_pub_forms(pubs: object, precision: object) -> list[EstimatorPubForm]:
    """Take estimator PUBs in any form that the primitive accepts.

    Raises:
        InputError: If a PUB is not one; `path` names it.
    """
    default = _precision(precision)
    forms = []
    for index, pub in enumerate(_pub_list(pubs, EstimatorPub)):
        with LocatedErrors(f"pubs[{index}]"):
            if isinstance(pub, EstimatorPub):
                parts: tuple[object, ...] = (
                    pub.circuit,
                    pub.observables,
                    pub.parameter_values,
                    pub.precision,
                )
            else:
                parts = _parts(pub, smallest=2, largest=4)
            scope = _scope(parts[0])
            with LocatedErrors("observables"):
                observables = observables_form(parts[1], scope.circuit.num_qubits)
            with LocatedErrors("parameter_values"):
                values = bound_values(parts[2], scope)
            own = _precision(parts[3])
            form = EstimatorPubForm(
                CircuitForm(scope), observables, values, default if own is None else own
            )
            _require_broadcast(observables.shape, values.shape)
            forms.append(form)
    return forms


def _pub_list(pubs: object, coerced: type) -> Iterable[object]:
    if isinstance(pubs, (QuantumCircuit, coerced)):
        return [pubs]
    try:
        return iter(pubs)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        raise UnsupportedTypeError(
            f"expected an iterable of PUBs, not {type(pubs).__qualname__}", path="pubs"
        ) from None


def _parts(pub: object, *, smallest: int, largest: int) -> tuple[object, ...]:
    if isinstance(pub, CircuitInstruction) or not isinstance(pub, (tuple, list)):
        raise UnsupportedTypeError(f"a value of type {type(pub).__qualname__} is not a PUB")
    if not smallest <= len(pub) <= largest:
        raise InputError(f"a PUB has {smallest} to {largest} parts, not {len(pub)}")
    return (*pub, *(None,) * (largest - len(pub)))


def _scope(circuit: object) -> CircuitScope:
    if not isinstance(circuit, QuantumCircuit):
        raise UnsupportedTypeError(
            f"the first part of a PUB is a circuit, not of type {type(circuit).__qualname__}",
            path="circuit",
        )
    with LocatedErrors("circuit"):
        build_lazy_circuit(circuit)
    return CircuitScope(circuit)


def _shots(shots: object) -> int | None:
    if shots is None:
        return None
    if not isinstance(shots, Integral) or isinstance(shots, (bool, np.bool_)) or shots <= 0:
        raise InputError(f"expected a whole number above 0, not {shots!r}", path="shots")
    return int(shots)


def _precision(precision: object) -> float | None:
    if precision is None:
        return None
    try:
        value = float(precision) if isinstance(precision, Real) else -1.0
    except OverflowError:
        raise InputError("expected a number that a float can hold", path="precision") from None
    if not value >= 0:
        raise InputError(f"expected a number of 0 or more, not {precision!r}", path="precision")
    return value + 0.0


def _require_broadcast(observables: tuple[int, ...], values: tuple[int, ...]) -> None:
    try:
        np.broadcast_shapes(observables, values)
    except ValueError:
        raise InputError(
            f"observables of shape {observables} and parameter values of shape {values} "
            "cannot be broadcast"
        ) from None


def _encode_pub(
    _: CanonicalWriter, pub: SamplerPubForm | EstimatorPubForm
) -> list[tuple[str, object]]:
    # The circuit comes first: writing it numbers the parameters that the values refer to.
    return list(vars(pub).items())


def _fields(pub: SamplerPubForm | EstimatorPubForm) -> object:
    return dict(vars(pub))


identity_registry.register(
    SamplerPubForm,
    tag="qiskit.sampler_pub",
    version=1,
    encode=_encode_pub,
    describe=_fields,
)
identity_registry.register(
    EstimatorPubForm,
    tag="qiskit.estimator_pub",
    version=1,
    encode=_encode_pub,
    describe=_fields,
)
