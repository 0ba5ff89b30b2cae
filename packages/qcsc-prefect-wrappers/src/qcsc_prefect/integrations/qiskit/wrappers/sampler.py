"""The facade of the native SamplerV2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from qcsc_prefect.core.engine.identity import DEFAULT_VISIBILITY_DELAY
from qcsc_prefect.integrations.qiskit.inputs.call_arguments import checks_arguments
from qcsc_prefect.integrations.qiskit.tasks import run_sampler_task, submit_sampler_job_task
from qcsc_prefect.integrations.qiskit.wrappers.facade import (
    CacheFlags,
    FetchFlags,
    PrimitiveFacade,
    refuse_flags_without_robust,
)
from qcsc_prefect.integrations.qiskit.wrappers.synchronous import run_synchronously

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta

    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.wrappers.job import QCSCPrimitiveJob

__all__ = ["QCSCSamplerV2"]


class QCSCSamplerV2(PrimitiveFacade):
    """Thin SamplerV2-style facade backed by native Qiskit Prefect tasks.

    It keeps a runtime configuration and hands execution to the tasks of
    `qcsc_prefect.integrations.qiskit.tasks`. It does not subclass or reimplement Qiskit's
    SamplerV2.

    Args:
        runtime_block_name: Name of a saved `QiskitRuntimeConfig` block. Mutually exclusive with
            ``runtime_config``.
        runtime_config: Inline runtime configuration. Mutually exclusive with
            ``runtime_block_name``.
        options: Default native Sampler options; ``run`` and ``run_and_fetch`` can replace them.
        backend_name: Backend name for the input digest of submit caching, where the configuration
            does not name it.

    Raises:
        ConfigurationError: If both or neither of ``runtime_block_name`` and ``runtime_config`` is
            given; it is a ``ValueError`` too.

    Example:
        >>> from qcsc_prefect.integrations.qiskit import QCSCSamplerV2, QiskitRuntimeConfig
        >>> sampler = QCSCSamplerV2(
        ...     runtime_config=QiskitRuntimeConfig(channel="local", backend_name="fake_manila")
        ... )
        >>> job = await sampler.run([circuit], cache_submit=True)  # doctest: +SKIP
        >>> result = await job.result()  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        runtime_block_name: str | None = None,
        runtime_config: QiskitRuntimeConfig | None = None,
        options: Mapping[str, Any] | None = None,
        backend_name: str | None = None,
    ) -> None:
        super().__init__(
            runtime_block_name=runtime_block_name,
            runtime_config=runtime_config,
            options=options,
            backend_name=backend_name,
        )

    @checks_arguments
    async def run(
        self,
        pubs: Iterable[Any],
        *,
        shots: int | None = None,
        artifact_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        cache_submit: bool = False,
        cache_result: bool = False,
        retry_fetch: bool = False,
        cache_scope: str = "flow",
        cache_namespace: str | None = None,
        cache_expiration: timedelta | None = None,
        input_digest: str | None = None,
        max_wait: float | None = None,
        cancel_job_on_cancellation: bool = False,
        visibility_delay: float = DEFAULT_VISIBILITY_DELAY,
        cache_granularity: Literal["job", "pub"] = "job",
        trust_input_digest: bool = False,
    ) -> QCSCPrimitiveJob:
        """Submit a Sampler job and return a job-like fetch handle.

        Args:
            pubs: Native Qiskit Sampler pubs: any iterable, a generator too, or one bare circuit.
            shots: Shots of each PUB that does not say its own.
            artifact_key: Prefix of the Prefect artifacts recorded when the result is fetched.
            options: Sampler options for this call; they replace the facade's.
            cache_submit: Submit the job once for each input digest, whoever asks and whatever
                crashes.
            cache_result: Keep the output in Prefect's result storage once it is fetched.
            retry_fetch: Retry transient failures while fetching.
            cache_scope: Scope of the digest when ``input_digest`` is not given: ``"flow"`` keeps
                flows apart by their names, ``"global"`` lets them share.
            cache_namespace: Namespace that goes into the digest.
            cache_expiration: How old an earlier job may be to be taken; None for any age.
            input_digest: Precomputed digest for submit caching. Shots or precision and options name
                the job beside it; an earlier job of other PUBs is refused.
            max_wait: Longest wait for the job in seconds; None for no limit.
            cancel_job_on_cancellation: Whether cancelling the submission or the fetch cancels the
                job. One that another flow with the same Prefect home waits for goes on; who waits
                elsewhere is not known.
            visibility_delay: Seconds after which the service's search shows a new job for certain.
            cache_granularity: ``"job"`` looks the whole call up; ``"pub"`` looks its PUBs up one by
                one, and submits only those that were not run before.
            trust_input_digest: Take an earlier job of this ``input_digest`` also where it ran other
                PUBs.

        Returns:
            A `QCSCPrimitiveJob` whose ``result`` fetches the native Qiskit primitive result.

        Raises:
            InputError: If a PUB, an option, a tag or an argument is refused; nothing was sent.
            SubmissionError: If the service refused the job, or its answer was lost.
        """
        return await self._submit(
            "sampler",
            submit_sampler_job_task,
            pubs,
            counted={"shots": shots},
            options=self._options_of(options),
            cache=CacheFlags(
                cache_submit,
                cache_scope,
                cache_namespace,
                cache_expiration,
                input_digest,
                visibility_delay,
                cache_granularity,
                trust_input_digest,
            ),
            fetch=FetchFlags(
                artifact_key, cache_result, retry_fetch, max_wait, cancel_job_on_cancellation
            ),
        )

    @checks_arguments
    async def run_and_fetch(
        self,
        pubs: Iterable[Any],
        *,
        shots: int | None = None,
        artifact_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        robust: bool = True,
        cache_submit: bool = False,
        cache_result: bool = False,
        retry_fetch: bool = False,
        cache_scope: str = "flow",
        cache_namespace: str | None = None,
        cache_expiration: timedelta | None = None,
        input_digest: str | None = None,
        max_wait: float | None = None,
        cancel_job_on_cancellation: bool = False,
        visibility_delay: float = DEFAULT_VISIBILITY_DELAY,
        cache_granularity: Literal["job", "pub"] = "job",
        trust_input_digest: bool = False,
    ) -> dict[str, Any]:
        """Submit Sampler pubs and fetch the completed task output.

        With ``robust=True`` this submits a native job, fetches the same job by its id, records
        artifacts and returns the full task output. With ``robust=False`` it hands everything to
        `run_sampler_task`.

        Args:
            pubs: Native Qiskit Sampler pubs: any iterable, a generator too, or one bare circuit.
            shots: Shots of each PUB that does not say its own.
            artifact_key: Prefix of the Prefect artifacts.
            options: Sampler options for this call; they replace the facade's.
            robust: Submit and fetch in two tasks. Required for the cache and retry flags.
            cache_submit: As for `run`.
            cache_result: As for `run`.
            retry_fetch: As for `run`.
            cache_scope: As for `run`.
            cache_namespace: As for `run`.
            cache_expiration: As for `run`.
            input_digest: As for `run`.
            max_wait: As for `run`.
            cancel_job_on_cancellation: As for `run`.
            visibility_delay: As for `run`.
            cache_granularity: As for `run`.
            trust_input_digest: As for `run`.

        Returns:
            The output of the run or fetch task; the native result is ``output["result"]``.

        Raises:
            ConfigurationError: If a cache or retry flag is set with ``robust=False``; it is a
                ``ValueError`` too.
            JobError: If the job could not be submitted, failed, or its result could not be read.
        """
        cache = CacheFlags(
            cache_submit,
            cache_scope,
            cache_namespace,
            cache_expiration,
            input_digest,
            visibility_delay,
            cache_granularity,
            trust_input_digest,
        )
        fetch = FetchFlags(
            artifact_key, cache_result, retry_fetch, max_wait, cancel_job_on_cancellation
        )
        if robust:
            job = await self._submit(
                "sampler",
                submit_sampler_job_task,
                pubs,
                counted={"shots": shots},
                options=self._options_of(options),
                cache=cache,
                fetch=fetch,
            )
            return await job.output()
        refuse_flags_without_robust(cache, fetch)
        output: dict[str, Any] = await run_sampler_task(
            pubs,
            self.runtime_block_name,
            shots=shots,
            artifact_key=artifact_key,
            options=self._options_of(options),
            runtime_config=self.runtime_config,
            input_digest=input_digest,
            max_wait=max_wait,
            cancel_job_on_cancellation=cancel_job_on_cancellation,
        )
        return output

    def run_sync(self, pubs: Iterable[Any], **arguments: Any) -> QCSCPrimitiveJob:
        """Submit a Sampler job from a synchronous flow.

        Args:
            pubs: As for `run`.
            **arguments: The keyword arguments of `run`.

        Returns:
            What `run` returns; fetch with its ``result_sync`` or ``output_sync``.
        """
        return run_synchronously(self.run(pubs, **arguments), instead="run")

    def run_and_fetch_sync(self, pubs: Iterable[Any], **arguments: Any) -> dict[str, Any]:
        """Submit Sampler pubs from a synchronous flow and fetch the output.

        Args:
            pubs: As for `run_and_fetch`.
            **arguments: The keyword arguments of `run_and_fetch`.

        Returns:
            What `run_and_fetch` returns.
        """
        return run_synchronously(self.run_and_fetch(pubs, **arguments), instead="run_and_fetch")
