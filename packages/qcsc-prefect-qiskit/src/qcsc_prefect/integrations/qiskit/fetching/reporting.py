"""Tells a person how a job stands while it is waited for: in the log, and in the Prefect UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcsc_prefect.integrations.qiskit.presentation import JobProgress, state_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcsc_prefect.core.engine.service import JobStatus
    from qcsc_prefect.core.prefect.task_runs import RunLogger

__all__ = ["JobReporter"]


class JobReporter:
    """Writes one line for each change of state, and keeps the progress artifact up to date."""

    def __init__(
        self,
        *,
        job_id: str,
        backend_name: str | None,
        job_url: Callable[[], str | None],
        artifact_key: str | None,
        logger: RunLogger,
    ) -> None:
        self._job_id = job_id
        self._backend_name = backend_name
        self._logger = logger
        self._last: JobStatus | None = None
        self._waited = 0.0
        self._progress = (
            None
            if artifact_key is None
            else JobProgress(
                artifact_key=artifact_key,
                job_id=job_id,
                backend_name=backend_name,
                job_url=job_url,
                logger=logger,
            )
        )

    def note(self, status: JobStatus, waited: float) -> None:
        """Take note of a status that differs from the last one.

        Args:
            status: Where the job stands.
            waited: Seconds since the wait began.
        """
        is_new_state = self._last is None or self._last.state is not status.state
        self._last, self._waited = status, waited
        if is_new_state:
            line = state_line(
                job_id=self._job_id,
                backend_name=self._backend_name,
                state=status.raw_state,
                waited_seconds=waited,
                queue_position=status.queue_position,
            )
            self._logger.info("%s", line[0].upper() + line[1:])
        if self._progress is not None and not status.state.is_final:
            self._progress.note(
                state=status.state.value,
                waited_seconds=waited,
                queue_position=status.queue_position,
                word=status.raw_state,
            )

    def leave(self) -> None:
        """Leave the artifact as it is; waits for nothing."""
        if self._progress is not None:
            self._progress.leave()
            self._progress = None

    async def finish(self) -> None:
        """Show the last state that was seen; short, and silent about failures of the API."""
        if self._progress is not None and self._last is not None:
            await self._progress.finish(
                state=self._last.state.value, waited_seconds=self._waited, word=self._last.raw_state
            )
