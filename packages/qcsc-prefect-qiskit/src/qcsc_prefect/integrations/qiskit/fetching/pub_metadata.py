"""Describe the PUBs of a job: their circuits from what was submitted, the rest from the result."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

from qiskit.circuit import ControlFlowOp, Gate, QuantumCircuit
from qiskit.primitives.containers import BitArray, PrimitiveResult, PubResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit_ibm_runtime.execution_span import ExecutionSpans

from qcsc_prefect.core.metadata import PubMetadata
from qcsc_prefect.integrations.qiskit.fetching.metadata import iso_utc, without_refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

__all__ = ["circuit_of", "describe_pubs", "primitive_of"]

#: Circuits with more instructions are not walked through: it takes about 2 s for so many.
MOST_INSTRUCTIONS = 150_000

_SAMPLER_PARTS, _ESTIMATOR_PARTS = 3, 4


def describe_pubs(
    pubs: Sequence[object] | None,
    result: object | None,
    *,
    deadline: float,
    shots: int | None = None,
    precision: float | None = None,
) -> list[PubMetadata] | None:
    """Describe each PUB of a job by what is at hand.

    Args:
        pubs: What was submitted, coerced or not, or None where it is not known.
        result: The job's ``PrimitiveResult``, or None.
        deadline: Value of ``time.monotonic()`` after which no more circuits are walked through;
            their PUBs then keep the facts that cost nothing.
        shots: Shots asked for of each PUB that names none itself.
        precision: Target precision of each PUB that names none itself.

    Returns:
        One record for each PUB, or None where not even their number is known.
    """
    pub_results = list(result) if isinstance(result, PrimitiveResult) else []
    submitted = list(pubs) if pubs is not None else []
    # A result that does not match what was handed in is somebody else's: do not mix the two.
    if submitted and pub_results and len(submitted) != len(pub_results):
        submitted = []
    count = max(len(submitted), len(pub_results))
    if not count:
        return None
    windows = _execution_windows(result)
    program = _program_facts(result)
    described = []
    for index in range(count):
        facts: dict[str, object] = dict(program)
        facts |= _effort(submitted[index] if submitted else None, shots, precision)
        if submitted:
            facts |= _circuit_facts(submitted[index], walk=time.monotonic() < deadline)
        if pub_results:
            facts |= _result_facts(pub_results[index])
        facts |= _window_facts(windows.get(index, []))
        described.append(without_refused(PubMetadata, facts, f"metadata of PUB {index}"))
    return described


def circuit_of(pub: object) -> QuantumCircuit | None:
    """Return the circuit of a PUB in any of the forms that a primitive accepts, or None."""
    if isinstance(pub, SamplerPub | EstimatorPub):
        return pub.circuit
    if isinstance(pub, tuple | list) and pub:
        pub = pub[0]
    return pub if isinstance(pub, QuantumCircuit) else None


def primitive_of(result: object) -> str | None:
    """Return which primitive a result is of; None where it does not tell."""
    if not isinstance(result, PrimitiveResult) or not len(result):
        return None
    return "estimator" if "evs" in result[0].data else "sampler"


def _circuit_facts(pub: object, *, walk: bool) -> dict[str, object]:
    circuit = circuit_of(pub)
    if circuit is None:
        return {}
    facts: dict[str, object] = {"num_qubits": circuit.num_qubits}
    if circuit.name:
        facts["circuit_name"] = circuit.name
    if walk and len(circuit.data) <= MOST_INSTRUCTIONS:
        facts["depth"] = circuit.depth()
        facts["size"] = circuit.size()
        facts["two_qubit_count"] = _two_qubit_count(circuit)
    return facts


def _two_qubit_count(circuit: QuantumCircuit) -> int:
    """Count the gates on two qubits, those in control-flow blocks and boxes once each."""
    count = 0
    for instruction in circuit.data:
        operation = instruction.operation
        if isinstance(operation, ControlFlowOp):
            count += sum(_two_qubit_count(block) for block in operation.blocks)
        elif len(instruction.qubits) == 2 and isinstance(operation, Gate):  # noqa: PLR2004
            count += 1
    return count


def _result_facts(pub_result: PubResult) -> dict[str, object]:
    facts: dict[str, object] = {"shape": [int(length) for length in pub_result.data.shape]}
    shots = {
        register.num_shots
        for register in pub_result.data.values()
        if isinstance(register, BitArray)
    } or {pub_result.metadata.get("shots")}
    if len(shots) == 1 and (number := shots.pop()) is not None:
        facts["shots"] = number
    if (precision := pub_result.metadata.get("target_precision")) is not None:
        facts["precision"] = precision
    return facts


def _effort(pub: object, shots: int | None, precision: float | None) -> dict[str, object]:
    """Return what was asked for: by the PUB itself, else by the call."""
    if isinstance(pub, SamplerPub):
        shots = pub.shots or shots
    elif isinstance(pub, EstimatorPub):
        precision = pub.precision if pub.precision is not None else precision
    elif isinstance(pub, tuple | list):
        if len(pub) == _SAMPLER_PARTS and isinstance(pub[-1], int) and shots is not None:
            shots = pub[-1]
        elif len(pub) == _ESTIMATOR_PARTS and isinstance(pub[-1], int | float):
            precision = float(pub[-1])
    asked = {"shots_asked": shots, "precision": precision}
    return {name: value for name, value in asked.items() if value is not None}


def _program_facts(result: object) -> dict[str, object]:
    """Return what the result of a client-side primitive says of all its PUBs together."""
    if not isinstance(result, PrimitiveResult):
        return {}
    options, shots = result.metadata.get("options"), result.metadata.get("shots")
    if not isinstance(options, dict) or not isinstance(shots, int):
        return {}
    twirling = options["twirling"]
    is_twirled = twirling["enable_gates"] or twirling["enable_measure"]
    if "resilience" not in options:
        # A sampler's are those of one twirl.
        return {} if is_twirled else {"shots_asked": shots}
    facts: dict[str, object] = {"shots_asked": shots}
    precision = result.metadata.get("target_precision")
    if precision is None and options.get("default_shots") is None:
        precision = options["default_precision"]
    if precision is not None:
        facts["precision"] = float(precision)
    # With probabilistic error cancellation it depends on the noise how many more there are.
    if not options["resilience"]["pec_mitigation"]:
        facts["shots"] = _shots_taken(shots, twirling) if is_twirled else shots
    return facts


def _shots_taken(asked: int, twirling: Mapping[str, int | str]) -> int:
    """Return what the client makes of a number of shots: equally many for each of the twirls."""
    from qiskit_ibm_runtime.executor.calculate_twirling_shots import calculate_twirling_shots

    twirls, shots = calculate_twirling_shots(
        asked, twirling["num_randomizations"], twirling["shots_per_randomization"]
    )
    return int(twirls * shots)


def _execution_windows(result: object) -> dict[int, list[tuple[datetime, datetime]]]:
    """Return, for each PUB, the windows of time in which its data was taken."""
    windows: dict[int, list[tuple[datetime, datetime]]] = defaultdict(list)
    if isinstance(result, PrimitiveResult):
        execution = result.metadata.get("execution")
        spans = execution.get("execution_spans") if isinstance(execution, dict) else None
        if isinstance(spans, ExecutionSpans):
            for span in spans:
                for index in span.pub_idxs:
                    windows[index].append((span.start, span.stop))
        for chunk in getattr(result.metadata.get("executor"), "chunk_timing", ()):
            for index in _pubs_of_items([part.idx_item for part in chunk.parts], result):
                windows[index].append((chunk.start, chunk.stop))
    return windows


def _pubs_of_items(items: Sequence[int], result: PrimitiveResult) -> set[int]:
    """Return the PUBs that items of an executor job belong to.

    The items of a PUB stand together: one, or one for each noise factor. Behind those of all PUBs
    there may be one that measures the errors of the readout, which is no PUB's.
    """
    found: dict[int, int] = {}
    first = 0
    for index, pub_result in enumerate(result):
        compilation = pub_result.metadata.get("compilation")
        count = len(compilation) if isinstance(compilation, list) else 1
        found |= dict.fromkeys(range(first, first + count), index)
        first += count
    return {found[item] for item in items if item in found}


def _window_facts(windows: list[tuple[datetime, datetime]]) -> dict[str, object]:
    if not windows:
        return {}
    windows = sorted(windows)
    seconds = 0.0
    covered = windows[0][0]
    for start, stop in windows:
        seconds += max(0.0, (stop - max(start, covered)).total_seconds())
        covered = max(covered, stop)
    return {
        "started": iso_utc(windows[0][0]),
        "completed": iso_utc(covered),
        "execution_seconds": seconds,
    }
