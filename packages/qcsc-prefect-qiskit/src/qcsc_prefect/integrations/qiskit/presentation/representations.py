"""How handles, references and outputs look in a notebook and at a prompt."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sized
from typing import Any

__all__ = ["JobOutput", "JobReferenceDict", "html_repr", "short_repr"]

_COLOURS = {
    "DONE": "#2e7d32",
    "RUNNING": "#1565c0",
    "QUEUED": "#6b7280",
    "SUBMITTED": "#6b7280",
    "INITIALIZING": "#6b7280",
    "CANCELLED": "#b45309",
    "ERROR": "#c62828",
}
_OTHER_COLOUR = "#6b7280"


def short_repr(
    kind: str,
    *,
    primitive: str | None,
    state: str | None,
    backend_name: str | None,
    job_id: str | None,
    facts: Mapping[str, object] | None = None,
) -> str:
    """Write an object that stands for a job as one line.

    Example:
        >>> short_repr("JobOutput", primitive="sampler", state="DONE", backend_name="ibm_x",
        ...            job_id="d1c0", facts={"shots": 4096})
        '<JobOutput: sampler job d1c0 on ibm_x, DONE, shots=4096>'
    """
    name = " ".join(part for part in (primitive, "job", job_id) if part)
    where = f" on {backend_name}" if backend_name else ""
    more = [f"{key}={value}" for key, value in (facts or {}).items() if value is not None]
    return f"<{kind}: {', '.join([name + where, *([state] if state else []), *more])}>"


def html_repr(
    *,
    primitive: str | None,
    state: str | None,
    backend_name: str | None,
    job_id: str | None,
    job_url: str | None = None,
    facts: Mapping[str, object] | None = None,
) -> str:
    """Write an object that stands for a job as HTML, for ``_repr_html_``."""
    code = f"<code>{html.escape(job_id)}</code>" if job_id else "<i>not known</i>"
    if job_url is not None and job_url.startswith("https://"):
        code += (
            f' <a href="{html.escape(job_url, quote=True)}" target="_blank" '
            'rel="noopener noreferrer">open on the platform</a>'
        )
    rows = [("backend", html.escape(backend_name) if backend_name else None), ("job", code)]
    rows += [
        (html.escape(name), html.escape(str(value)))
        for name, value in (facts or {}).items()
        if value is not None
    ]
    cells = "".join(
        f'<tr><th style="text-align:left;font-weight:500;padding:1px 14px 1px 0">{name}</th>'
        f'<td style="text-align:left;padding:1px 0">{value}</td></tr>'
        for name, value in rows
        if value is not None
    )
    title = html.escape(f"{(primitive or 'primitive').capitalize()} job")
    return (
        '<div style="border-left:3px solid #2f6db5;padding:4px 12px;margin:4px 0">'
        f"<b>{title}</b>{_badge(state)}"
        f'<table style="margin:4px 0 0;border-collapse:collapse">{cells}</table></div>'
    )


def _badge(state: str | None) -> str:
    if not state:
        return ""
    colour = _COLOURS.get(state, _OTHER_COLOUR)
    return (
        f' <span style="background:{colour};color:white;border-radius:8px;padding:1px 8px;'
        f'font-size:85%">{html.escape(state)}</span>'
    )


class JobOutput(dict[str, Any]):
    """The output of a run or fetch task: a dict, with a readable appearance.

    Equal to the plain dict of the same items, and read, copied, pickled and encoded as one.
    """

    def __repr__(self) -> str:
        return short_repr(type(self).__name__, state="DONE", **_names(self), facts=_facts(self))

    def _repr_html_(self) -> str:
        return html_repr(state="DONE", **_names(self), job_url=_url(self), facts=_facts(self))


class JobReferenceDict(dict[str, Any]):
    """A job reference: a dict that JSON can hold, with a readable appearance.

    Equal to the plain dict of the same items, and read, copied, pickled and encoded as one.
    """

    def __repr__(self) -> str:
        return short_repr(
            type(self).__name__, state="SUBMITTED", **_names(self), facts=_facts(self)
        )

    def _repr_html_(self) -> str:
        return html_repr(state="SUBMITTED", **_names(self), job_url=_url(self), facts=_facts(self))


def _names(fields: Mapping[str, object]) -> dict[str, str | None]:
    names = ("primitive", "backend_name", "job_id")
    return {name: None if (text := fields.get(name)) is None else str(text) for name in names}


def _facts(fields: Mapping[str, object]) -> dict[str, object]:
    facts = {name: fields.get(name) for name in ("shots", "precision")}
    result = fields.get("result")
    facts["PUBs"] = len(result) if isinstance(result, Sized) else None
    return facts


def _url(fields: Mapping[str, object]) -> str | None:
    metadata = fields.get("metadata")
    url = metadata.get("job_url") if isinstance(metadata, Mapping) else fields.get("job_url")
    return url if isinstance(url, str) else None
