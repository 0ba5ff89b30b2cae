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

Every file appears whole or not at all, and none of them is a pickle. ``job.json`` and
``outcome.json`` are sealed (see `sealed_json`) and hold the hashes of the inputs and of the result,
so that a file which is damaged, or another job's, is not taken for this one's.

Once there are more than `MAX_JOBS` jobs or more than `MAX_BYTES` of them, those that ended longest
ago are removed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from prefect.settings import PREFECT_HOME

from qcsc_prefect.core.atomic_files import create_file_once, write_file_atomically
from qcsc_prefect.core.bounded_files import file_limit, read_regular_file, structure_limit
from qcsc_prefect.core.engine.sealed_json import sealed, unsealed_json
from qcsc_prefect.core.errors import (
    ConfigurationError,
    DamagedRecordError,
    FormatVersionError,
    JobNotFoundError,
    RecordError,
)
from qcsc_prefect.core.prefect.locks import ProcessLock
from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import (
    PrimitiveImplementation,  # noqa: TC001 - msgspec reads a field's type at run time
)
from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName  # noqa: TC001 - likewise

__all__ = ["MAX_BYTES", "MAX_JOBS", "LocalJob", "LocalJobStore", "LocalOutcome"]

#: Jobs that are kept at the most.
MAX_JOBS = 1000
#: Bytes that ended jobs may take together; ``QCSC_PREFECT_LOCAL_MAX_BYTES`` overrides it.
MAX_BYTES = 2 * 1024**3
#: Whoever stores a job has done so after this time, or has died.
_STORED_WITHIN = timedelta(hours=1)
#: Characters of the reason of a failure that are kept, and bytes that an outcome has at the most,
#: whatever limit is set for other files.
_LONGEST_MESSAGE, _MOST_OUTCOME_BYTES = 50_000, 1 << 20
#: A job that nobody has asked for in this time will not be asked for any more.
_ABANDONED_AFTER = timedelta(days=30)

_ID_PREFIX = "local-"
_SIZE_VARIABLE = "QCSC_PREFECT_LOCAL_MAX_BYTES"
_SCHEMA_VERSION = 1

T = TypeVar("T", "LocalJob", "LocalOutcome")

logger = logging.getLogger(__name__)


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
        inputs_sha256: SHA-256 of its encoded PUBs, in hexadecimal digits.
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
    inputs_sha256: str = ""
    schema_version: int = _SCHEMA_VERSION


class LocalOutcome(msgspec.Struct, kw_only=True, frozen=True):
    """How a local job ended.

    Attributes:
        state: ``"DONE"``, ``"ERROR"`` or ``"CANCELLED"``.
        completed: When it ended.
        started: When it began to run; None where it never did.
        message: Why it failed.
        result_sha256: SHA-256 of its encoded result, in hexadecimal digits; None without a result.
        schema_version: Version of this schema.
    """

    state: Literal["DONE", "ERROR", "CANCELLED"]
    completed: datetime
    started: datetime | None = None
    message: str | None = None
    result_sha256: str | None = None
    schema_version: int = _SCHEMA_VERSION


class LocalJobStore:
    """The folder of local jobs; any number of processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._told: set[str] = set()

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
        self._remove_unfinished()
        self._remove_oldest()
        prepared = self.root / f".{job.job_id}.new"
        try:
            prepared.mkdir()
            write_file_atomically(prepared / "inputs.json", encoded_inputs)
            job = msgspec.structs.replace(job, inputs_sha256=_sha256(encoded_inputs))
            write_file_atomically(prepared / "job.json", _sealed_bytes(job.job_id, "job.json", job))
            prepared.rename(self.root / job.job_id)
        except BaseException:
            shutil.rmtree(prepared, ignore_errors=True)
            raise

    @staticmethod
    def new_job_id() -> str:
        """Return an id that no other job has."""
        return f"{_ID_PREFIX}{secrets.token_hex(8)}"

    def job(self, job_id: str) -> LocalJob:
        """Return what was asked with a job.

        Raises:
            JobNotFoundError: If there is no such job.
            RecordError: If what was asked cannot be read any more.
        """
        folder = self._folder(job_id)
        if not folder.is_dir():
            raise JobNotFoundError(
                f"No local job {job_id!r} in {self.root}. Local jobs are kept on the machine and "
                "below the PREFECT_HOME where they were submitted, and old ones are removed once "
                f"there are more than {MAX_JOBS}; submit it again.",
                job_id=job_id,
            )
        job = self._sealed(job_id, "job.json", LocalJob)
        if job is None:
            raise DamagedRecordError(f"{folder / 'job.json'} is missing.")
        return job

    def jobs(self) -> list[LocalJob]:
        """Return all jobs that can be read, oldest first; the log names the others, once."""
        jobs = []
        for folder in self.root.glob(f"{_ID_PREFIX}*"):
            try:
                jobs.append(self.job(folder.name))
            except JobNotFoundError:
                continue  # removed since the folder was listed
            except RecordError as error:
                if folder.name not in self._told:
                    self._told.add(folder.name)
                    logger.warning("Local job %s is passed over: %s", folder.name, error)
        return sorted(jobs, key=lambda job: job.created)

    def inputs(self, job: LocalJob) -> bytes:
        """Return the encoded PUBs of a job.

        Raises:
            RecordError: If they are not what was stored, or cannot be read.
        """
        return self._hashed(job.job_id, "inputs.json", job.inputs_sha256)

    def outcome(self, job_id: str) -> LocalOutcome | None:
        """Return how a job ended, or None while it has not.

        Raises:
            DamagedRecordError: If what is stored of it is not what was.
            RecordError: If it cannot be read.
        """
        path = self._folder(job_id) / "outcome.json"
        try:
            size = path.stat().st_size
        except OSError:
            size = 0  # reading it tells why
        if size > _MOST_OUTCOME_BYTES:
            raise DamagedRecordError(f"{path} is damaged: no outcome has {size} bytes.")
        return self._sealed(job_id, "outcome.json", LocalOutcome)

    def result(self, job: LocalJob, outcome: LocalOutcome) -> bytes:
        """Return the encoded result of a job that is done.

        Raises:
            DamagedRecordError: If it is missing, or not what was stored.
            RecordError: If it cannot be read.
        """
        return self._hashed(job.job_id, result_file(job), outcome.result_sha256)

    def withdraw_damaged(self, job: LocalJob) -> None:
        """Let a job run again whose outcome or result is damaged; the caller holds its run lock.

        Raises:
            RecordError: If the outcome or the result cannot be read.
            OSError: If they cannot be removed.
        """
        try:
            outcome = self.outcome(job.job_id)
            if outcome is not None and outcome.state == "DONE":
                self.result(job, outcome)
        except DamagedRecordError as error:
            logger.warning("Local job %s is run again: %s", job.job_id, error)
            for name in (result_file(job), "outcome.json"):
                _remove(self._folder(job.job_id) / name)

    def _sealed(self, job_id: str, name: str, kind: type[T]) -> T | None:
        content = self._content(job_id, name, structure_limit())
        if content is None:
            return None
        path = self._folder(job_id) / name
        try:
            stored = msgspec.convert(unsealed_json(f"{job_id}/{name}", content), kind)
        except (DamagedRecordError, msgspec.ValidationError) as error:
            raise DamagedRecordError(f"{path} is damaged: {error}.") from error
        if stored.schema_version > _SCHEMA_VERSION:
            raise FormatVersionError(
                f"{path} was written by a newer qcsc-prefect-qiskit. Upgrade this one."
            )
        return stored

    def _hashed(self, job_id: str, name: str, sha256: str | None) -> bytes:
        content = self._content(job_id, name, file_limit())
        if content is None:
            raise DamagedRecordError(f"{self._folder(job_id) / name} is missing.")
        if _sha256(content) != sha256:
            raise DamagedRecordError(
                f"{self._folder(job_id) / name} is damaged: it is not what was written."
            )
        return content

    def _content(self, job_id: str, name: str, limit: int) -> bytes | None:
        path = self._folder(job_id) / name
        try:
            return read_regular_file(path, limit)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordError(f"{path} cannot be read: {error.strerror}.") from error

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
            outcome = msgspec.structs.replace(outcome, result_sha256=_sha256(result))
        if outcome.message is not None:
            outcome = msgspec.structs.replace(outcome, message=outcome.message[:_LONGEST_MESSAGE])
        return create_file_once(
            folder / "outcome.json", _sealed_bytes(job.job_id, "outcome.json", outcome)
        )

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

    def _remove_unfinished(self) -> None:
        """Remove what processes left that died while they stored a job."""
        for folder in self.root.glob(f".{_ID_PREFIX}*.new"):
            try:
                began = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
            except OSError:
                continue  # it is stored by now
            if began < datetime.now(UTC) - _STORED_WITHIN:
                shutil.rmtree(folder, ignore_errors=True)

    def _remove_oldest(self) -> None:
        ended: list[tuple[float, int, Path]] = []
        limit = _size_limit()
        count = 0
        for folder in self.root.glob(f"{_ID_PREFIX}*"):
            count += 1
            last_change = _last_change(folder)
            if last_change is not None:
                ended.append((last_change, _size(folder), folder))
        ended.sort()
        size = sum(entry[1] for entry in ended)
        for _, folder_size, folder in ended:
            if count < MAX_JOBS and size <= limit:
                return
            shutil.rmtree(folder, ignore_errors=True)
            count -= 1
            size -= folder_size


def result_file(job: LocalJob) -> str:
    """Return the name of the file that holds the result of a job."""
    return "result.json" if job.implementation == "classic" else "result.qcsc"


def _sealed_bytes(job_id: str, name: str, content: LocalJob | LocalOutcome) -> bytes:
    return json.dumps(sealed(f"{job_id}/{name}", msgspec.to_builtins(content))).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _size_limit() -> int:
    text = os.environ.get(_SIZE_VARIABLE, str(MAX_BYTES))
    try:
        return int(text)
    except ValueError as error:
        raise ConfigurationError(
            f"The environment variable {_SIZE_VARIABLE} is {text:.40}, and should be a number of "
            "bytes. Correct it, or unset it."
        ) from error


def _remove(path: Path) -> None:
    """Remove whatever lies at a path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _last_change(folder: Path) -> float | None:
    """When a job ended (or was abandoned), or None while somebody may still wait for it."""
    try:
        return (folder / "outcome.json").stat().st_mtime
    except OSError:
        pass  # it has not ended, or the folder is something else
    try:
        created = folder.stat().st_mtime
    except OSError:
        return None
    abandoned = datetime.fromtimestamp(created, UTC) < datetime.now(UTC) - _ABANDONED_AFTER
    return created if abandoned else None


def _size(folder: Path) -> int:
    size = 0
    for file in folder.glob("*"):
        try:
            size += file.stat().st_size
        except OSError:
            continue
    return size
