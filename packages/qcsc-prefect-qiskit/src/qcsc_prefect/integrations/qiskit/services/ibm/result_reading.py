"""Reads the result of a native job, and takes nothing for a result that is none."""

from __future__ import annotations

import asyncio
import threading
import zlib
from contextlib import nullcontext
from typing import TYPE_CHECKING

from qiskit.primitives import PrimitiveResult

from qcsc_prefect.core.errors import JobWaitTimeoutError, ResultUnavailableError
from qcsc_prefect.core.threads import run_blocking
from qcsc_prefect.integrations.qiskit.services.connections.wire import whole_results
from qcsc_prefect.integrations.qiskit.services.job_service import FetchedResult

if TYPE_CHECKING:
    from qiskit_ibm_runtime import RuntimeJobV2
    from qiskit_ibm_runtime.decoders.result_decoder import ResultDecoder

__all__ = ["decode_within", "download_result"]

#: What the client's decoder raises over bytes that are not what was written.
_DAMAGE = (ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, zlib.error)

#: Held while a result is decoded. Arrays name their types in Python's own notation, and two threads
#: that parse such texts at the same moment fail with a SystemError in CPython 3.11 (its issue
#: gh-106905). Decoding keeps the interpreter's lock most of the time, so nothing is lost by it.
_decoding = threading.Lock()


def download_result(native_job: RuntimeJobV2) -> str:
    """Read the result of a job that is done, and leave it as it came; blocks.

    The native ``result()`` would ask for the job's state once more, and decode in one go with the
    download; the result of a private job, which can be read once, would be lost with an error.

    Raises:
        ResultUnavailableError: If the service has none now.
    """
    with nullcontext() if native_job.private else whole_results():
        text = native_job._api_client.job_results(job_id=native_job.job_id())  # noqa: SLF001 - see above
    if text:
        return str(text)
    if not native_job.private:
        raise _damaged(native_job, "an empty text")
    raise ResultUnavailableError(
        f"The service has no result of the private job {native_job.job_id()}. It hands the result "
        "of a private job out once: if it was read before, then by another program or with other "
        "result storage. Fetch it there, or submit the job again.",
        job_id=native_job.job_id(),
        retryable=False,
    )


async def decode_within(
    seconds: float | None, native_job: RuntimeJobV2, text: str
) -> FetchedResult:
    """Decode the text of a result with the job's own decoders, in a thread; None: for ever.

    Raises:
        ResultUnavailableError: If the text is no result.
        JobWaitTimeoutError: If it takes longer; the thread goes on.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await run_blocking(_decode_result, native_job, text)
    except TimeoutError as error:
        if not limit.expired():
            raise
        job_id = native_job.job_id()
        raise JobWaitTimeoutError(
            f"Job {job_id} is done and its result was downloaded, but the client has not decoded "
            f"its {len(text):,} characters in the {seconds:g} s that max_wait had left for it. "
            "Fetch it again by its id with a longer max_wait.",
            job_id=job_id,
        ) from error


def _decode_result(native_job: RuntimeJobV2, text: str) -> FetchedResult:
    decoders = _decoders(native_job)
    try:
        with _decoding:
            result: object = text
            for decoder in decoders:
                result = _decode_with(decoder, result)
    except _DAMAGE as error:
        raise _damaged(native_job, f"{type(error).__name__}: {error}") from error
    except StopIteration as error:
        raise ResultUnavailableError(
            f"The client can make no result of what job {native_job.job_id()} measured: a circuit "
            "of it has no classical register, which its client-side sampler does not expect. "
            "Submit it with measurements, or with primitives='classic'.",
            job_id=native_job.job_id(),
            retryable=False,
        ) from error
    return _checked(native_job, result)


def _decoders(native_job: RuntimeJobV2) -> list[type[ResultDecoder]]:
    """Return what the native ``result()`` decodes with, one after the other."""
    if hasattr(native_job, "_result_decoders"):
        return list(native_job._result_decoders)  # noqa: SLF001
    return [native_job._final_result_decoder]  # noqa: SLF001 - clients before 0.48


def _decode_with(decoder: type[ResultDecoder], data: object) -> object:
    # Clients before 0.51 name only decoders that apply.
    applies = getattr(decoder, "is_applicable", None)
    return decoder.decode(data) if applies is None or applies(data) else data


def _checked(native_job: RuntimeJobV2, result: object) -> FetchedResult:
    if not isinstance(result, PrimitiveResult):
        # The client hands a body that it cannot decode to the caller as it is.
        raise _damaged(native_job, f"the type {type(result).__name__} came instead")
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
        else "The job is done; fetch it again by its id."
    )
    return ResultUnavailableError(
        f"The result of job {job_id} came back damaged ({found}). {again}",
        job_id=job_id,
        retryable=not native_job.private,
    )
