"""Submits only the PUBs that were not run before, and puts the result together from all jobs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

from qcsc_prefect.core.engine.memory import SubmissionMemory
from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.core.prefect.ledger import PrefectLedger
from qcsc_prefect.core.prefect.locks import hold_lock
from qcsc_prefect.core.prefect.task_runs import refresh_requested, run_logger
from qcsc_prefect.core.reference import parse_job_reference
from qcsc_prefect.core.threads import run_blocking
from qcsc_prefect.integrations.qiskit.fetching.metadata import CIRCUITS_SECONDS
from qcsc_prefect.integrations.qiskit.inputs.pubs import (
    a_job,
    check_precision,
    check_shots,
    coerce_pubs,
)
from qcsc_prefect.integrations.qiskit.services.runtime_config import backend_name_of, resolve_config
from qcsc_prefect.integrations.qiskit.submitting.earlier_kind import tell_of_an_earlier_kind
from qcsc_prefect.integrations.qiskit.submitting.pub_locations import (
    PubLocation,
    PubLocations,
    copies_namespace,
    pub_keys,
    refuse_options_that_tie_pubs,
)
from qcsc_prefect.integrations.qiskit.submitting.submit import (
    JobArguments,
    SubmitCache,
    find_submitted_job,
    prepare_submission,
)
from qcsc_prefect.integrations.qiskit.wrappers.job import QCSCPrimitiveJob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from qcsc_prefect.core.reference import JobReference
    from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName, Pub
    from qcsc_prefect.integrations.qiskit.submitting.pub_locations import PubSubmission
    from qcsc_prefect.integrations.qiskit.submitting.submit import PreparedSubmission
    from qcsc_prefect.integrations.qiskit.wrappers.facade import CacheFlags

#: ``shots`` or ``precision`` of a call.
Counted: TypeAlias = "Mapping[str, int | float | None]"

__all__ = ["PubByPubJob", "locate_pubs", "refuse_flags_with_pub_granularity"]


def refuse_flags_with_pub_granularity(
    cache: CacheFlags, options: Mapping[str, object] | None
) -> None:
    """Refuse what cannot be combined with looking PUBs up one by one.

    Raises:
        ConfigurationError: If submissions are not cached, a digest of the whole input is given, or
            an option ties the PUBs together; it is a ``ValueError`` too.
    """
    if not cache.cache_submit:
        raise ConfigurationError(
            "cache_granularity='pub' refused: it looks up PUBs that were submitted before, which "
            "needs cache_submit=True."
        )
    if cache.input_digest is not None:
        raise ConfigurationError(
            "cache_granularity='pub' refused: input_digest names the whole input, and each PUB "
            "needs a digest of its own. Leave input_digest out."
        )
    refuse_options_that_tie_pubs(options)


async def locate_pubs(
    primitive: PrimitiveName,
    pubs: object,
    *,
    runtime: Mapping[str, Any],
    backend_name: str | None,
    counted: Counted,
    options: dict[str, Any] | None,
    cache: CacheFlags,
    submit: Callable[[Sequence[Pub], str | None, Counted], Awaitable[Mapping[str, Any]]],
) -> tuple[list[Pub], list[PubLocation]]:
    """Say which job ran each PUB, submitting those that none has run.

    Args:
        primitive: Which primitive.
        pubs: PUB-like objects.
        runtime: ``runtime_block_name`` and ``runtime_config`` of the call.
        backend_name: Backend, where the configuration names none.
        counted: ``shots`` or ``precision`` of the call.
        options: Options of the call.
        cache: How PUBs are looked up.
        submit: Submits a list of PUBs as one job under a namespace, with the shots or the precision
            that all of them ask for, and returns its reference.

    Returns:
        The native PUBs, each with its own shots or precision, and their locations, in the order of
        the call.
    """
    config = await resolve_config(**runtime)
    backend_name = backend_name_of(config, backend_name)
    if backend_name is None:
        raise ConfigurationError(
            f"Tried to submit {a_job(primitive)}, but the QiskitRuntimeConfig names no backend. "
            "Set its backend_name."
        )
    # What is run for one call is found by another, whose count for PUBs without one may differ.
    count_name = "shots" if primitive == "sampler" else "precision"
    count = (check_shots if primitive == "sampler" else check_precision)(counted[count_name])
    coerced = [
        type(pub).coerce(pub, count) for pub in await run_blocking(coerce_pubs, pubs, primitive)
    ]
    keys = await run_blocking(
        pub_keys,
        primitive,
        coerced,
        config=config,
        runtime_block_name=runtime["runtime_block_name"],
        backend_name=backend_name,
        options=options,
        cache_scope=cache.cache_scope,
        cache_namespace=cache.cache_namespace,
    )
    logger = run_logger()

    async def prepare(
        pubs: Sequence[Pub], namespace: str | None, counted: Counted
    ) -> PreparedSubmission:
        arguments = JobArguments(
            primitive=primitive,
            pubs=pubs,
            **runtime,
            shots=cast("int | None", counted.get("shots")),
            precision=counted.get("precision"),
            options=options,
            input_digest=None,
            backend_name=backend_name,
        )
        return await prepare_submission(
            arguments,
            SubmitCache(
                cache.cache_scope, namespace, cache.cache_expiration, cache.visibility_delay
            ),
        )

    async def find_job(submission: PubSubmission, place: int) -> JobReference | None:
        # The options and the backend of one of its PUBs are those of all; its count need not be.
        prepared = await prepare([coerced[place]], cache.cache_namespace, {})
        return await find_submitted_job(
            replace(
                prepared,
                draft=msgspec.structs.replace(
                    prepared.draft,
                    tags=submission.tags,
                    input_digest=submission.input_digest,
                ),
                identity=replace(
                    prepared.identity,
                    key=submission.key,
                    tag=submission.tag,
                    input_digest=submission.input_digest,
                ),
            )
        )

    locations = PubLocations(SubmissionMemory(PrefectLedger(), logger), find_job)
    # One at a time for each account: lists that overlap must not both submit what they share.
    async with hold_lock(f"pubs {sorted(config.identity().items())}"):
        found: list[PubLocation | None] = [None] * len(keys)
        if not refresh_requested():
            found = [await locations.find(str(key), place) for place, key in enumerate(keys)]
        for known in filter(None, found):
            tell_of_an_earlier_kind(known.reference, primitive, config, logger)
        missing = [place for place, location in enumerate(found) if location is None]
        logger.info(
            "%d of %d PUBs were run before; %s",
            len(keys) - len(missing),
            len(keys),
            f"submitting {len(missing)}" if missing else "nothing to submit",
        )
        if missing:
            new = [coerced[place] for place in missing]
            namespace = copies_namespace(cache.cache_namespace, [keys[place] for place in missing])
            counts = {getattr(pub, count_name) for pub in new}
            common: Counted = {count_name: counts.pop() if len(counts) == 1 else None}
            prepared = await prepare(new, namespace, common)
            names = [str(keys[place]) for place in missing]
            await locations.expect(names, prepared.identity, prepared.draft.tags or ())
            reference = parse_job_reference(await submit(new, namespace, common))
            for index, place in enumerate(missing):
                found[place] = PubLocation(reference, index, is_own=True)
    return coerced, [location for location in found if location is not None]


class PubByPubJob(QCSCPrimitiveJob):
    """A handle whose result comes from several jobs.

    The handle's own reference is that of the newest job among them.

    Args:
        locations: Where each PUB was run.
        **arguments: As for `QCSCPrimitiveJob`; ``job_reference`` is found here.
    """

    def __init__(self, *, locations: Sequence[PubLocation], **arguments: Any) -> None:
        references = [location.reference for location in locations]
        newest = max(references, key=lambda reference: reference.submitted_at or "")
        super().__init__(job_reference=newest.to_dict(), **arguments)
        self._locations = list(locations)
        # The newest first: it is the handle's own.
        self._references: dict[str, JobReference] = {
            str(reference.job_id): reference for reference in (newest, *references)
        }
        self._own = {str(one.reference.job_id) for one in locations if one.is_own}

    async def output(self) -> dict[str, Any]:
        """Fetch all jobs that ran a PUB of this call, and put their results together.

        Returns:
            As `QCSCPrimitiveJob.output`; the native result holds one entry for each PUB asked for,
            and ``metadata["job_ids"]``, there and in the result itself, names the job of each.
            ``metadata["jobs"]`` has the facts of each job; what the jobs do not have in common
            stands only there, and seconds that add up are added up.

        Raises:
            JobError: As `QCSCPrimitiveJob.output` does.
        """
        from qcsc_prefect.integrations.qiskit.fetching.assembly import assemble

        if self._output is None:
            outputs = await asyncio.gather(*(self._fetch(job_id) for job_id in self._references))
            by_id = dict(zip(self._references, outputs, strict=True))
            self._output = assemble(self._locations, by_id, await run_blocking(self._circuits))
        return self._output

    async def _fetch(self, job_id: str) -> dict[str, Any]:
        single = QCSCPrimitiveJob(
            job_reference=self._references[job_id].to_dict(),
            runtime_block_name=self._runtime_block_name,
            runtime_config=self._runtime_config,
            pubs=self._pubs_of(job_id),
            artifact_key=self._artifact_key_of(job_id),
            options=self._options,
            cache_result=self._cache_result,
            retry_fetch=self._retry_fetch,
            max_wait=self._max_wait,
            # What an earlier call submitted may be what its flow is going to fetch.
            cancel_job_on_cancellation=self._cancel_job_on_cancellation and job_id in self._own,
        )
        return await single.output()

    def _pubs_of(self, job_id: str) -> list[object] | None:
        """The PUBs of a job, if this call knows all of them."""
        if self._pubs is None:
            return None
        known = {
            location.index: pub
            for location, pub in zip(self._locations, self._pubs, strict=True)
            if location.reference.job_id == job_id
        }
        return [known[index] for index in range(len(known))] if max(known) < len(known) else None

    def _artifact_key_of(self, job_id: str) -> str | None:
        """Each job has artifacts of its own; the newest has the key as it was given."""
        if self._artifact_key is None or job_id == self.job_id():
            return self._artifact_key
        return f"{self._artifact_key}-{job_id}"

    def _circuits(self) -> list[dict[str, object]]:
        """What is known of the circuit of each PUB; also where its job ran others besides."""
        from qcsc_prefect.integrations.qiskit.fetching.pub_metadata import describe_pubs

        if self._pubs is None:
            return [{} for _ in self._locations]
        described = describe_pubs(self._pubs, None, deadline=time.monotonic() + CIRCUITS_SECONDS)
        return [msgspec.to_builtins(pub) for pub in described or []]
