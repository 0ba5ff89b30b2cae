"""Reads the result of a native job, and takes nothing for a result that is none."""

from __future__ import annotations

import zlib
from functools import reduce
from typing import TYPE_CHECKING

from qiskit.primitives import PrimitiveResult

from qcsc_prefect.core.errors import ResultUnavailableError
from qcsc_prefect.integrations.qiskit.jobs.asking import CLIENT_ERRORS
from qcsc_prefect.integrations.qiskit.jobs.service import FetchedResult

if TYPE_CHECKING:
    from qiskit_ibm_runtime import RuntimeJobV2

__all__ = ["decode_result_text", "download_result_text", "read_result"]

#: What the client's decoder raises over bytes that are not what was written.
_DAMAGE = (ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, zlib.error)


class _AsItCame:
    """A decoder, by the client's own interface, that leaves the text alone."""

    @classmethod
    def is_applicable(cls, data: object) -> bool:
        """Whether the data can be decoded."""
        return isinstance(data, str)

    @classmethod
    def decode(cls, data: object) -> object:
        """Return the data."""
        return data


def read_result(native_job: RuntimeJobV2) -> FetchedResult:
    """Read and decode the result of a job that is done; blocks.

    Args:
        native_job: The job.

    Returns:
        The native result.

    Raises:
        ResultUnavailableError: If what came is no result.
    """
    try:
        result = native_job.result()
    except CLIENT_ERRORS:
        raise  # about the answer, not about what stands in it
    except _DAMAGE as error:
        raise _damaged(native_job, f"{type(error).__name__}: {error}") from error
    return _checked(native_job, result)


def download_result_text(native_job: RuntimeJobV2) -> str:
    """Read the result of a job that is done, and leave it as it came; blocks.

    Args:
        native_job: The job.

    Returns:
        The text of the result.

    Raises:
        ResultUnavailableError: If the service has none, or not any more.
    """
    text = native_job.result(decoder=_AsItCame)
    if not isinstance(text, str):
        raise ResultUnavailableError(
            f"The service has no result of the private job {native_job.job_id()}. It hands the "
            "result of a private job out once: if it was read before, then by another program or "
            "with other result storage. Fetch it there, or submit the job again.",
            job_id=native_job.job_id(),
            retryable=False,
        )
    return text


def decode_result_text(native_job: RuntimeJobV2, text: str) -> FetchedResult:
    """Decode the text of a result with the job's own decoders; blocks.

    Args:
        native_job: The job.
        text: What `download_result_text` returned.

    Returns:
        The native result.

    Raises:
        ResultUnavailableError: If the text is no result.
    """
    decoders = native_job._result_decoders  # noqa: SLF001 - result() would ask the service again
    try:
        result = reduce(
            lambda data, decoder: decoder.decode(data) if decoder.is_applicable(data) else data,
            decoders,
            text,
        )
    except _DAMAGE as error:
        raise _damaged(native_job, f"{type(error).__name__}: {error}") from error
    return _checked(native_job, result)


def _checked(native_job: RuntimeJobV2, result: object) -> FetchedResult:
    if not isinstance(result, PrimitiveResult):
        # The client hands a body that it cannot decode to the caller as it is.
        raise _damaged(native_job, f"a {type(result).__name__} came instead")
    backend = native_job.backend()
    return FetchedResult(
        result,
        None if backend is None else str(backend.name),
        native_job=native_job,
        # The property sends a request for every job that belongs to none.
        session_id=native_job._session_id,  # noqa: SLF001
    )


def _damaged(native_job: RuntimeJobV2, found: str) -> ResultUnavailableError:
    job_id = native_job.job_id()
    again = (
        "The text that came is kept in Prefect's result storage; it cannot be read a second time."
        if native_job.private
        else "The job is done; fetch it again."
    )
    return ResultUnavailableError(
        f"The result of job {job_id} came back damaged ({found}). {again}",
        job_id=job_id,
        retryable=not native_job.private,
    )
