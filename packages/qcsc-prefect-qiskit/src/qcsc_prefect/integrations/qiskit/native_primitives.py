"""Makes and calls the client's native primitives."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from qiskit_ibm_runtime import EstimatorV2, SamplerV2

from qcsc_prefect.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qiskit.primitives.containers.estimator_pub import EstimatorPubLike
    from qiskit.primitives.containers.sampler_pub import SamplerPubLike
    from qiskit.providers import BackendV2
    from qiskit_ibm_runtime import RuntimeJobV2

__all__ = ["NativePrimitive", "create_primitive"]


@dataclass(frozen=True)
class NativePrimitive:
    """A native primitive with one way to run it, whichever it is."""

    native: SamplerV2 | EstimatorV2

    def run(
        self,
        pubs: Sequence[object],
        *,
        shots: int | None = None,
        precision: float | None = None,
    ) -> RuntimeJobV2:
        """Submit PUBs through the native ``run``.

        Args:
            pubs: PUBs of the primitive.
            shots: Shots of the call, for a sampler.
            precision: Target standard error of the call, for an estimator.

        Returns:
            The native job.
        """
        if isinstance(self.native, SamplerV2):
            return self.native.run(cast("Sequence[SamplerPubLike]", pubs), shots=shots)
        return self.native.run(cast("Sequence[EstimatorPubLike]", pubs), precision=precision)


def create_primitive(
    primitive: str, backend: BackendV2, options: Mapping[str, object]
) -> NativePrimitive:
    """Create the native primitive on a backend.

    Args:
        primitive: ``"sampler"`` or ``"estimator"``.
        backend: The native backend.
        options: Native options, as a plain mapping; the client checks them.

    Returns:
        The primitive.

    Raises:
        InputError: If the client refuses the options.
    """
    native_class = SamplerV2 if primitive == "sampler" else EstimatorV2
    try:
        return NativePrimitive(native_class(mode=backend, options=copy.deepcopy(dict(options))))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"options refused by the client: {error}", path="options") from error
