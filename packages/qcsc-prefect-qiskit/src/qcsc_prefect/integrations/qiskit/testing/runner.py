"""Runs the posted PUBs on a local simulator and encodes what comes out as the service does."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from qiskit.exceptions import QiskitError
from qiskit.primitives import BackendEstimatorV2, BackendSamplerV2, PrimitiveResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.utils import optionals
from qiskit_ibm_runtime.execution_span import ExecutionSpans, SliceSpan
from qiskit_ibm_runtime.json import RuntimeDecoder, RuntimeEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qiskit.providers import BackendV2

    from .backends import EmulatedBackend
    from .exchange import JSONValue

DEFAULT_SHOTS = 4096
"""Shots of a sampler PUB that names none, as in the client's documentation of `default_shots`."""

DEFAULT_PRECISION = 1 / math.sqrt(4096)
"""Precision of an estimator PUB that names none: that of 4096 shots (`default_precision`)."""

BAD_INPUT = 1003
"""The service's code for a job whose input cannot be used."""

EXECUTION_FAILED = 1002
"""The service's code for a job that failed while it ran."""

Params: TypeAlias = "dict[str, JSONValue]"

_UNREADABLE = (TypeError, ValueError, KeyError, IndexError, OSError, zlib.error, QiskitError)


class ProgramFailedError(Exception):
    """A program that ended without a result.

    Attributes:
        code: The service's code for the reason.
        message: The reason in words.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Simulation:
    """How programs are simulated.

    Attributes:
        seed: With a seed, equal inputs give equal samples, whatever else runs; None draws
            new samples each time.
        noise: Whether the noise recorded with the device is simulated; this needs Qiskit Aer.
    """

    seed: int | None = None
    noise: bool = False

    def seed_for(self, program_id: str, params: Params) -> int | None:
        """Return the seed for one job, which depends on its input and on nothing else."""
        if self.seed is None:
            return None
        text = json.dumps([self.seed, program_id, params], sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

    def simulator(self, backend: EmulatedBackend) -> BackendV2:
        """Return what runs the circuits in the place of the device."""
        if optionals.HAS_AER and not self.noise:
            from qiskit_aer import AerSimulator  # noqa: PLC0415 - Aer is optional

            return AerSimulator()
        return backend.device


@dataclass(frozen=True)
class _PrimitiveInput:
    """What a primitive was asked to run, as the client's own decoder reads it."""

    pubs: list[list[object]]
    default_shots: int | None = None
    default_precision: float | None = None
    seed: int | None = field(default=None)


def run_program(
    program_id: str, params: Params, backend: EmulatedBackend, simulation: Simulation
) -> str:
    """Run one program and return its result as the service would store it.

    Args:
        program_id: One of `PROGRAMS`.
        params: The parameters as they were posted.
        backend: Where the program runs; it runs one at a time.
        simulation: How it is simulated.

    Returns:
        The text that the client downloads as the result.

    Raises:
        ProgramFailedError: The parameters cannot be read, or the simulation refused them.
    """
    seed = simulation.seed_for(program_id, params)
    simulator = simulation.simulator(backend)
    with backend.lock:
        return PROGRAMS[program_id](params, simulator, seed)


def _run_sampler(params: Params, simulator: BackendV2, seed: int | None) -> str:
    posted = _read_primitive_input(params, seed)
    try:
        pubs = [
            SamplerPub.coerce(tuple(pub), posted.default_shots or DEFAULT_SHOTS)
            for pub in posted.pubs
        ]
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


def _run_estimator(params: Params, simulator: BackendV2, seed: int | None) -> str:
    posted = _read_primitive_input(params, seed)
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


PROGRAMS: Mapping[str, Callable[[Params, BackendV2, int | None], str]] = {
    "sampler": _run_sampler,
    "estimator": _run_estimator,
}
"""The programs that the emulated service can run, by their ids."""


def _read_primitive_input(params: Params, seed: int | None) -> _PrimitiveInput:
    try:
        decoded = json.loads(json.dumps(params), cls=RuntimeDecoder)
        options = decoded.get("options", {})
        requested_seed = options.get("simulator", {}).get("seed_simulator")
        return _PrimitiveInput(
            pubs=decoded["pubs"],
            default_shots=options.get("default_shots"),
            default_precision=options.get("default_precision"),
            seed=seed if requested_seed is None else requested_seed,
        )
    except _UNREADABLE as error:
        raise ProgramFailedError(BAD_INPUT, f"The parameters cannot be read: {error}") from error
