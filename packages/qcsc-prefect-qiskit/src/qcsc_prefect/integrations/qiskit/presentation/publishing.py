"""Put a job's summary, tables and pictures into the Prefect UI.

Artifacts are a courtesy to the reader and never stand between a flow and its result: what
cannot be drawn is left out, what cannot be sent is given up after a few seconds, and the log has
one line about it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import httpx
import msgspec
from msgspec import UNSET, UnsetType

from qcsc_prefect.core.errors import RecordError
from qcsc_prefect.core.metadata import JobMetadata
from qcsc_prefect.core.threads import run_in_pool
from qcsc_prefect.integrations.qiskit.presentation.artifact_keys import artifact_key_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefect.artifacts import Artifact

    from qcsc_prefect.integrations.qiskit.presentation.artifact_keys import ArtifactKind
    from qcsc_prefect.integrations.qiskit.presentation.distributions import Distribution
    from qcsc_prefect.integrations.qiskit.presentation.estimates import Estimates

__all__ = ["publish_job_artifacts"]

_T = TypeVar("_T")

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

#: How long all of a job's artifacts together may wait for the Prefect API. With the last second
#: of a progress artifact and the drawing, a dead API costs a job less than five.
API_SECONDS = 3.0

#: How long counting or drawing may take. The first picture on a machine includes matplotlib's
#: search for fonts, which it remembers.
COMPOSING_SECONDS = 15.0

#: Registers whose outcomes are counted.
MOST_REGISTERS = 24


@dataclass(frozen=True, kw_only=True)
class _Content:
    """What there is to show of one job."""

    metadata: JobMetadata
    distributions: list[Distribution]
    registers: int
    estimates: list[Estimates]


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """One drawn picture."""

    kind: ArtifactKind
    description: str
    uri: str


async def publish_job_artifacts(
    output: Mapping[str, object],
    *,
    artifact_key: str,
    job_url: str | None = None,
    pubs: Sequence[object] | None = None,
    logger: Logger,
) -> None:
    """Create the artifacts of one finished job in the current Prefect run.

    Under `artifact_key`, made valid: ``-summary``, a summary with the pictures; for a sampler
    ``-counts``, a table of the most frequent outcomes of each register, and ``-counts-plot``, a
    picture of them; for an estimator ``-values``, a table of the expectation values with their
    standard errors, and ``-values-plot`` where there are several. The pictures need matplotlib.

    Never raises because of the artifacts: with the Prefect API down it costs at most five
    seconds and one line in the log.
    """
    pictures: list[_Picture] | None = None
    content = await _in_thread(logger, "artifacts", lambda: _content(output, job_url, pubs))
    if content is not None:
        pictures = await _in_thread(logger, "pictures", lambda: _draw(content, logger))
        artifacts = await _in_thread(
            logger, "artifacts", lambda: _artifacts(content, pictures or [], artifact_key)
        )
        await _send(artifacts or [], logger)


async def _in_thread(logger: Logger, what: str, compose: Callable[[], _T]) -> _T | None:
    """Compose in a thread; None, and a line in the log, where that fails or takes too long."""
    try:
        async with asyncio.timeout(COMPOSING_SECONDS):
            return await run_in_pool(_composers(os.getpid()), compose)
    except TimeoutError:
        logger.warning("no %s of the job: not ready within %g s", what, COMPOSING_SECONDS)
    except Exception:
        logger.warning("no %s of the job: they could not be made", what, exc_info=True)
    return None


@lru_cache(maxsize=1)
def _composers(process_id: int) -> ThreadPoolExecutor:  # noqa: ARG001 - a fork has no threads
    """Return threads for composing alone: a hundred pictures must not hold up the event loop's."""
    return ThreadPoolExecutor(max_workers=2, thread_name_prefix="qcsc-artifacts")


async def _send(artifacts: Sequence[Artifact], logger: Logger) -> None:
    """Create the artifacts, all at once; where that fails, the log has a line about it."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException

    try:
        async with asyncio.timeout(API_SECONDS), get_client() as client:
            await asyncio.gather(*(artifact.acreate(client) for artifact in artifacts))
    except (TimeoutError, OSError, RuntimeError, httpx.HTTPError, PrefectException) as error:
        keys = ", ".join(str(artifact.key) for artifact in artifacts)
        logger.warning(
            "artifacts %s not stored (%s); the result is not affected",
            keys,
            f"the Prefect API did not answer within {API_SECONDS:g} s"
            if isinstance(error, TimeoutError)
            else f"{type(error).__name__}: {error}",
        )


def _draw(content: _Content, logger: Logger) -> list[_Picture]:
    from qcsc_prefect.integrations.qiskit.presentation import pictures

    distributions = [item for item in content.distributions if pictures.drawable(item)]
    estimates = pictures.plottable(content.estimates)
    if not distributions and not estimates:
        return []
    if not pictures.matplotlib_installed():
        logger.debug('no pictures: matplotlib is missing, the extra "plot" installs it')
        return []
    caption, names = _name(content.metadata), _pub_names(content)
    drawn: list[tuple[ArtifactKind, str, str | None]] = []
    if distributions:
        uri = pictures.draw_distributions(distributions, caption=caption, pub_names=names)
        drawn.append(("counts-plot", f"Most frequent outcomes of {caption}", uri))
    if estimates:
        uri = pictures.draw_estimates(estimates, caption=caption, pub_names=names)
        drawn.append(("values-plot", f"Expectation values of {caption}", uri))
    return [
        _Picture(kind=kind, description=description, uri=uri)
        for kind, description, uri in drawn
        if uri is not None
    ]


def _artifacts(
    content: _Content, pictures: Sequence[_Picture], artifact_key: str
) -> list[Artifact]:
    from prefect.artifacts import ImageArtifact, MarkdownArtifact, TableArtifact

    from qcsc_prefect.integrations.qiskit.presentation.summary import summary_markdown
    from qcsc_prefect.integrations.qiskit.presentation.tables import outcomes_table, values_table

    what, notes = _name(content.metadata), _notes(content)
    summary = summary_markdown(
        content.metadata,
        distributions=content.distributions,
        estimates=content.estimates,
        pictures={picture.description: picture.uri for picture in pictures},
        notes=notes,
    )
    artifacts: list[Artifact] = [
        MarkdownArtifact(
            key=artifact_key_for(artifact_key, "summary"),
            markdown=summary,
            description=f"Summary of {what}",
        )
    ]
    if content.distributions:
        artifacts.append(
            TableArtifact(
                key=artifact_key_for(artifact_key, "counts"),
                table=outcomes_table(content.distributions),
                description=" ".join([f"Most frequent outcomes of {what}.", *notes]),
            )
        )
    if content.estimates:
        rows, total = values_table(content.estimates)
        cut = f" Cut: the first {len(rows):,} of {total:,} values." if len(rows) < total else ""
        artifacts.append(
            TableArtifact(
                key=artifact_key_for(artifact_key, "values"),
                table=rows,
                description=f"Expectation values of {what}.{cut}",
            )
        )
    artifacts.extend(
        ImageArtifact(
            key=artifact_key_for(artifact_key, picture.kind),
            image_url=picture.uri,
            description=picture.description,
        )
        for picture in pictures
    )
    return artifacts


def _content(
    output: Mapping[str, object], job_url: str | None, pubs: Sequence[object] | None
) -> _Content:
    from qcsc_prefect.integrations.qiskit.presentation.distributions import distributions_of
    from qcsc_prefect.integrations.qiskit.presentation.estimates import estimates_of

    metadata = _metadata(output)
    if job_url is not None:
        metadata = msgspec.structs.replace(metadata, job_url=job_url)
    result = output.get("result")
    distributions, registers = distributions_of(result, pubs, most=MOST_REGISTERS)
    return _Content(
        metadata=metadata,
        distributions=distributions,
        registers=registers,
        estimates=estimates_of(result, pubs),
    )


def _metadata(output: Mapping[str, object]) -> JobMetadata:
    stored = output.get("metadata")
    if isinstance(stored, Mapping):
        try:
            return JobMetadata.from_builtins(stored)
        except RecordError:
            # Written by another release: the facts beside it still make a summary.
            pass
    primitive, job_id, resource = (
        output.get(name) for name in ("primitive", "job_id", "backend_name")
    )
    return JobMetadata(
        primitive=str(primitive or "primitive"),
        job_id=UNSET if job_id is None else str(job_id),
        resource=UNSET if resource is None else str(resource),
    )


def _name(metadata: JobMetadata) -> str:
    job = "" if metadata.job_id is UNSET else f" {metadata.job_id}"
    where = "" if metadata.resource is UNSET else f" on {metadata.resource}"
    return f"{metadata.primitive} job{job}{where}"


def _pub_names(content: _Content) -> list[str]:
    """Call each PUB by its index and, where its circuit was given one, by a name."""
    from qcsc_prefect.integrations.qiskit.presentation.summary import given_name

    indices = [item.pub for item in content.distributions]
    indices += [item.pub for item in content.estimates]
    pubs = [] if isinstance(content.metadata.pubs, UnsetType) else content.metadata.pubs
    names = [f"PUB {index}" for index in range(max(indices, default=-1) + 1)]
    for index, pub in enumerate(pubs[: len(names)]):
        if (name := given_name(pub)) is not None:
            names[index] += f" · {name}"
    return names


def _notes(content: _Content) -> list[str]:
    """Say in words what the artifacts leave out."""
    from qcsc_prefect.integrations.qiskit.presentation.pictures import drawable

    notes = []
    if content.registers > len(content.distributions):
        notes.append(
            f"Cut: outcomes of the first {len(content.distributions)} of "
            f"{content.registers:,} registers."
        )
    notes += [
        f"Cut: PUB {item.pub} {item.register}, the first {item.counted:,} of "
        f"{item.shots:,} shots are counted."
        for item in content.distributions
        if item.counted < item.shots
    ]
    spread = sum(not drawable(item) for item in content.distributions)
    if spread:
        notes.append(
            f"{spread} of {len(content.distributions)} distributions are spread over too many "
            "outcomes for a picture."
        )
    return notes
