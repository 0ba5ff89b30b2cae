"""Runs local jobs in threads of this process.

Any process may run any stored job: whoever holds the job's lock does. A job whose runner died has
its lock freed by the operating system, and the next one who asks for it runs it again. So is a job
whose outcome or result is damaged.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from qiskit_ibm_runtime import RuntimeDecoder, RuntimeEncoder

from qcsc_prefect.core.container.format import decode_container, encode_container
from qcsc_prefect.core.errors import JobNotFoundError, RecordError
from qcsc_prefect.integrations.qiskit.inputs.pubs import coerce_pubs
from qcsc_prefect.integrations.qiskit.services.local.store import LocalOutcome
from qcsc_prefect.integrations.qiskit.services.native_primitives import (
    create_primitive,
    run_primitive,
)

if TYPE_CHECKING:
    from qiskit.primitives import PrimitiveResult

    from qcsc_prefect.integrations.qiskit.services.local.backends import LocalBackends
    from qcsc_prefect.integrations.qiskit.services.local.store import LocalJob, LocalJobStore

__all__ = ["TRIES", "LocalRunner", "decode_result", "encode_inputs"]

logger = logging.getLogger(__name__)

#: How often a job is run where the machine, not the job, is at fault, such as a full disk.
TRIES = 3
#: Simulations at once; each keeps a core busy.
_MAX_RUNNING = max(2, os.cpu_count() or 1)


def encode_inputs(pubs: object) -> bytes:
    """Encode PUBs as the service receives them: JSON, with circuits as QPY."""
    return json.dumps(pubs, cls=RuntimeEncoder).encode()


def encode_result(job: LocalJob, result: PrimitiveResult) -> bytes:
    """Encode the result of a job."""
    if job.implementation == "classic":
        return json.dumps(result, cls=RuntimeEncoder).encode()
    # The service never sends a post-processed result, so the client has no encoding for one.
    return b"".join(encode_container(result, codec="zlib").chunks)


def decode_result(job: LocalJob, content: bytes) -> PrimitiveResult:
    """Decode what `encode_result` wrote."""
    if job.implementation == "classic":
        result: PrimitiveResult = json.loads(content, cls=RuntimeDecoder)
        return result
    return cast("PrimitiveResult", decode_container(content))


class LocalRunner:
    """Runs the jobs of one store.

    A process that ends waits for the jobs it is running, as it does with the client's own local
    mode. Where that wait is cut short, the jobs are left as those of a killed process are.

    Args:
        store: The jobs.
        backends: What they run on.
    """

    def __init__(self, store: LocalJobStore, backends: LocalBackends) -> None:
        self._store = store
        self._backends = backends
        self._threads = ThreadPoolExecutor(_MAX_RUNNING, thread_name_prefix="qcsc-local-job")
        self._taken: set[str] = set()
        self._running: set[str] = set()
        self._failures: dict[str, list[str]] = {}
        self._guard = threading.Lock()
        # Python runs these last in, first out. Its own for executors, of an earlier import, lets
        # none of them take up work any more, and a simulator has one inside.
        threading._register_atexit(self._threads.shutdown)  # type: ignore[attr-defined]  # noqa: SLF001

    def start(self, job_id: str) -> bool:
        """See to it that somebody runs the job; returns at once.

        Does nothing where the job has ended, or where this process or another one runs it.

        Returns:
            Whether this process had not begun to see to it before.
        """
        with self._guard:
            if job_id in self._taken:
                return False
            self._taken.add(job_id)
        try:
            self._threads.submit(self._run, job_id)
        except RuntimeError:  # the process ends; whoever asks for the job next runs it
            with self._guard:
                self._taken.discard(job_id)
            return False
        return True

    def is_running(self, job_id: str) -> bool:
        """Whether this process is running the job now; False while it waits for its turn."""
        with self._guard:
            return job_id in self._running

    def why_given_up(self, job_id: str) -> str | None:
        """Say why this process runs a job no more that has not ended; None where it does."""
        with self._guard:
            failures = self._failures.get(job_id, [])
            return failures[-1] if len(failures) >= TRIES else None

    def _run(self, job_id: str) -> None:
        lock = self._store.run_lock(job_id)
        try:
            if not lock.acquire():
                return
            with self._guard:
                self._running.add(job_id)
            job = self._store.job(job_id)
            self._store.withdraw_damaged(job)
            if self._store.outcome(job_id) is None:
                self._run_to_outcome(job)
        except (JobNotFoundError, RecordError) as error:
            logger.warning("Local job %s cannot be run: %s", job_id, error)
        except OSError as error:
            self._note_failure(job_id, error)
        finally:
            lock.release()
            with self._guard:
                self._taken.discard(job_id)
                self._running.discard(job_id)

    def _note_failure(self, job_id: str, error: OSError) -> None:
        with self._guard:
            failures = self._failures.setdefault(job_id, [])
            failures.append(str(error))
            again = len(failures) < TRIES
        logger.warning(
            "Local job %s could not be run (%s), and %s; its inputs are kept",
            job_id,
            error,
            "will be tried again" if again else f"is given up after {TRIES} tries",
            exc_info=error,
        )

    def _run_to_outcome(self, job: LocalJob) -> None:
        started = datetime.now(UTC)
        try:
            content = self._run_primitive(job, self._store.inputs(job))
        except OSError:
            raise  # the disk, not the job: it can be run again
        except BaseException as error:  # noqa: BLE001 - a panic too: without an outcome it would be run for ever
            message = f"{type(error).__name__}: {error}"
            logger.warning("Local job %s failed: %s", job.job_id, message)
            self._store.finish(
                job,
                LocalOutcome(
                    state="ERROR", started=started, completed=datetime.now(UTC), message=message
                ),
            )
            return
        self._store.finish(
            job,
            LocalOutcome(state="DONE", started=started, completed=datetime.now(UTC)),
            content,
        )

    def _run_primitive(self, job: LocalJob, encoded_inputs: bytes) -> bytes:
        decoded = [tuple(pub) for pub in json.loads(encoded_inputs, cls=RuntimeDecoder)]
        pubs = coerce_pubs(decoded, job.primitive)
        native = create_primitive(
            job.primitive,
            self._backends.backend(job.backend_name),
            job.options,
            job.implementation,
        )
        native_job = run_primitive(
            native, job.primitive, pubs, shots=job.shots, precision=job.precision
        )
        return encode_result(job, native_job.result())
