"""Remembers which submission runs which PUB, so that a PUB is not paid for twice.

A *location* says that a PUB, known by the digest of it alone, is the n-th one of a certain
submission. It is a record in Prefect's result storage, written before the job is sent: whatever
happens then, the submission's own record and tag lead to its job. The result is not stored a second
time: it is that of the job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from prefect.logging import get_logger

from qcsc_prefect.core.cache_keys import build_submit_cache_key
from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit.cache import configuration_identity
from qcsc_prefect.integrations.qiskit.input_digest import build_input_digest_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from qcsc_prefect.core.engine.identity import SubmissionIdentity
    from qcsc_prefect.core.engine.memory import SubmissionMemory
    from qcsc_prefect.core.reference import JobReference
    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName, Pub

__all__ = [
    "PubKey",
    "PubLocation",
    "PubLocations",
    "PubSubmission",
    "copies_namespace",
    "pub_keys",
    "refuse_options_that_tie_pubs",
]

_logger = get_logger("qcsc.pub_locations")

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


class PubSubmission(msgspec.Struct, kw_only=True, frozen=True):
    """Under which names the submission that runs a PUB is remembered.

    Attributes:
        key: Key of its record.
        tag: Tag under which the service lists its job.
        tags: All tags of its job.
        input_digest: Digest of its input.
        index: Which of its PUBs it is.
    """

    key: str
    tag: str
    tags: list[str]
    input_digest: str
    index: int


class _StoredLocation(msgspec.Struct, kw_only=True, frozen=True):
    """The submissions that may have run a PUB, the newest first.

    A submission that takes another one's place, as a refresh does, may never have been sent; then
    the one before it counts.
    """

    submissions: list[PubSubmission]
    schema_version: int = 1


@dataclass(frozen=True)
class PubLocation:
    """Where a PUB was run.

    Attributes:
        reference: The job.
        index: Which of the job's PUBs it is.
        is_own: Whether this call submitted the job.
    """

    reference: JobReference
    index: int
    is_own: bool


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


class PubKey(NamedTuple):
    """What tells a PUB of a call from others.

    Attributes:
        digest: Of the PUB with its settings and account; equal PUBs have one.
        copy: How many equal PUBs stand before it in the call. Each is a sample of its own.
    """

    digest: str
    copy: int

    def __str__(self) -> str:
        return f"{self.digest}-{self.copy}" if self.copy else self.digest


def pub_keys(
    primitive: PrimitiveName,
    pubs: Sequence[Pub],
    *,
    config: QiskitRuntimeConfig,
    runtime_block_name: str | None,
    backend_name: str | None,
    options: Mapping[str, object] | None,
    cache_scope: str,
    cache_namespace: str | None,
) -> list[PubKey]:
    """Return the key under which the location of each PUB is kept.

    A PUB that stands several times in one call is several samples; each has a key of its own.

    Args:
        primitive: Which primitive.
        pubs: Its native PUBs, each with the shots or the precision that it is run with.
        config: The configuration.
        runtime_block_name: The saved block it was loaded from, or None.
        backend_name: The backend.
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
        digest = build_input_digest_of(
            primitive,
            [pub],
            None,
            backend_name=backend_name,
            runtime_block_name=runtime_block_name,
            options=options,
            cache_scope=cache_scope,
            cache_namespace=cache_namespace,
            extra=config.input_identity(),
        )
        digest = build_submit_cache_key(
            f"qiskit-{primitive}-pub", input_digest=digest, configuration=identity
        )
        keys.append(PubKey(digest, seen[digest]))
        seen[digest] += 1
    return keys


def copies_namespace(namespace: str | None, keys: Sequence[PubKey]) -> str | None:
    """Return a namespace that keeps a job of further copies apart from one of the first.

    A job that runs copies by themselves has the input of one that ran the first ones, and must not
    be taken for it.

    Args:
        namespace: Namespace of the call.
        keys: Keys of the PUBs that the job runs.

    Example:
        >>> copies_namespace("n", [PubKey("a", 0), PubKey("a", 1)])
        'n'
        >>> copies_namespace("n", [PubKey("a", 1)])
        'n, copies 1'
    """
    seen: Counter[str] = Counter()
    alone = []
    for key in keys:
        alone.append(seen[key.digest])
        seen[key.digest] += 1
    copies = [key.copy for key in keys]
    if copies == alone:
        return namespace
    return f"{namespace or ''}, copies {' '.join(map(str, copies))}"


class PubLocations:
    """The locations of PUBs whose jobs can still be found.

    Args:
        memory: Where locations are kept.
        find_job: Finds the job of a submission; it gets the submission, and the PUB's place in the
            call.
    """

    def __init__(
        self,
        memory: SubmissionMemory,
        find_job: Callable[[PubSubmission, int], Awaitable[JobReference | None]],
    ) -> None:
        self._memory = memory
        self._find_job = find_job
        self._jobs: dict[str, JobReference | None] = {}

    async def find(self, key: str, place: int) -> PubLocation | None:
        """Return where a PUB was run, or None where it was not, or its job is of no use.

        Args:
            key: Key of the PUB.
            place: Its place in the call.
        """
        for submission in await self._stored(key):
            if submission.key not in self._jobs:
                self._jobs[submission.key] = await self._find_job(submission, place)
            reference = self._jobs[submission.key]
            if reference is not None:
                return PubLocation(reference, submission.index, is_own=False)
        return None

    async def expect(
        self, keys: Sequence[str], identity: SubmissionIdentity, tags: Sequence[str]
    ) -> None:
        """Record that a job which is about to be sent will run the PUBs of these keys.

        A location that cannot be stored does not stop the job; the log says so.

        Args:
            keys: Keys of the job's PUBs, in their order.
            identity: The names under which the submission is remembered.
            tags: All tags of the job.
        """
        failures: list[Exception] = []
        for index, key in enumerate(keys):
            earlier = [known for known in await self._stored(key) if known.key != identity.key]
            submission = PubSubmission(
                key=identity.key,
                tag=identity.tag,
                tags=list(tags),
                input_digest=identity.input_digest,
                index=index,
            )
            stored = _StoredLocation(submissions=[submission, *earlier[:1]])
            try:
                await self._memory.write(key, msgspec.to_builtins(stored))
            except Exception as error:  # noqa: BLE001 - storage blocks raise errors of any kind
                failures.append(error)
        if failures:
            _logger.warning(
                "Which job runs %d of %d PUBs could not be stored (%s: %s); another call that "
                "shares them with this one submits them again",
                len(failures),
                len(keys),
                type(failures[0]).__name__,
                failures[0],
            )

    async def _stored(self, key: str) -> list[PubSubmission]:
        content = await self._memory.content(key)
        if content is None:
            return []
        try:
            return msgspec.convert(content, _StoredLocation).submissions
        except msgspec.ValidationError as error:
            _logger.warning("What is known of a PUB that was run before is passed over: %s", error)
            return []
