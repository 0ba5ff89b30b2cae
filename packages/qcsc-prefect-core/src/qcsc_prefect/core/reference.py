"""What is kept of a submitted job so that it can always be found again.

A job reference travels as a plain dict that JSON can hold: from one task to another, through
Prefect's result storage, to another process or another machine. `JobReference` is its schema. It
is checked where a reference comes in, so that a wrong one is refused with the name of the bad
field and not hours later; and where one is made, so that a wrong one is never kept.

Schema evolution follows msgspec's rules: a new field has a default, a field never changes its
type, and `schema_version` grows only where an older reader would misunderstand. References
without a version are version 0: the same fields, any of which but ``job_id`` may be missing.
"""

from __future__ import annotations

import logging
import numbers
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from qcsc_prefect.core.checked_fields import check_fields, plain_field
from qcsc_prefect.core.errors import JobReferenceError

__all__ = ["REFERENCE_SCHEMA_VERSION", "JSONValue", "JobReference", "parse_job_reference"]

_log = logging.getLogger(__name__)

#: The version that `JobReference.to_dict` writes.
REFERENCE_SCHEMA_VERSION = 1

#: Anything that JSON can hold.
JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"


class JobReference(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=False):
    """A submitted job: which service knows it under which id, and what was asked of it.

    Its fields are checked when it is made: a wrong one is a `JobReferenceError` whose ``path``
    names it. Numbers, texts and arrays of numpy are made plain. None means "not known".

    So make it without its ``job_id`` before the job is submitted, and complete it afterwards by
    `of_job`, which fails over nothing but an id that is none::

        draft = JobReference(primitive="anneal", shots=shots)
        reference = draft.of_job(client.submit(...))

    Attributes:
        job_id: The id under which the service knows the job; None only in a reference that
            describes a call which got no job.
        primitive: What kind of program the job runs, for example ``"sampler"``.
        program_type: The service's own name of that program, where it differs.
        backend_name: The backend the job was sent to.
        runtime_block_name: The saved configuration block through which the job was submitted.
        shots: Repetitions asked for with the call, where the program counts in shots.
        precision: Target standard error asked for with the call, where it counts in precision.
        input_digest: Digest of everything that decides what the job computes, or the name that the
            caller chose for it.
        content_digest: Digest of what the job computes, where the caller chose `input_digest`.
        options: Options of the program as they were given.
        tags: Tags under which the service lists the job.
        submitted_at: When the job was submitted, ISO 8601 in UTC.
        session_id: The session or batch that the job belongs to.
        instance: The part of the service's account that the job belongs to, in the service's own
            naming; only through it can the job be seen. None where there is no such thing.
        vendor: What is this vendor's own and has no field here, as values that JSON can hold.
        schema_version: Version of this schema; 0 for a reference that was read without one.
    """

    job_id: str | None = None
    primitive: str | None = None
    program_type: str | None = None
    backend_name: str | None = None
    runtime_block_name: str | None = None
    shots: Annotated[int, Meta(ge=0)] | None = None
    precision: Annotated[float, Meta(ge=0)] | None = None
    input_digest: str | None = None
    options: dict[str, object] | None = None
    tags: list[str] | None = None
    submitted_at: str | None = None
    session_id: str | None = None
    instance: str | None = None
    vendor: dict[str, object] | None = None
    content_digest: str | None = None
    schema_version: int = REFERENCE_SCHEMA_VERSION

    def __post_init__(self) -> None:
        # First of all: in a later version the fields need not mean what they mean here.
        if isinstance(self.schema_version, int) and self.schema_version > REFERENCE_SCHEMA_VERSION:
            raise JobReferenceError(
                "Job reference refused at 'schema_version': it was written in version "
                f"{self.schema_version}, this release reads up to {REFERENCE_SCHEMA_VERSION}. "
                "Upgrade qcsc-prefect-core.",
                path="schema_version",
            )
        check_fields(self, JobReferenceError, "Job reference")

    def of_job(
        self,
        job_id: str,
        *,
        program_type: str | None = None,
        backend_name: str | None = None,
        submitted_at: str | None = None,
        session_id: str | None = None,
        instance: str | None = None,
        vendor: Mapping[str, object] | None = None,
    ) -> JobReference:
        """Return the reference of the job that was made of this draft.

        The job is paid for, so this fails over nothing but its id: what the service says else, and
        a reference cannot hold, is left out, with a line in the log.

        Args:
            job_id: The id that the service gave it, a text; a whole number or a UUID is made one.
            program_type: What the service calls the program; None keeps what the draft says. So
                for all that follow.
            backend_name: The backend that took it.
            submitted_at: When, ISO 8601 in UTC.
            session_id: The session or batch that it belongs to.
            instance: The part of the account that it belongs to.
            vendor: What is this vendor's own.

        Returns:
            A new reference.

        Raises:
            JobReferenceError: If the id is none of these, or empty; the message holds what was
                given, so that the job can be found.

        Example:
            >>> draft = JobReference(primitive="anneal", backend_name="acme-1")
            >>> draft.of_job("a-7", session_id="s-1").session_id
            's-1'
        """
        said = {
            "program_type": program_type,
            "backend_name": backend_name,
            "submitted_at": submitted_at,
            "session_id": session_id,
            "instance": instance,
            "vendor": vendor,
        }
        known: dict[str, object] = {"job_id": _plain_job_id(job_id)}
        for name, value in said.items():
            if value is None:
                continue
            try:
                known[name] = plain_field(
                    JobReference, name, value, JobReferenceError, "Job reference"
                )
            except JobReferenceError as error:
                _log.warning("job %s: left out of what its service said: %s", job_id, error)
        return msgspec.structs.replace(self, **known)

    def to_dict(self) -> dict[str, JSONValue]:
        """Return the reference as a plain dict that JSON can hold.

        Returns:
            Every field by its name, in the order of the schema.

        Example:
            >>> JobReference(job_id="j-1", primitive="sampler").to_dict()["job_id"]
            'j-1'
        """
        fields: dict[str, JSONValue] = msgspec.to_builtins(self)
        return fields


def _plain_job_id(given: object) -> str:
    is_whole = isinstance(given, numbers.Integral) and not isinstance(given, bool)
    if is_whole or isinstance(given, uuid.UUID) or (isinstance(given, str) and given.strip()):
        return str(given)
    raise JobReferenceError(
        f"Job reference refused at 'job_id': {given!r:.200} is no id of a job. Where the service "
        "has taken the job, it is paid for: hand over the id that it gave, as a text.",
        path="job_id",
    )


def parse_job_reference(
    reference: Mapping[str, object] | JobReference, *, require_job_id: bool = True
) -> JobReference:
    """Check a job reference and return it in its schema.

    Args:
        reference: A dict as `JobReference.to_dict` writes it, or an older one without
            ``schema_version``. Fields that the schema does not know are passed over, so that a
            reference written by a later minor release can be read; shots or a precision below 0,
            which none can have now, count as not known, so that their job is still found.
        require_job_id: Refuse a reference that names no job.

    Returns:
        The reference.

    Raises:
        JobReferenceError: If a field is missing, has a wrong type, or the reference was written in
            a version that this release does not know. The message and ``path`` name the field.

    Example:
        >>> parse_job_reference({"job_id": "j-1", "primitive": "sampler", "shots": 100}).shots
        100
        >>> parse_job_reference({"job_id": 7})
        Traceback (most recent call last):
        ...
        qcsc_prefect.core.errors.JobReferenceError: Job reference refused at 'job_id': \
Expected `str`, got `int`.
    """
    if isinstance(reference, JobReference):
        parsed = reference
    elif isinstance(reference, Mapping):
        known: dict[str, Any] = {
            name: reference[name] for name in JobReference.__struct_fields__ if name in reference
        }
        for name in ("shots", "precision"):
            value = known.get(name)
            if isinstance(value, int | float) and value < 0:
                _log.warning(
                    "Job reference: %s=%r left out, which can be no such number", name, value
                )
                del known[name]
        # A reference without a version is of the form that had none yet.
        parsed = JobReference(**{"schema_version": 0, **known})
    else:
        raise JobReferenceError(
            f"Job reference refused: expected a mapping, got {type(reference).__name__}. Hand over "
            "what a submit task returned, or the job_reference of a handle."
        )
    if require_job_id and not parsed.job_id:
        raise JobReferenceError(
            "Job reference refused at 'job_id': it names no job. "
            "Hand over what a submit task returned.",
            path="job_id",
        )
    return parsed
