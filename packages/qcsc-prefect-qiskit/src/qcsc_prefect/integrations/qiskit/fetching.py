"""The body of the fetch task: from a job id to its result, metadata and artifacts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from qcsc_prefect.core.errors import (
    ConfigurationError,
    JobCancelledError,
    JobFailedError,
    JobTimeLimitError,
)
from qcsc_prefect.core.reference import JobReference, parse_job_reference
from qcsc_prefect.integrations.qiskit.cache import qiskit_result_fetch_cache_key
from qcsc_prefect.integrations.qiskit.jobs.opening import open_job_service
from qcsc_prefect.integrations.qiskit.jobs.service import JobState
from qcsc_prefect.integrations.qiskit.output_records import OutputRecords
from qcsc_prefect.integrations.qiskit.runtime_config import resolve_config
from qcsc_prefect.integrations.qiskit.task_runs import refresh_requested, run_logger
from qcsc_prefect.integrations.qiskit.waiting import WaitLimits, watcher_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.jobs.service import FetchedResult, JobService, JobStatus

__all__ = ["FetchArguments", "fetch_job", "job_to_fetch"]


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
        max_wait: Longest wait in seconds; None for no limit.
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
    job_reference: Mapping[str, object] | None, **given: str | float | None
) -> JobReference:
    """Put together what a call says about a job in its reference and beside it.

    Args:
        job_reference: What a submit task returned, or None.
        **given: Fields of the reference that the call names itself; those that are not None win.

    Returns:
        The reference.

    Raises:
        ConfigurationError: If there is no reference and no job id.
        JobReferenceError: If the reference is wrong.
    """
    named = {name: value for name, value in given.items() if value is not None}
    if job_reference is None and "job_id" not in named:
        raise ConfigurationError(
            "Tried to fetch a job, but neither job_id nor job_reference was given. Pass the "
            "reference that a submit task returned, or the job's id."
        )
    return parse_job_reference({**(job_reference or {}), **named})


async def fetch_job(arguments: FetchArguments) -> tuple[dict[str, Any], bool]:
    """Wait for a job and fetch its result, or take the output that was kept of an earlier fetch.

    Args:
        arguments: The call.

    Returns:
        The output, and whether it was kept from an earlier fetch.

    Raises:
        ConfigurationError: If the configuration cannot be used.
        JobNotFoundError: If the service does not know the job.
        JobFailedError: If the job ended without a result.
        JobWaitTimeoutError: If ``max_wait`` is over; the job goes on.
        ResultUnavailableError: If the result could not be read this time.
    """
    config = await resolve_config(arguments.runtime_block_name, arguments.runtime_config)
    records = OutputRecords.current(run_logger())
    key = _record_key(arguments.reference, config) if arguments.cache_result else None
    if key is not None and not refresh_requested():
        kept = await records.read(key)
        if kept is not None:
            run_logger().info(
                "Reusing the result of job %s from Prefect's result storage",
                arguments.reference.job_id,
            )
            return kept, True
    service = await open_job_service(config)
    output = await _fetch_from(service, arguments)
    if key is not None:
        await records.write(key, output)
    return output, False


async def _fetch_from(service: JobService, arguments: FetchArguments) -> dict[str, Any]:
    reference = arguments.reference
    job_id = str(reference.job_id)
    status = await _wait(service, arguments, job_id)
    _raise_unless_done(status, job_id, reference.backend_name)
    fetched = await service.result(job_id)
    output = _output(reference, fetched)
    output["metadata"] = {}
    return output


async def _wait(service: JobService, arguments: FetchArguments, job_id: str) -> JobStatus:
    logger = run_logger()
    backend_name = arguments.reference.backend_name or "its backend"

    def tell(status: JobStatus, waited: float) -> None:
        position = "" if status.queue_position is None else f" (position {status.queue_position})"
        logger.info(
            "Job %s on %s: %s%s after %.0f s",
            job_id,
            backend_name,
            status.raw_state,
            position,
            waited,
        )

    try:
        return await watcher_for(service).wait(
            job_id, WaitLimits(max_wait=arguments.max_wait), tell
        )
    except asyncio.CancelledError:
        if arguments.cancel_job_on_cancellation:
            with anyio.CancelScope(shield=True):
                cancelled = await service.cancel(job_id)
            logger.warning(
                "The wait for job %s was cancelled; the job %s",
                job_id,
                "was cancelled with it" if cancelled else "had ended already",
            )
        else:
            logger.warning(
                "The wait for job %s was cancelled; the job goes on and can be fetched later",
                job_id,
            )
        raise


def _raise_unless_done(status: JobStatus, job_id: str, backend_name: str | None) -> None:
    if status.state is JobState.DONE:
        return
    where = f"Job {job_id} on {backend_name or 'its backend'}"
    reason = status.message or "the service gave no reason"
    code = {"job_id": job_id, "backend_name": backend_name, "service_code": status.service_code}
    if status.ran_too_long:
        raise JobTimeLimitError(
            f"{where} ran longer than it was allowed to: {reason}. Make it smaller, or raise "
            "options['max_execution_time'], and submit it again.",
            **code,
        )
    if status.state is JobState.CANCELLED:
        raise JobCancelledError(f"{where} was cancelled: {reason}. Submit it again.", **code)
    raise JobFailedError(
        f"{where} failed: {reason}. Mend what the message names, and submit it again.", **code
    )


def _output(reference: JobReference, fetched: FetchedResult) -> dict[str, Any]:
    counted = (
        {"precision": reference.precision}
        if reference.primitive == "estimator"
        else {"shots": reference.shots}
    )
    output: dict[str, Any] = {
        "primitive": reference.primitive,
        "backend_name": fetched.backend_name or reference.backend_name,
        "job_id": reference.job_id,
        **counted,
        "result": fetched.result,
    }
    if reference.input_digest is not None:
        output["input_digest"] = reference.input_digest
    output["job_reference"] = reference.to_dict()
    return output


def _record_key(reference: JobReference, config: QiskitRuntimeConfig) -> str | None:
    return qiskit_result_fetch_cache_key(
        None, {"job_id": reference.job_id, "runtime_config": config}
    )
