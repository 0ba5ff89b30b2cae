"""The body of the submit tasks: from a call's arguments to a job reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import uuid4

from qcsc_prefect.core.engine.identity import (
    DEFAULT_VISIBILITY_DELAY,
    SubmissionIdentity,
    job_tag,
)
from qcsc_prefect.core.engine.once import Submission, Submitter
from qcsc_prefect.core.engine.patience import SubmissionPatience
from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.core.prefect.ledger import PrefectLedger
from qcsc_prefect.core.prefect.shield import shielded
from qcsc_prefect.core.prefect.task_runs import refresh_requested, run_logger
from qcsc_prefect.core.reference import JobReference
from qcsc_prefect.core.threads import run_blocking
from qcsc_prefect.integrations.qiskit.cache import configuration_identity, submit_key
from qcsc_prefect.integrations.qiskit.errors.client_table import COME_BACK_LATER
from qcsc_prefect.integrations.qiskit.execution_modes import current_group
from qcsc_prefect.integrations.qiskit.input_digest import (
    ESTIMATOR_PREFIX,
    SAMPLER_PREFIX,
    build_input_digest_of,
)
from qcsc_prefect.integrations.qiskit.inputs.chosen_digest import chosen_input, settings_digest
from qcsc_prefect.integrations.qiskit.inputs.native_options import options_mapping
from qcsc_prefect.integrations.qiskit.inputs.plain_values import plain_mapping
from qcsc_prefect.integrations.qiskit.inputs.pubs import (
    a_job,
    check_precision,
    check_shots,
    coerce_pubs,
    refuse_pubs_without_outcome,
)
from qcsc_prefect.integrations.qiskit.services.connections.wire_limits import WireLimits
from qcsc_prefect.integrations.qiskit.services.job_service import JobRequest
from qcsc_prefect.integrations.qiskit.services.opening import open_job_service
from qcsc_prefect.integrations.qiskit.services.runtime_config import backend_name_of, resolve_config
from qcsc_prefect.integrations.qiskit.submitting.account_identity import account_identity
from qcsc_prefect.integrations.qiskit.submitting.earlier_kind import tell_of_an_earlier_kind
from qcsc_prefect.integrations.qiskit.submitting.job_tags import (
    found_with_others,
    has_room,
    own_tags,
    refuse_bad_tags,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from qcsc_prefect.core.engine.identity import ChosenInput
    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName
    from qcsc_prefect.integrations.qiskit.services.job_service import QiskitJobService

__all__ = [
    "JobArguments",
    "PreparedSubmission",
    "SubmitCache",
    "find_submitted_job",
    "prepare_submission",
    "submit_job",
    "told_cache",
]


@dataclass(frozen=True)
class JobArguments:
    """What a call says about the job, in the names of the tasks' parameters."""

    primitive: PrimitiveName
    pubs: object
    runtime_block_name: str | None
    runtime_config: QiskitRuntimeConfig | None
    shots: int | None
    precision: float | None
    options: Mapping[str, object] | None
    input_digest: str | None
    backend_name: str | None = None


@dataclass(frozen=True)
class SubmitCache:
    """How a call asks for its job to be submitted once.

    Attributes:
        scope: Scope of the digest, where it is computed here.
        namespace: Namespace of the digest, where it is computed here.
        lifetime: How old an earlier job may be; None for any age.
        visibility_delay: Seconds until the service's search shows a new job for certain.
        trust_input_digest: Whether an earlier job of a chosen digest is taken whatever it ran.
    """

    scope: str = "flow"
    namespace: str | None = None
    lifetime: timedelta | None = None
    visibility_delay: float = DEFAULT_VISIBILITY_DELAY
    trust_input_digest: bool = False


def told_cache(cache: SubmitCache, *, cache_submit: bool) -> SubmitCache | None:
    """Return how a job is submitted once, where it is; else say what then has no effect.

    Args:
        cache: What the call says of it.
        cache_submit: Whether the call asks for it.

    Returns:
        What the call says, or None.
    """
    if cache_submit:
        return cache
    given = {
        "cache_scope": cache.scope != "flow",
        "cache_namespace": cache.namespace is not None,
        "cache_expiration": cache.lifetime is not None,
        "trust_input_digest": cache.trust_input_digest,
    }
    without_effect = [name for name, is_given in given.items() if is_given]
    if without_effect:
        run_logger().warning(
            "Without cache_submit=True the job is submitted anew, and %s has no effect",
            ", ".join(without_effect),
        )
    return None


@dataclass(frozen=True)
class PreparedSubmission:
    """A job that is about to be submitted once.

    Attributes:
        config: The configuration of the call.
        request: The job.
        draft: Its reference, which has no job id yet; its tags hold those of the identity.
        identity: The names under which the submission is remembered.
        service: Where to.
    """

    config: QiskitRuntimeConfig
    request: JobRequest
    draft: JobReference
    identity: SubmissionIdentity
    service: QiskitJobService


async def prepare_submission(arguments: JobArguments, cache: SubmitCache) -> PreparedSubmission:
    """Work out under which names the job of a call is remembered; sends nothing.

    Args:
        arguments: The call.
        cache: How it is to be submitted once.

    Raises:
        ConfigurationError: If the configuration cannot be used.
        InputError: If a PUB, an option or a tag is refused.
    """
    arguments = replace(arguments, options=options_mapping(arguments.options))
    config = await resolve_config(arguments.runtime_block_name, arguments.runtime_config)
    request = await run_blocking(_job_request, arguments, config)
    service = await open_job_service(config, request.backend_name)
    if service.shows_jobs_at_once:
        cache = replace(cache, visibility_delay=0.0)
    account = account_identity(config, service.instance)
    identity = await run_blocking(_identity, arguments, request, config, cache, account)
    tags = [*own_tags(request.options), *identity.tags]
    refuse_bad_tags(tags)
    draft = _draft(
        arguments,
        request,
        found_with_others(tags) if service.instance else tags,
        input_digest=identity.input_digest,
        content_digest=identity.content_digest,
    )
    return PreparedSubmission(config, request, draft, identity, service)


async def submit_job(
    arguments: JobArguments,
    cache: SubmitCache | None,
    *,
    cancel_job_on_cancellation: bool = False,
) -> Submission:
    """Submit the job that a call describes.

    Args:
        arguments: The call.
        cache: How to submit it once; None to submit without asking.
        cancel_job_on_cancellation: Whether a job is cancelled that is accepted while the caller is
            cancelled.

    Returns:
        The submitted job, and whether it had been submitted before.

    Raises:
        ConfigurationError: If the configuration cannot be used.
        InputError: If a PUB, an option, a tag or a chosen digest is refused; nothing was sent.
        JobError: If the service could not be asked whether the job was submitted before.
        SubmissionError: If the service refused the job.
    """
    if cache is not None:
        prepared = await prepare_submission(arguments, cache)
        submission = await _submitter(
            prepared.service, prepared.request, cancel_job=cancel_job_on_cancellation
        ).submit_once(
            prepared.request,
            prepared.draft,
            prepared.identity,
            PrefectLedger(),
            refresh=refresh_requested(),
        )
        if submission.reused:
            tell_of_an_earlier_kind(
                submission.reference, arguments.primitive, prepared.config, run_logger()
            )
        return submission
    arguments = replace(arguments, options=options_mapping(arguments.options))
    config = await resolve_config(arguments.runtime_block_name, arguments.runtime_config)
    request = await run_blocking(_job_request, arguments, config)
    tags = own_tags(request.options)
    refuse_bad_tags(tags)
    service = await open_job_service(config, request.backend_name)
    tag = None
    if service.instance is not None and has_room(tags):
        tag = f"qcsc-once-{uuid4().hex}"
        tags.append(tag)
    chosen = await run_blocking(_chosen, arguments, request, config)
    draft = _draft(
        arguments,
        request,
        found_with_others(tags) if service.instance else tags,
        input_digest=arguments.input_digest,
        content_digest=None if chosen is None else chosen.content_digest,
    )
    submitter = _submitter(service, request, cancel_job=cancel_job_on_cancellation)
    return await submitter.submit(request, draft, tag=tag)


async def find_submitted_job(prepared: PreparedSubmission) -> JobReference | None:
    """Return the job of a submission that may have been cut short, without submitting one.

    Args:
        prepared: The submission.

    Returns:
        The job, or None where there is none that can be used.

    Raises:
        JobError: If the service could not be asked.
    """
    submitter = _submitter(prepared.service, prepared.request)
    return await submitter.find_submitted(
        prepared.request, prepared.draft, prepared.identity, PrefectLedger()
    )


def _submitter(
    service: QiskitJobService, request: JobRequest, *, cancel_job: bool = False
) -> Submitter[JobRequest]:
    limits = WireLimits.current()
    return Submitter(
        service,
        run_logger(),
        SubmissionPatience(
            failing=limits.pursuit,
            first_pause=min(2.0, limits.patience / 30),
            come_back_later=COME_BACK_LATER,
        ),
        cancel_job_on_cancellation=cancel_job,
        remark=f", with the client's {request.implementation.replace('_', '-')} primitives",
        shield=shielded,
    )


def _draft(
    arguments: JobArguments,
    request: JobRequest,
    tags: list[str],
    *,
    input_digest: str | None,
    content_digest: str | None,
) -> JobReference:
    """Return the reference of a job before it has an id, or refuse what it cannot hold."""
    return JobReference(
        primitive=request.primitive,
        program_type=request.program,
        backend_name=request.backend_name,
        runtime_block_name=arguments.runtime_block_name,
        shots=request.shots,
        precision=request.precision,
        input_digest=input_digest,
        content_digest=content_digest,
        options=dict(plain_mapping(request.options)) or None,
        tags=tags or None,
    )


def _job_request(arguments: JobArguments, config: QiskitRuntimeConfig) -> JobRequest:
    backend_name = backend_name_of(config, arguments.backend_name)
    if backend_name is None:
        raise ConfigurationError(
            f"Tried to submit {a_job(arguments.primitive)}, but the QiskitRuntimeConfig names no "
            "backend. Set its backend_name."
        )
    from qcsc_prefect.integrations.qiskit.inputs.circuit_metadata import refuse_unsendable_metadata

    options = dict(arguments.options or {})
    pubs = coerce_pubs(arguments.pubs, arguments.primitive)
    implementation = config.primitive_implementation(arguments.primitive)
    if (arguments.primitive, implementation) == ("sampler", "client_side"):
        refuse_pubs_without_outcome(pubs)
    refuse_unsendable_metadata(pubs, implementation)
    return JobRequest(
        primitive=arguments.primitive,
        pubs=pubs,
        backend_name=backend_name,
        shots=check_shots(arguments.shots),
        precision=check_precision(arguments.precision),
        options=options,
        implementation=implementation,
        group=current_group(config),
    )


def _identity(
    arguments: JobArguments,
    request: JobRequest,
    config: QiskitRuntimeConfig,
    cache: SubmitCache,
    account: dict[str, str],
) -> SubmissionIdentity:
    digest = arguments.input_digest
    if digest is None:
        digest = build_input_digest_of(
            arguments.primitive,
            request.pubs,
            request.effort,
            backend_name=request.backend_name,
            runtime_block_name=arguments.runtime_block_name,
            options=arguments.options,
            cache_scope=cache.scope,
            cache_namespace=cache.namespace,
            extra=config.input_identity(),
        )
    settings = settings_digest(
        arguments.primitive,
        request.pubs,
        effort=request.effort,
        options=request.options,
        extra=config.input_identity(),
    )
    return SubmissionIdentity(
        key=submit_key(
            arguments.primitive,
            digest,
            settings,
            configuration={**configuration_identity(runtime_config=config), **account},
            backend_name=request.backend_name,
        ),
        tag=job_tag(arguments.primitive, settings, digest),
        input_digest=digest,
        lifetime=cache.lifetime,
        visibility_delay=cache.visibility_delay,
        chosen=_chosen(arguments, request, config, is_trusted=cache.trust_input_digest),
        content_prefix=SAMPLER_PREFIX if arguments.primitive == "sampler" else ESTIMATOR_PREFIX,
    )


def _chosen(
    arguments: JobArguments,
    request: JobRequest,
    config: QiskitRuntimeConfig,
    *,
    is_trusted: bool = False,
) -> ChosenInput | None:
    if arguments.input_digest is None:
        return None
    return chosen_input(
        arguments.primitive,
        request.pubs,
        backend_name=request.backend_name,
        effort=request.effort,
        options=request.options,
        extra=config.input_identity(),
        logger=run_logger(),
        is_trusted=is_trusted,
    )
