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
from qcsc_prefect.integrations.qiskit.job_metadata import iso_utc, without_refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["circuit_of", "describe_pubs"]

#: Circuits with more instructions are not walked through: it takes about 2 s for so many.
MOST_INSTRUCTIONS = 150_000


def describe_pubs(
    pubs: Sequence[object] | None, result: object | None, *, deadline: float
) -> list[PubMetadata] | None:
    """Describe each PUB of a job by what is at hand.

    Args:
        pubs: What was submitted, coerced or not, or None where it is not known.
        result: The job's ``PrimitiveResult``, or None.
        deadline: Value of ``time.monotonic()`` after which no more circuits are walked through;
            their PUBs then keep the facts that cost nothing.

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
    described = []
    for index in range(count):
        facts: dict[str, object] = {}
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
    if len(shots) == 1:
        facts["shots"] = shots.pop()
    facts["precision"] = pub_result.metadata.get("target_precision")
    return facts


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
    return windows


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
