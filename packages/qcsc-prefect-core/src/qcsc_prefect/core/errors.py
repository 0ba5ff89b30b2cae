"""Every error of the three packages, as one tree.

Each error also subclasses the builtin that fits it, so ``except ValueError`` or
``except LookupError`` keeps working in code that does not know this package.

.. code-block:: text

    QCSCPrefectError
    ├── ConfigurationError (ValueError)       a block or a combination of arguments cannot be used
    ├── InputError (ValueError)               what was handed in is refused before anything is sent
    │   ├── UnsupportedTypeError (TypeError)  a value has no canonical form, or no place in a record
    │   └── JobReferenceError                 a job reference lacks a field or has a wrong one
    ├── RecordError (ValueError)              a stored record cannot be read
    │   ├── DamagedRecordError                its bytes are not what was written
    │   └── FormatVersionError                it was written by a newer version of its format
    ├── StorageUnreadableError (OSError)      nobody knows whether something lies under a key
    └── JobError (RuntimeError)               something about one job; carries its facts
        ├── SubmissionError                   no job is known to have been created
        │   └── SubmissionUncertainError      a job may have been created; its id is not known
        ├── JobNotFoundError (LookupError)    the service or the store does not know the job id
        ├── JobFailedError                    the job ended without a result
        │   ├── JobCancelledError             ... because somebody cancelled it
        │   └── JobTimeLimitError             ... because it ran longer than it was allowed to
        ├── JobWaitTimeoutError (TimeoutError) the wait is over, the job goes on
        └── ResultUnavailableError            the job is done, its result cannot be read this time

Errors carry facts and not only words, so that whoever decides about retrying never
has to search a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ConfigurationError",
    "DamagedRecordError",
    "FormatVersionError",
    "InputError",
    "JobCancelledError",
    "JobError",
    "JobFailedError",
    "JobNotFoundError",
    "JobReferenceError",
    "JobTimeLimitError",
    "JobWaitTimeoutError",
    "QCSCPrefectError",
    "RecordError",
    "ResultUnavailableError",
    "StorageUnreadableError",
    "SubmissionError",
    "SubmissionUncertainError",
    "UnsupportedTypeError",
]


class QCSCPrefectError(Exception):
    """Base of every error that the qcsc-prefect packages raise on their own account."""


class ConfigurationError(QCSCPrefectError, ValueError):
    """A configuration, or a combination of arguments, that cannot be used."""


class InputError(QCSCPrefectError, ValueError):
    """Input that is refused before anything is sent or stored.

    Attributes:
        path: Where the bad part stands inside the input, for example
            ``pubs[0].parameter_values``; an empty string where the input as a whole is meant.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., InputError], tuple[object, ...]]:
        return _rebuild_input_error, (type(self), self.args, self.path)


class UnsupportedTypeError(InputError, TypeError):
    """A value of a type that has no canonical form, or no place in a record."""


class JobReferenceError(InputError):
    """A job reference in which a field is missing, unknown in its version, or of a wrong type."""


class RecordError(QCSCPrefectError, ValueError):
    """A stored record that cannot be read."""


class DamagedRecordError(RecordError):
    """A record whose bytes are not the bytes that were written."""


class FormatVersionError(RecordError):
    """A record in a version of its format that this release does not know."""


class StorageUnreadableError(QCSCPrefectError, OSError):
    """Storage could not be read, so that nobody knows whether something lies under a key."""


class JobError(QCSCPrefectError, RuntimeError):
    """Something went wrong with one job.

    Attributes:
        job_id: The job, or None where no job id is known.
        backend_name: The backend it was meant for, or None where that is not known.
        retryable: True where the same call may succeed later, False where it cannot, None where
            this is not known.
        retry_after: Seconds that the service asked to wait before the next try, or None.
        status: The HTTP status behind the error, or None.
        service_code: The service's own code of the error, or None.
    """

    #: What `retryable` is where the one who raises does not say.
    default_retryable: bool | None = None

    def __init__(
        self,
        message: str,
        *,
        job_id: str | None = None,
        backend_name: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        service_code: int | str | None = None,
    ) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.backend_name = backend_name
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.status = status
        self.service_code = service_code

    def __reduce__(self) -> tuple[Callable[..., JobError], tuple[object, ...]]:
        # The facts only: a cause or a client that hangs on the instance must not reach a pickle.
        facts = {
            "job_id": self.job_id,
            "backend_name": self.backend_name,
            "retryable": self.retryable,
            "retry_after": self.retry_after,
            "status": self.status,
            "service_code": self.service_code,
        }
        return _rebuild_job_error, (type(self), str(self), facts)


class SubmissionError(JobError):
    """A submission after which no job is known to have been created."""


class SubmissionUncertainError(SubmissionError):
    """A submission whose answer was lost: the service may have created a job."""


class JobNotFoundError(JobError, LookupError):
    """The service, or the local store, does not know the job id."""

    default_retryable = False


class JobFailedError(JobError):
    """The job ended without a result; asking again cannot change that."""

    default_retryable = False


class JobCancelledError(JobFailedError):
    """The job was cancelled before it had a result."""


class JobTimeLimitError(JobFailedError):
    """The job ran longer than it was allowed to."""


class JobWaitTimeoutError(JobError, TimeoutError):
    """The caller's patience ended before the job did; the job goes on and can be fetched later."""

    default_retryable = True


class ResultUnavailableError(JobError):
    """The job is done, but its result could not be read this time."""

    default_retryable = True


def _rebuild_input_error(
    error_type: type[InputError], args: tuple[str, ...], path: str
) -> InputError:
    return error_type(*args, path=path)


def _rebuild_job_error(
    error_type: type[JobError], message: str, facts: dict[str, object]
) -> JobError:
    return error_type(message, **facts)  # type: ignore[arg-type]
