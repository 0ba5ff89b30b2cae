"""Keeps the results of private jobs as they came, from the download until they are recorded.

The service hands the result of a private job out once. A process that dies after the download, or
a decoder that fails over it, must not lose it: the text is on storage before it is decoded, and
the next fetch takes it from there.
"""

from __future__ import annotations

import hashlib

from qcsc_prefect.integrations.qiskit.run_storage import RunStorage
from qcsc_prefect.integrations.qiskit.task_runs import run_logger

__all__ = ["PrivateResults"]


class PrivateResults:
    """Texts of results of one service instance, by job.

    Args:
        storage: Where they are kept.
        instance: The service instance that the jobs belong to.
    """

    def __init__(self, storage: RunStorage, instance: str) -> None:
        self._storage = storage
        self._instance = instance

    @classmethod
    def current(cls, instance: str) -> PrivateResults:
        """Return those in the result storage of the current run."""
        return cls(RunStorage(), instance)

    async def write(self, job_id: str, text: str) -> None:
        """Keep the text of a result; it is on storage when this returns, or the log says why."""
        try:
            await self._storage.write(self._key(job_id), text.encode())
        except Exception as error:  # noqa: BLE001 - storage blocks raise errors of any kind
            run_logger().warning(
                "The result of the private job %s was downloaded, which can be done once, but "
                "could not be stored (%s: %s); it is lost if this process dies now",
                job_id,
                type(error).__name__,
                error,
            )

    async def read(self, job_id: str) -> str | None:
        """Return the text of a result, or None where none is kept."""
        content = await self._storage.read(self._key(job_id))
        return None if content is None else content.decode()

    async def remove(self, job_id: str) -> None:
        """Forget the text of a result that has been recorded."""
        try:
            await self._storage.remove(self._key(job_id))
        except Exception as error:  # noqa: BLE001 - storage blocks raise errors of any kind
            run_logger().warning(
                "The text of the private result of job %s could not be removed: %r", job_id, error
            )

    def _key(self, job_id: str) -> str:
        name = hashlib.sha256(f"{self._instance} {job_id}".encode()).hexdigest()
        return f"qiskit-private-result-{name}"
