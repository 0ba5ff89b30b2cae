"""What the sampler's and the estimator's facade share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit.inputs.call_arguments import refuse_bad_arguments
from qcsc_prefect.integrations.qiskit.inputs.native_options import options_mapping
from qcsc_prefect.integrations.qiskit.inputs.pubs import collect_pubs
from qcsc_prefect.integrations.qiskit.services.runtime_config import require_one_config
from qcsc_prefect.integrations.qiskit.wrappers.job import HandleArguments, QCSCPrimitiveJob
from qcsc_prefect.integrations.qiskit.wrappers.pub_by_pub import (
    PubByPubJob,
    locate_pubs,
    refuse_flags_with_pub_granularity,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from datetime import timedelta

    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName

__all__ = ["CacheFlags", "FetchFlags", "PrimitiveFacade", "refuse_flags_without_robust"]


@dataclass(frozen=True)
class CacheFlags:
    """How a call asks for its job to be submitted once; named as the parameters of ``run``."""

    cache_submit: bool
    cache_scope: str
    cache_namespace: str | None
    cache_expiration: timedelta | None
    input_digest: str | None
    visibility_delay: float
    cache_granularity: Literal["job", "pub"]
    trust_input_digest: bool


@dataclass(frozen=True)
class FetchFlags:
    """How a call asks for its result; named as the parameters of ``run``."""

    artifact_key: str | None
    cache_result: bool
    retry_fetch: bool
    max_wait: float | None
    cancel_job_on_cancellation: bool


def refuse_flags_without_robust(cache: CacheFlags, fetch: FetchFlags) -> None:
    """Refuse cache and retry flags on the one-task path, which cannot honour them.

    Raises:
        ConfigurationError: If one of them is set; it is a ``ValueError`` too.
    """
    flags = {
        "cache_submit": cache.cache_submit,
        "cache_result": fetch.cache_result,
        "retry_fetch": fetch.retry_fetch,
        "cache_granularity='pub'": cache.cache_granularity == "pub",
        "trust_input_digest": cache.trust_input_digest,
    }
    given = [name for name, is_set in flags.items() if is_set]
    if given:
        raise ConfigurationError(
            f"robust=False runs submission and fetch in one task, which cannot honour "
            f"{', '.join(given)}. Leave robust=True, or leave the flags out."
        )


class PrimitiveFacade:
    """A configuration, default options, and the submit task they are handed to.

    Attributes:
        runtime_block_name: Name of the saved configuration, or None.
        runtime_config: Inline configuration, or None.
        options: Default options as a plain mapping, or None.
        backend_name: The facade's own, or that of the inline configuration; None where a saved
            block decides.
    """

    def __init__(
        self,
        *,
        runtime_block_name: str | None,
        runtime_config: QiskitRuntimeConfig | None,
        options: Mapping[str, Any] | None,
        backend_name: str | None,
    ) -> None:
        require_one_config(runtime_block_name, runtime_config)
        refuse_bad_arguments(backend_name=backend_name)
        self.runtime_block_name = runtime_block_name
        self.runtime_config = runtime_config
        self.options = options_mapping(options)
        configured = None if runtime_config is None else runtime_config.backend_name
        self.backend_name = backend_name or configured

    def _options_of(self, options: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Options of a call replace the facade's; they are not merged."""
        return options_mapping(self.options if options is None else options)

    async def _submit(
        self,
        primitive: PrimitiveName,
        submit_task: Callable[..., Coroutine[Any, Any, Mapping[str, Any]]],
        pubs: object,
        *,
        counted: Mapping[str, int | float | None],
        options: dict[str, Any] | None,
        cache: CacheFlags,
        fetch: FetchFlags,
    ) -> QCSCPrimitiveJob:
        runtime = {
            "runtime_block_name": self.runtime_block_name,
            "runtime_config": self.runtime_config,
        }

        async def submit(
            pubs: Sequence[object],
            namespace: str | None,
            counted: Mapping[str, int | float | None],
        ) -> Mapping[str, Any]:
            return await submit_task(
                pubs,
                **runtime,
                **counted,
                options=options,
                backend_name=self.backend_name,
                input_digest=cache.input_digest,
                cache_submit=cache.cache_submit,
                cache_scope=cache.cache_scope,
                cache_namespace=namespace,
                cache_expiration=cache.cache_expiration,
                visibility_delay=cache.visibility_delay,
                trust_input_digest=cache.trust_input_digest,
                cancel_job_on_cancellation=fetch.cancel_job_on_cancellation,
            )

        handle: HandleArguments = {
            "runtime_block_name": self.runtime_block_name,
            "runtime_config": self.runtime_config,
            "options": options,
            "artifact_key": fetch.artifact_key,
            "cache_result": fetch.cache_result,
            "retry_fetch": fetch.retry_fetch,
            "max_wait": fetch.max_wait,
            "cancel_job_on_cancellation": fetch.cancel_job_on_cancellation,
        }
        if cache.cache_granularity == "pub":
            refuse_flags_with_pub_granularity(cache, options)
            coerced, locations = await locate_pubs(
                primitive,
                pubs,
                runtime=runtime,
                backend_name=self.backend_name,
                counted=counted,
                options=options,
                cache=cache,
                submit=submit,
            )
            return PubByPubJob(locations=locations, pubs=coerced, **handle)
        collected = collect_pubs(pubs)
        reference = await submit(collected, cache.cache_namespace, counted)
        return QCSCPrimitiveJob(job_reference=reference, pubs=collected, **handle)
