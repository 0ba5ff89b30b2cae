"""What is known about one finished job, in a form that outlives the software that wrote it.

:class:`JobMetadata` is a plain record: what ran, where, when, for how long and what it cost.
It knows no vendor. Only `primitive` is always there; every other fact may be absent, and an
absent fact is absent from the stored form as well, never a zero or an empty string. None means
"not known", so it is absent too. Fields are checked when a record is made.

The stored form (:meth:`JobMetadata.to_builtins`) is made of dicts, lists, strings, numbers,
booleans and None, so JSON, YAML and msgpack can hold it. It carries an integer
`schema_version`. New fields come with a default, a field never changes its meaning or type, and
a record of a later schema version is refused with a
:class:`~qcsc_prefect.core.errors.FormatVersionError`.

Times are strings in ISO 8601, in UTC, with a final ``Z``. Durations are seconds. What is
neither, and a number below 0, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from qcsc_prefect.core.checked_fields import check_fields
from qcsc_prefect.core.errors import FormatVersionError, InputError, RecordError

__all__ = ["METADATA_SCHEMA_VERSION", "JobMetadata", "PlainValue", "PubMetadata"]

_Record = TypeVar("_Record", bound=msgspec.Struct)

#: The schema version that this release writes, and the latest that it reads.
METADATA_SCHEMA_VERSION = 1
_COLLECT_AGAIN = "fetch the job again, which collects them anew"

#: A value that JSON can hold; containers hold such values again.
PlainValue = None | bool | int | float | str | list["PlainValue"] | dict[str, "PlainValue"]

_Count: TypeAlias = Annotated[int, Meta(ge=0)]
_Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
_Precision: TypeAlias = Annotated[float, Meta(ge=0)]
#: Years of four digits, and no month, day or hour that there is not.
_Time: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
        r"T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?Z$"
    ),
]


class PubMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one PUB (primitive unified bloc) of a job: one circuit and its sweep.

    Attributes:
        circuit_name: The name the circuit carries.
        num_qubits: The circuit's width in qubits, idle ones of an ISA circuit included.
        depth: Length of the longest path through the circuit, counting each instruction as one.
        size: Number of instructions, directives such as barriers not counted.
        two_qubit_count: Number of those that act on exactly two qubits.
        shape: Shape of the PUB's parameter sweep, broadcast against its observables where there
            are any; an empty list for a single point.
        shots: Shots taken at each point of the shape.
        shots_asked: Shots asked for at each point, where they are known; twirling rounds them up.
        precision: Target precision that the PUB was run with.
        started: When the first part of its data was taken.
        completed: When the last part of its data was taken.
        execution_seconds: Length of the time windows in which its data was taken, overlaps
            counted once. Windows that several PUBs share count for each of them.
        job_id: The job that ran this PUB, where it is not the job of the whole record.
    """

    circuit_name: str | UnsetType = UNSET
    num_qubits: _Count | UnsetType = UNSET
    depth: _Count | UnsetType = UNSET
    size: _Count | UnsetType = UNSET
    two_qubit_count: _Count | UnsetType = UNSET
    shape: list[int] | UnsetType = UNSET
    shots: _Count | UnsetType = UNSET
    shots_asked: _Count | UnsetType = UNSET
    precision: _Precision | UnsetType = UNSET
    started: _Time | UnsetType = UNSET
    completed: _Time | UnsetType = UNSET
    execution_seconds: _Seconds | UnsetType = UNSET
    job_id: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_fields(self, InputError, "PUB metadata")


class JobMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one finished job.

    Its fields are checked when it is made: a wrong one is an
    :class:`~qcsc_prefect.core.errors.InputError` whose ``path`` names it. Numbers, texts and arrays
    of numpy are made plain.

    Attributes:
        schema_version: Version of this schema, see :data:`METADATA_SCHEMA_VERSION`.
        primitive: What kind of job it was, for example ``sampler`` or ``estimator``.
        program_type: The service's own name of the program that ran.
        resource: The machine or simulator that ran it.
        input_digest: Digest of what was submitted.
        job_id: The job's id at the service that ran it.
        job_url: The page that shows the job to its owner.
        session_id: The session or batch that it belonged to.
        instance: The account's instance that it was charged to.
        tags: The tags that the service holds for the job.
        created: When the service accepted the job.
        started: When it began to work on the job.
        completed: When the job ended.
        queue_seconds: From `created` to `started`.
        work_seconds: From `started` to `completed`, preparation and decoding included.
        qpu_seconds: Time that the quantum processor executed circuits.
        charged_seconds: Usage that the service charges; absent while the service has not
            settled it.
        shots: Shots asked for each PUB, or taken where that is not known; absent where they
            differ.
        precision: Target precision asked for each PUB; absent where they were to have different
            ones.
        options: The options that the job was run with, as far as they are known.
        versions: Versions of the software that took part, by distribution name.
        pubs: One record for each PUB, in the job's order.
        vendor: What is this vendor's own and has no field here, as values that JSON can hold.

    Example:
        >>> record = JobMetadata(primitive="sampler", resource="ring_of_ions_1", shots=1000)
        >>> record.to_builtins()
        {'primitive': 'sampler', 'schema_version': 1, 'resource': 'ring_of_ions_1', 'shots': 1000}
        >>> JobMetadata.from_builtins(record.to_builtins()) == record
        True
    """

    primitive: str
    schema_version: int = METADATA_SCHEMA_VERSION
    program_type: str | UnsetType = UNSET
    resource: str | UnsetType = UNSET
    input_digest: str | UnsetType = UNSET
    job_id: str | UnsetType = UNSET
    job_url: str | UnsetType = UNSET
    session_id: str | UnsetType = UNSET
    instance: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    created: _Time | UnsetType = UNSET
    started: _Time | UnsetType = UNSET
    completed: _Time | UnsetType = UNSET
    queue_seconds: _Seconds | UnsetType = UNSET
    work_seconds: _Seconds | UnsetType = UNSET
    qpu_seconds: _Seconds | UnsetType = UNSET
    charged_seconds: _Seconds | UnsetType = UNSET
    shots: _Count | UnsetType = UNSET
    precision: _Precision | UnsetType = UNSET
    options: dict[str, Any] | UnsetType = UNSET  # PlainValue; msgspec knows no recursive alias
    versions: dict[str, str] | UnsetType = UNSET
    pubs: list[PubMetadata] | UnsetType = UNSET
    vendor: dict[str, Any] | UnsetType = UNSET  # PlainValue

    def __post_init__(self) -> None:
        check_fields(self, InputError, "Job metadata")

    def to_builtins(self) -> dict[str, PlainValue]:
        """Return the record as nested dicts and lists, without the facts that are not known.

        Returns:
            A new dict that shares nothing with the record.
        """
        return cast("dict[str, PlainValue]", msgspec.to_builtins(self))

    @classmethod
    def from_builtins(cls, stored: Mapping[str, object]) -> JobMetadata:
        """Read a record that :meth:`to_builtins` wrote, in this or an earlier release.

        Args:
            stored: The nested dicts and lists.

        Returns:
            The record. Fields that this schema version does not know are left out.

        Raises:
            FormatVersionError: If a later schema version wrote it.
            RecordError: If a field is missing or of a wrong type; the message names its path.
        """
        version = stored.get("schema_version")
        if isinstance(version, int) and version > METADATA_SCHEMA_VERSION:
            raise FormatVersionError(
                f"job metadata has schema version {version}, this release reads up to "
                f"{METADATA_SCHEMA_VERSION}; upgrade qcsc-prefect-core to read it"
            )
        fields = dict(stored)
        if isinstance(pubs := stored.get("pubs"), list):
            fields["pubs"] = [
                _read(PubMetadata, pub, f"pubs[{index}]") for index, pub in enumerate(pubs)
            ]
        return _read(cls, fields, "")


def _read(record_type: type[_Record], stored: object, where: str) -> _Record:
    prefix = f"{where}." if where else ""
    if not isinstance(stored, Mapping):
        raise RecordError(
            f"job metadata cannot be read at `$.{where}`: expected a mapping, "
            f"got {type(stored).__name__}; {_COLLECT_AGAIN}"
        )
    for field in msgspec.structs.fields(record_type):
        if field.required and field.name not in stored:
            raise RecordError(
                f"job metadata cannot be read at `$.{prefix}{field.name}`: missing; "
                f"{_COLLECT_AGAIN}"
            )
    known = {name: stored[name] for name in record_type.__struct_fields__ if name in stored}
    try:
        return record_type(**known)
    except InputError as error:
        raise RecordError(
            f"job metadata cannot be read at `$.{prefix}{error.path}`: {error}; {_COLLECT_AGAIN}"
        ) from error
