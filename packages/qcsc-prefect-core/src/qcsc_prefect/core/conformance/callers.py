"""Who submits through a vendor's service: from this process, from another, or killed meanwhile."""

from __future__ import annotations

import asyncio
import fcntl
import json
import multiprocessing
import os
import signal
from contextlib import asynccontextmanager, suppress
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
            while not _locked(file.fileno()):  # noqa: ASYNC110 - nobody tells when it is free
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
    """A ledger whose caller dies in the place of recording its job."""

    def __init__(self, folder: Path, key: str, die: Callable[[], None]) -> None:
        super().__init__(folder)
        self._key = key
        self._die = die

    async def write(self, key: str, content: Mapping[str, object]) -> None:
        if key == self._key:
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
        draft = JobReference(
            primitive="conformance", input_digest=identity.input_digest, tags=[identity.tag]
        )
        ledger = ledger or FolderLedger(self.ledger_folder)
        submission = await submitter.submit_once(self.request, draft, identity, ledger)
        return submission.reference

    async def submit_until(self, die: Callable[[], None]) -> None:
        """Submit, and die when the job is accepted and about to be recorded."""
        await self.submit_once(_FatalLedger(self.ledger_folder, self.input_name, die))
        raise RuntimeError("The caller was to die before its job is recorded, and did not.")

    async def abandoned(self) -> None:
        """Submit, and end in this process as if killed before the job is recorded."""
        with suppress(_Killed):
            await self.submit_until(_raise_killed)

    async def in_own_process(self) -> JobReference:
        """Submit from a process of its own."""
        answer = self.ledger_folder.with_suffix(f".{os.urandom(4).hex()}")
        status = await _ended(_submit_in_process, self, answer)
        said = answer.read_text() if answer.exists() else ""
        if status:
            raise RuntimeError(said or f"the process ended with status {status}")
        return parse_job_reference(json.loads(said))

    async def killed_process(self) -> None:
        """Submit from a process of its own, which is killed before the job is recorded."""
        status = await _ended(_submit_until_killed, self)
        if status != -signal.SIGKILL:
            raise RuntimeError(f"The process was to be killed, and ended with status {status}.")


def identity_of(input_name: str, visibility_delay: float = 0.0) -> SubmissionIdentity:
    """Return the names under which an input is remembered.

    Args:
        input_name: What it is called.
        visibility_delay: Seconds until the service's search shows a new job for certain.
    """
    tag = job_tag("conformance", "", input_name)
    return SubmissionIdentity(input_name, tag, input_name, visibility_delay=visibility_delay)


def _submit_in_process(caller: Caller[RequestT], answer: Path) -> None:
    try:
        reference = asyncio.run(caller.submit_once())
    except Exception as error:
        answer.write_text(f"{type(error).__name__}: {error}")
        raise
    answer.write_text(json.dumps(reference.to_dict()))


def _submit_until_killed(caller: Caller[RequestT]) -> None:
    asyncio.run(caller.submit_until(_kill_this_process))


async def _ended(target: Callable[..., None], *arguments: object) -> int | None:
    """Run a function in a process of its own, and return the status with which that ended."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    try:
        await asyncio.to_thread(process.join)
    finally:
        process.kill()
        process.join()
    return process.exitcode


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
