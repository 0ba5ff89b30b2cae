"""Puts the outputs of several jobs together as the output of one call.

What is a sum is summed, what belongs to a PUB stays with it, what all jobs have in common is kept,
and what is left has no meaning for the call: each job has its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qiskit.primitives import PrimitiveResult
from qiskit_ibm_runtime.execution_span import ExecutionSpans

from qcsc_prefect.core.digest import digest_value
from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.presentation import JobOutput
from qcsc_prefect.integrations.qiskit.results.client_value_types import data_slices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qiskit_ibm_runtime.execution_span.execution_span import ExecutionSpan

    from qcsc_prefect.integrations.qiskit.submitting.pub_locations import PubLocation

__all__ = ["assemble"]

#: Facts that one job has, and several have none of, also where they are equal by chance.
_OF_ONE_JOB = frozenset({"job_id", "created", "started", "completed", "queue_seconds"})

#: What a call asks for of all its PUBs, and the name of the same fact of one of them.
_ASKED = {"shots": "shots_asked", "precision": "precision"}

#: Facts of a job that add up, for the jobs as a whole.
_SUMS = ("qpu_seconds", "charged_seconds", "work_seconds")


def assemble(
    locations: Sequence[PubLocation],
    outputs: Mapping[str, dict[str, Any]],
    circuits: Sequence[Mapping[str, object]],
) -> JobOutput:
    """Return the output of a call whose PUBs were run by several jobs.

    Args:
        locations: Where each PUB was run, in the order of the call.
        outputs: The output of each job, by its id; that of the handle's own job comes first.
        circuits: What is known of the circuit of each PUB, and what this call asked for; the jobs
            may have been submitted by calls that asked for something else of their other PUBs.

    Returns:
        An output as of one job. Its ``metadata`` have ``job_ids`` besides, the job of each PUB, and
        ``jobs``, the facts of each job by its id.
    """
    job_ids = [str(location.reference.job_id) for location in locations]
    results = [outputs[job_id]["result"] for job_id in job_ids]
    native = _in_common([output["result"].metadata for output in outputs.values()])
    native.pop("execution", None)
    if spans := _spans(locations, outputs):
        native["execution"] = {"execution_spans": ExecutionSpans(spans)}
    facts = {
        job_id: {name: fact for name, fact in output["metadata"].items() if name != "pubs"}
        for job_id, output in outputs.items()
    }
    metadata = _in_common(list(facts.values()))
    if len(facts) > 1:
        metadata = {name: fact for name, fact in metadata.items() if name not in _OF_ONE_JOB}
    for name in _SUMS:
        if all(name in each for each in facts.values()):
            metadata[name] = sum(each[name] for each in facts.values())
    metadata |= {"job_ids": job_ids, "jobs": facts, "pubs": []}
    for location, job_id, circuit in zip(locations, job_ids, circuits, strict=True):
        pubs = outputs[job_id]["metadata"].get("pubs", [])
        known = pubs[location.index] if location.index < len(pubs) else {}
        asked = {name: circuit[name] for name in _ASKED.values() if name in circuit}
        metadata["pubs"].append({**circuit, **known, **asked, "job_id": job_id})
    for name, of_pub in _ASKED.items():
        counts = {pub.get(of_pub) for pub in metadata["pubs"]}
        if len(counts) > 1:
            metadata.pop(name, None)
        elif counts != {None}:
            metadata[name] = counts.pop()
    own = next(iter(outputs.values()))
    common = _in_common(list(outputs.values()))
    counted: dict[str, object] = {name: metadata.get(name) for name in _ASKED if name in own}
    kept = {name: own[name] for name in ("job_id", "backend_name", "job_reference")}
    result = PrimitiveResult(
        [result[one.index] for result, one in zip(results, locations, strict=True)],
        metadata={**native, "job_ids": job_ids},
    )
    return JobOutput({**common, **counted, **kept, "result": result, "metadata": metadata})


def _in_common(all_facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the facts that all of these have and that are the same in all of them."""
    first, *others = all_facts
    return {
        name: fact
        for name, fact in first.items()
        if all(name in other and _are_equal(fact, other[name]) for other in others)
    }


def _are_equal(one: object, other: object) -> bool:
    if one is other:
        return True
    try:
        return digest_value(one) == digest_value(other)
    except InputError:
        return False  # nothing plain, so nothing that two jobs have in common


def _spans(
    locations: Sequence[PubLocation], outputs: Mapping[str, dict[str, Any]]
) -> list[ExecutionSpan]:
    """Return the execution spans of all jobs, for the places that their PUBs have in the call."""
    places: dict[str, dict[int, int]] = {job_id: {} for job_id in outputs}
    for place, location in enumerate(locations):
        places[str(location.reference.job_id)][location.index] = place
    return [
        _moved(span, places[job_id])
        for job_id, output in outputs.items()
        for span in output["result"].metadata.get("execution", {}).get("execution_spans", ())
        if span.contains_pub(places[job_id])
    ]


def _moved(span: ExecutionSpan, places: Mapping[int, int]) -> ExecutionSpan:
    by_pub = data_slices(span)
    slices = {places[index]: part for index, part in by_pub.items() if index in places}
    moved: ExecutionSpan = type(span)(span.start, span.stop, slices)
    return moved
