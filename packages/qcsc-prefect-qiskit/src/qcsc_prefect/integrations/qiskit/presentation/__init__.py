"""What a person sees of a job.

- In the Prefect UI: :func:`publish_job_artifacts` for a finished job, :class:`JobProgress` for
  one that waits or runs.
- In a notebook: :class:`JobOutput` and :class:`JobReferenceDict`, and :func:`html_repr` and
  :func:`short_repr` for other objects that stand for a job.
- In a terminal: :func:`state_line`.

Importing this package imports neither Qiskit, numpy nor matplotlib; they come with the first
result that is shown.
"""

from __future__ import annotations

from qcsc_prefect.integrations.qiskit.presentation.artifact_keys import artifact_key_for
from qcsc_prefect.integrations.qiskit.presentation.job_links import job_page_url
from qcsc_prefect.integrations.qiskit.presentation.progress import JobProgress
from qcsc_prefect.integrations.qiskit.presentation.publishing import publish_job_artifacts
from qcsc_prefect.integrations.qiskit.presentation.representations import (
    JobOutput,
    JobReferenceDict,
    html_repr,
    short_repr,
)
from qcsc_prefect.integrations.qiskit.presentation.state_lines import state_line

__all__ = [
    "JobOutput",
    "JobProgress",
    "JobReferenceDict",
    "artifact_key_for",
    "html_repr",
    "job_page_url",
    "publish_job_artifacts",
    "short_repr",
    "state_line",
]
