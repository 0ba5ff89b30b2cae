"""The Prefect tasks: run, submit and fetch native Qiskit Runtime jobs.

Five tasks in two styles. `run_sampler_task` and `run_estimator_task` do everything in one task.
The split path keeps more: `submit_sampler_job_task` or `submit_estimator_job_task` returns a
reference as soon as the job id is known, and `fetch_qiskit_job_result_task` waits for the job and
fetches its result, in another task, another process or on another machine.

All five are coroutines. In a synchronous flow, submit them to the flow's task runner:
``submit_sampler_job_task.submit(pubs, "my-block").result()``.

The pubs of a call are not walked by Prefect; see
`qcsc_prefect.integrations.qiskit.submitting.pub_task`.
"""

from __future__ import annotations

# Prefect reads the signatures at run time, so the names in them must be real.
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, cast

from prefect.cache_policies import NO_CACHE

from qcsc_prefect.core.engine.identity import DEFAULT_VISIBILITY_DELAY
from qcsc_prefect.core.prefect.task_runs import mark_run_as_cached
from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.fetching.arguments import FetchArguments, job_to_fetch
from qcsc_prefect.integrations.qiskit.fetching.fetch import fetch_job
from qcsc_prefect.integrations.qiskit.inputs.call_arguments import checks_arguments
from qcsc_prefect.integrations.qiskit.inputs.pubs import collect_pubs
from qcsc_prefect.integrations.qiskit.job_reference import QiskitJobReference
from qcsc_prefect.integrations.qiskit.presentation import JobReferenceDict
from qcsc_prefect.integrations.qiskit.submitting.pub_task import pub_task
from qcsc_prefect.integrations.qiskit.submitting.submit import (
    JobArguments,
    SubmitCache,
    submit_job,
    told_cache,
)

__all__ = [
    "fetch_qiskit_job_result_task",
    "run_estimator_task",
    "run_sampler_task",
    "submit_estimator_job_task",
    "submit_sampler_job_task",
]


@pub_task(name="run-sampler", cache_policy=NO_CACHE)
@checks_arguments
async def run_sampler_task(
    pubs: Iterable[Any],
    runtime_block_name: str | None = None,
    shots: int | None = None,
    artifact_key: str | None = None,
    options: dict[str, Any] | None = None,
    runtime_config: QiskitRuntimeConfig | None = None,
    *,
    input_digest: str | None = None,
    max_wait: float | None = None,
    cancel_job_on_cancellation: bool = False,
) -> dict[str, Any]:
    """Run native Qiskit Runtime SamplerV2 inside a Prefect task.

    This is the simple one-task path: it submits a job, waits for its result, records artifacts and
    returns the output. A run that is retried or repeated submits a new job; where that matters, use
    the submit and fetch tasks, or the wrappers with ``robust=True``.

    Args:
        pubs: Native Qiskit Sampler pubs: any iterable, a generator too, or one bare circuit.
        runtime_block_name: Name of a saved `QiskitRuntimeConfig` block.
        shots: Shots of each PUB that does not say its own.
        artifact_key: Prefix of the Prefect artifacts; None for no artifacts.
        options: Native Qiskit Sampler options.
        runtime_config: Inline runtime configuration. Mutually exclusive with
            ``runtime_block_name``.
        input_digest: Input digest to be included in the metadata.
        max_wait: Longest wait for the job in seconds; None for no limit.
        cancel_job_on_cancellation: Whether a cancelled task cancels the job. One that another flow
            with the same Prefect home waits for goes on; who waits elsewhere is not known.

    Returns:
        A dictionary with ``primitive``, ``backend_name``, ``job_id``, ``shots``, the native
        Qiskit ``result`` and the collected ``metadata``.

    Raises:
        ConfigurationError: If both or neither of ``runtime_block_name`` and ``runtime_config`` is
            given; it is a ``ValueError`` too.
        InputError: If a PUB, an option or an argument is refused; nothing was sent.
        JobError: If the job could not be submitted, failed, or its result could not be read.

    Example:
        >>> output = await run_sampler_task(pubs, "my-block")  # doctest: +SKIP
    """
    arguments = JobArguments(
        primitive="sampler",
        pubs=collect_pubs(pubs),
        runtime_block_name=runtime_block_name,
        runtime_config=runtime_config,
        shots=shots,
        precision=None,
        options=options,
        input_digest=input_digest,
    )
    submission = await submit_job(
        arguments, cache=None, cancel_job_on_cancellation=cancel_job_on_cancellation
    )
    output, _ = await fetch_job(
        FetchArguments(
            reference=submission.reference,
            pubs=arguments.pubs,
            options=options,
            artifact_key=artifact_key,
            runtime_block_name=runtime_block_name,
            runtime_config=runtime_config,
            max_wait=max_wait,
            cancel_job_on_cancellation=cancel_job_on_cancellation,
        )
    )
    return output


@pub_task(name="run-estimator", cache_policy=NO_CACHE)
@checks_arguments
async def run_estimator_task(
    pubs: Iterable[Any],
    runtime_block_name: str | None = None,
    precision: float | None = None,
    artifact_key: str | None = None,
    options: dict[str, Any] | None = None,
    runtime_config: QiskitRuntimeConfig | None = None,
    *,
    input_digest: str | None = None,
    max_wait: float | None = None,
    cancel_job_on_cancellation: bool = False,
) -> dict[str, Any]:
    """Run native Qiskit Runtime EstimatorV2 inside a Prefect task.

    This is the simple one-task path: it submits a job, waits for its result, records artifacts and
    returns the output. A run that is retried or repeated submits a new job; where that matters, use
    the submit and fetch tasks, or the wrappers with ``robust=True``.

    Args:
        pubs: Native Qiskit Estimator pubs: any iterable, a generator too, or one bare circuit.
        runtime_block_name: Name of a saved `QiskitRuntimeConfig` block.
        precision: Target standard error of each PUB that does not say its own.
        artifact_key: Prefix of the Prefect artifacts; None for no artifacts.
        options: Native Qiskit Estimator options.
        runtime_config: Inline runtime configuration. Mutually exclusive with
            ``runtime_block_name``.
        input_digest: Input digest to be included in the metadata.
        max_wait: Longest wait for the job in seconds; None for no limit.
        cancel_job_on_cancellation: Whether a cancelled task cancels the job. One that another flow
            with the same Prefect home waits for goes on; who waits elsewhere is not known.

    Returns:
        A dictionary with ``primitive``, ``backend_name``, ``job_id``, ``precision``, the native
        Qiskit ``result`` and the collected ``metadata``.

    Raises:
        ConfigurationError: If both or neither of ``runtime_block_name`` and ``runtime_config`` is
            given; it is a ``ValueError`` too.
        InputError: If a PUB, an option or an argument is refused; nothing was sent.
        JobError: If the job could not be submitted, failed, or its result could not be read.

    Example:
        >>> output = await run_estimator_task(pubs, "my-block")  # doctest: +SKIP
    """
    arguments = JobArguments(
        primitive="estimator",
        pubs=collect_pubs(pubs),
        runtime_block_name=runtime_block_name,
        runtime_config=runtime_config,
        shots=None,
        precision=precision,
        options=options,
        input_digest=input_digest,
    )
    submission = await submit_job(
        arguments, cache=None, cancel_job_on_cancellation=cancel_job_on_cancellation
    )
    output, _ = await fetch_job(
        FetchArguments(
            reference=submission.reference,
            pubs=arguments.pubs,
            options=options,
            artifact_key=artifact_key,
            runtime_block_name=runtime_block_name,
            runtime_config=runtime_config,
            max_wait=max_wait,
            cancel_job_on_cancellation=cancel_job_on_cancellation,
        )
    )
    return output


@pub_task(name="submit-sampler-job", cache_policy=NO_CACHE)
@checks_arguments
async def submit_sampler_job_task(
    pubs: Iterable[Any],
    runtime_block_name: str | None = None,
    shots: int | None = None,
    options: dict[str, Any] | None = None,
    runtime_config: QiskitRuntimeConfig | None = None,
    *,
    input_digest: str | None = None,
    backend_name: str | None = None,
    cache_submit: bool = False,
    cache_scope: str = "flow",
    cache_namespace: str | None = None,
    cache_expiration: timedelta | None = None,
    visibility_delay: float = DEFAULT_VISIBILITY_DELAY,
    trust_input_digest: bool = False,
    cancel_job_on_cancellation: bool = False,
) -> QiskitJobReference:
    """Submit a native Qiskit Runtime SamplerV2 job without waiting.

    With ``cache_submit=True`` the job is submitted once for each input: a job that was submitted
    before, by this process, a killed one, or another machine with the same account, is found and
    handed back. The record of the job is on storage the moment its id is known, also inside another
    task or transaction. Never put a timeout on this task: it could end after the job was accepted.

    Args:
        pubs: Native Qiskit Sampler pubs: any iterable, a generator too, or one bare circuit.
        runtime_block_name: Name of a saved `QiskitRuntimeConfig` block.
        shots: Shots of each PUB that does not say its own.
        options: Native Qiskit Sampler options.
        runtime_config: Inline runtime configuration. Mutually exclusive with
            ``runtime_block_name``.
        input_digest: Stable digest of the input; with ``cache_submit`` it names the job, and is
            computed where it is not given. Shots or precision and options name the job beside it;
            an earlier job of other PUBs is refused.
        backend_name: Backend of the job, where the configuration names none.
        cache_submit: Submit the job once for each input digest.
        cache_scope: Scope of the computed digest: ``"flow"`` or ``"global"``.
        cache_namespace: Namespace that goes into the computed digest.
        cache_expiration: How old an earlier job may be to be taken; None for any age.
        visibility_delay: Seconds after which the service's search shows a new job for certain; only
            after a lost answer is that long waited for.
        trust_input_digest: Take an earlier job of this ``input_digest`` also where it ran other
            PUBs.
        cancel_job_on_cancellation: Whether a job is cancelled that the service takes while this
            task is cancelled; otherwise it goes on, and a rerun finds it.

    Returns:
        A serializable job reference with the primitive, the backend, the job id and the settings of
        the call.

    Raises:
        ConfigurationError: If both or neither of ``runtime_block_name`` and ``runtime_config`` is
            given; it is a ``ValueError`` too.
        InputError: If a PUB, an option, a tag or an argument is refused; nothing was sent.
        SubmissionError: If the service refused the job.
        SubmissionUncertainError: If the answer was lost, and no job showed up.

    Example:
        >>> reference = await submit_sampler_job_task(pubs, "my-block")  # doctest: +SKIP
    """
    arguments = JobArguments(
        primitive="sampler",
        pubs=pubs,
        runtime_block_name=runtime_block_name,
        runtime_config=runtime_config,
        shots=shots,
        precision=None,
        options=options,
        input_digest=input_digest,
        backend_name=backend_name,
    )
    cache = SubmitCache(
        cache_scope, cache_namespace, cache_expiration, visibility_delay, trust_input_digest
    )
    submission = await submit_job(
        arguments,
        told_cache(cache, cache_submit=cache_submit),
        cancel_job_on_cancellation=cancel_job_on_cancellation,
    )
    if submission.reused:
        mark_run_as_cached()
    return cast("QiskitJobReference", JobReferenceDict(submission.reference.to_dict()))


@pub_task(name="submit-estimator-job", cache_policy=NO_CACHE)
@checks_arguments
async def submit_estimator_job_task(
    pubs: Iterable[Any],
    runtime_block_name: str | None = None,
    precision: float | None = None,
    options: dict[str, Any] | None = None,
    runtime_config: QiskitRuntimeConfig | None = None,
    *,
    input_digest: str | None = None,
    backend_name: str | None = None,
    cache_submit: bool = False,
    cache_scope: str = "flow",
    cache_namespace: str | None = None,
    cache_expiration: timedelta | None = None,
    visibility_delay: float = DEFAULT_VISIBILITY_DELAY,
    trust_input_digest: bool = False,
    cancel_job_on_cancellation: bool = False,
) -> QiskitJobReference:
    """Submit a native Qiskit Runtime EstimatorV2 job without waiting.

    With ``cache_submit=True`` the job is submitted once for each input: a job that was submitted
    before, by this process, a killed one, or another machine with the same account, is found and
    handed back. The record of the job is on storage the moment its id is known, also inside another
    task or transaction. Never put a timeout on this task: it could end after the job was accepted.

    Args:
        pubs: Native Qiskit Estimator pubs: any iterable, a generator too, or one bare circuit.
        runtime_block_name: Name of a saved `QiskitRuntimeConfig` block.
        precision: Target standard error of each PUB that does not say its own.
        options: Native Qiskit Estimator options.
        runtime_config: Inline runtime configuration. Mutually exclusive with
            ``runtime_block_name``.
        input_digest: Stable digest of the input; with ``cache_submit`` it names the job, and is
            computed where it is not given. Shots or precision and options name the job beside it;
            an earlier job of other PUBs is refused.
        backend_name: Backend of the job, where the configuration names none.
        cache_submit: Submit the job once for each input digest.
        cache_scope: Scope of the computed digest: ``"flow"`` or ``"global"``.
        cache_namespace: Namespace that goes into the computed digest.
        cache_expiration: How old an earlier job may be to be taken; None for any age.
        visibility_delay: Seconds after which the service's search shows a new job for certain; only
            after a lost answer is that long waited for.
        trust_input_digest: Take an earlier job of this ``input_digest`` also where it ran other
            PUBs.
        cancel_job_on_cancellation: Whether a job is cancelled that the service takes while this
            task is cancelled; otherwise it goes on, and a rerun finds it.

    Returns:
        A serializable job reference with the primitive, the backend, the job id and the settings of
        the call.

    Raises:
        ConfigurationError: If both or neither of ``runtime_block_name`` and ``runtime_config`` is
            given; it is a ``ValueError`` too.
        InputError: If a PUB, an option, a tag or an argument is refused; nothing was sent.
        SubmissionError: If the service refused the job.
        SubmissionUncertainError: If the answer was lost, and no job showed up.

    Example:
        >>> reference = await submit_estimator_job_task(pubs, "my-block")  # doctest: +SKIP
    """
    arguments = JobArguments(
        primitive="estimator",
        pubs=pubs,
        runtime_block_name=runtime_block_name,
        runtime_config=runtime_config,
        shots=None,
        precision=precision,
        options=options,
        input_digest=input_digest,
        backend_name=backend_name,
    )
    cache = SubmitCache(
        cache_scope, cache_namespace, cache_expiration, visibility_delay, trust_input_digest
    )
    submission = await submit_job(
        arguments,
        told_cache(cache, cache_submit=cache_submit),
        cancel_job_on_cancellation=cancel_job_on_cancellation,
    )
    if submission.reused:
        mark_run_as_cached()
    return cast("QiskitJobReference", JobReferenceDict(submission.reference.to_dict()))


@pub_task(name="fetch-qiskit-job-result", cache_policy=NO_CACHE)
@checks_arguments
async def fetch_qiskit_job_result_task(
    runtime_block_name: str | None = None,
    job_id: str | None = None,
    job_reference: Mapping[str, Any] | None = None,
    pubs: Iterable[Any] | None = None,
    primitive: str | None = None,
    backend_name: str | None = None,
    shots: int | None = None,
    precision: float | None = None,
    artifact_key: str | None = None,
    options: dict[str, Any] | None = None,
    runtime_config: QiskitRuntimeConfig | None = None,
    *,
    input_digest: str | None = None,
    cache_result: bool = False,
    max_wait: float | None = None,
    cancel_job_on_cancellation: bool = False,
) -> dict[str, Any]:
    """Fetch an existing native Qiskit Runtime job and collect its result.

    Waits for the job if it has not ended. Fetching never creates a job and can be repeated, by any
    process that has the account.

    Args:
        runtime_block_name: Name of a saved `QiskitRuntimeConfig` block.
        job_id: Qiskit Runtime job id. Optional when ``job_reference`` is given.
        job_reference: Reference returned by `submit_sampler_job_task` or
            `submit_estimator_job_task`.
        pubs: Original native Qiskit pubs, for the metadata.
        primitive: Primitive, when it is not in ``job_reference``; what is in both must agree.
        backend_name: Backend name, when it is not in ``job_reference``.
        shots: Shots, when they are not in ``job_reference``.
        precision: Target standard error, when it is not in ``job_reference``.
        artifact_key: Prefix of the Prefect artifacts; None for no artifacts.
        options: Native options of the primitive, for the metadata.
        runtime_config: Inline runtime configuration. Mutually exclusive with
            ``runtime_block_name``.
        input_digest: Input digest, when it is not in ``job_reference``.
        cache_result: Keep the output in Prefect's result storage under the job id, and take it from
            there where it is kept already.
        max_wait: Longest wait for the job in seconds; None for no limit. What is left of it, but
            at least five minutes, is the time for the download of the result and for what the
            client makes of it.
        cancel_job_on_cancellation: Whether a cancelled task cancels the job; otherwise it goes on.
            One that another flow with the same Prefect home waits for always does; who waits
            elsewhere is not known.

    Returns:
        A dictionary with ``primitive``, ``backend_name``, ``job_id``, ``shots`` or ``precision``,
        the native Qiskit ``result``, the collected ``metadata`` and the ``job_reference``.

    Raises:
        ConfigurationError: If both or neither of ``runtime_block_name`` and ``runtime_config`` is
            given, or no job; it is a ``ValueError`` too.
        InputError: If an argument is refused; a `JobReferenceError` names the field of the
            reference.
        JobNotFoundError: If the service does not know the job.
        JobFailedError: If the job ended without a result.
        JobWaitTimeoutError: If ``max_wait`` is over; the job goes on, or its result can be fetched
            again.
        ResultUnavailableError: If the result could not be read this time.

    Example:
        >>> output = await fetch_qiskit_job_result_task("my-block", job_id="...")  # doctest: +SKIP
    """
    reference = job_to_fetch(
        job_reference,
        job_id=job_id,
        primitive=primitive,
        backend_name=backend_name,
        shots=shots,
        precision=precision,
        input_digest=input_digest,
    )
    output, kept = await fetch_job(
        FetchArguments(
            reference=reference,
            pubs=pubs,
            options=options,
            artifact_key=artifact_key,
            runtime_block_name=runtime_block_name,
            runtime_config=runtime_config,
            max_wait=max_wait,
            cache_result=cache_result,
            cancel_job_on_cancellation=cancel_job_on_cancellation,
        )
    )
    if kept:
        mark_run_as_cached()
    return output
