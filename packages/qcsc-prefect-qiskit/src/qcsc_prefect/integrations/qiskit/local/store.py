"""Where jobs on this machine are kept.

A job is a folder, named by its id, below ``$PREFECT_HOME/qcsc-prefect/local-jobs``:

======================  ============================================================
``job.json``            what was asked: `LocalJob`
``inputs.json``         its PUBs, in the encoding in which the service receives them
``result.json``         its result, in the encoding in which the service answers, or
``result.qcsc``         as a container, where the client cannot encode it
``outcome.json``        how it ended: `LocalOutcome`; the job is final once it exists
``run.lock``            locked by the process that runs it
======================  ============================================================

Every file appears whole or not at all, and none of them is a pickle. Once there are more than
`MAX_JOBS` jobs or more than `MAX_BYTES` of them, those that ended longest ago are removed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from prefect.settings import PREFECT_HOME

from qcsc_prefect.core.errors import DamagedRecordError, JobNotFoundError
from qcsc_prefect.integrations.qiskit.durable_files import create_file_once, write_file_atomically
from qcsc_prefect.integrations.qiskit.primitive_choice import (
    PrimitiveImplementation,  # noqa: TC001 - msgspec reads a field's type at run time
)
from qcsc_prefect.integrations.qiskit.process_locks import ProcessLock
from qcsc_prefect.integrations.qiskit.pubs import PrimitiveName  # noqa: TC001 - likewise

__all__ = ["MAX_BYTES", "MAX_JOBS", "LocalJob", "LocalJobStore", "LocalOutcome"]

#: Jobs that are kept at the most.
MAX_JOBS = 1000
#: Bytes that ended jobs may take together; ``QCSC_PREFECT_LOCAL_MAX_BYTES`` overrides it.
MAX_BYTES = 2 * 1024**3
#: A job that nobody has asked for in this time will not be asked for any more.
_ABANDONED_AFTER = timedelta(days=30)

_ID_PREFIX = "local-"


class LocalJob(msgspec.Struct, kw_only=True, frozen=True):
    """What was asked of a local backend.

    Attributes:
        job_id: Its id.
        primitive: ``"sampler"`` or ``"estimator"``.
        backend_name: The local backend.
        created: When it was submitted.
        shots: Shots of the call.
        precision: Precision of the call.
        options: Native options of the primitive.
        tags: Tags by which it can be found.
        implementation: Which of the client's implementations of the primitive runs it.
        schema_version: Version of this schema.
    """

    job_id: str
    primitive: PrimitiveName
    backend_name: str
    created: datetime
    shots: int | None = None
    precision: float | None = None
    options: dict[str, object] = {}
    tags: list[str] = []
    implementation: PrimitiveImplementation = "classic"
    schema_version: int = 1


class LocalOutcome(msgspec.Struct, kw_only=True, frozen=True):
    """How a local job ended.

    Attributes:
        state: ``"DONE"``, ``"ERROR"`` or ``"CANCELLED"``.
        completed: When it ended.
        started: When it began to run; None where it never did.
        message: Why it failed.
        schema_version: Version of this schema.
    """

    state: str
    completed: datetime
    started: datetime | None = None
    message: str | None = None
    schema_version: int = 1


class LocalJobStore:
    """The folder of local jobs; any number of processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def default(cls) -> LocalJobStore:
        """Return the store below the current ``PREFECT_HOME``."""
        return cls(Path(PREFECT_HOME.value()) / "qcsc-prefect" / "local-jobs")

    def create(self, job: LocalJob, encoded_inputs: bytes) -> None:
        """Keep a new job; it exists, whole, when this returns.

        Args:
            job: What was asked.
            encoded_inputs: Its PUBs.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self._remove_oldest()
        prepared = self.root / f".{job.job_id}.new"
        prepared.mkdir()
        write_file_atomically(prepared / "inputs.json", encoded_inputs)
        write_file_atomically(prepared / "job.json", msgspec.json.encode(job))
        prepared.rename(self.root / job.job_id)

    @staticmethod
    def new_job_id() -> str:
        """Return an id that no other job has."""
        return f"{_ID_PREFIX}{secrets.token_hex(8)}"

    def job(self, job_id: str) -> LocalJob:
        """Return what was asked with a job.

        Raises:
            JobNotFoundError: If there is no such job.
            DamagedRecordError: If its file is no `LocalJob`.
        """
        try:
            content = (self._folder(job_id) / "job.json").read_bytes()
        except FileNotFoundError as error:
            raise JobNotFoundError(
                f"No local job {job_id!r} in {self.root}. Local jobs are kept on the machine and "
                "below the PREFECT_HOME where they were submitted, and old ones are removed once "
                f"there are more than {MAX_JOBS}; submit it again.",
                job_id=job_id,
            ) from error
        try:
            return msgspec.json.decode(content, type=LocalJob)
        except msgspec.DecodeError as error:
            raise DamagedRecordError(
                f"{self._folder(job_id) / 'job.json'} is damaged: {error}"
            ) from error

    def jobs(self) -> list[LocalJob]:
        """Return all jobs, oldest first."""
        if not self.root.is_dir():
            return []
        jobs = []
        for folder in self.root.glob(f"{_ID_PREFIX}*"):
            try:
                jobs.append(self.job(folder.name))
            except JobNotFoundError:
                continue  # removed since the folder was listed
        return sorted(jobs, key=lambda job: job.created)

    def inputs(self, job_id: str) -> bytes:
        """Return the encoded PUBs of a job."""
        return (self._folder(job_id) / "inputs.json").read_bytes()

    def outcome(self, job_id: str) -> LocalOutcome | None:
        """Return how a job ended, or None while it has not.

        Raises:
            DamagedRecordError: If its file is no `LocalOutcome`.
        """
        try:
            content = (self._folder(job_id) / "outcome.json").read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(content, type=LocalOutcome)
        except msgspec.DecodeError as error:
            raise DamagedRecordError(
                f"{self._folder(job_id) / 'outcome.json'} is damaged: {error}"
            ) from error

    def result(self, job: LocalJob) -> bytes:
        """Return the encoded result of a job that is done."""
        return (self._folder(job.job_id) / result_file(job)).read_bytes()

    def finish(self, job: LocalJob, outcome: LocalOutcome, result: bytes | None = None) -> bool:
        """Record how a job ended; only the first outcome of a job counts.

        Args:
            job: The job.
            outcome: How it ended.
            result: Its encoded result, where it has one.

        Returns:
            Whether this is the outcome that counts.
        """
        folder = self._folder(job.job_id)
        if result is not None:
            write_file_atomically(folder / result_file(job), result)
        return create_file_once(folder / "outcome.json", msgspec.json.encode(outcome))

    def run_lock(self, job_id: str) -> ProcessLock:
        """Return the lock that whoever runs the job holds."""
        return ProcessLock(self._folder(job_id) / "run.lock")

    def _folder(self, job_id: str) -> Path:
        if not job_id.startswith(_ID_PREFIX) or not job_id[len(_ID_PREFIX) :].isalnum():
            raise JobNotFoundError(
                f"{job_id!r} is no id of a local job. It may belong to another channel: check the "
                "configuration's 'channel'.",
                job_id=job_id,
            )
        return self.root / job_id

    def _remove_oldest(self) -> None:
        ended: list[tuple[float, int, Path]] = []
        count = 0
        for folder in self.root.glob(f"{_ID_PREFIX}*"):
            count += 1
            last_change = _last_change(folder)
            if last_change is not None:
                ended.append((last_change, _size(folder), folder))
        ended.sort()
        size = sum(entry[1] for entry in ended)
        limit = int(os.environ.get("QCSC_PREFECT_LOCAL_MAX_BYTES", MAX_BYTES))
        for _, folder_size, folder in ended:
            if count < MAX_JOBS and size <= limit:
                return
            shutil.rmtree(folder, ignore_errors=True)
            count -= 1
            size -= folder_size


def result_file(job: LocalJob) -> str:
    """Return the name of the file that holds the result of a job."""
    return "result.json" if job.implementation == "classic" else "result.qcsc"


def _last_change(folder: Path) -> float | None:
    """When a job ended (or was abandoned), or None while somebody may still wait for it."""
    try:
        return (folder / "outcome.json").stat().st_mtime
    except FileNotFoundError:
        pass
    try:
        created = folder.stat().st_mtime
    except FileNotFoundError:
        return None
    abandoned = datetime.fromtimestamp(created, UTC) < datetime.now(UTC) - _ABANDONED_AFTER
    return created if abandoned else None


def _size(folder: Path) -> int:
    size = 0
    for file in folder.glob("*"):
        try:
            size += file.stat().st_size
        except FileNotFoundError:
            continue
    return size
