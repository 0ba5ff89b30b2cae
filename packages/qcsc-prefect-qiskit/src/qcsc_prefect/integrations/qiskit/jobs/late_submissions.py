"""Submissions that were given up and yet may be sent or answered.

A call of the native client cannot be stopped. Where the service answers a POST with a Retry-After
of twenty minutes, the client's thread sleeps for so long and sends the job then, whoever has
stopped waiting; and one that hangs may have been accepted. So such a submission is remembered in
this process until its end is known: whoever submits the same input waits for it first, and a job
that comes of it is found even where the service's search does not show it yet.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qcsc_prefect.core.errors import (
    ConfigurationError,
    InputError,
    SubmissionError,
    SubmissionUncertainError,
)
from qcsc_prefect.integrations.qiskit.pubs import a_job
from qcsc_prefect.integrations.qiskit.runtime.client_threads import comes_within
from qcsc_prefect.integrations.qiskit.task_runs import run_logger

if TYPE_CHECKING:
    from concurrent.futures import Future

    from qcsc_prefect.integrations.qiskit.jobs.service import JobRequest, SubmittedJob
    from qcsc_prefect.integrations.qiskit.task_runs import RunLogger

__all__ = ["LateSubmissions"]

#: How a submission ends that has made no job for certain, besides by a `SubmissionError`.
_REFUSED = (InputError, ConfigurationError)


@dataclass(eq=False)
class _Late:
    """A submission that was given up.

    Attributes:
        answer: Its answer, once that comes.
        tags: The tags of its job.
        left_at: When it was given up.
        was_listed: Whether its job was shown to somebody who looked for it.
    """

    answer: Future[SubmittedJob]
    tags: tuple[str, ...]
    left_at: float = field(default_factory=time.monotonic)
    was_listed: bool = False


class LateSubmissions:
    """Submissions of one instance that were given up; every method may be called in any thread."""

    def __init__(self) -> None:
        self._by_tag: dict[str, _Late] = {}
        self._lock = threading.Lock()

    def leave(self, request: JobRequest, answer: Future[SubmittedJob]) -> None:
        """Take note of a submission that goes on though nobody waits for it any more.

        Args:
            request: The job.
            answer: Its answer, once that comes; a job's id will then stand in the log.
        """
        logger = run_logger()
        if request.input_tag is not None:
            with self._lock:
                self._by_tag[request.input_tag] = _Late(answer, request.tags)
        answer.add_done_callback(lambda answer: _log_answer(request, answer, logger))

    async def answer(self, request: JobRequest, seconds: float) -> SubmittedJob | None:
        """Wait for what became of an earlier submission of the same input.

        Args:
            request: The job.
            seconds: How long to wait.

        Returns:
            The job that came of it; None where there was no such submission, where it has made no
            job, and where its job was listed already.

        Raises:
            SubmissionUncertainError: If it has not been answered yet, or its answer was lost.
        """
        tag = request.input_tag
        late = None if tag is None else self._by_tag.get(tag)
        if tag is None or late is None or late.was_listed or late.tags != request.tags:
            return None  # other tags: a chosen digest that stood for another input
        if not await comes_within(seconds, late.answer):
            raise SubmissionUncertainError(
                f"{a_job(request.primitive).capitalize()} for {request.backend_name} was not "
                "submitted: an earlier submission of the same input by this process was given up "
                f"{time.monotonic() - late.left_at:.0f} s ago and is not answered yet; the client "
                "may still send it. Submit the input again later, which waits for that answer; or "
                "end this process, look for the job on the service, and submit in a new process.",
                backend_name=request.backend_name,
            )
        self.forget(tag, late)
        try:
            return late.answer.result()
        except SubmissionUncertainError:
            raise
        except (SubmissionError, *_REFUSED):
            return None

    def tags(self, tag: str) -> tuple[str, ...] | None:
        """Return all tags of the submission with a tag, where there is one."""
        late = self._by_tag.get(tag)
        return None if late is None else late.tags

    def listed(self, tag: str) -> SubmittedJob | None:
        """Return the job that came late of a submission with a tag, where there is one.

        Args:
            tag: The tag of an input.
        """
        late = self._by_tag.get(tag)
        if late is None or not late.answer.done() or late.answer.exception() is not None:
            return None
        late.was_listed = True
        return late.answer.result()

    def forget(self, tag: str, late: _Late | None = None) -> None:
        """Forget a submission: what became of it is known elsewhere.

        Args:
            tag: The tag of its input.
            late: The submission, where another one may have taken its place; None for any.
        """
        with self._lock:
            if late is None or self._by_tag.get(tag) is late:
                self._by_tag.pop(tag, None)


def _log_answer(request: JobRequest, answer: Future[SubmittedJob], logger: RunLogger) -> None:
    error = answer.exception()
    about = f"{a_job(request.primitive)} for {request.backend_name}"
    if error is None:
        logger.warning(
            "The submission of %s that was given up has made job %s after all. It can be fetched "
            "by this id; submitted again with cache_submit=True, the same input leads to it",
            about,
            answer.result().job_id,
        )
    else:
        logger.info(
            "The submission of %s that was given up has ended without a known job (%s)",
            about,
            type(error).__name__,
        )
