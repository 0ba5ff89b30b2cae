"""The programs ``sampler`` and ``estimator``: PUBs in, a primitive result out."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from qiskit.exceptions import QiskitError
from qiskit.primitives import BackendEstimatorV2, BackendSamplerV2, PrimitiveResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit_ibm_runtime import RuntimeDecoder, RuntimeEncoder
from qiskit_ibm_runtime.execution_span import ExecutionSpans, SliceSpan

from qcsc_prefect.integrations.qiskit.testing.programs import (
    BAD_INPUT,
    EXECUTION_FAILED,
    ProgramFailedError,
)

if TYPE_CHECKING:
    from qiskit.providers import BackendV2

    from qcsc_prefect.integrations.qiskit.testing.programs import Params

DEFAULT_SHOTS = 4096
"""Shots of a sampler PUB that names none, as in the client's documentation of `default_shots`."""

DEFAULT_PRECISION = 1 / math.sqrt(4096)
"""Precision of an estimator PUB that names none: that of 4096 shots (`default_precision`)."""

_UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, OSError, zlib.error, QiskitError)


@dataclass(frozen=True)
class _PostedPubs:
    """What a primitive was asked to run, as the client's own decoder reads it."""

    pubs: list[list[object]]
    default_shots: int | None
    default_precision: float | None
    seed: int | None


def run_sampler(params: Params, simulator: BackendV2, seed: int | None) -> str:
    """Sample the posted PUBs.

    Args:
        params: The parameters as they were posted.
        simulator: What runs the circuits.
        seed: The seed, unless the job's own options name one.

    Returns:
        The encoded result.

    Raises:
        ProgramFailedError: The parameters cannot be read, or the simulator refused them.
    """
    posted = _read_pubs(params, seed)
    shots = posted.default_shots or DEFAULT_SHOTS
    try:
        pubs = [SamplerPub.coerce(tuple(pub), shots) for pub in posted.pubs]
    except _UNREADABLE as error:
        raise ProgramFailedError(BAD_INPUT, f"The PUBs cannot be read: {error}") from error
    sampler = BackendSamplerV2(backend=simulator, options={"seed_simulator": posted.seed})
    started = datetime.now(UTC)
    try:
        results = list(sampler.run(pubs).result())
    except (ValueError, QiskitError) as error:
        raise ProgramFailedError(EXECUTION_FAILED, str(error)) from error
    slices = {}
    for index, (pub, result) in enumerate(zip(pubs, results, strict=True)):
        shape = (*result.data.shape, pub.shots)
        slices[index] = (shape, slice(0, math.prod(shape)))
    spans = ExecutionSpans([SliceSpan(started, datetime.now(UTC), slices)])
    metadata = {"execution": {"execution_spans": spans}, "version": 2}
    return json.dumps(PrimitiveResult(results, metadata=metadata), cls=RuntimeEncoder)


def run_estimator(params: Params, simulator: BackendV2, seed: int | None) -> str:
    """Estimate the observables of the posted PUBs.

    Args:
        params: The parameters as they were posted.
        simulator: What runs the circuits.
        seed: The seed, unless the job's own options name one.

    Returns:
        The encoded result.

    Raises:
        ProgramFailedError: The parameters cannot be read, or the simulator refused them.
    """
    posted = _read_pubs(params, seed)
    precision = posted.default_precision or DEFAULT_PRECISION
    if posted.default_shots:
        precision = 1 / math.sqrt(posted.default_shots)
    try:
        pubs = [EstimatorPub.coerce(tuple(pub), precision) for pub in posted.pubs]
    except _UNREADABLE as error:
        raise ProgramFailedError(BAD_INPUT, f"The PUBs cannot be read: {error}") from error
    estimator = BackendEstimatorV2(backend=simulator, options={"seed_simulator": posted.seed})
    try:
        results = list(estimator.run(pubs).result())
    except (ValueError, QiskitError) as error:
        raise ProgramFailedError(EXECUTION_FAILED, str(error)) from error
    return json.dumps(PrimitiveResult(results, metadata={"version": 2}), cls=RuntimeEncoder)


def _read_pubs(params: Params, seed: int | None) -> _PostedPubs:
    try:
        decoded = json.loads(json.dumps(params), cls=RuntimeDecoder)
        options = decoded.get("options", {})
        requested_seed = options.get("simulator", {}).get("seed_simulator")
        return _PostedPubs(
            pubs=list(decoded["pubs"]),
            default_shots=options.get("default_shots"),
            default_precision=options.get("default_precision"),
            seed=seed if requested_seed is None else requested_seed,
        )
    except _UNREADABLE as error:
        raise ProgramFailedError(BAD_INPUT, f"The parameters cannot be read: {error}") from error
