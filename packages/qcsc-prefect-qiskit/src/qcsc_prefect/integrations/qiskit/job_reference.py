"""The plain dict in which a submitted job travels between tasks."""

from __future__ import annotations

from typing import TypedDict

__all__ = ["QiskitJobReference"]


class QiskitJobReference(TypedDict, total=False):
    """A serializable reference to a submitted Qiskit Runtime job.

    It is an ordinary dict that JSON can hold; `qcsc_prefect.core.reference.JobReference` is the
    schema against which it is checked wherever it comes in.

    Attributes:
        schema_version: Version of the schema; missing in references of older systems.
        job_id: The job's id.
        primitive: ``"sampler"`` or ``"estimator"``.
        program_type: The service's name of the program: ``"executor"`` where the client prepares
            and post-processes, else that of the primitive.
        backend_name: The backend the job was sent to.
        runtime_block_name: The saved block through which it was submitted, or None.
        shots: Shots given with the call, or None.
        precision: Target standard error given with the call, or None.
        input_digest: Digest of the input, or None.
        content_digest: The package's own digest of what the job runs, where the caller chose
            ``input_digest``; that of ``build_qiskit_sampler_input_digest`` or its neighbour with
            ``cache_scope="global"``. None where there is none, or the input cannot be digested.
        options: Native options of the primitive, or None.
        tags: Tags under which the service lists the job, or None.
        submitted_at: When the job was submitted, ISO 8601 in UTC, or None.
        session_id: The batch or session that the job belongs to, or None.
        instance: CRN of the service instance that has the job; None for a local job.
        vendor: What is a vendor's own, as values that JSON can hold; None here.
    """

    schema_version: int
    job_id: str | None
    primitive: str | None
    program_type: str | None
    backend_name: str | None
    runtime_block_name: str | None
    shots: int | None
    precision: float | None
    input_digest: str | None
    options: dict[str, object] | None
    tags: list[str] | None
    submitted_at: str | None
    session_id: str | None
    instance: str | None
    vendor: dict[str, object] | None
    content_digest: str | None
