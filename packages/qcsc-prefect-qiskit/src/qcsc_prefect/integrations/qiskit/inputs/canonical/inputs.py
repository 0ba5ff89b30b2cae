"""The whole input of a job as one mapping, its digest, and where two of them part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcsc_prefect.core.canonical.paths import show_path
from qcsc_prefect.core.difference import Difference, explain_difference
from qcsc_prefect.core.digest import digest_value, input_identity
from qcsc_prefect.core.errors import InputError, UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.inputs.canonical import client_values  # noqa: F401 - registers
from qcsc_prefect.integrations.qiskit.inputs.canonical.deep_stack import call_on_deep_stack
from qcsc_prefect.integrations.qiskit.inputs.canonical.pubs import (
    estimator_pub_forms,
    sampler_pub_forms,
)
from qcsc_prefect.integrations.qiskit.inputs.canonical.registry import identity_registry
from qcsc_prefect.integrations.qiskit.inputs.native_options import options_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["digest", "estimator_identity", "explain", "sampler_identity"]


def sampler_identity(
    pubs: Iterable[Any],
    *,
    flow_name: str | None,
    shots: int | None = None,
    backend_name: str | None = None,
    runtime_block_name: str | None = None,
    options: Mapping[str, Any] | None = None,
    cache_scope: str = "flow",
    cache_namespace: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, object]:
    """Return everything that the identity of a sampler job's input consists of.

    The arguments are those of
    :func:`~qcsc_prefect.integrations.qiskit.input_digest.build_qiskit_sampler_input_digest`.
    """
    try:
        forms = sampler_pub_forms(pubs, shots)
    except InputError as error:
        show_path(error)
        raise
    inputs = {
        "primitive": "sampler",
        "pubs": forms,
        "backend_name": backend_name,
        "runtime_block_name": runtime_block_name,
        "options": options_mapping(options) or {},
    }
    return input_identity(
        inputs,
        cache_scope=cache_scope,
        flow_name=flow_name,
        cache_namespace=cache_namespace,
        extra=extra,
    )


def estimator_identity(
    pubs: Iterable[Any],
    *,
    flow_name: str | None,
    precision: float | None = None,
    backend_name: str | None = None,
    runtime_block_name: str | None = None,
    options: Mapping[str, Any] | None = None,
    cache_scope: str = "flow",
    cache_namespace: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, object]:
    """Return everything that the identity of an estimator job's input consists of.

    The arguments are those of
    :func:`~qcsc_prefect.integrations.qiskit.input_digest.build_qiskit_estimator_input_digest`.
    """
    try:
        forms = estimator_pub_forms(pubs, precision)
    except InputError as error:
        show_path(error)
        raise
    inputs = {
        "primitive": "estimator",
        "pubs": forms,
        "backend_name": backend_name,
        "runtime_block_name": runtime_block_name,
        "options": options_mapping(options) or {},
    }
    return input_identity(
        inputs,
        cache_scope=cache_scope,
        flow_name=flow_name,
        cache_namespace=cache_namespace,
        extra=extra,
    )


def digest(prefix: str, identity: Mapping[str, object]) -> str:
    """Return the digest of an identity with its prefix in front."""
    try:
        return f"{prefix}-{digest_value(identity, domain=prefix, registry=identity_registry)}"
    except UnsupportedTypeError as error:
        way_out = "Leave it out, or give an input_digest of your own."
        error.args = (f"{error}. {way_out}",)
        raise


def explain(one: Mapping[str, object], other: Mapping[str, object], limit: int) -> list[Difference]:
    """Return the first places at which two identities part."""

    def differences() -> list[Difference]:
        # Digesting a PUB numbers its parameters, which its parts refer to when they are looked at
        # one by one.
        for identity in (one, other):
            digest_value(identity, registry=identity_registry)
        return explain_difference(one, other, registry=identity_registry, limit=limit)

    return call_on_deep_stack(differences)
