"""What a caller may hand over as ``pubs``, turned into a list of native PUBs.

The primitives take an iterable of PUB-like objects. People also pass a generator, or one bare
circuit; and a list of PUBs may arrive wrapped in an annotation that keeps Prefect from walking it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sized
from numbers import Integral, Real
from typing import TYPE_CHECKING, Literal, TypeAlias

from prefect.utilities.annotations import BaseAnnotation

from qcsc_prefect.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qiskit.primitives.containers.estimator_pub import EstimatorPub
    from qiskit.primitives.containers.sampler_pub import SamplerPub

    from qcsc_prefect.integrations.qiskit.inputs.pub_mistakes import PubMistake

__all__ = [
    "PrimitiveName",
    "Pub",
    "a_job",
    "check_precision",
    "check_shots",
    "coerce_pubs",
    "collect_pubs",
    "known_pubs",
    "refuse_pubs_without_outcome",
]

PrimitiveName = Literal["sampler", "estimator"]
Pub: TypeAlias = "SamplerPub | EstimatorPub"


def collect_pubs(pubs: object) -> list[object]:
    """Return the PUB-like objects as a list, so that they can be read more than once.

    Raises:
        InputError: If there is nothing to iterate over, or no PUB in it.
    """
    from qiskit.circuit import QuantumCircuit
    from qiskit.primitives.containers.estimator_pub import EstimatorPub
    from qiskit.primitives.containers.sampler_pub import SamplerPub

    while isinstance(pubs, BaseAnnotation):
        pubs = pubs.unwrap()
    if isinstance(pubs, (QuantumCircuit, SamplerPub, EstimatorPub)):
        return [pubs]
    if isinstance(pubs, (str, bytes, Mapping)) or not isinstance(pubs, Iterable):
        raise InputError(
            f"pubs refused: expected an iterable of PUBs, got {type(pubs).__name__}. "
            "Pass a list such as [(circuit, parameter_values)].",
            path="pubs",
        )
    collected = list(pubs)
    if not collected:
        raise InputError(
            "pubs refused: the iterable holds no PUB. Pass at least one; a generator gives its "
            "PUBs once.",
            path="pubs",
        )
    return collected


def known_pubs(pubs: object) -> list[object] | None:
    """Return the PUBs of a job that exists already, where the caller knows them.

    Raises:
        InputError: If it is nothing that can hold PUBs.

    Example:
        >>> known_pubs([]) is None
        True
    """
    while isinstance(pubs, BaseAnnotation):
        pubs = pubs.unwrap()
    if pubs is None:
        return None
    if isinstance(pubs, Iterator):
        pubs = list(pubs)
    return None if isinstance(pubs, Sized) and len(pubs) == 0 else collect_pubs(pubs)


def coerce_pubs(pubs: object, primitive: PrimitiveName) -> list[Pub]:
    """Turn PUB-like objects into the primitive's native PUBs.

    Raises:
        InputError: If one of them is no PUB of this primitive; ``path`` says which.
    """
    from qiskit.exceptions import QiskitError
    from qiskit.primitives.containers.estimator_pub import EstimatorPub
    from qiskit.primitives.containers.sampler_pub import SamplerPub

    from qcsc_prefect.integrations.qiskit.inputs.pub_mistakes import explain_pub, misnamed_values

    pub_type = SamplerPub if primitive == "sampler" else EstimatorPub
    coerced: list[Pub] = []
    for index, pub in enumerate(collect_pubs(pubs)):
        try:
            coerced.append(pub_type.coerce(pub))
        except (QiskitError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            raise _refused(index, explain_pub(pub, primitive, error)) from error
        mistake = misnamed_values(coerced[-1])
        if mistake is not None:
            raise _refused(index, mistake)
    return coerced


def _refused(index: int, mistake: PubMistake) -> InputError:
    path = f"pubs[{index}]" if mistake.part is None else f"pubs[{index}].{mistake.part}"
    return InputError(f"{path} refused: {mistake.words}", path=path)


def refuse_pubs_without_outcome(pubs: Sequence[Pub]) -> None:
    """Refuse what the client-side sampler would run and could make no result of.

    The classic sampler gives such a circuit an empty result, and refuses an empty register itself.
    A register into which nothing is measured is read as zeros by both.

    Raises:
        InputError: If a circuit has no classical register, or an empty one; ``path`` says which.
    """
    for index, pub in enumerate(pubs):
        if not pub.circuit.cregs:
            reason = "it has no classical register, so that there is nothing to sample"
        elif empty := [register.name for register in pub.circuit.cregs if not len(register)]:
            reason = f"its classical register {empty[0]!r} has no bits"
        else:
            continue
        path = f"pubs[{index}].circuit"
        raise InputError(
            f"{path} refused: {reason}, and the client-side sampler would fail over the result of "
            "the finished job. Measure into a classical register, for example with "
            "circuit.measure_all().",
            path=path,
        )


def check_shots(shots: object) -> int | None:
    """Return the shots of a call as a plain number.

    Raises:
        InputError: If it is no whole number above 0.

    Example:
        >>> check_shots(1000)
        1000
    """
    if shots is None:
        return None
    if not isinstance(shots, Integral) or isinstance(shots, bool) or shots <= 0:
        raise InputError(
            f"shots refused: expected a whole number above 0, got {shots!r}.", path="shots"
        )
    return int(shots)


def check_precision(precision: object) -> float | None:
    """Return the precision of a call as a plain number.

    Raises:
        InputError: If it is no number above 0.

    Example:
        >>> check_precision(0.01)
        0.01
    """
    if precision is None:
        return None
    is_number = isinstance(precision, Real) and not isinstance(precision, bool)
    if not is_number or not 0 < float(precision) < math.inf:  # type: ignore[arg-type]
        raise InputError(
            f"precision refused: expected a number above 0, got {precision!r}.", path="precision"
        )
    return float(precision)  # type: ignore[arg-type]


def a_job(primitive: str) -> str:
    """Return what to call a job of a primitive in a sentence.

    Example:
        >>> a_job("estimator")
        'an estimator job'
    """
    return f"{'an' if primitive[:1] in 'aeiou' else 'a'} {primitive} job"
