"""A job in Markdown: what ran, where, when, how long, what it cost and what came out."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from msgspec import UNSET, UnsetType

from qcsc_prefect.integrations.qiskit.presentation.tables import outcome_text
from qcsc_prefect.integrations.qiskit.presentation.wording import (
    bar,
    duration,
    markdown_code,
    markdown_text,
    with_uncertainty,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qcsc_prefect.core.metadata import JobMetadata, PubMetadata
    from qcsc_prefect.integrations.qiskit.presentation.distributions import Distribution
    from qcsc_prefect.integrations.qiskit.presentation.estimates import Estimates

__all__ = ["given_name", "summary_markdown"]

#: PUBs, and outcomes or values of each, that the summary shows; the tables show more.
MOST_PUBS = 8
MOST_LINES = 4
MOST_OPTION_CHARACTERS = 600

#: How Qiskit names circuits that nobody named: a counter, and the process where that differs.
_NUMBERED = re.compile(r"circuit-\d+(-\d+)?")


def summary_markdown(
    metadata: JobMetadata,
    *,
    distributions: Sequence[Distribution] = (),
    estimates: Sequence[Estimates] = (),
    pictures: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
) -> str:
    """Write the summary of a finished job."""
    parts = [
        _heading(metadata),
        _facts_table(metadata),
        *(f"![{what}]({picture})" for what, picture in (pictures or {}).items()),
        _outcomes_section(distributions),
        _values_section(estimates),
        _notes_section(notes),
        _pubs_section([] if isinstance(metadata.pubs, UnsetType) else metadata.pubs),
        _settings_section(metadata),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def given_name(pub: PubMetadata) -> str | None:
    """Return the name that somebody gave to a PUB's circuit; Qiskit's own numbers say nothing."""
    name = pub.circuit_name
    return None if isinstance(name, UnsetType) or _NUMBERED.fullmatch(name) else name


def _heading(metadata: JobMetadata) -> str:
    name = metadata.primitive.capitalize()
    where = "" if metadata.resource is UNSET else f" on {markdown_text(str(metadata.resource))}"
    return f"## {markdown_text(name)} job{where}"


def _facts_table(metadata: JobMetadata) -> str:
    facts: list[tuple[str, str | None]] = [
        ("Job", _job_cell(metadata)),
        ("Created", _time_cell(metadata.created)),
        ("Completed", _time_cell(metadata.completed)),
        ("Took", _took_cell(metadata)),
        ("Usage charged", _duration_cell(metadata.charged_seconds)),
        ("Shots", _shots_cell(metadata)),
        ("Precision", None if metadata.precision is UNSET else f"{metadata.precision:g}"),
        ("Instance", _code_cell(metadata.instance)),
        ("Session", _code_cell(metadata.session_id)),
        ("Tags", _code_cell(*([] if isinstance(metadata.tags, UnsetType) else metadata.tags))),
    ]
    rows = [f"| {name} | {cell} |" for name, cell in facts if cell is not None]
    # Markdown knows no table without a heading: the first fact stands in it.
    return "\n".join([*rows[:1], "| :-- | :-- |", *rows[1:]]) if rows else ""


def _shots_cell(metadata: JobMetadata) -> str | None:
    if isinstance(metadata.shots, UnsetType):
        return None
    pubs = [] if isinstance(metadata.pubs, UnsetType) else metadata.pubs
    taken = {pub.shots for pub in pubs}
    [one] = taken if len(taken) == 1 else [UNSET]
    asked = f"{metadata.shots:,}"
    return asked if one in {UNSET, metadata.shots} else f"{asked} asked for, {one:,} taken"


def _took_cell(metadata: JobMetadata) -> str | None:
    parts = [
        f"{duration(seconds)} {what}"
        for seconds, what in (
            (metadata.queue_seconds, "in the queue"),
            (metadata.work_seconds, "worked on"),
            (metadata.qpu_seconds, "on the QPU"),
        )
        if not isinstance(seconds, UnsetType)
    ]
    return ", ".join(parts) or None


def _job_cell(metadata: JobMetadata) -> str | None:
    if isinstance(metadata.job_id, UnsetType):
        return None
    code = markdown_code(metadata.job_id)
    if isinstance(metadata.job_url, UnsetType):
        return code
    return f"{code} · [open on the platform]({metadata.job_url})"


def _time_cell(moment: str | UnsetType) -> str | None:
    if isinstance(moment, UnsetType):
        return None
    return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M:%S UTC")


def _duration_cell(seconds: float | UnsetType) -> str | None:
    return None if isinstance(seconds, UnsetType) else duration(seconds)


def _code_cell(*texts: str | UnsetType) -> str | None:
    codes = [markdown_code(text) for text in texts if not isinstance(text, UnsetType)]
    return " ".join(codes) or None


def _outcomes_section(distributions: Sequence[Distribution]) -> str:
    if not distributions:
        return ""
    lines = [
        "### Most frequent outcomes",
        "",
        "| PUB | register | outcome | share | |",
        "| --: | :-- | :-- | --: | :-- |",
    ]
    for item in distributions[:MOST_PUBS]:
        pub, register = str(item.pub), markdown_text(item.register)
        for outcome, count in item.top[:MOST_LINES]:
            share = 100 * count / item.counted
            error = 100 * item.standard_error(count)
            shown = with_uncertainty(share, error)
            code = markdown_code(_short(outcome_text(outcome)))
            lines.append(
                f"| {pub} | {register} | {code} | {shown} % | {bar(count / item.top[0][1])} |"
            )
            pub = register = ""
        others = item.distinct - min(len(item.top), MOST_LINES)
        named = sum(count for _, count in item.top[:MOST_LINES])
        rest = f"{others:,} more · " if others else ""
        rest_share = f"{100 * (item.counted - named) / item.counted:.1f} %" if others else ""
        lines.append(f"| | | *{rest}{item.shots:,} shots* | {rest_share} | |")
    if len(distributions) > MOST_PUBS:
        lines += ["", f"The first {MOST_PUBS} of {len(distributions):,} registers."]
    return "\n".join(lines)


def _values_section(estimates: Sequence[Estimates]) -> str:
    if not estimates:
        return ""
    lines = [
        "### Expectation values",
        "",
        "| PUB | point | value ± standard error |",
        "| --: | :-- | --: |",
    ]
    for item in estimates[:MOST_PUBS]:
        pub = str(item.pub)
        for name, index in _shown_values(item):
            value = with_uncertainty(float(item.values[index]), item.standard_error(index))
            lines.append(f"| {pub} | {_point(item, name, index)} | {value} |")
            pub = ""
        if item.values.size > MOST_LINES:
            lines.append(f"| {pub} | *{item.values.size:,} values* | |")
    if len(estimates) > MOST_PUBS:
        lines += ["", f"The first {MOST_PUBS} of {len(estimates):,} PUBs with values."]
    return "\n".join(lines)


def _shown_values(item: Estimates) -> list[tuple[str, tuple[int, ...]]]:
    """Return all of a few values, or the extremes of many, by name and index."""
    if item.values.size <= MOST_LINES:
        return [(", ".join(map(str, index)), index) for index in np.ndindex(item.values.shape)]
    finite = np.flatnonzero(np.isfinite(item.values))
    if not finite.size:
        return []
    ordered = finite[np.argsort(item.values.flat[finite], kind="stable")]
    return [
        (name, tuple(int(step) for step in np.unravel_index(place, item.values.shape)))
        for name, place in (("lowest", ordered[0]), ("highest", ordered[-1]))
    ]


def _point(item: Estimates, name: str, index: tuple[int, ...]) -> str:
    if item.axis is None:
        at = ", ".join(map(str, index))
        return name if name in {"", at} else f"{name}, at {at}"
    parameter = markdown_text(item.axis.parameter)
    at = f"{parameter} = {float(item.axis.values[index]):.6g}"
    return f"{name}, at {at}" if name in {"lowest", "highest"} else at


def _notes_section(notes: Iterable[str]) -> str:
    return "\n".join(f"> {note}  " for note in notes)


def _pubs_section(pubs: Sequence[PubMetadata]) -> str:
    columns = (
        ("circuit", [_code_cell(given_name(pub) or UNSET) for pub in pubs]),
        ("sweep", [_shape_cell(pub.shape) for pub in pubs]),
        ("shots", [_asked_and_taken(pub) for pub in pubs]),
        ("precision", [_number_cell(pub.precision) for pub in pubs]),
        ("qubits", [_number_cell(pub.num_qubits) for pub in pubs]),
        ("depth", [_number_cell(pub.depth) for pub in pubs]),
        ("instructions", [_number_cell(pub.size) for pub in pubs]),
        ("two-qubit gates", [_number_cell(pub.two_qubit_count) for pub in pubs]),
        ("data taken in", [_duration_cell(pub.execution_seconds) for pub in pubs]),
    )
    known = [(name, cells) for name, cells in columns if any(cells)]
    if not known:
        return ""
    lines = [
        "### PUBs",
        "",
        "| PUB | " + " | ".join(name for name, _ in known) + " |",
        "| --: |" + " --: |" * len(known),
    ]
    lines.extend(
        f"| {index} | " + " | ".join(cells[index] or "" for _, cells in known) + " |"
        for index in range(min(len(pubs), MOST_PUBS))
    )
    if len(pubs) > MOST_PUBS:
        lines += ["", f"The first {MOST_PUBS} of {len(pubs):,} PUBs."]
    return "\n".join(lines)


def _asked_and_taken(pub: PubMetadata) -> str | None:
    taken = _number_cell(pub.shots)
    if taken is None or isinstance(pub.shots_asked, UnsetType) or pub.shots_asked == pub.shots:
        return taken
    return f"{taken} ({pub.shots_asked:,} asked for)"


def _shape_cell(shape: list[int] | UnsetType) -> str | None:
    if isinstance(shape, UnsetType):
        return None
    return " x ".join(f"{length:,}" for length in shape) or "1 point"


def _number_cell(number: float | UnsetType) -> str | None:
    if isinstance(number, UnsetType):
        return None
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def _settings_section(metadata: JobMetadata) -> str:
    lines = []
    if metadata.options is not UNSET and metadata.options:
        text = json.dumps(metadata.options, sort_keys=True, ensure_ascii=False)
        cut = " (cut)" if len(text) > MOST_OPTION_CHARACTERS else ""
        lines.append(f"**Options** {markdown_code(text[:MOST_OPTION_CHARACTERS])}{cut}")
    if not isinstance(metadata.input_digest, UnsetType):
        lines.append(f"**Input digest** {markdown_code(metadata.input_digest)}")
    if not isinstance(metadata.versions, UnsetType) and metadata.versions:
        versions = ", ".join(f"{name} {text}" for name, text in metadata.versions.items())
        lines.append(f"**Software** {markdown_text(versions)}")
    return "\n\n".join(lines)


def _short(outcome: str) -> str:
    """Cut a wide outcome in its middle, so that it fits a column."""
    most = 40
    if len(outcome) <= most:
        return outcome
    return f"{outcome[: most // 2]}…{outcome[-most // 2 :]}"
