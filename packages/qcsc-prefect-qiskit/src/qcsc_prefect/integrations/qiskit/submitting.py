"""The body of the submit tasks: from a call's arguments to a job reference."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from reprlib import repr as shortened
from typing import TYPE_CHECKING
from uuid import uuid4

from qcsc_prefect.core.errors import ConfigurationError, InputError
from qcsc_prefect.core.prefect.task_runs import refresh_requested, run_logger
from qcsc_prefect.core.threads import run_blocking
from qcsc_prefect.integrations.qiskit.account_identity import account_identity
from qcsc_prefect.integrations.qiskit.cache import configuration_identity, submit_key
from qcsc_prefect.integrations.qiskit.chosen_digest import chosen_input, settings_digest
from qcsc_prefect.integrations.qiskit.earlier_kind import tell_of_an_earlier_kind
from qcsc_prefect.integrations.qiskit.execution_modes import current_group
from qcsc_prefect.integrations.qiskit.input_digest import (
    build_qiskit_estimator_input_digest,
    build_qiskit_sampler_input_digest,
)
from qcsc_prefect.integrations.qiskit.jobs.opening import open_job_service
from qcsc_prefect.integrations.qiskit.jobs.service import PROCESS_TAG, JobRequest
from qcsc_prefect.integrations.qiskit.native_options import options_mapping
from qcsc_prefect.integrations.qiskit.pubs import (
    a_job,
    check_precision,
    check_shots,
    coerce_pubs,
    refuse_pubs_without_outcome,
)
from qcsc_prefect.integrations.qiskit.runtime.wire_limits import WireLimits
from qcsc_prefect.integrations.qiskit.runtime_config import backend_name_of, resolve_config
from qcsc_prefect.integrations.qiskit.submission import Submission, Submitter
from qcsc_prefect.integrations.qiskit.submission_ledger import SubmissionLedger
from qcsc_prefect.integrations.qiskit.submission_memory import SubmissionIdentity
from qcsc_prefect.integrations.qiskit.submission_patience import SubmissionPatience

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from qcsc_prefect.core.reference import JobReference
    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.chosen_digest import ChosenInput
    from qcsc_prefect.integrations.qiskit.jobs.service import JobService
    from qcsc_prefect.integrations.qiskit.pubs import PrimitiveName

__all__ = [
    "DEFAULT_VISIBILITY_DELAY",
    "JobArguments",
    "PreparedSubmission",
    "SubmitCache",
    "find_submitted_job",
    "prepare_submission",
    "submission_tag",
    "submit_job",
    "told_cache",
]

#: Seconds after which the service's search is taken to show a new job for certain.
DEFAULT_VISIBILITY_DELAY = 30.0
#: Limits that the service puts on the tags of a job.
_MAX_TAGS = 8
_MAX_TAG_LENGTH = 86


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
        request: The job; its tags hold those of the identity.
        identity: The names under which the submission is remembered.
        service: Where to.
        config: The configuration of the call.
    """

    config: QiskitRuntimeConfig
    request: JobRequest
    identity: SubmissionIdentity
    service: JobService


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
    request = replace(request, tags=(*request.tags, *identity.tags))
    _refuse_bad_tags(request.tags)
    return PreparedSubmission(config, _found_with_others(request, service), identity, service)


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
    logger = run_logger()
    if cache is not None:
        prepared = await prepare_submission(arguments, cache)
        submitter = Submitter(
            prepared.service,
            logger,
            runtime_block_name=arguments.runtime_block_name,
            patience=_patience(),
            cancel_job_on_cancellation=cancel_job_on_cancellation,
        )
        submission = await submitter.submit_once(
            prepared.request,
            prepared.identity,
            SubmissionLedger.current(logger),
            refresh=refresh_requested(),
        )
        if submission.reused:
            tell_of_an_earlier_kind(
                submission.reference, arguments.primitive, prepared.config, logger
            )
        return submission
    arguments = replace(arguments, options=options_mapping(arguments.options))
    config = await resolve_config(arguments.runtime_block_name, arguments.runtime_config)
    request = await run_blocking(_job_request, arguments, config)
    _refuse_bad_tags(request.tags)
    service = await open_job_service(config, request.backend_name)
    tag = None
    if service.instance is not None and len(request.tags) < _MAX_TAGS:
        tag = f"qcsc-once-{uuid4().hex}"
        request = replace(request, tags=(*request.tags, tag))
    request = _found_with_others(request, service)
    submitter = Submitter(
        service,
        logger,
        runtime_block_name=arguments.runtime_block_name,
        patience=_patience(),
        cancel_job_on_cancellation=cancel_job_on_cancellation,
    )
    chosen = await run_blocking(_chosen, arguments, request, config)
    return await submitter.submit(
        request,
        tag=tag,
        visibility_delay=DEFAULT_VISIBILITY_DELAY,
        input_digest=arguments.input_digest,
        content_digest=None if chosen is None else chosen.content_digest,
    )


async def find_submitted_job(
    prepared: PreparedSubmission, *, runtime_block_name: str | None
) -> JobReference | None:
    """Return the job of a submission that may have been cut short, without submitting one.

    Args:
        prepared: The submission.
        runtime_block_name: The saved configuration, for the reference.

    Returns:
        The job, or None where there is none that can be used.

    Raises:
        JobError: If the service could not be asked.
    """
    logger = run_logger()
    submitter = Submitter(prepared.service, logger, runtime_block_name=runtime_block_name)
    return await submitter.find(
        prepared.request, prepared.identity, SubmissionLedger.current(logger)
    )


def submission_tag(primitive: str, input_digest: str, settings: str) -> str:
    """Return the tag under which the service lists the jobs of an input.

    Args:
        primitive: Which primitive.
        input_digest: Digest of the input.
        settings: Digest of shots or precision and options, which a chosen digest need not hold.

    Returns:
        77 characters, within the service's limit of 86.

    Example:
        >>> len(submission_tag("estimator", "qiskit-estimator-input-" + 64 * "0", 64 * "0"))
        77
    """
    named = f"{primitive} {settings} {input_digest}"
    return f"qcsc-prefect-{hashlib.sha256(named.encode()).hexdigest()}"


def _job_request(arguments: JobArguments, config: QiskitRuntimeConfig) -> JobRequest:
    backend_name = backend_name_of(config, arguments.backend_name)
    if backend_name is None:
        raise ConfigurationError(
            f"Tried to submit {a_job(arguments.primitive)}, but the QiskitRuntimeConfig names no "
            "backend. Set its backend_name."
        )
    from qcsc_prefect.integrations.qiskit.circuit_metadata import refuse_unsendable_metadata

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
        tags=_own_tags(options),
        implementation=implementation,
        group=current_group(config),
    )


def _patience() -> SubmissionPatience:
    limits = WireLimits.current()
    return SubmissionPatience(failing=limits.pursuit, first_pause=min(2.0, limits.patience / 30))


def _own_tags(options: Mapping[str, object]) -> tuple[str, ...]:
    environment = options.get("environment") or {}
    tags = environment.get("job_tags") if isinstance(environment, dict) else None
    if tags is None:
        return ()
    if not isinstance(tags, (list, tuple)) or not all(isinstance(tag, str) for tag in tags):
        path = "options.environment.job_tags"
        raise InputError(
            f"{path} refused: expected a list of strings, got {shortened(tags)}.", path=path
        )
    return tuple(tags)


def _refuse_bad_tags(tags: tuple[str, ...]) -> None:
    path = "options.environment.job_tags"
    if len(tags) > _MAX_TAGS:
        raise InputError(
            f"{path} refused: with those that name the input there are {len(tags)} tags, and the "
            f"service takes {_MAX_TAGS}. Leave {len(tags) - _MAX_TAGS} out.",
            path=path,
        )
    for index, tag in enumerate(tags):
        if len(tag) > _MAX_TAG_LENGTH:
            raise InputError(
                f"{path}[{index}] refused: {len(tag)} characters, and the service takes "
                f"{_MAX_TAG_LENGTH}. Shorten it.",
                path=f"{path}[{index}]",
            )


def _found_with_others(request: JobRequest, service: JobService) -> JobRequest:
    """Add the tag by which one search finds all jobs of this process, where there is room."""
    if service.instance is None or len(request.tags) == _MAX_TAGS:
        return request
    return replace(request, tags=(*request.tags, PROCESS_TAG))


def _identity(
    arguments: JobArguments,
    request: JobRequest,
    config: QiskitRuntimeConfig,
    cache: SubmitCache,
    account: dict[str, str],
) -> SubmissionIdentity:
    digest = arguments.input_digest
    if digest is None:
        digest = _input_digest(arguments, request, cache, extra=config.input_identity())
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
        tag=submission_tag(arguments.primitive, digest, settings),
        input_digest=digest,
        lifetime=cache.lifetime,
        visibility_delay=cache.visibility_delay,
        chosen=_chosen(arguments, request, config, is_trusted=cache.trust_input_digest),
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


def _input_digest(
    arguments: JobArguments,
    request: JobRequest,
    cache: SubmitCache,
    *,
    extra: Mapping[str, str] | None,
) -> str:
    if arguments.primitive == "sampler":
        return build_qiskit_sampler_input_digest(
            request.pubs,
            backend_name=request.backend_name,
            runtime_block_name=arguments.runtime_block_name,
            shots=request.shots,
            options=arguments.options,
            cache_scope=cache.scope,
            cache_namespace=cache.namespace,
            extra=extra,
        )
    return build_qiskit_estimator_input_digest(
        request.pubs,
        backend_name=request.backend_name,
        runtime_block_name=arguments.runtime_block_name,
        precision=request.precision,
        options=arguments.options,
        cache_scope=cache.scope,
        cache_namespace=cache.namespace,
        extra=extra,
    )
