"""Collect what is known about a finished job from the native objects at hand.

:func:`collect_job_metadata` reads the job, its result, its PUBs and the installed software, and
fills a :class:`~qcsc_prefect.core.metadata.JobMetadata`. It serves a paid result, so it must
never stand in its way: each source is read on its own, a source that fails or is late leaves
its facts absent, and the whole call takes a few seconds at most.

What the service measured comes from one request, ``job.metrics()``. The fields of its answer
are those of the public `REST API <https://quantum.cloud.ibm.com/docs/api/qiskit-runtime-rest>`_:
``timestamps`` (created, running, finished), ``usage.qpu_charge_time_seconds`` with
``usage.status``, and ``circuits_execution_time_ns``; the older ``usage.quantum_seconds`` and
``bss.seconds`` are understood as well.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata as distributions
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import UNSET

from qcsc_prefect.core.errors import InputError
from qcsc_prefect.core.metadata import JobMetadata, PubMetadata
from qcsc_prefect.core.threads import settle
from qcsc_prefect.integrations.qiskit.inputs.plain_values import plain_mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qiskit_ibm_runtime import RuntimeJobV2
    from qiskit_ibm_runtime.fake_provider.local_runtime_job import LocalRuntimeJob

    from qcsc_prefect.core.metadata import PlainValue

__all__ = ["collect_job_metadata"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_Record = TypeVar("_Record", JobMetadata, PubMetadata)

#: A moment as the callers have it: ISO 8601 text, an aware datetime, or seconds since the epoch.
Moment = str | datetime | float

#: How long the service may take to answer the one request. The client alone would go on for
#: 15 s on a failing service, and for a minute while a token cannot be renewed.
METRICS_SECONDS = 4.0

#: How long the walk over the PUBs' circuits may take; what it has not reached stays absent.
CIRCUITS_SECONDS = 2.0

#: Software whose version goes into the record, where it is installed.
RECORDED_DISTRIBUTIONS = (
    "qiskit",
    "qiskit-ibm-runtime",
    "qiskit-aer",
    "prefect",
    "qcsc-prefect-core",
    "qcsc-prefect-qiskit",
    "qcsc-prefect-wrappers",
)


def collect_job_metadata(
    *,
    primitive: str,
    program_type: str | None = None,
    backend_name: str | None = None,
    job_id: str | None = None,
    job_url: str | None = None,
    session_id: str | None = None,
    input_digest: str | None = None,
    shots: int | None = None,
    precision: float | None = None,
    options: Mapping[str, object] | object | None = None,
    pubs: Sequence[object] | None = None,
    job: RuntimeJobV2 | LocalRuntimeJob | None = None,
    result: object | None = None,
    timestamps: Mapping[str, Moment] | None = None,
) -> JobMetadata:
    """Collect the metadata of one finished job.

    The call blocks, for one request to the service at most, so an async caller runs it in a
    thread. It never raises because a fact cannot be had: the fact is then absent.

    Args:
        primitive: ``sampler`` or ``estimator``.
        program_type: The service's name of the program that ran: ``executor`` where the client's
            client-side primitives were used, otherwise the primitive.
        backend_name: The backend that ran the job.
        job_id: The job's id.
        job_url: The page that shows the job, see
            :func:`~qcsc_prefect.integrations.qiskit.presentation.job_links.job_page_url`.
        session_id: The session or batch of the job.
        input_digest: Digest of what was submitted.
        shots: Shots asked for in the call; a sampler's ``default_shots`` stand in for them.
        precision: Precision asked for in the call.
        options: The options used: a mapping, or a native options object, whose unset fields
            are left out.
        pubs: What was submitted, coerced or not, in the job's order.
        job: The native job, or None where there is none (embedded local jobs).
        result: The job's native ``PrimitiveResult``.
        timestamps: ``created``, ``started`` and ``completed``, where the caller knows them
            better than the job does. They take precedence over what the service says.

    Returns:
        The record; call its ``to_builtins()`` for plain dicts and lists.

    Example:
        >>> from qcsc_prefect.integrations.qiskit.fetching.metadata import collect_job_metadata
        >>> record = collect_job_metadata(
        ...     primitive="sampler", backend_name="fake_manila", shots=1024,
        ...     timestamps={"created": "2026-01-05T10:00:00Z", "started": "2026-01-05T10:00:30Z"},
        ... )
        >>> record.queue_seconds
        30.0
    """
    metrics = _read(job_id, "metrics", lambda: _metrics(job)) or {}
    facts: dict[str, Any] = {
        "program_type": program_type,
        "resource": backend_name,
        "job_id": job_id,
        "job_url": job_url,
        "session_id": session_id,
        "input_digest": input_digest,
    }
    facts |= _read(job_id, "times", lambda: _times(timestamps or {}, metrics)) or {}
    facts |= _read(job_id, "usage", lambda: _usage(metrics)) or {}
    facts |= _read(job_id, "tags and instance", lambda: _account(job)) or {}
    facts["options"] = _read(job_id, "options", lambda: _plain_options(options))
    if primitive == "sampler" and shots is None:
        shots = (facts["options"] or {}).get("default_shots")
    facts["versions"] = _read(job_id, "versions", lambda: _versions(metrics))
    described = _read(job_id, "PUBs", lambda: _pubs(pubs, result, shots, precision))
    facts["pubs"] = described
    facts |= _effort_of_all(described or [], shots, precision)
    known = {name: value for name, value in facts.items() if value is not None}
    return without_refused(
        JobMetadata, {"primitive": str(primitive), **known}, f"metadata of job {job_id}"
    )


def without_refused(kind: type[_Record], facts: dict[str, Any], what: str) -> _Record:
    """Make a record of these facts; what it refuses is left out, with a line in the log."""
    left = dict(facts)
    while True:
        try:
            return kind(**left)
        except InputError as error:
            name = re.split(r"[.\[]", error.path)[0]
            _log.warning("%s: %s It is left out", what, error)
            del left[name]


def _read(job_id: str | None, what: str, source: Callable[[], _T]) -> _T | None:
    """Return what `source` knows, or None where it fails; the log then says why."""
    try:
        return source()
    except Exception:  # noqa: BLE001 - a paid result must not be lost to its description
        _log.warning("metadata of job %s: its %s could not be read", job_id, what, exc_info=True)
        return None


def _metrics(job: RuntimeJobV2 | LocalRuntimeJob | None) -> dict[str, object]:
    """Ask the service what it measured, and wait for the answer no longer than is worth it."""
    from qiskit_ibm_runtime.exceptions import IBMError
    from requests import RequestException

    if job is None:
        return {}
    try:
        answer: object = _call_within(METRICS_SECONDS, job.metrics)
    except TimeoutError:
        _log.warning("job %s: no metrics within %g s", job.job_id(), METRICS_SECONDS)
        return {}
    except (IBMError, RequestException) as error:
        _log.warning("job %s: no metrics (%s)", job.job_id(), type(error).__name__)
        return {}
    # A damaged body reaches us as a str or None.
    return answer if isinstance(answer, dict) else {}


def _call_within(seconds: float, call: Callable[[], _T]) -> _T:
    """Run a blocking call and give up waiting after so many seconds.

    The thread is a daemon, unlike those of an executor: a call that is still hanging does not
    hold up the end of the process.

    Raises:
        TimeoutError: If the call is not over in time; it goes on in its thread.
    """
    outcome: Future[_T] = Future()
    threading.Thread(
        target=settle, args=(outcome, call), name="qcsc-job-metrics", daemon=True
    ).start()
    return outcome.result(seconds)


def _times(timestamps: Mapping[str, Moment], metrics: Mapping[str, object]) -> dict[str, object]:
    measured = _mapping(metrics, "timestamps")
    moments = {
        "created": _moment(timestamps.get("created", measured.get("created"))),
        "started": _moment(timestamps.get("started", measured.get("running"))),
        "completed": _moment(timestamps.get("completed", measured.get("finished"))),
    }
    times: dict[str, object] = {
        name: iso_utc(moment) for name, moment in moments.items() if moment is not None
    }
    for name, start, stop in (
        ("queue_seconds", moments["created"], moments["started"]),
        ("work_seconds", moments["started"], moments["completed"]),
    ):
        # Clocks of several machines take part: a negative length says nothing, so it is absent.
        if start is not None and stop is not None and stop >= start:
            times[name] = (stop - start).total_seconds()
    return times


def _usage(metrics: Mapping[str, object]) -> dict[str, object]:
    usage = _mapping(metrics, "usage")
    facts: dict[str, object] = {}
    executed = _number(metrics, "circuits_execution_time_ns")
    facts["qpu_seconds"] = _number(usage, "quantum_seconds") if executed is None else executed / 1e9
    # While the usage is pending, the service reports 0 or a part of it.
    if usage.get("status") != "pending":
        charged = _number(usage, "qpu_charge_time_seconds")
        if charged is None:
            charged = _number(_mapping(metrics, "bss"), "seconds")
        facts["charged_seconds"] = charged
    return facts


def _account(job: RuntimeJobV2 | LocalRuntimeJob | None) -> dict[str, object]:
    from qiskit_ibm_runtime import RuntimeJobV2

    if not isinstance(job, RuntimeJobV2):
        return {}
    facts: dict[str, object] = {}
    # Neither costs a request. The instance is read from the job's backend, which an older job
    # may lack.
    if isinstance(job.tags, list):
        facts["tags"] = [str(tag) for tag in job.tags]
    try:
        instance = job.instance
    except AttributeError:
        instance = None
    if isinstance(instance, str):
        facts["instance"] = instance
    return facts


def _plain_options(options: object) -> dict[str, PlainValue] | None:
    if options is None:
        return None
    if isinstance(options, Mapping):
        return plain_mapping(options)
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        return plain_mapping(
            {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        )
    raise TypeError(
        f"options are of type {type(options).__name__}, neither a mapping nor a dataclass"
    )


@lru_cache(maxsize=1)
def _installed_versions() -> dict[str, str]:
    versions = {}
    for name in RECORDED_DISTRIBUTIONS:
        try:
            versions[name] = distributions.version(name)
        except distributions.PackageNotFoundError:
            continue
    return versions


def _versions(metrics: Mapping[str, object]) -> dict[str, str]:
    on_service = metrics.get("qiskit_version")
    service = {"qiskit (service)": on_service} if isinstance(on_service, str) else {}
    return {**_installed_versions(), **service}


def _pubs(
    pubs: Sequence[object] | None,
    result: object | None,
    shots: int | None,
    precision: float | None,
) -> list[PubMetadata] | None:
    from qcsc_prefect.integrations.qiskit.fetching.pub_metadata import describe_pubs

    deadline = time.monotonic() + CIRCUITS_SECONDS
    return describe_pubs(pubs, result, deadline=deadline, shots=shots, precision=precision)


def _effort_of_all(
    pubs: Sequence[PubMetadata], shots: int | None, precision: float | None
) -> dict[str, object]:
    """Return what was asked for each PUB, or else taken, where that is the same for all."""
    asked: dict[str, tuple[object, set[object]]] = {
        "shots": (shots, {pub.shots_asked for pub in pubs}),
        "precision": (precision, {pub.precision for pub in pubs}),
    }
    facts: dict[str, object] = {}
    for name, (in_the_call, of_pubs) in asked.items():
        if of_pubs <= {UNSET}:
            facts[name] = in_the_call
        else:
            [one, *others] = of_pubs
            facts[name] = None if others else one
    taken = {pub.shots for pub in pubs}
    if precision is None and facts == {"shots": None, "precision": None} and len(taken) == 1:
        # Nobody here knows what was asked for, such as for a job of which only the id was given.
        facts["shots"] = taken.pop()
    return facts


def _mapping(container: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = container.get(name)
    return value if isinstance(value, Mapping) else {}


def _number(container: Mapping[str, object], name: str) -> float | None:
    value = container.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def _moment(value: object) -> datetime | None:
    """Return the moment in UTC, or None where the value does not tell one."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    return None


def iso_utc(moment: datetime) -> str:
    """Write an aware moment as ISO 8601 in UTC with a final ``Z``.

    Example:
        >>> from datetime import UTC, datetime
        >>> iso_utc(datetime(2026, 1, 5, 10, 30, tzinfo=UTC))
        '2026-01-05T10:30:00Z'
    """
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
