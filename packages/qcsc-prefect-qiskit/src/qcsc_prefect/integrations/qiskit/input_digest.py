"""The identity of what a primitive is asked to run.

Two inputs have one digest if and only if the service would run them alike, as far as that can be
told without running them; ``docs/identity.md`` says what counts and what does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcsc_prefect.core.prefect.task_runs import current_flow_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qcsc_prefect.core.difference import Difference
    from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName

__all__ = [
    "build_input_digest_of",
    "build_qiskit_estimator_input_digest",
    "build_qiskit_sampler_input_digest",
    "explain_qiskit_estimator_difference",
    "explain_qiskit_sampler_difference",
]

SAMPLER_PREFIX = "qiskit-sampler-input"
ESTIMATOR_PREFIX = "qiskit-estimator-input"


def build_qiskit_sampler_input_digest(
    pubs: Iterable[Any],
    *,
    backend_name: str | None = None,
    runtime_block_name: str | None = None,
    shots: int | None = None,
    options: Mapping[str, Any] | None = None,
    cache_scope: str = "flow",
    cache_namespace: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Build the input digest of a sampler job.

    The digest is the identity of the job's input and nothing of the run that submits it: equal
    input gives an equal digest in another process, on another machine and with another version of
    Python or Qiskit. By default it also holds the name of the running flow.

    Args:
        pubs: Sampler PUBs in any form that the primitive accepts, or one circuit.
        backend_name: The backend that the job is meant for.
        runtime_block_name: The saved configuration that it is submitted through.
        shots: Shots of those PUBs that have none of their own.
        options: The primitive's options.
        cache_scope: ``flow`` keeps equal inputs of different flows apart, ``global`` does not.
        cache_namespace: A further name that keeps equal inputs apart.
        extra: Further plain values that keep equal inputs apart.

    Returns:
        ``qiskit-sampler-input-<64 hexadecimal digits>``.

    Raises:
        UnsupportedTypeError: If something in the input cannot be encoded faithfully; the message
            and `path` say what and where, for example ``pubs[0].circuit.metadata.callback``.
        InputError: If the input is not what a sampler accepts.

    Example:
        >>> from qiskit import QuantumCircuit
        >>> bell = QuantumCircuit(2)
        >>> _ = bell.h(0), bell.cx(0, 1), bell.measure_all()
        >>> one = build_qiskit_sampler_input_digest([bell], shots=1024)
        >>> one == build_qiskit_sampler_input_digest([(bell, None, 1024)])
        True
    """
    from qcsc_prefect.integrations.qiskit.inputs.canonical import inputs

    return inputs.digest(
        SAMPLER_PREFIX,
        inputs.sampler_identity(
            pubs,
            shots=shots,
            backend_name=backend_name,
            runtime_block_name=runtime_block_name,
            options=options,
            cache_scope=cache_scope,
            cache_namespace=cache_namespace,
            extra=extra,
            flow_name=current_flow_name(),
        ),
    )


def build_qiskit_estimator_input_digest(
    pubs: Iterable[Any],
    *,
    backend_name: str | None = None,
    runtime_block_name: str | None = None,
    precision: float | None = None,
    options: Mapping[str, Any] | None = None,
    cache_scope: str = "flow",
    cache_namespace: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Build the input digest of an estimator job.

    Like :func:`build_qiskit_sampler_input_digest`, with observables and precision.

    Args:
        pubs: Estimator PUBs in any form that the primitive accepts.
        backend_name: The backend that the job is meant for.
        runtime_block_name: The saved configuration that it is submitted through.
        precision: Precision of those PUBs that have none of their own.
        options: The primitive's options.
        cache_scope: ``flow`` keeps equal inputs of different flows apart, ``global`` does not.
        cache_namespace: A further name that keeps equal inputs apart.
        extra: Further plain values that keep equal inputs apart.

    Returns:
        ``qiskit-estimator-input-<64 hexadecimal digits>``.

    Raises:
        UnsupportedTypeError: If something in the input cannot be encoded faithfully; the message
            and `path` say what and where.
        InputError: If the input is not what an estimator accepts, for example an observable that
            is not Hermitian.

    Example:
        >>> from qiskit import QuantumCircuit
        >>> bell = QuantumCircuit(2)
        >>> _ = bell.h(0), bell.cx(0, 1)
        >>> one = build_qiskit_estimator_input_digest([(bell, {"ZZ": 1, "XX": 0.5})])
        >>> one == build_qiskit_estimator_input_digest([(bell, {"XX": 0.5, "ZZ": 1})])
        True
    """
    from qcsc_prefect.integrations.qiskit.inputs.canonical import inputs

    return inputs.digest(
        ESTIMATOR_PREFIX,
        inputs.estimator_identity(
            pubs,
            precision=precision,
            backend_name=backend_name,
            runtime_block_name=runtime_block_name,
            options=options,
            cache_scope=cache_scope,
            cache_namespace=cache_namespace,
            extra=extra,
            flow_name=current_flow_name(),
        ),
    )


def build_input_digest_of(
    primitive: PrimitiveName, pubs: Iterable[Any], effort: float | None, **named: Any
) -> str:
    """Build the input digest of a primitive's job, from its shots or its precision."""
    if primitive == "sampler":
        return build_qiskit_sampler_input_digest(pubs, shots=effort, **named)  # type: ignore[arg-type]
    return build_qiskit_estimator_input_digest(pubs, precision=effort, **named)


def explain_qiskit_sampler_difference(
    one: Mapping[str, Any], other: Mapping[str, Any], *, limit: int = 5
) -> list[Difference]:
    """Name the first places at which the inputs of two sampler jobs part.

    Args:
        one: The arguments of :func:`build_qiskit_sampler_input_digest` by name; ``pubs`` at least.
        other: Those of the other job.
        limit: The most places to name.

    Returns:
        The places, such as ``pubs[0].circuit.data[3].params[0]`` or ``options.twirling``;
        an empty list exactly if both jobs have the same digest.

    Raises:
        UnsupportedTypeError: If something in the input cannot be encoded faithfully.
        InputError: If the input is not what a sampler accepts.

    Example:
        >>> from qiskit import QuantumCircuit
        >>> bell = QuantumCircuit(2)
        >>> _ = bell.h(0), bell.cx(0, 1), bell.measure_all()
        >>> pubs = [bell]
        >>> found = explain_qiskit_sampler_difference(
        ...     {"pubs": pubs}, {"pubs": pubs, "options": {"max_execution_time": 60}}
        ... )
        >>> [str(difference) for difference in found]
        ['options.max_execution_time: nothing and 60']
    """
    from qcsc_prefect.integrations.qiskit.inputs.canonical import inputs

    flow_name = current_flow_name()
    return inputs.explain(
        inputs.sampler_identity(**one, flow_name=flow_name),
        inputs.sampler_identity(**other, flow_name=flow_name),
        limit,
    )


def explain_qiskit_estimator_difference(
    one: Mapping[str, Any], other: Mapping[str, Any], *, limit: int = 5
) -> list[Difference]:
    """Name the first places at which the inputs of two estimator jobs part.

    Args:
        one: The arguments of :func:`build_qiskit_estimator_input_digest` by name, ``pubs`` at
            least.
        other: Those of the other job.
        limit: The most places to name.

    Returns:
        The places, such as ``pubs[0].circuit.data[3].params[0]`` or ``options.twirling``;
        an empty list exactly if both jobs have the same digest.

    Raises:
        UnsupportedTypeError: If something in the input cannot be encoded faithfully.
        InputError: If the input is not what an estimator accepts.

    Example:
        >>> from qiskit import QuantumCircuit
        >>> bell = QuantumCircuit(2)
        >>> _ = bell.h(0), bell.cx(0, 1)
        >>> pubs = [(bell, "ZZ")]
        >>> found = explain_qiskit_estimator_difference(
        ...     {"pubs": pubs}, {"pubs": pubs, "options": {"max_execution_time": 60}}
        ... )
        >>> [str(difference) for difference in found]
        ['options.max_execution_time: nothing and 60']
    """
    from qcsc_prefect.integrations.qiskit.inputs.canonical import inputs

    flow_name = current_flow_name()
    return inputs.explain(
        inputs.estimator_identity(**one, flow_name=flow_name),
        inputs.estimator_identity(**other, flow_name=flow_name),
        limit,
    )
