"""What happens to a vendor, and what must come of it."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from qcsc_prefect.core.conformance.callers import FolderLedger, identity_of
from qcsc_prefect.core.conformance.faults import (
    ConformanceReport,
    Faults,
    FaultUnavailableError,
    Finding,
)
from qcsc_prefect.core.conformance.trial import NotRightError, Trial
from qcsc_prefect.core.engine.late import kept_in_its_place
from qcsc_prefect.core.engine.sealed_json import sealed
from qcsc_prefect.core.engine.service import AwaitedJob, JobState
from qcsc_prefect.core.errors import JobError, JobNotFoundError, SubmissionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from qcsc_prefect.core.engine.service import JobService

__all__ = ["check_vendor"]

RequestT = TypeVar("RequestT")

_CLOCKS_APART = timedelta(minutes=5)
_A_DAY = timedelta(days=1)


async def _listed_under_its_tag(trial: Trial[RequestT]) -> None:
    """A job is listed under its tag as it was submitted, and under no other tag."""
    submitted = await trial.submit()
    trial.expect_one_job()
    listed = await trial.listed()
    trial.expect("its tag shows the job", [job.job_id for job in listed], [submitted.job_id])
    backends = {job.backend_name or submitted.backend_name for job in listed}
    trial.expect("both name one backend", backends, {submitted.backend_name})
    now = await trial.service.now()
    dates = [submitted.submitted_at, *(job.created_at for job in listed)]
    wrong = [date for date in dates if date is None or abs(date - now) > _CLOCKS_APART]
    trial.expect(f"dated at about {now}", wrong, [])
    search = trial.service.jobs_with_tag
    trial.expect("nothing under another tag", await search(identity_of(uuid4().hex).tag, None), [])
    trial.expect("nothing since tomorrow", await search(trial.tag, now + _A_DAY), [])
    trial.expect("the job since yesterday", len(await search(trial.tag, now - _A_DAY)), 1)


async def _the_same_input_again(trial: Trial[RequestT]) -> None:
    """The same input is the same job: here, and later on another machine."""
    trial.expect_one_job(*[await trial.once(machine) for machine in ("one", "one", "another")])


async def _done(trial: Trial[RequestT]) -> None:
    """A job that is done is told as done, and cannot be cancelled."""
    job_id = (await trial.submit()).job_id
    trial.expect("its end", await trial.end_of(job_id), JobState.DONE)
    trial.expect("what cancel() says", await trial.service.cancel(job_id), wanted=False)
    trial.expect("its end after that", await trial.end_of(job_id), JobState.DONE)


async def _cancelled_in_the_queue(trial: Trial[RequestT]) -> None:
    """A job in the queue is cancelled in truth, and told as cancelled."""
    trial.faults.hold()
    job_id = (await trial.submit()).job_id
    state = (await trial.service.status(job_id)).state
    trial.expect(f"{state} waits", state.is_waiting, wanted=True)
    trial.expect("what cancel() says", await trial.service.cancel(job_id), wanted=True)
    trial.expect("jobs left in truth", trial.jobs_alive(), set())
    trial.expect("its end", await trial.end_of(job_id), JobState.CANCELLED)


async def _failed(trial: Trial[RequestT]) -> None:
    """A job that failed is told as failed, and the next run submits another one."""
    trial.faults.fail_next_job()
    job = await trial.once()
    state = await trial.end_of(str(job.job_id))
    trial.expect(f"{state} has failed", state.has_failed, wanted=True)
    await trial.expect_another_job(job)


async def _vanished(trial: Trial[RequestT]) -> None:
    """A job that the service forgot is told as unknown, and the next run submits another one."""
    job = await trial.once()
    job_id = str(job.job_id)
    trial.expect_one_job(job)
    trial.faults.vanish(job_id)
    told = await trial.raised_by(trial.service.status(job_id))
    trial.expect("its status", type(told), JobNotFoundError)
    together = await trial.service.statuses([AwaitedJob(job_id)], places=False)
    trial.expect("asked with others", type(together.get(job_id, told)), JobNotFoundError)
    await asyncio.sleep(trial.visibility_delay)
    await trial.expect_another_job(job)


async def _questions_unanswered(trial: Trial[RequestT]) -> None:
    """What is not answered is a JobError, and never taken for the answer that there is no job."""
    job = await trial.once()
    await trial.listed()
    trial.faults.break_questions()
    listed = await trial.raised_by(trial.listed_once())
    if not isinstance(listed, JobError):
        trial.expect("the search", listed, [job.job_id])
    trial.faults.clear()
    trial.faults.break_questions()
    status = await trial.raised_by(trial.service.status(str(job.job_id)))
    trial.expect("the status is unknown", isinstance(status, JobNotFoundError), wanted=False)
    trial.faults.clear()
    trial.faults.break_questions()
    await trial.raised_by(trial.once("another"))
    trial.expect_one_job(job)


async def _refused(trial: Trial[RequestT]) -> None:
    """A refusal is a SubmissionError that says that no job was made."""
    trial.faults.refuse()
    error = await trial.raised_by(trial.submit())
    trial.expect("its error", type(error), SubmissionError)
    trial.expect("jobs", trial.jobs_made(), set())


async def _too_many_requests(trial: Trial[RequestT]) -> None:
    """After a 429 the job is sent again, and not before its Retry-After is over."""
    loop, seconds = asyncio.get_running_loop(), 2
    began = loop.time()
    trial.faults.limit(seconds)
    trial.expect_one_job(await trial.once())
    waited = loop.time() - began
    trial.expect(f"{waited:.2f} s are {seconds} s or more", waited >= seconds, wanted=True)


async def _answer_dropped(trial: Trial[RequestT]) -> None:
    """An accepted job whose answer is lost is found, and not sent again."""
    trial.faults.drop_answer()
    trial.expect_one_job(await trial.once())


async def _answer_cut(trial: Trial[RequestT]) -> None:
    """An accepted job whose answer is cut in its middle is found, and not sent again."""
    trial.faults.cut_answer()
    trial.expect_one_job(await trial.once())


async def _answered_504(trial: Trial[RequestT]) -> None:
    """An accepted job for which a gateway answers 504 is found, and not sent again."""
    trial.faults.time_out_answer()
    trial.expect_one_job(await trial.once())


async def _answer_dropped_and_listed_late(trial: Trial[RequestT]) -> None:
    """A job whose answer is lost is looked for as long as the search may not show it."""
    trial.faults.show_late(trial.visibility_delay / 2)
    trial.faults.drop_answer()
    trial.expect_one_job(await trial.once())


async def _killed_after_acceptance(trial: Trial[RequestT]) -> None:
    """Killed when the job is accepted and not recorded, a rerun finds it."""
    await trial.killed_once()
    trial.expect_one_job()
    trial.expect_one_job(await trial.once())


async def _two_processes_at_once(trial: Trial[RequestT]) -> None:
    """Two processes of one machine that submit at once have one job."""
    trial.expect_one_job(*await asyncio.gather(*(trial.once_in_a_process() for _ in range(2))))


async def _two_machines_at_once(trial: Trial[RequestT]) -> None:
    """Two machines that submit at once settle on one job, and cancel the other."""
    trial.faults.hold()
    await _settled(trial)


async def _two_machines_at_once_and_listed_late(trial: Trial[RequestT]) -> None:
    """Two machines settle on one job as well where the search shows both late."""
    trial.faults.hold()
    trial.faults.show_late(trial.visibility_delay / 2)
    await _settled(trial)


async def _settled(trial: Trial[RequestT]) -> None:
    jobs = await asyncio.gather(trial.once("one"), trial.once("two"))
    await asyncio.sleep(trial.visibility_delay)
    kept = await trial.once("three")
    trial.expect("jobs that are not cancelled", trial.jobs_alive(), {kept.job_id})
    for job in jobs:
        status = await trial.service.status(str(job.job_id))
        found = await kept_in_its_place(trial.service, job, status) or job
        trial.expect(f"the job of who waits for {job.job_id}", found.job_id, kept.job_id)


async def _result_cut(trial: Trial[RequestT]) -> None:
    """Half a result is an error that is worth a retry, or is fetched again; never a result."""
    job_id = (await trial.submit()).job_id
    trial.expect("its end", await trial.end_of(job_id), JobState.DONE)
    whole = await trial.faults.fetch(job_id)
    trial.faults.truncate_result()
    fetched = await trial.raised_by(trial.faults.fetch(job_id))
    if isinstance(fetched, JobError):
        trial.expect(f"{fetched!r} is retryable", fetched.retryable, wanted=True)
        fetched = await trial.faults.fetch(job_id)
    trial.expect("the result", fetched, whole)


async def _hostile_records(trial: Trial[RequestT]) -> None:
    """Records that are damaged or foreign are passed over, and the job is found by its tag."""
    job, key, ledger = await trial.once(), trial.input_name, FolderLedger(trial.folder / "one")
    await trial.listed()
    foreign = {**job.to_dict(), "job_id": "of-somebody-else"}
    altered = {**sealed(key, job.to_dict()), "job_id": "of-somebody-else"}
    for record in (foreign, altered, sealed("another-key", foreign), {"outstanding": "perhaps"}):
        await ledger.write(key, record)
        await ledger.write(f"{key}-intent", record)
        trial.expect_one_job(job, await trial.once())
    ledger.damage()
    trial.expect_one_job(job, await trial.once())


_SCENARIOS = (
    _listed_under_its_tag,
    _the_same_input_again,
    _done,
    _cancelled_in_the_queue,
    _failed,
    _vanished,
    _questions_unanswered,
    _refused,
    _too_many_requests,
    _answer_dropped,
    _answer_cut,
    _answered_504,
    _answer_dropped_and_listed_late,
    _killed_after_acceptance,
    _two_processes_at_once,
    _two_machines_at_once,
    _two_machines_at_once_and_listed_late,
    _result_cut,
    _hostile_records,
)


async def check_vendor(
    service_factory: Callable[[], JobService[RequestT]],
    request: RequestT,
    faults: Faults,
    *,
    visibility_delay: float = 2.0,
    processes: bool = True,
    seconds: float = 120.0,
    only: Collection[str] = (),
) -> ConformanceReport:
    """Check whether every job is paid for once with a vendor's service; submits some thirty jobs.

    Args:
        service_factory: Makes a service, as each new process would.
        request: A small job; each scenario submits it under a tag of its own.
        faults: Makes the service misbehave, and knows which jobs there are in truth.
        visibility_delay: Seconds after which the service's search shows a new job for certain.
        processes: Whether some callers run, and are killed, in processes of their own; for these
            the factory and the request are pickled. Else they run and end in this one.
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
        expected, seen = scenario.__doc__ or name, None
        faults.clear()
        with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
            trial = Trial(
                service_factory, request, faults, Path(folder), visibility_delay, processes
            )
            try:
                async with asyncio.timeout(seconds):
                    await scenario(trial)
            except FaultUnavailableError:
                not_checked.append(name)
                continue
            except NotRightError as error:
                expected, seen = error.expected, error.seen
            except Exception as error:  # noqa: BLE001 - a vendor's service may raise anything
                seen = f"{type(error).__name__}: {error}"
            finally:
                faults.clear()
            if seen is None:
                passed.append(name)
            else:
                findings.append(Finding(name, expected, seen, len(trial.jobs_made())))
    return ConformanceReport(tuple(passed), tuple(findings), tuple(not_checked))
