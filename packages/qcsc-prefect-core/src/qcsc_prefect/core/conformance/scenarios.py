"""What happens to a vendor, and what must come of it."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import uuid4

from qcsc_prefect.core.conformance.callers import Caller, FolderLedger, identity_of
from qcsc_prefect.core.conformance.faults import (
    ConformanceReport,
    Faults,
    FaultUnavailableError,
    Finding,
)
from qcsc_prefect.core.engine.late import kept_in_its_place
from qcsc_prefect.core.engine.sealed_json import sealed
from qcsc_prefect.core.engine.service import AwaitedJob, JobState, JobStatus
from qcsc_prefect.core.engine.waiting import JobWatcher, WaitLimits, wait_for_job
from qcsc_prefect.core.errors import (
    JobError,
    JobNotFoundError,
    SubmissionError,
    SubmissionUncertainError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from qcsc_prefect.core.engine.service import JobService, ListedJob
    from qcsc_prefect.core.reference import JobReference

__all__ = ["check_vendor"]

RequestT = TypeVar("RequestT")

_CLOCKS_APART = timedelta(minutes=5)
_SEARCH_PAUSE = 0.05


class _NotRightError(Exception):
    def __init__(self, expected: str, seen: object) -> None:
        super().__init__(expected, seen)
        self.expected, self.seen = expected, str(seen)


@dataclass
class _Trial(Generic[RequestT]):
    """One input, and all that happens to it."""

    service_factory: Callable[[], JobService[RequestT]]
    request: RequestT
    faults: Faults
    folder: Path
    visibility_delay: float
    processes: bool
    fetch: Callable[[str], Awaitable[object]] | None
    service: JobService[RequestT] = field(init=False)
    input_name: str = field(default_factory=lambda: f"conformance-{uuid4().hex}")
    _before: frozenset[str] = field(init=False)
    _made: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.service = self.service_factory()
        self._before = frozenset(self.faults.jobs())

    @property
    def tag(self) -> str:
        return identity_of(self.input_name).tag

    def machine(self, name: str = "one") -> Caller[RequestT]:
        """Return a caller on a machine whose records no other machine has."""
        folder = self.folder / self.input_name / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Caller(
            self.service_factory, self.request, self.input_name, folder, self.visibility_delay
        )

    def jobs_made(self) -> set[str]:
        self._made |= self.faults.jobs().keys() - self._before
        return self._made

    def jobs_alive(self) -> set[str]:
        jobs = self.faults.jobs()
        return {job for job in self.jobs_made() if job in jobs and not jobs[job].has_failed}

    def expect(self, expected: str, *, right: bool, seen: object) -> None:
        if not right:
            raise _NotRightError(expected, seen)

    def expect_one_job(self, *references: JobReference) -> None:
        made, named = self.jobs_made(), {str(job.job_id) for job in references}
        self.expect("one job", right=len(made) == 1, seen=f"{len(made)} jobs")
        self.expect("every caller has it", right=named <= made, seen=f"{named} and not {made}")

    async def ended(self, job_id: str) -> JobStatus:
        limits = WaitLimits(max_wait=30.0, first_pause=_SEARCH_PAUSE, outage=5.0)
        watcher = JobWatcher(self.service)
        return await wait_for_job(
            self.service, AwaitedJob(job_id), limits, lambda *_: None, watcher=watcher
        )

    async def listed(self) -> list[ListedJob]:
        """Return what the search shows, once it shows something or its time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.visibility_delay
        while True:
            is_last = loop.time() >= deadline
            found = await self.service.jobs_with_tag(self.tag, None)
            if found or is_last:
                return found
            await asyncio.sleep(_SEARCH_PAUSE)


async def _submitted_job_is_listed(trial: _Trial[RequestT]) -> None:
    """A job is listed under its tag, as it was submitted, and under no other tag."""
    submitted = await trial.service.submit(trial.request, (trial.tag,))
    listed = await trial.listed()
    trial.expect_one_job()
    ids = [job.job_id for job in listed]
    trial.expect("its search shows the job", right=ids == [submitted.job_id], seen=ids)
    [job] = listed
    same_backend = job.backend_name in {None, submitted.backend_name}
    seen = f"{submitted.backend_name}, {job.backend_name}"
    trial.expect("both name the same backend", right=same_backend, seen=seen)
    now = await trial.service.now()
    for told in (submitted.submitted_at, job.created_at):
        is_dated = told is not None and abs(told - now) < _CLOCKS_APART
        trial.expect(f"it is dated at about {now}", right=is_dated, seen=told)
    other = await trial.service.jobs_with_tag(identity_of(uuid4().hex).tag, None)
    trial.expect("a search for another tag shows nothing", right=not other, seen=other)
    younger = await trial.service.jobs_with_tag(trial.tag, now + timedelta(days=1))
    trial.expect("a search for later jobs shows nothing", right=not younger, seen=younger)
    same = await trial.service.jobs_with_tag(trial.tag, now - timedelta(days=1))
    trial.expect("a search for jobs of today shows it", right=len(same) == 1, seen=same)


async def _same_input_again(trial: _Trial[RequestT]) -> None:
    """The same input is the same job: here, and later on another machine."""
    jobs = [await trial.machine(name).submit_once() for name in ("one", "one", "another")]
    trial.expect_one_job(*jobs)


async def _killed_after_acceptance(trial: _Trial[RequestT]) -> None:
    """Killed between the acceptance of the job and its record, a rerun finds the job."""
    await _killed(trial, at_write=2)


async def _killed_after_the_record(trial: _Trial[RequestT]) -> None:
    """Killed just after the record, a rerun takes it."""
    await _killed(trial, at_write=3)


async def _killed(trial: _Trial[RequestT], at_write: int) -> None:
    if trial.processes:
        await trial.machine().in_own_process(dies_at_write=at_write)
    else:
        await trial.machine().die_at_write(at_write)
    trial.expect_one_job()
    trial.expect_one_job(await trial.machine().submit_once())


async def _answer_dropped(trial: _Trial[RequestT]) -> None:
    """An accepted job whose answer is lost is found, and not sent again."""
    trial.faults.drop_answer()
    trial.expect_one_job(await trial.machine().submit_once())


async def _answer_cut(trial: _Trial[RequestT]) -> None:
    """An accepted job whose answer is cut in its middle is found, and not sent again."""
    trial.faults.cut_answer()
    trial.expect_one_job(await trial.machine().submit_once())


async def _answer_timed_out(trial: _Trial[RequestT]) -> None:
    """An accepted job that a gateway answers with 504 is found, and not sent again."""
    trial.faults.time_out_answer()
    trial.expect_one_job(await trial.machine().submit_once())


async def _answer_dropped_and_listed_late(trial: _Trial[RequestT]) -> None:
    """A job whose answer is lost is waited for, as long as the search may not show it."""
    trial.faults.show_late(trial.visibility_delay / 2)
    trial.faults.drop_answer()
    trial.expect_one_job(await trial.machine().submit_once())


async def _refused(trial: _Trial[RequestT]) -> None:
    """A refused submission is a SubmissionError that says that no job was made."""
    trial.faults.refuse()
    try:
        seen: object = await trial.service.submit(trial.request, (trial.tag,))
    except SubmissionUncertainError as error:
        seen = f"SubmissionUncertainError: {error}"
    except SubmissionError as error:
        trial.expect("it is not worth a retry", right=not error.retryable, seen="retryable=True")
        seen = None
    trial.expect("SubmissionError", right=seen is None, seen=seen)
    trial.expect("no job", right=not trial.jobs_made(), seen=f"{len(trial.jobs_made())} jobs")


async def _too_many_requests(trial: _Trial[RequestT]) -> None:
    """After a 429 the job is sent again, and not before the Retry-After is over."""
    seconds, loop = 1, asyncio.get_running_loop()
    began = loop.time()
    trial.faults.limit(seconds)
    job = await trial.machine().submit_once()
    waited = loop.time() - began
    trial.expect_one_job(job)
    trial.expect(
        f"sent again after {seconds} s", right=waited >= seconds, seen=f"after {waited:.2f} s"
    )


async def _questions_unanswered(trial: _Trial[RequestT]) -> None:
    """A question that is not answered is a JobError, and never the answer that there is no job."""
    job = await trial.machine().submit_once()
    await trial.listed()
    trial.faults.break_questions()
    try:
        listed: object = [one.job_id for one in await trial.service.jobs_with_tag(trial.tag, None)]
    except JobError:
        listed = [job.job_id]
    trial.expect("the job, or a JobError", right=listed == [job.job_id], seen=listed)
    trial.faults.clear()
    trial.faults.break_questions()
    try:
        await trial.service.status(str(job.job_id))
    except JobNotFoundError as error:
        trial.expect("the status, or another JobError", right=False, seen=repr(error))
    except JobError:
        pass
    trial.faults.clear()
    trial.faults.break_questions()
    try:
        trial.expect_one_job(await trial.machine("another").submit_once())
    except JobError:
        trial.expect_one_job(job)


async def _two_processes_at_once(trial: _Trial[RequestT]) -> None:
    """Two processes of one machine that submit at once have one job."""
    if trial.processes:
        calls = [trial.machine().in_own_process() for _ in range(2)]
    else:
        calls = [trial.machine().submit_once() for _ in range(2)]
    trial.expect_one_job(*[job for job in await asyncio.gather(*calls) if job is not None])


async def _two_machines_at_once(trial: _Trial[RequestT]) -> None:
    """Two machines that submit at once settle on the oldest job, and cancel the other."""
    trial.faults.hold()
    await _settle(trial)


async def _two_machines_and_listed_late(trial: _Trial[RequestT]) -> None:
    """They do so as well where the search shows both jobs late."""
    trial.faults.hold()
    trial.faults.show_late(trial.visibility_delay / 2)
    await _settle(trial)


async def _settle(trial: _Trial[RequestT]) -> None:
    jobs = await asyncio.gather(*(trial.machine(name).submit_once() for name in ("one", "two")))
    await asyncio.sleep(trial.visibility_delay)
    kept = await trial.machine("three").submit_once()
    alive = trial.jobs_alive()
    trial.expect("one job that is not cancelled", right=len(alive) == 1, seen=f"{len(alive)} jobs")
    trial.expect("all keep that one", right={kept.job_id} == alive, seen=kept.job_id)
    for job in jobs:
        status = await trial.service.status(str(job.job_id))
        found = await kept_in_its_place(trial.service, job, status) or job
        seen = f"{found.job_id} ({status.state.value})"
        trial.expect(
            "who waits for the other gets it", right=found.job_id == kept.job_id, seen=seen
        )


async def _failed_job(trial: _Trial[RequestT]) -> None:
    """A job that failed is told as failed, and the next run submits another one."""
    trial.faults.fail_next_job()
    job = await trial.machine().submit_once()
    status = await trial.ended(str(job.job_id))
    seen = status.state.value
    trial.expect("a state that has failed", right=status.state.has_failed, seen=seen)
    again = await trial.machine().submit_once()
    seen = f"{again.job_id} after {job.job_id}"
    trial.expect("another job", right=again.job_id != job.job_id, seen=seen)


async def _vanished_job(trial: _Trial[RequestT]) -> None:
    """A job that the service forgot is told as unknown, and the next run submits another one."""
    job = await trial.machine().submit_once()
    trial.jobs_made()
    trial.faults.vanish(str(job.job_id))
    try:
        seen: object = await trial.service.status(str(job.job_id))
    except JobNotFoundError:
        seen = None
    trial.expect("JobNotFoundError", right=seen is None, seen=seen)
    told = await trial.service.statuses([AwaitedJob(str(job.job_id))], places=False)
    seen = told.get(str(job.job_id))
    is_told = seen is None or isinstance(seen, JobNotFoundError)
    trial.expect("the same where several are asked for", right=is_told, seen=seen)
    await asyncio.sleep(trial.visibility_delay)
    again = await trial.machine().submit_once()
    trial.expect("another job", right=again.job_id != job.job_id, seen=again.job_id)


async def _cancelled_in_the_queue(trial: _Trial[RequestT]) -> None:
    """A job in the queue is cancelled in truth, and told as cancelled."""
    trial.faults.hold()
    job = await trial.service.submit(trial.request, (trial.tag,))
    state = (await trial.service.status(job.job_id)).state
    trial.expect("a state that waits", right=state.is_waiting, seen=state.value)
    in_time = await trial.service.cancel(job.job_id)
    trial.expect("cancel() is True", right=in_time, seen=in_time)
    trial.expect(
        "no job left", right=not trial.jobs_alive(), seen=trial.faults.jobs().get(job.job_id)
    )
    state = (await trial.ended(job.job_id)).state
    trial.expect("CANCELLED", right=state is JobState.CANCELLED, seen=state.value)


async def _ended_job(trial: _Trial[RequestT]) -> None:
    """A job that is done is told as done, and cannot be cancelled."""
    job = await trial.service.submit(trial.request, (trial.tag,))
    state = (await trial.ended(job.job_id)).state
    trial.expect("DONE", right=state is JobState.DONE, seen=state.value)
    in_time = await trial.service.cancel(job.job_id)
    trial.expect("cancel() is False", right=not in_time, seen=in_time)
    state = (await trial.service.status(job.job_id)).state
    trial.expect("still DONE", right=state is JobState.DONE, seen=state.value)


async def _result_truncated(trial: _Trial[RequestT]) -> None:
    """Half a result is a JobError that is worth a retry, or is fetched again; never a result."""
    if trial.fetch is None:
        raise FaultUnavailableError
    job = await trial.service.submit(trial.request, (trial.tag,))
    await trial.ended(job.job_id)
    whole = await trial.fetch(job.job_id)
    trial.faults.truncate_result()
    try:
        seen = await trial.fetch(job.job_id)
    except JobError as error:
        trial.expect("it is worth a retry", right=error.retryable is True, seen=repr(error))
        seen = await trial.fetch(job.job_id)
    trial.expect(
        f"the whole result, {whole!r:.60}", right=bool(seen == whole), seen=f"{seen!r:.60}"
    )


async def _hostile_records(trial: _Trial[RequestT]) -> None:
    """Records that are damaged or foreign are passed over, and the job is found by its tag."""
    machine = trial.machine()
    job, ledger, key = (
        await machine.submit_once(),
        FolderLedger(machine.ledger_folder),
        machine.input_name,
    )
    await trial.listed()
    foreign = {**job.to_dict(), "job_id": "of-somebody-else"}
    for record in (
        foreign,
        sealed("another-key", foreign),
        {**sealed(key, job.to_dict()), "job_id": "of-somebody-else"},
        {"outstanding": "perhaps"},
    ):
        for name in (key, f"{key}-intent"):
            await ledger.write(name, record)
        trial.expect_one_job(job, await machine.submit_once())
    ledger.damage()
    trial.expect_one_job(job, await machine.submit_once())


_SCENARIOS = (
    _submitted_job_is_listed,
    _same_input_again,
    _ended_job,
    _cancelled_in_the_queue,
    _failed_job,
    _vanished_job,
    _questions_unanswered,
    _refused,
    _too_many_requests,
    _answer_dropped,
    _answer_cut,
    _answer_timed_out,
    _answer_dropped_and_listed_late,
    _killed_after_acceptance,
    _killed_after_the_record,
    _two_processes_at_once,
    _two_machines_at_once,
    _two_machines_and_listed_late,
    _result_truncated,
    _hostile_records,
)


async def check_vendor(
    service_factory: Callable[[], JobService[RequestT]],
    request: RequestT,
    faults: Faults,
    *,
    fetch: Callable[[str], Awaitable[object]] | None = None,
    visibility_delay: float = 2.0,
    processes: bool = True,
    seconds: float = 60.0,
    only: Collection[str] = (),
) -> ConformanceReport:
    """Check whether every job is paid for once with a vendor's service; submits some fifty jobs.

    Args:
        service_factory: Makes a service, as each new process would.
        request: A small job; each scenario submits it under tags of its own.
        faults: What makes the service misbehave, and knows which jobs there are in truth.
        fetch: Fetches the result of a job that is done, as something that ``==`` compares; without
            it results are not checked.
        visibility_delay: Seconds after which the service's search shows a new job for certain.
        processes: Whether callers run, and are killed, in processes of their own; then the factory
            and the request are pickled. Else they run and end in this one.
        seconds: How long one scenario may take.
        only: Names of the scenarios to run; all where it is empty.

    Returns:
        What was right, what was not, and what could not be checked.

    Example:
        >>> async def test_acme_pays_once():  # doctest: +SKIP
        ...     report = await check_vendor(AcmeService, {"a b": 1.0}, AcmeFaults())
        ...     assert report.is_right, str(report)
    """
    passed, findings, not_checked = [], [], []
    for scenario in _SCENARIOS:
        name = scenario.__name__.strip("_").replace("_", " ")
        if only and name not in only:
            continue
        faults.clear()
        with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
            trial = _Trial(
                service_factory, request, faults, Path(folder), visibility_delay, processes, fetch
            )
            try:
                async with asyncio.timeout(seconds):
                    await scenario(trial)
            except FaultUnavailableError:
                not_checked.append(name)
            except _NotRightError as error:
                findings.append(_finding(name, trial, error.expected, error.seen))
            except TimeoutError:
                findings.append(_finding(name, trial, scenario.__doc__, f"no end in {seconds:g} s"))
            except Exception as error:  # noqa: BLE001 - a vendor's service may raise anything
                seen = f"{type(error).__name__}: {error}"
                findings.append(_finding(name, trial, scenario.__doc__, seen))
            else:
                passed.append(name)
            finally:
                faults.clear()
    return ConformanceReport(tuple(passed), tuple(findings), tuple(not_checked))


def _finding(scenario: str, trial: _Trial[RequestT], expected: str | None, seen: str) -> Finding:
    return Finding(scenario, expected or scenario, seen, len(trial.jobs_made()))
