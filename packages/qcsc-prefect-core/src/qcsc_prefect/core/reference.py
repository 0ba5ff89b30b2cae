"""What is kept of a submitted job so that it can always be found again.

A job reference travels as a plain dict that JSON can hold: from one task to another, through
Prefect's result storage, to another process or another machine. `JobReference` is its schema. It
is checked where a reference comes in, so that a wrong one is refused with the name of the bad
field and not hours later.

Schema evolution follows msgspec's rules: a new field has a default, a field never changes its
type, and `schema_version` grows only where an older reader would misunderstand. References
without a version are version 0: the same fields, any of which but ``job_id`` may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from qcsc_prefect.core.errors import JobReferenceError

__all__ = ["REFERENCE_SCHEMA_VERSION", "JSONValue", "JobReference", "parse_job_reference"]

#: The version that `JobReference.to_dict` writes.
REFERENCE_SCHEMA_VERSION = 1

#: Anything that JSON can hold.
JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"


class JobReference(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=False):
    """A submitted job: which service knows it under which id, and what was asked of it.

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
        schema_version: Version of this schema; 0 for a reference that was read without one.
    """

    job_id: str | None = None
    primitive: str | None = None
    program_type: str | None = None
    backend_name: str | None = None
    runtime_block_name: str | None = None
    shots: int | None = None
    precision: float | None = None
    input_digest: str | None = None
    options: dict[str, object] | None = None
    tags: list[str] | None = None
    submitted_at: str | None = None
    session_id: str | None = None
    instance: str | None = None
    content_digest: str | None = None
    schema_version: int = REFERENCE_SCHEMA_VERSION

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


def parse_job_reference(
    reference: Mapping[str, object] | JobReference, *, require_job_id: bool = True
) -> JobReference:
    """Check a job reference and return it in its schema.

    Args:
        reference: A dict as `JobReference.to_dict` writes it, or an older one without
            ``schema_version``. Fields that the schema does not know are passed over, so that a
            reference written by a later minor release can be read.
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
Expected `str`, got `int`. ...
    """
    if isinstance(reference, JobReference):
        reference = reference.to_dict()
    if not isinstance(reference, Mapping):
        raise JobReferenceError(
            f"Job reference refused: expected a mapping, got {type(reference).__name__}. "
            "Hand over what a submit task returned."
        )
    version = reference.get("schema_version", 0)
    if isinstance(version, int) and version > REFERENCE_SCHEMA_VERSION:
        raise JobReferenceError(
            f"Job reference refused at 'schema_version': it was written in version {version}, this "
            f"release reads up to {REFERENCE_SCHEMA_VERSION}. Upgrade qcsc-prefect-core.",
            path="schema_version",
        )
    _refuse_what_json_cannot_hold(reference.get("options"), "options")
    try:
        # A reference without a version is of the form that had none yet.
        parsed = msgspec.convert({"schema_version": 0, **reference}, JobReference)
    except msgspec.ValidationError as error:
        # The form of the message, ``... - at `$.field```, is part of msgspec's documentation.
        reason, _, location = str(error).partition(" - at `$.")
        path = location.rstrip("`")
        raise JobReferenceError(
            f"Job reference refused at {path!r}: {reason}. Hand over what a submit task returned.",
            path=path,
        ) from error
    if require_job_id and not parsed.job_id:
        raise JobReferenceError(
            "Job reference refused at 'job_id': it names no job. "
            "Hand over what a submit task returned.",
            path="job_id",
        )
    return parsed


def _refuse_what_json_cannot_hold(value: object, path: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise JobReferenceError(
                    f"Job reference refused at {path!r}: the key {key!r} is no string.", path=path
                )
            _refuse_what_json_cannot_hold(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _refuse_what_json_cannot_hold(item, f"{path}[{index}]")
    elif value is not None and type(value) not in (bool, int, float, str):
        raise JobReferenceError(
            f"Job reference refused at {path!r}: JSON cannot hold a {type(value).__name__}.",
            path=path,
        )
