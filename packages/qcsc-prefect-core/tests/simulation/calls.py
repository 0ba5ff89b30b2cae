"""One call of a process: what it asks of the service and of storage, and what goes wrong."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from qcsc_prefect.core.engine.service import SubmittedJob
from qcsc_prefect.core.errors import (
    ConfigurationError,
    InputError,
    JobError,
    JobNotFoundError,
    SubmissionError,
    SubmissionUncertainError,
)

from .caller import input_of, job_of, submitted
from .service import BACKEND, ServiceClient
from .storage import SimulatedLedger, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from qcsc_prefect.core.engine.service import ListedJob

    from .processes import Process
    from .schedule import CallPlan
    from .service import Request, SimulatedJob

__all__ = ["CallRun"]

#: How often an operation of one name is answered in any order, where all orders are tried.
_IN_ANY_ORDER = 2


class ProcessDiedError(BaseException):
    """Raised in what is left of a process that died; nobody sees it."""


class _Log(logging.Logger):
    """Takes note of what is said, and of the jobs that are named."""

    def __init__(self, call: CallRun) -> None:
        super().__init__("simulation")
        self._call = call

    def info(self, msg: object, *args: object, **_: Any) -> None:  # type: ignore[override]
        self._call.said(msg, args)

    warning = info  # type: ignore[assignment]
    debug = info  # type: ignore[assignment]
    error = info  # type: ignore[assignment]


class CallRun:
    """One call, from its beginning to its end.

    Attributes:
        began: When it began.
        locked_at: When it held the lock.
        searching_since: Since when it looks for a job that may be there.
        ended: How: ``"result"``, ``"no result"`` (the job failed), ``"error"``, ``"cancelled"``,
            ``"refused"`` or ``"died"``; empty while it runs.
        faults: What met it.
        posts: When it sent a job.
        submitted: The job that the submission returned.
        result: The job whose result it got.
    """

    def __init__(self, process: Process, plan: CallPlan) -> None:
        world = process.world
        self.process = process
        self.world = world
        self._loop = process.loop
        self.plan = plan
        self.number = len(world.calls) + 1
        world.calls.append(self)
        process.running.append(self)
        self.name = f"{process.name} call {self.number}"
        self.input = input_of(plan)
        self.task: asyncio.Task[None]
        self.log = _Log(self)
        self.began = world.timeline.now
        self.locked_at = self.began
        self.searching_since = self.began
        self.ended = ""
        self.error: BaseException | None = None
        self.faults: list[str] = []
        self.posts: list[float] = []
        self.told: list[str] = []  # ids that the service has told it
        self.told_at = 0.0
        self.named: set[str] = set()  # ids in its log
        self.submitted: SimulatedJob | None = None
        self.submitted_at = 0.0
        self.result: SimulatedJob | None = None
        self.watched: list[tuple[SimulatedJob, float, float]] = []
        self.looked_at = 0.0  # when a search of it was last answered
        self.not_before = 0.0  # until when the service wants no job of it
        self.was_refused = False
        self.extra = 0.0  # seconds by which faults may lengthen it
        self.locked_for = 0.0
        self.client = ServiceClient(self)
        self.ledger = SimulatedLedger(self)

    def said(self, message: object, args: tuple[object, ...]) -> None:
        """Take note of a line of the log."""
        self.named.update(arg for arg in args if type(arg) is str)
        self.world.note(self.name, "logs", message, args)

    async def run(self) -> None:
        """Submit, and wait where the plan says so."""
        world = self.world
        world.note(self.name, "begins")
        ended = "error"
        try:
            reference = await submitted(self)
            self.submitted = world.promises.returned(self, reference)
            self.submitted_at = world.timeline.now
            ended = "submitted"
            if self.plan.waits:
                reference, failed = await job_of(self, reference)
                ended = "no result" if failed else "result"
                self.result = world.promises.fetched(self, reference, failed=failed)
        except asyncio.CancelledError as error:
            self.error = error
            ended = "cancelled"
        except InputError as error:
            self.error = error
            ended = "refused"
        except (JobError, ConfigurationError) as error:
            self.error = error
        except ProcessDiedError:
            return
        except Exception as error:  # noqa: BLE001 - none of these is promised
            self.error = error
            world.break_promise("errors are of the tree", f"{self.name}: {error!r}")
        finally:
            if self._loop.is_alive:
                self.process.running.remove(self)
                self.ended = ended
                world.note(self.name, f"ends: {ended}", "%s", (self.error or "",))
                world.promises.call_ended(self)

    def died(self) -> None:
        """Take note that its process was killed."""
        self.ended = "died"

    # What it asks of the world. An operation reaches the world, has its effect there, and is
    # answered; the process may die before each of them.

    async def submission(self, request: Request, tags: Sequence[str]) -> SubmittedJob:
        """Send a job."""
        self._alive()
        self.world.promises.sent(self, request, tags)
        self.posts.append(self.world.timeline.now)
        fault, share = self._fault("submit")
        if fault is None and self.world.is_out(None):
            fault, share = "lost before", 0.2
            self.faults.append("submit: outage")
        answer = self._answer()
        reach, back = self._ways()
        if fault == "late":
            back += 250.0 * share
        elif fault == "slow":
            reach += 60.0 * share
        self.extra += reach + back
        self._reaches(reach, self._submitted, answer, request, tags, fault, share, back)
        try:
            job: SimulatedJob = await answer
        except SubmissionUncertainError:
            self.searching_since = self.world.timeline.now
            self.extra += 120.0
            raise
        except SubmissionError as error:
            self.not_before = self.world.timeline.now + (error.retry_after or 0.0)
            self.was_refused = error.retryable is False
            raise
        self.told.append(job.job_id)
        self.told_at = self.world.timeline.now
        return SubmittedJob(job.job_id, BACKEND, job.created_at)

    def _submitted(
        self,
        answer: asyncio.Future[Any],
        request: Request,
        tags: Sequence[str],
        fault: str | None,
        share: float,
        back: float,
    ) -> None:
        world = self.world
        if fault == "crash before":
            self.process.crash()
            return
        if fault == "cancel before":
            self.task.cancel()
        job: SimulatedJob | None = None
        if fault not in {"lost before", "too many", "not sent", "refused"}:
            job = world.accept(self, request, tags)
        if fault in {"doubled", "doubled and lost"}:
            world.timeline.at(world.timeline.now + 3.0 * share, self._again, request, tags)
        if fault == "crash after":
            self.process.crash()
            return
        if fault == "cancel after":
            self.task.cancel()
        if fault in {"lost before", "lost after", "doubled and lost"}:
            lost = SubmissionUncertainError("The answer was lost.")
            self.extra += 60.0 * share
            self._reply(back + 60.0 * share, answer, lost)
        elif fault == "too many":
            pause = None if share < 0.5 else 400.0 * share
            self.extra += 400.0 * share + 65.0
            limit = SubmissionError(
                "Too many jobs wait.", status=429, retryable=True, retry_after=pause
            )
            self._reply(back, answer, limit)
        elif fault == "not sent":
            self.extra += 70.0
            self._reply(back, answer, SubmissionError("No connection.", retryable=True))
        elif fault == "refused":
            refusal = SubmissionError("The job is wrong.", status=400, retryable=False)
            self._reply(back, answer, refusal)
        else:
            self._reply(back, answer, job)

    def _again(self, request: Request, tags: Sequence[str]) -> None:
        self.world.accept(self, request, tags, is_double=True)

    def searched(self, now: float, tag: str, created_after: datetime | None) -> list[ListedJob]:
        """Search the service."""
        self.looked_at = now
        return self.world.service.search(now, tag, created_after)

    async def question(self, name: str, ask: Callable[..., Any], *args: object) -> Any:
        """Ask the service something."""
        self._alive()
        fault, share = self._fault(name)
        if fault is None and self.world.is_out(None):
            fault = "fails"
            self.faults.append(f"{name}: outage")
        answer = self._answer()
        reach, back = self._ways()
        if fault == "late":
            reach += 10.0 * share
            back += 10.0 * share
        self.extra += reach + back
        if name in {"search", "beside", "cancel"} and self.process.counts[name] <= _IN_ANY_ORDER:
            self._reaches(reach, self._asked, answer, ask, args, fault, back, share)
        else:
            self._at(reach, self._asked, answer, ask, args, fault, back, share)
        return await answer

    def _asked(
        self,
        answer: asyncio.Future[Any],
        ask: Callable[..., Any],
        args: tuple[object, ...],
        fault: str | None,
        back: float,
        share: float,
    ) -> None:
        if fault == "crash before":
            self.process.crash()
            return
        if fault == "cancel before":
            self.task.cancel()
        if fault == "fails":
            pause = 20.0 * share if share > 0.5 else None
            self.extra += 30.0
            failure = JobError("No answer.", retryable=True, retry_after=pause)
            self._reply(back, answer, failure)
            return
        if fault == "forbidden":
            self._reply(back, answer, JobError("Forbidden.", status=403, retryable=False))
            return
        try:
            said = ask(self.world.timeline.now, *args)
        except JobNotFoundError as error:
            said = error
        if fault == "crash after":
            self.process.crash()
            return
        self._reply(back, answer, said)

    def cancelled_job(self, now: float, job_id: str) -> bool:
        """Cancel a job at the service."""
        self.world.promises.cancels(self, job_id)
        return self.world.service.cancel(now, job_id)

    async def storing(self, name: str, do: Callable[..., Any], *args: object) -> Any:
        """Read or write storage."""
        self._alive()
        is_write = name == "write"
        fault, share = self._fault(name)
        if fault is None and self.world.is_out(self.process.machine):
            fault = "not written" if is_write else "unreadable"
            self.faults.append(f"{name}: outage")
        answer = self._answer()
        took = 0.02 * self.world.chance() + (20.0 * share if fault == "slow" else 0.0)
        self.extra += took
        self._at(took, self._stored, answer, do, args, fault)
        return await answer

    def _stored(
        self,
        answer: asyncio.Future[Any],
        do: Callable[..., Any],
        args: tuple[object, ...],
        fault: str | None,
    ) -> None:
        if not answer.get_loop().is_alive:  # type: ignore[attr-defined]
            return  # who writes has died, and the file with it that was to replace the other
        if fault == "crash before":
            self.process.crash()
            return
        if fault == "cancel before":
            self.task.cancel()
        said: object = None
        if fault == "unreadable":
            said = unreadable(str(args[0]))
        elif fault == "not written":
            said = OSError("No space left on device.")
        else:
            said = do(self.world.timeline.now, *args)
            if fault == "written, and an error":
                said = OSError("The connection broke.")
        if fault == "crash after":
            self.process.crash()
            return
        _settle(answer, said)

    async def locking(self, key: str) -> None:
        """Wait for a lock."""
        self._alive()
        fault, _ = self._fault("lock")
        if fault == "crash before":
            self.process.crash()
            await self._answer()
        if fault == "cancel before":
            self.task.cancel()
        turn = self.process.machine.locks.take(key, self)
        if turn is not None:
            try:
                await turn
            except BaseException:
                self.process.machine.locks.free(key, self)
                raise
        self.locked_at = self.searching_since = self.world.timeline.now
        self.world.promises.locked(self, key)
        if fault == "crash after":
            self.process.crash()
            await self._answer()

    def unlocked(self, key: str) -> None:
        """Free a lock."""
        if self._loop.is_alive:
            self.locked_for = self.world.timeline.now - self.locked_at
            self.world.note(self.name, "frees the lock")
            self.process.machine.locks.free(key, self)

    def _alive(self) -> None:
        if not self._loop.is_alive:
            raise ProcessDiedError

    def _answer(self) -> asyncio.Future[Any]:
        return self._loop.create_future()

    def _ways(self) -> tuple[float, float]:
        chance = self.world.chance
        reach, back = chance(), chance()
        return 0.05 + reach * reach, 0.05 + 0.5 * back * back

    def _at(self, seconds: float, do: Callable[..., object], *args: object) -> None:
        timeline = self.world.timeline
        timeline.at(timeline.now + (0.0 if timeline.choose else seconds), do, *args)

    def _reaches(self, seconds: float, do: Callable[..., object], *args: object) -> None:
        if self.world.timeline.choose:
            self.world.timeline.hold(do, *args)
        else:
            self._at(seconds, do, *args)

    def _reply(self, seconds: float, answer: asyncio.Future[Any], said: object) -> None:
        self._at(seconds, _settle, answer, said)

    def _fault(self, name: str) -> tuple[str | None, float]:
        fault, share = self.process.fault(name)
        self.world.note(self.name, name, "%s", (fault or "",))
        if fault is not None:
            self.faults.append(f"{name}: {fault}")
            self.world.hit.append((self.process.number, name, fault))
        return fault, share


def _settle(answer: asyncio.Future[Any], said: object) -> None:
    if answer.done() or not answer.get_loop().is_alive:  # type: ignore[attr-defined]
        return
    if isinstance(said, Exception):
        answer.set_exception(said)
    else:
        answer.set_result(said)
