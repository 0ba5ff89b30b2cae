"""Remembers which job ran which PUB, so that a PUB that was run before is not paid for again.

A *location* says that a PUB, known by the digest of it alone, is the n-th one of a certain job. It
is a record in Prefect's result storage, written as soon as the job's id is known. The result is not
stored a second time: it is that of the job.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from qcsc_prefect.core.cache_keys import build_submit_cache_key
from qcsc_prefect.core.errors import (
    ConfigurationError,
    JobError,
    JobNotFoundError,
    JobReferenceError,
)
from qcsc_prefect.core.reference import JobReference, parse_job_reference
from qcsc_prefect.integrations.qiskit.cache import configuration_identity
from qcsc_prefect.integrations.qiskit.input_digest import (
    build_qiskit_estimator_input_digest,
    build_qiskit_sampler_input_digest,
)
from qcsc_prefect.integrations.qiskit.jobs.service import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.jobs.service import JobService
    from qcsc_prefect.integrations.qiskit.pubs import PrimitiveName, Pub
    from qcsc_prefect.integrations.qiskit.submission_ledger import SubmissionLedger

__all__ = ["PubLocation", "PubLocations", "pub_keys", "refuse_options_that_tie_pubs"]

_logger = logging.getLogger(__name__)

#: Options under which the result of a PUB depends on the other PUBs of its job, and why.
_TYING_OPTIONS: Mapping[tuple[str, ...], str] = {
    ("simulator", "seed_simulator"): "a seed makes a PUB's samples depend on the PUBs before it",
    ("max_execution_time",): "the time limit is shared by all PUBs of a job",
    ("resilience", "layer_noise_learning"): "noise is learned for the layers of all PUBs together",
    ("resilience", "layer_noise_model"): "the noise model is shared by all PUBs of a job",
    ("resilience", "pec_mitigation"): "noise is learned for the layers of all PUBs together",
    ("resilience", "pec"): "noise is learned for the layers of all PUBs together",
    ("resilience", "zne", "amplifier"): "an amplifier may learn noise from all PUBs together",
    ("experimental",): "what an experimental option does is not known",
}


class PubLocation(msgspec.Struct, kw_only=True, frozen=True):
    """Where a PUB was run.

    Attributes:
        job_reference: The job.
        index: Which of the job's PUBs it is.
        schema_version: Version of this schema.
    """

    job_reference: dict[str, object]
    index: int
    schema_version: int = 1


def refuse_options_that_tie_pubs(options: Mapping[str, object] | None) -> None:
    """Refuse options under which PUBs are not independent of each other.

    Args:
        options: Native options of the primitive.

    Raises:
        ConfigurationError: If there is such an option; the message names it and says why.
    """
    for path, reason in _TYING_OPTIONS.items():
        value: object = options
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value:
            raise ConfigurationError(
                f"cache_granularity='pub' refused at options.{'.'.join(path)}: {reason}. Leave the "
                "option out, or use cache_granularity='job'."
            )


def pub_keys(
    primitive: PrimitiveName,
    pubs: Sequence[Pub],
    *,
    config: QiskitRuntimeConfig,
    runtime_block_name: str | None,
    backend_name: str | None,
    shots: int | None,
    precision: float | None,
    options: Mapping[str, object] | None,
    cache_scope: str,
    cache_namespace: str | None,
) -> list[str]:
    """Return the key under which the location of each PUB is kept.

    A PUB that stands several times in one call is several samples; each has a key of its own.

    Args:
        primitive: Which primitive.
        pubs: Its native PUBs.
        config: The configuration.
        runtime_block_name: The saved block it was loaded from, or None.
        backend_name: The backend.
        shots: Shots of the call.
        precision: Precision of the call.
        options: Options of the call.
        cache_scope: Scope of the digests.
        cache_namespace: Namespace of the digests.

    Returns:
        The keys, in the order of the PUBs.
    """
    seen: Counter[str] = Counter()
    keys = []
    identity = configuration_identity(runtime_block_name=runtime_block_name, runtime_config=config)
    for pub in pubs:
        if primitive == "sampler":
            digest = build_qiskit_sampler_input_digest(
                [pub],
                backend_name=backend_name,
                runtime_block_name=runtime_block_name,
                shots=shots,
                options=options,
                cache_scope=cache_scope,
                cache_namespace=cache_namespace,
                extra=config.input_identity(),
            )
        else:
            digest = build_qiskit_estimator_input_digest(
                [pub],
                backend_name=backend_name,
                runtime_block_name=runtime_block_name,
                precision=precision,
                options=options,
                cache_scope=cache_scope,
                cache_namespace=cache_namespace,
                extra=config.input_identity(),
            )
        seen[digest] += 1
        keys.append(
            build_submit_cache_key(
                f"qiskit-{primitive}-pub",
                input_digest=f"{digest} {seen[digest]}",
                configuration=identity,
            )
        )
    return keys


class PubLocations:
    """The locations of PUBs that one service can still be asked for."""

    def __init__(self, ledger: SubmissionLedger, service: JobService) -> None:
        self._ledger = ledger
        self._service = service
        self._usable: dict[str, bool] = {}

    async def find(self, key: str) -> PubLocation | None:
        """Return where a PUB was run, or None where it was not, or its job is of no use.

        Args:
            key: Key of the PUB.
        """
        content = await self._ledger.content(key)
        if content is None:
            return None
        try:
            location = msgspec.convert(content, PubLocation)
            reference = parse_job_reference(location.job_reference)
        except (msgspec.ValidationError, JobReferenceError) as error:
            _logger.warning("Where a PUB was run is stored in another form: %s", error)
            return None
        return location if await self._is_usable(str(reference.job_id)) else None

    async def remember(
        self, keys: Sequence[str], reference: JobReference, lifetime: timedelta | None
    ) -> list[PubLocation]:
        """Record that the PUBs of these keys are those of a new job, in this order.

        Args:
            keys: Keys of the job's PUBs.
            reference: The job.
            lifetime: How long the locations may be used; None for ever.

        Returns:
            The locations.
        """
        locations = [
            PubLocation(job_reference=dict(reference.to_dict()), index=index)
            for index in range(len(keys))
        ]
        expires_at = None if lifetime is None else datetime.now(UTC) + lifetime
        for key, location in zip(keys, locations, strict=True):
            await self._ledger.write_content(key, msgspec.to_builtins(location), expires_at)
        return locations

    async def _is_usable(self, job_id: str) -> bool:
        if job_id not in self._usable:
            try:
                status = await self._service.status(job_id)
            except JobNotFoundError:
                self._usable[job_id] = False
            except JobError as error:
                if error.retryable is False:
                    raise
                # The service does not answer now; fetching the result will find out.
                self._usable[job_id] = True
            else:
                self._usable[job_id] = status.state not in {JobState.ERROR, JobState.CANCELLED}
        return self._usable[job_id]
