"""Keeps the results of private jobs as they came, from the download until they are recorded.

The service hands the result of a private job out once. A process that dies after the download, or
a decoder that fails over it, must not lose it: the text is on storage before it is decoded, and
the next fetch takes it from there. It is kept as one line, which says under which key it was
written and the SHA-256 of the text, and the text.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from qcsc_prefect.core.engine.cancelling import finish_though_cancelled
from qcsc_prefect.core.errors import StorageUnreadableError
from qcsc_prefect.core.prefect.locks import hold_lock
from qcsc_prefect.core.prefect.shield import shielded
from qcsc_prefect.core.prefect.storage import RunStorage
from qcsc_prefect.core.prefect.task_runs import run_logger

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

__all__ = ["PrivateResults"]

#: How long a cancelled task waits for a download that cannot be made again.
_SECONDS_TO_FINISH = 60.0


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

    async def obtain(self, job_id: str, download: Callable[[], Awaitable[str]]) -> str:
        """Return the text of a result, downloading it where none is kept.

        One caller of a machine downloads, the others take what it has kept; a download that has
        begun is finished and kept although its caller is cancelled.

        Args:
            job_id: The job.
            download: Reads the text from the service, which can be done once.

        Returns:
            The text.
        """
        async with hold_lock(self._key(job_id)):
            text = await self._read(job_id)
            return await self._download_and_keep(job_id, download) if text is None else text

    async def _download_and_keep(self, job_id: str, download: Callable[[], Awaitable[str]]) -> str:
        async def keep() -> str:
            text = await download()
            await self._write(job_id, text)
            return text

        async def after_cancellation(keeping: asyncio.Task[str]) -> None:
            if not keeping.done():
                run_logger().warning(
                    "The download of the private result of job %s was cancelled and has not "
                    "ended within %g s; it can be made once, so the result may be lost",
                    job_id,
                    _SECONDS_TO_FINISH,
                )

        return await finish_though_cancelled(
            keep(), after_cancellation, seconds=_SECONDS_TO_FINISH, shield=shielded
        )

    async def _write(self, job_id: str, text: str) -> None:
        """Keep the text of a result; it is on storage when this returns, or the log says why."""
        try:
            key, content = self._key(job_id), text.encode()
            await self._storage.write(key, lambda: b"\n".join([_first_line(key, content), content]))
        except Exception as error:  # noqa: BLE001 - storage blocks raise errors of any kind
            run_logger().warning(
                "The result of the private job %s was downloaded, which can be done once, but "
                "could not be stored (%s: %s); it is lost if this process dies now",
                job_id,
                type(error).__name__,
                error,
            )

    async def _read(self, job_id: str) -> str | None:
        """Return the text of a result, or None where none is kept."""
        key = self._key(job_id)
        try:
            kept = await self._storage.read(key)
        except StorageUnreadableError as error:
            run_logger().warning(
                "Whether the result of the private job %s was kept is not known: %s", job_id, error
            )
            return None
        if not kept:
            return None  # removed from storage that keeps empty entries
        first_line, _, content = kept.partition(b"\n")
        if first_line != _first_line(key, content):
            run_logger().warning(
                "What is kept as the result of the private job %s, under the key %s, is not what "
                "was written there, and is passed over",
                job_id,
                key,
            )
            return None
        return content.decode()

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


def _first_line(key: str, content: bytes) -> bytes:
    return f"{key} {hashlib.sha256(content).hexdigest()}".encode()
