"""Makes and calls the client's native primitives."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from qiskit_ibm_runtime.estimator import EstimatorV2  # the package's own name is to move
from qiskit_ibm_runtime.exceptions import IBMInputValueError
from qiskit_ibm_runtime.sampler import SamplerV2
from qiskit_ibm_runtime.utils import validate_isa_circuits
from qiskit_ibm_runtime.utils.utils import is_simulator

from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.inputs.option_mistakes import refused_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qiskit.providers import BackendV2
    from qiskit_ibm_runtime import RuntimeJobV2
    from qiskit_ibm_runtime.session import Session

    from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import PrimitiveImplementation
    from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName, Pub

    #: Where a job runs: by itself on a backend, or in a session or batch.
    ExecutionMode: TypeAlias = BackendV2 | Session

__all__ = ["NativePrimitive", "create_primitive", "refuse_circuits_not_isa", "run_primitive"]


class NativePrimitive(Protocol):
    """A native sampler or estimator, of either implementation."""

    def run(self, pubs: Sequence[object], **effort: float | None) -> RuntimeJobV2:
        """Submit PUBs, with ``shots`` for a sampler and ``precision`` for an estimator."""


def create_primitive(
    primitive: PrimitiveName,
    mode: ExecutionMode,
    options: Mapping[str, object],
    implementation: PrimitiveImplementation,
) -> NativePrimitive:
    """Create the native primitive on a backend, or in a session or batch.

    Raises:
        InputError: If the client refuses the options.
    """
    native_class = _native_class(primitive, implementation)
    try:
        created: NativePrimitive = native_class(mode=mode, options=copy.deepcopy(dict(options)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise refused_options(error, options, primitive, implementation) from error
    return created


def run_primitive(
    native: NativePrimitive,
    primitive: PrimitiveName,
    pubs: Sequence[Pub],
    *,
    shots: int | None,
    precision: float | None,
) -> RuntimeJobV2:
    """Submit PUBs through a native ``run``."""
    if primitive == "sampler":
        return native.run(pubs, shots=shots)
    return native.run(pubs, precision=precision)


def _native_class(primitive: PrimitiveName, implementation: PrimitiveImplementation) -> Any:
    if implementation == "client_side":
        # Not in every client, and slow to import.
        from qiskit_ibm_runtime.executor_estimator import Estimator
        from qiskit_ibm_runtime.executor_sampler import Sampler

        return Sampler if primitive == "sampler" else Estimator
    # The configuration decides, and says why; the client's warning would name this module.
    warnings.filterwarnings(
        "ignore",
        message="The (SamplerV2|EstimatorV2) class is deprecated",
        category=DeprecationWarning,
        module=__name__.replace(".", r"\."),
    )
    return SamplerV2 if primitive == "sampler" else EstimatorV2


def refuse_circuits_not_isa(pubs: Sequence[Pub], backend: BackendV2) -> None:
    """Refuse circuits that the backend cannot run, by the client's own check.

    The client makes the same check when a PUB is run; here it stands before anything is stored.

    Raises:
        InputError: If a circuit is no ISA circuit of the backend; ``path`` says which.
    """
    if is_simulator(backend):
        return
    for index, pub in enumerate(pubs):
        try:
            validate_isa_circuits([pub.circuit], backend.target)
        except IBMInputValueError as error:
            path = f"pubs[{index}].circuit"
            raise InputError(f"{path} refused by the client: {error.message}", path=path) from error
