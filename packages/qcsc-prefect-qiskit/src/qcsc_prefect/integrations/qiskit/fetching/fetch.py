"""The body of the fetch task: from a job id to its result, metadata and artifacts."""

from __future__ import annotations

import asyncio
import functools
import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import msgspec
from prefect.results import get_result_store

from qcsc_prefect.core.engine.cancelling import NO_ANSWER, after_cancellation
from qcsc_prefect.core.engine.identity import DEFAULT_VISIBILITY_DELAY
from qcsc_prefect.core.engine.job_age import age_of, submission_time
from qcsc_prefect.core.engine.late import kept_in_its_place, settle_late
from qcsc_prefect.core.engine.service import AwaitedJob, JobState
from qcsc_prefect.core.engine.waiting import WaitLimits, wait_for_job
from qcsc_prefect.core.errors import (
    JobCancelledError,
    JobFailedError,
    JobTimeLimitError,
    ResultUnavailableError,
)
from qcsc_prefect.core.prefect.locks import share_lock
from qcsc_prefect.core.prefect.shield import shielded
from qcsc_prefect.core.prefect.task_runs import refresh_requested, run_logger
from qcsc_prefect.integrations.qiskit.cache import qiskit_result_fetch_cache_key
from qcsc_prefect.integrations.qiskit.fetching.metadata import collect_job_metadata
from qcsc_prefect.integrations.qiskit.fetching.reporting import JobReporter
from qcsc_prefect.integrations.qiskit.inputs.native_options import options_mapping
from qcsc_prefect.integrations.qiskit.inputs.pubs import collect_pubs, known_pubs
from qcsc_prefect.integrations.qiskit.presentation import (
    JobOutput,
    publish_job_artifacts,
)
from qcsc_prefect.integrations.qiskit.results import aread_result_record, awrite_result_record
from qcsc_prefect.integrations.qiskit.services.opening import open_service_of_job
from qcsc_prefect.integrations.qiskit.services.runtime_config import resolve_config
from qcsc_prefect.integrations.qiskit.submitting.account_identity import (
    account_identity,
    names_instance,
)

if TYPE_CHECKING:
    from datetime import datetime

    from qcsc_prefect.core.engine.service import JobStatus
    from qcsc_prefect.core.metadata import JobMetadata
    from qcsc_prefect.core.reference import JobReference
    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.fetching.arguments import FetchArguments
    from qcsc_prefect.integrations.qiskit.services.job_service import (
        FetchedResult,
        QiskitJobService,
    )

#: Seconds that a download may take, however little of ``max_wait`` is left: enough for a gigabyte.
SHORTEST_DOWNLOAD = 300.0
#: Seconds that collecting a job's metadata may take, among downloads that take up the threads.
METADATA_SECONDS = 120.0
#: A job younger than this, in seconds, has not ended yet.
JUST_NOW = 1.0

__all__ = ["fetch_job"]


async def fetch_job(arguments: FetchArguments) -> tuple[JobOutput, bool]:
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
    arguments = replace(
        arguments, pubs=known_pubs(arguments.pubs), options=options_mapping(arguments.options)
    )
    config = await resolve_config(arguments.runtime_block_name, arguments.runtime_config)
    key = await _record_key(arguments.reference, config) if arguments.cache_result else None
    output = None if key is None or refresh_requested() else await _kept_output(key, arguments)
    kept = output is not None
    if output is None:
        output = await _fetch(arguments, config, key)
    if arguments.artifact_key is not None:
        await publish_job_artifacts(
            output,
            artifact_key=arguments.artifact_key,
            pubs=None if arguments.pubs is None else collect_pubs(arguments.pubs),
            logger=run_logger(),
        )
    return output, kept


async def _kept_output(key: str, arguments: FetchArguments) -> JobOutput | None:
    stored = await aread_result_record(get_result_store(), key)
    if stored is None:
        return None
    misfit = _misfit(stored.output, arguments.reference)
    if misfit is not None:
        run_logger().warning(
            "The result stored under the key %s is not that of job %s, and is not used: %s",
            key,
            arguments.reference.job_id,
            misfit,
        )
        return None
    run_logger().info(
        "Reusing the result of job %s from Prefect's result storage", arguments.reference.job_id
    )
    return JobOutput(cast("JobOutput", stored.output))


def _misfit(output: object, reference: JobReference) -> str | None:
    """Say in what a stored output differs from what is asked for; None where it does not."""
    if not isinstance(output, dict):
        return f"it is of type {type(output).__name__}"
    asked = {
        "job_id": reference.job_id,
        "primitive": reference.primitive,
        "shots": reference.shots,
        "precision": reference.precision,
        "input_digest": reference.input_digest,
    }
    # The output's own counts are those of its PUBs, which may differ from those of the call.
    of_call = output.get("job_reference")
    counts = of_call if isinstance(of_call, dict) else {}
    for name, value in asked.items():
        # What either side leaves out is not known to it.
        stored = (counts if name in {"shots", "precision"} else output).get(name)
        if value is not None and stored is not None and stored != value:
            return f"its {name} is {stored!r:.100}, and {value!r:.100} was asked for"
    return None


async def _keep_output(key: str, output: JobOutput) -> bool:
    try:
        await awrite_result_record(get_result_store(), key, dict(output))
    except Exception as error:  # noqa: BLE001 - storage blocks raise errors of any kind
        run_logger().warning(
            "The result of job %s was fetched, but could not be stored (%s: %s); it can be fetched "
            "again by the job id",
            output["job_id"],
            type(error).__name__,
            error,
        )
        return False
    return True


async def _fetch(
    arguments: FetchArguments, config: QiskitRuntimeConfig, key: str | None
) -> JobOutput:
    began = time.monotonic()
    service, status = await _waited_for(arguments, config)
    reference = arguments.reference
    kept = await kept_in_its_place(service, reference, status, run_logger())
    if kept is not None:
        if arguments.max_wait is not None:
            left = max(0.0, arguments.max_wait - (time.monotonic() - began))
            arguments = replace(arguments, max_wait=left)
        key = None if key is None else await _record_key(kept, config)
        return await _fetch(replace(arguments, reference=kept), config, key)
    job_id = str(reference.job_id)
    _raise_unless_done(status, job_id, reference.backend_name)
    try:
        fetched = await service.result(
            job_id, seconds=_time_left(arguments.max_wait, began), status=status
        )
    except ResultUnavailableError as error:
        if error.retryable is not False:
            raise
        # A private one can be read once: whoever read it before may have recorded it.
        recorded_under = key or await _record_key(reference, config)
        recorded = recorded_under and await _kept_output(recorded_under, arguments)
        if not recorded:
            raise
        return recorded
    if reference.primitive is None:
        # Somebody had its id alone; the program's name does not tell which primitive it served.
        reference = msgspec.structs.replace(reference, primitive=_primitive_of(fetched))
        arguments = replace(arguments, reference=reference)
    output = _output(reference, fetched)
    metadata = (await _metadata(service, arguments, fetched)).to_builtins()
    output["metadata"] = metadata
    # PUBs that name their own count for more than the call.
    output.update({name: metadata.get(name) for name in ("shots", "precision") if name in output})
    if key is not None and await _keep_output(key, output):
        await service.forget_result_text(fetched)
    return output


async def _metadata(
    service: QiskitJobService, arguments: FetchArguments, fetched: FetchedResult
) -> JobMetadata:
    reference = arguments.reference
    collect = functools.partial(
        collect_job_metadata,
        primitive=reference.primitive or reference.program_type or "unknown",
        program_type=reference.program_type or _program_of(fetched),
        backend_name=fetched.backend_name or reference.backend_name,
        job_id=reference.job_id,
        job_url=service.job_url(str(reference.job_id)),
        session_id=reference.session_id or fetched.session_id,
        input_digest=reference.input_digest,
        shots=reference.shots,
        precision=reference.precision,
        timestamps=_timestamps(fetched),
    )
    pubs = None if arguments.pubs is None else collect_pubs(arguments.pubs)
    options = arguments.options or reference.options
    try:
        async with asyncio.timeout(METADATA_SECONDS):
            return await service.call(
                lambda: collect(
                    options=options, pubs=pubs, job=fetched.native_job, result=fetched.result
                )
            )
    except (TimeoutError, *NO_ANSWER) as error:
        # The result is there, and its description does not hold it up.
        run_logger().warning(
            "The metadata of job %s are incomplete, they could not be collected (%s: %s)",
            reference.job_id,
            type(error).__name__,
            error,
        )
        return collect()


def _primitive_of(fetched: FetchedResult) -> str | None:
    from qcsc_prefect.integrations.qiskit.fetching.pub_metadata import primitive_of

    program = _program_of(fetched)
    return program if program in {"sampler", "estimator"} else primitive_of(fetched.result)


def _program_of(fetched: FetchedResult) -> str | None:
    return None if fetched.native_job is None else fetched.native_job.primitive_id


def _time_left(max_wait: float | None, began: float) -> float | None:
    """Return how long the download may take of a job that was waited for since then."""
    if max_wait is None:
        return None
    return max(SHORTEST_DOWNLOAD, round(max_wait - (time.monotonic() - began), 1))


def _timestamps(fetched: FetchedResult) -> dict[str, datetime]:
    if fetched.times is None:
        return {}
    times = {
        "created": fetched.times.created,
        "started": fetched.times.started,
        "completed": fetched.times.completed,
    }
    return {name: moment for name, moment in times.items() if moment is not None}


async def _waited_for(
    arguments: FetchArguments, config: QiskitRuntimeConfig
) -> tuple[QiskitJobService, JobStatus]:
    job_id = str(arguments.reference.job_id)
    with share_lock(f"waiting for {job_id}") as waiters:
        try:
            service = await open_service_of_job(config, arguments.reference)
            return service, await _wait(service, arguments)
        except asyncio.CancelledError:
            cancel_job = arguments.cancel_job_on_cancellation
            if cancel_job and not waiters.is_alone():
                run_logger().warning("Job %s is not cancelled: somebody else waits for it", job_id)
                cancel_job = False

            async def cancel() -> bool:
                return await (await open_service_of_job(config, arguments.reference)).cancel(job_id)

            await after_cancellation(
                cancel,
                job_id,
                run_logger(),
                during="wait",
                cancel_job=cancel_job,
                shield=shielded,
            )
            raise


async def _wait(service: QiskitJobService, arguments: FetchArguments) -> JobStatus:
    reference = arguments.reference
    job_id = str(reference.job_id)
    awaited = AwaitedJob(job_id, reference.tags or (), submission_time(reference))
    age = age_of(reference, await service.now())
    shown_within = 0.0 if service.shows_jobs_at_once else DEFAULT_VISIBILITY_DELAY
    limits = WaitLimits(
        max_wait=arguments.max_wait,
        first_look=service.first_pause if age < JUST_NOW else 0.0,
        first_pause=service.first_pause,
        not_found=max(0.0, shown_within - age),
    )
    reporter = JobReporter(
        job_id=job_id,
        backend_name=reference.backend_name,
        job_url=lambda: service.job_url(job_id),
        artifact_key=arguments.artifact_key,
        logger=run_logger(),
    )
    settling = asyncio.create_task(settle_late(service, reference, run_logger()))
    try:
        return await wait_for_job(service, awaited, limits, reporter.note)
    except asyncio.CancelledError:
        # Ctrl-C ends a temporary Prefect server too. Each moment spent here is one in which it
        # goes, and what Prefect tells it next is then tried for over a minute.
        reporter.leave()
        raise
    finally:
        settling.cancel()
        await reporter.finish()


def _raise_unless_done(status: JobStatus, job_id: str, backend_name: str | None) -> None:
    if status.state is JobState.DONE:
        return
    reason = (status.message or "the service gave no reason").rstrip(".")
    if status.service_code is not None:
        reason += f" (service code {status.service_code})"
    if status.ran_too_long:
        error_type: type[JobFailedError] = JobTimeLimitError
        what = f"ran longer than it was allowed to: {reason}"
        advice = "Make it smaller or raise options['max_execution_time'], and submit it again."
    elif status.state is JobState.CANCELLED:
        error_type, what, advice = JobCancelledError, f"was cancelled: {reason}", "Submit it again."
    else:
        error_type, what = JobFailedError, f"failed: {reason}"
        advice = "Mend what the message names, and submit it again."
    raise error_type(
        f"Job {job_id} on {backend_name or 'its backend'} {what.rstrip('.')}. {advice}",
        job_id=job_id,
        backend_name=backend_name,
        service_code=status.service_code,
    )


def _output(reference: JobReference, fetched: FetchedResult) -> JobOutput:
    counted: dict[str, object] = (
        {"precision": reference.precision}
        if reference.primitive == "estimator"
        else {"shots": reference.shots}
    )
    output = JobOutput(
        primitive=reference.primitive,
        backend_name=fetched.backend_name or reference.backend_name,
        job_id=reference.job_id,
        **counted,
        result=fetched.result,
    )
    if reference.input_digest is not None:
        output["input_digest"] = reference.input_digest
    output["job_reference"] = reference.to_dict()
    return output


async def _record_key(reference: JobReference, config: QiskitRuntimeConfig) -> str | None:
    instance = reference.instance
    if instance is None and config.channel != "local" and not names_instance(config):
        instance = (await open_service_of_job(config, reference)).instance
    return qiskit_result_fetch_cache_key(
        None,
        {
            "job_id": reference.job_id,
            "runtime_config": config,
            "configuration_identity": account_identity(config, instance),
        },
    )
