"""Callers of a vendor's service: in this process, in one of its own, and killed ones."""

from __future__ import annotations

import asyncio
import fcntl
import json
import multiprocessing
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from qcsc_prefect.core.engine.identity import SubmissionIdentity, job_tag
from qcsc_prefect.core.engine.once import Submitter
from qcsc_prefect.core.engine.patience import SubmissionPatience
from qcsc_prefect.core.errors import StorageUnreadableError
from qcsc_prefect.core.reference import JobReference, parse_job_reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from qcsc_prefect.core.engine.service import JobService

__all__ = ["Caller", "FolderLedger", "identity_of"]

RequestT = TypeVar("RequestT")

_PATIENCE = SubmissionPatience(limited=30.0, failing=10.0, first_pause=0.05)
_LOCK_PAUSE = 0.02


class FolderLedger:
    """Records as files in a folder, with a lock between all processes of this machine.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self, key: str) -> Mapping[str, object] | None:
        """Return what was written under a key, or None where there is nothing."""
        try:
            content = json.loads((self._folder / f"{key}.json").read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StorageUnreadableError(f"{key} is damaged: {error}.") from error
        return content if isinstance(content, dict) else {}

    async def write(self, key: str, content: Mapping[str, object]) -> None:
        """Write a record, whole."""
        self._folder.mkdir(parents=True, exist_ok=True)
        new = self._folder / f"{key}.new"
        new.write_text(json.dumps(content))
        new.replace(self._folder / f"{key}.json")

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[None]:
        """Wait for the lock of a key, and hold it inside the block."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{key}.lock").open("wb") as file:
            while not _locked(file.fileno()):
                await asyncio.sleep(_LOCK_PAUSE)
            yield  # closing the file frees it

    def damage(self) -> None:
        """Cut every record in half."""
        for file in self._folder.glob("*.json"):
            content = file.read_bytes()
            file.write_bytes(content[: len(content) // 2])


class _Killed(BaseException):
    """Ends a caller at once; nobody catches it but who killed it."""


class _FatalLedger(FolderLedger):
    """A ledger whose caller dies in the place of one of its writes."""

    def __init__(self, folder: Path, write: int, die: Callable[[], None]) -> None:
        super().__init__(folder)
        self._writes_left = write
        self._die = die

    async def write(self, key: str, content: Mapping[str, object]) -> None:
        self._writes_left -= 1
        if not self._writes_left:
            self._die()
        await super().write(key, content)


@dataclass(frozen=True)
class Caller(Generic[RequestT]):
    """Somebody who submits one input on one machine.

    Attributes:
        service_factory: Makes a service, as a new process would.
        request: What is submitted.
        input_name: What the input is called.
        ledger_folder: Where this machine's records lie.
        visibility_delay: Seconds until the service's search shows a new job for certain.
    """

    service_factory: Callable[[], JobService[RequestT]]
    request: RequestT
    input_name: str
    ledger_folder: Path
    visibility_delay: float

    async def submit_once(self, ledger: FolderLedger | None = None) -> JobReference:
        """Submit as a vendor's task does, and return the job."""
        service = self.service_factory()
        delay = 0.0 if service.shows_jobs_at_once else self.visibility_delay
        identity = identity_of(self.input_name, delay)
        submitter = Submitter(service, patience=_PATIENCE)
        draft = JobReference(primitive="conformance", tags=[identity.tag])
        ledger = ledger or FolderLedger(self.ledger_folder)
        submission = await submitter.submit_once(self.request, draft, identity, ledger)
        return submission.reference

    async def die_at_write(self, number: int) -> None:
        """Submit, and end in this process as if killed in the place of a record's writing."""
        try:
            await self.submit_once(_FatalLedger(self.ledger_folder, number, _raise_killed))
        except _Killed:
            return

    async def in_own_process(self, *, dies_at_write: int | None = None) -> JobReference | None:
        """Submit in a process of its own, which may be killed; None where it was."""
        answer = self.ledger_folder.with_suffix(f".{os.urandom(4).hex()}")
        process = multiprocessing.get_context("spawn").Process(
            target=_run, args=(self, dies_at_write, answer)
        )
        process.start()
        try:
            while process.is_alive():
                await asyncio.sleep(_LOCK_PAUSE)
        finally:
            process.kill()
            process.join()
        if process.exitcode == -signal.SIGKILL:
            return None
        if process.exitcode:
            raise RuntimeError(answer.read_text() if answer.exists() else "the process broke")
        return parse_job_reference(json.loads(answer.read_bytes()))


def identity_of(input_name: str, visibility_delay: float = 0.0) -> SubmissionIdentity:
    """Return the names under which an input is remembered.

    Args:
        input_name: What it is called.
        visibility_delay: Seconds until the service's search shows a new job for certain.
    """
    tag = job_tag("conformance", "", input_name)
    return SubmissionIdentity(input_name, tag, input_name, visibility_delay=visibility_delay)


def _run(caller: Caller[RequestT], dies_at_write: int | None, answer: Path) -> None:
    ledger = None
    if dies_at_write is not None:
        ledger = _FatalLedger(caller.ledger_folder, dies_at_write, _kill_this_process)
    try:
        reference = asyncio.run(caller.submit_once(ledger))
    except Exception as error:
        answer.write_text(f"{type(error).__name__}: {error}")
        raise
    answer.write_text(json.dumps(reference.to_dict()))


def _kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise_killed() -> None:
    raise _Killed


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
