"""Chooses between the client's two implementations of its primitives.

``"classic"`` are the client's ``SamplerV2`` and ``EstimatorV2``: the service prepares circuits and
post-processes counts. ``"client_side"`` are ``executor_sampler.Sampler`` and
``executor_estimator.Estimator``: the client does both, and the service runs a program that is
called ``executor``. Client 0.50 deprecated the classic ones, and a later client is to give their
names to the others.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal, TypeAlias

from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName

__all__ = [
    "FIRST_CLIENT_SIDE",
    "PrimitiveImplementation",
    "RequestedPrimitives",
    "choose_primitives",
    "has_client_side_primitives",
    "program_of",
]

PrimitiveImplementation: TypeAlias = Literal["classic", "client_side"]
RequestedPrimitives: TypeAlias = Literal["auto", "classic", "client_side"]

#: The first client whose client-side primitives have the names and options that are used here.
FIRST_CLIENT_SIDE = (0, 50)


def choose_primitives(
    requested: RequestedPrimitives, primitive: PrimitiveName, *, channel: str | None
) -> PrimitiveImplementation:
    """Return the implementation that a configuration asks for.

    ``"auto"`` is what the installed client's own names ``qiskit_ibm_runtime.SamplerV2`` and
    ``EstimatorV2`` are, so that a program that moves over runs what it ran before. On the channel
    ``local`` it is always classic: the client-side estimator measures every qubit of the device, so
    no circuit for a device of more than some 30 qubits can be simulated, and where it can, twirling
    makes it run tens of circuits for one. The client may move one of the
    names before the other.

    Raises:
        QiskitRuntimeConfigError: If client-side primitives are asked for of a client without them.

    Example:
        >>> choose_primitives("auto", "sampler", channel="local")
        'classic'
    """
    if requested == "client_side" and _client() < FIRST_CLIENT_SIDE:
        raise QiskitRuntimeConfigError(
            f"primitives='client_side' needs qiskit-ibm-runtime "
            f"{'.'.join(map(str, FIRST_CLIENT_SIDE))} or later; "
            f"{version('qiskit-ibm-runtime')} is installed. Upgrade it, or set "
            "primitives='classic'."
        )
    if requested != "auto":
        return requested
    return "classic" if channel == "local" else _behind_the_clients_name(primitive)


def has_client_side_primitives() -> bool:
    """Say whether the installed client has client-side primitives that are used here."""
    return _client() >= FIRST_CLIENT_SIDE


def program_of(primitive: str, implementation: PrimitiveImplementation) -> str:
    """Return the service's name of the program that a job runs.

    Example:
        >>> program_of("sampler", "classic"), program_of("sampler", "client_side")
        ('sampler', 'executor')
    """
    return "executor" if implementation == "client_side" else primitive


def _behind_the_clients_name(primitive: PrimitiveName) -> PrimitiveImplementation:
    import qiskit_ibm_runtime  # slow to import

    named = {
        "sampler": qiskit_ibm_runtime.SamplerV2,
        "estimator": qiskit_ibm_runtime.EstimatorV2,
    }[primitive]
    # The client keeps each kind in modules of its own; the version does not say what a name is.
    is_client_side = named.__module__.startswith("qiskit_ibm_runtime.executor_")
    return "client_side" if is_client_side else "classic"


def _client() -> tuple[int, ...]:
    major, minor = re.findall(r"\d+", version("qiskit-ibm-runtime"))[:2]
    return int(major), int(minor)
