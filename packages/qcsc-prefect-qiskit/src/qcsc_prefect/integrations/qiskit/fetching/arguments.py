"""What a call says about the job that it fetches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcsc_prefect.core.errors import ConfigurationError, JobReferenceError
from qcsc_prefect.core.reference import JobReference, parse_job_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig

__all__ = ["FetchArguments", "job_to_fetch"]


@dataclass(frozen=True)
class FetchArguments:
    """What a call says about the job to fetch.

    Attributes:
        reference: The job, with what the caller knows about it.
        pubs: The PUBs it ran, where the caller has them.
        options: Options of the call, where the reference holds none.
        artifact_key: Prefix of the Prefect artifacts; None for none.
        runtime_block_name: Name of the saved configuration.
        runtime_config: Inline configuration.
        max_wait: Longest wait in seconds; None for no limit. What is left of it bounds the
            download and what the client makes of it, too, but for the first five minutes.
        cache_result: Whether the output is kept in Prefect's result storage.
        cancel_job_on_cancellation: Whether a cancelled wait cancels the job.
    """

    reference: JobReference
    pubs: object | None
    options: Mapping[str, object] | None
    artifact_key: str | None
    runtime_block_name: str | None
    runtime_config: QiskitRuntimeConfig | None
    max_wait: float | None = None
    cache_result: bool = False
    cancel_job_on_cancellation: bool = False


def job_to_fetch(
    job_reference: Mapping[str, object] | JobReference | None, **given: str | float | None
) -> JobReference:
    """Put together what a call says about a job in its reference and beside it.

    Args:
        job_reference: What a submit task returned, or None.
        **given: Fields of the reference that the call names itself, where they are not None.

    Returns:
        The reference.

    Raises:
        ConfigurationError: If there is no reference and no job id, or the two contradict each
            other.
        JobReferenceError: If the reference is wrong.
    """
    named = {name: value for name, value in given.items() if value is not None}
    if job_reference is None and "job_id" not in named:
        raise ConfigurationError(
            "Tried to fetch a job, but neither job_id nor job_reference was given. Pass the "
            "reference that a submit task returned, or the job's id."
        )
    if isinstance(job_reference, str):
        raise JobReferenceError(
            f"job_reference refused: expected a mapping, got {job_reference!r:.100}. Hand a job's "
            "id over as job_id.",
            path="job_reference",
        )
    if job_reference is None:
        return parse_job_reference(named)
    known = parse_job_reference(job_reference, require_job_id="job_id" not in named).to_dict()
    for name, value in named.items():
        if known[name] not in (None, value):
            raise ConfigurationError(
                f"{name} refused: the call names {value!r:.100}, and its job_reference, of job "
                f"{known['job_id']}, says {known[name]!r:.100}. Name the one that is meant, and "
                "leave the other out."
            )
    return parse_job_reference({**known, **named})
