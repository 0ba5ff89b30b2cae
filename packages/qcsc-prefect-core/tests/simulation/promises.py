"""What must hold, whatever happens: `docs/paying-once.md`, as checks of what the world knows.

Each check says what excuses it. An excuse is a sentence of that page, or a fault beyond what it
promises; none rests on what the engine says of itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcsc_prefect.core.engine.service import JobState
from qcsc_prefect.core.errors import JobNotFoundError

from .schedule import VISIBILITY_DELAY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qcsc_prefect.core.reference import JobReference

    from .calls import CallRun
    from .service import Request, SimulatedJob
    from .world import World

__all__ = ["REPEATED_WITHIN", "UNSURE", "Promises", "had"]

#: What counts as a repetition, in seconds between two jobs: by the page, and where an answer was
#: lost.
REPEATED_WITHIN, _LOST_WITHIN = 120.0, 900.0
#: How long a search may take, with what follows it until a job is sent.
_QUESTION = 45.0
#: Jobs that were made within so many seconds may each be taken for the older.
_SAME_MOMENT = 13.0
#: By how much an age may be wrong: questions take a second, and clocks drift.
UNSURE = 3.0


class Promises:
    """Looks at everything that happens in a world.

    Args:
        world: The world.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._jobs = world.service.jobs
        self._timeline = world.timeline
        self._with_intent: set[int] = set()  # numbers of calls whose last post had one
        self._last_to_send: dict[tuple[int, str], CallRun] = {}
        self._cut_short: dict[int, CallRun] = {}  # by call: whose submission it found unfinished
        self._records: dict[int, str | None] = {}  # by call: the job on record when it began
        self._replaces: dict[int, list[str]] = {}  # by call: what a refresh cut short replaces

    # Before anything is sent.

    def locked(self, call: CallRun, key: str) -> None:
        """A call holds its lock: take note of what its machine remembers."""
        storage = call.process.machine.storage
        record = storage.read(0.0, key)
        self._records[call.number] = None if record is None else str(record.get("job_id"))
        intent = storage.read(0.0, f"{key}-intent")
        if intent is not None and intent.get("outstanding"):
            before = self._last_to_send.get((call.process.machine.number, key))
            if before is not None and not self._world.schedule.shares_storage:
                self._cut_short[call.number] = before
            if intent.get("earlier") is not None:
                self._replaces[call.number] = list(intent["earlier"])  # type: ignore[call-overload]

    def sent(self, call: CallRun, request: Request, tags: Sequence[str]) -> None:
        """A call is about to send a job."""
        now = self._timeline.now
        key = call.input.key
        intent = call.process.machine.storage.read(0.0, f"{key}-intent")
        # Where machines share a storage and no lock, each may clear the other's.
        is_shared = self._world.schedule.shares_storage
        has_intent = intent is not None and (is_shared or intent.get("outstanding") is True)
        if has_intent:
            self._with_intent.add(call.number)
        else:
            self._with_intent.discard(call.number)
            if not had(call, "write"):
                self._break("an intent lies on storage before a job is sent", call.name)
        if now < call.not_before - 0.01:
            self._break(
                "the service is left alone for as long as it asks",
                f"{call.name} sends at {now:.1f} s, and was asked not to before "
                f"{call.not_before:.1f} s",
            )
        if call.was_refused:
            self._break("what was refused is not sent again", call.name)
        for job in self._counting(call, now):
            self._sent_beside(call, job)
        self._last_to_send[call.process.machine.number, key] = call

    def _sent_beside(self, call: CallRun, job: SimulatedJob) -> None:
        """A call sends a job, while there is one of its input that can be used."""
        now = self._timeline.now
        since = call.searching_since
        own = job.call is call
        refreshing = refreshing_at_all = call.plan.refresh
        replaced = self._replaces.get(call.number)
        if (
            refreshing
            and replaced is not None
            and job.job_id not in replaced
            and not had(call, "read")
        ):
            # A refresh that was cut short is finished.
            refreshing = not (job.call.plan.refresh and self._is_of_machine(call, job))
        if refreshing and not own:
            return
        if not job.is_usable(call.locked_at):
            return
        looked_at = call.locked_at if not call.posts else max(call.locked_at, now - _QUESTION)
        if job.shown_at <= looked_at and not own:
            self._break(
                "nothing is sent where the service shows a job",
                f"{call.name} sends a job; {job.job_id} shows since {job.shown_at:.1f} s, and it "
                f"looked at {looked_at:.1f} s",
            )
        elif self._records.get(call.number) == job.job_id and not had(call, "read"):
            # ... and overwrite what says that a refresh was cut short.
            is_its_own = not (refreshing_at_all and self._world.schedule.shares_storage)
            if is_its_own and job.known_at <= job.created + VISIBILITY_DELAY:
                self._break(
                    "nothing is sent where a usable job is on record",
                    f"{call.name} sends a job; {job.job_id} was on record at "
                    f"{call.locked_at:.1f} s",
                )
        elif (
            self._is_of_machine(call, job)
            and job.call.number in self._with_intent
            and not job.is_double
            and job.shown_at <= since + VISIBILITY_DELAY - 0.01
            and (job.shown_at <= job.created + VISIBILITY_DELAY or not had(call, "read"))
            and not self._world.schedule.shares_storage
        ):
            self._break(
                "nothing is sent again before a search has shown that nothing came of it",
                f"{call.name} sends a job at {now:.1f} s; {job.job_id}, made at "
                f"{job.created:.1f} s, shows at {job.shown_at:.1f} s, and it looks since "
                f"{since:.1f} s",
            )

    def accepted(self, call: CallRun, job: SimulatedJob) -> None:
        """The service has accepted a job."""
        expected = set(call.input.identity.tags)
        if not expected <= set(job.tags):
            self._break("a job carries the tags of its input", f"{job.job_id}: {job.tags}")

    # What is cancelled.

    def cancels(self, call: CallRun, job_id: str) -> None:
        """A call cancels a job of its own accord."""
        now = self._timeline.now
        job = self._jobs.get(job_id)
        if job is None or job.state(now).is_final:
            return
        if job.queue_end < call.looked_at:
            self._break(
                "what is cancelled waits in the queue",
                f"{call.name} cancels {job_id}, which runs since {job.queue_end:.1f} s, and did "
                f"when it looked at {call.looked_at:.1f} s",
            )
        kept = [
            other
            for other in self._jobs.values()
            if other.tags[-1] == job.tags[-1]
            and (other.created, other.job_id) < (job.created, job.job_id)
            and other.shown_at <= now
            and other.request == job.request
            and job.created - other.created <= _LOST_WITHIN + UNSURE
            and other.is_usable(call.looked_at)
        ]
        if not kept:
            self._break(
                "what is cancelled is a duplicate of one that is kept",
                f"{call.name} cancels {job_id}, and no older job of its input can be used",
            )

    # What callers get.

    def returned(self, call: CallRun, reference: JobReference) -> SimulatedJob:
        """A submission has ended; return its job."""
        now = self._timeline.now
        job = self._right(call, reference)
        self._is_young_enough(call, job)
        asked_at = call.locked_at - UNSURE
        if (
            job.state(asked_at).has_failed
            and job.known_at <= asked_at
            and job.is_there(now)
            and not had(call, "status")
        ):
            self._break(
                "a failed job is not handed out",
                f"{call.name} got {job.job_id}, which had failed before it began",
            )
        # A job that is younger need not be known yet.
        elif (
            asked_at > job.created + VISIBILITY_DELAY
            and not job.is_there(asked_at)
            and not had(call, "status")
        ):
            self._break(
                "a job that is gone is not handed out",
                f"{call.name} got {job.job_id}, which had gone before it began",
            )
        if call.plan.refresh:
            self._refreshed(call, job)
        elif not had(call, "beside", "search", "cancel", "status"):
            if job.call is call:
                self._gave_way(call, job, call.told_at)
            elif call.number in self._cut_short and not had(call, "read"):
                self._gave_way(call, job, call.locked_at)
        self._finished(call, job)
        if not had(call, "beside", "search", "cancel", "status"):
            self._left_behind(call, job)
        if call.locked_for > self._bound(call):
            self._break(
                "nobody waits beyond the bound",
                f"{call.name} submitted for {call.locked_for:.1f} s, more than the "
                f"{self._bound(call):.1f} s that it may take",
            )
        if not had(call, "write") and not self._world.schedule.shares_storage:
            record = call.process.machine.storage.read(now, call.input.key)
            # Another call may have recorded another one since the lock was freed.
            if record is None:
                self._break("what is known is recorded", f"{call.name} got {job.job_id}")
        return job

    def _finished(self, call: CallRun, job: SimulatedJob) -> None:
        """A call has ended that found the submission of another one unfinished."""
        before = self._cut_short.get(call.number)
        if before is None or not before.plan.refresh:
            return
        if had(call, "read") or had(before, "write"):
            return
        for sent in self._counting(call, self._timeline.now):
            if (
                sent.call is before
                and job.created < before.locked_at
                and job.shown_at < before.locked_at
                and sent.shown_at <= call.locked_at + VISIBILITY_DELAY - 0.1
                and not sent.is_double
            ):
                self._break(
                    "a refresh that was cut short is finished",
                    f"{call.name} got {job.job_id}, and {before.name} had sent {sent.job_id} to "
                    "replace it",
                )

    def _refreshed(self, call: CallRun, job: SimulatedJob) -> None:
        replaced = self._replaces.get(call.number)
        if replaced is not None and job.job_id not in replaced:
            return
        if job.call is not call and job.shown_at < call.locked_at:
            self._break(
                "a refresh submits anew",
                f"{call.name} got {job.job_id}, which showed since {job.shown_at:.1f} s",
            )

    def _gave_way(self, call: CallRun, job: SimulatedJob, looked_at: float) -> None:
        if not self._world.schedule.keeps_the_bound:
            return
        replaced = self._replaces.get(call.number, ())
        for other in self._counting(call, self._timeline.now):
            if (
                other.created < job.created
                and other.shown_at <= looked_at
                and job.created - other.created <= REPEATED_WITHIN
                and other.is_usable(looked_at)
                and other.job_id not in replaced
            ):
                self._break(
                    "of two jobs of one input the oldest is kept",
                    f"{call.name} got its own {job.job_id}, though {other.job_id} is older and "
                    f"showed since {other.shown_at:.1f} s",
                )

    def _left_behind(self, call: CallRun, job: SimulatedJob) -> None:
        """A call has given way to an older job: it has not left its own behind."""
        own = self._jobs[call.told[-1]] if call.told else job
        later = own.created - job.created
        if (
            own is not job
            and own.request == job.request
            and own.state(self._timeline.now).is_waiting
            and 0 < later <= REPEATED_WITHIN - UNSURE
            and own.known_at <= call.told_at
            # Of two jobs of one moment the older is not known before the search shows both.
            and (later > _SAME_MOMENT or own.shown_at <= call.told_at)
        ):
            self._break(
                "who gives way to an older job cancels his own",
                f"{call.name} got {job.job_id}, and left {own.job_id} in the queue",
            )

    def watched(self, call: CallRun, reference: JobReference, since: float) -> None:
        """A call has waited for a job since then."""
        job = self._jobs.get(str(reference.job_id))
        if job is not None:
            call.watched.append((job, since, self._timeline.now))

    def fetched(self, call: CallRun, reference: JobReference, *, failed: bool) -> SimulatedJob:
        """A call has waited for a job until it ended."""
        job = self._right(call, reference)
        now = self._timeline.now
        # A duplicate that was cancelled may stand for an older one than this call allows.
        if job is call.submitted:
            self._is_young_enough(call, job)
        if not failed:
            if job.state(now) is not JobState.DONE and job.is_there(now):
                self._break("a result is that of a job that is done", f"{call.name}: {job.job_id}")
        elif job.cancelled_by_us and not had(call, "search") and job.is_there(now):
            for other in self._counting(call, now, any_age=True):
                if (
                    other.request == job.request
                    and other.created < job.created
                    and other.shown_at <= now - UNSURE
                    and job.created - other.created <= REPEATED_WITHIN
                    and job.shown_at <= now - UNSURE
                ):
                    self._break(
                        "who waits for a duplicate gets the job that is kept",
                        f"{call.name} got nothing: {job.job_id} was cancelled as a duplicate, and "
                        f"{other.job_id} is kept",
                    )
        return job

    def call_ended(self, call: CallRun) -> None:
        """A call has ended, in whatever way."""
        for job_id in call.told:
            storage = call.process.machine.storage
            known = (
                job_id in call.named
                or job_id in str(call.error)
                or storage.holds(call.input.key, job_id)
            )
            if not known:
                self._break("an id that was known is kept", f"{call.name} forgot {job_id}")
        if (
            call.ended == "cancelled"
            and call.posts
            and not had(call, "write", "submit")
            and call.process.machine.storage.read(0.0, call.input.key) is None
        ):
            self._break("who is cancelled records what he has sent", call.name)
        if isinstance(call.error, JobNotFoundError):
            self._given_up(call, call.error)
        if self._world.is_quiet and call.ended == "error":
            self._break("a rerun finishes", f"{call.name}: {call.error!r}")
        if self._world.is_quiet and call.ended == "refused" and call.plan.content is None:
            self._break("a rerun finishes", f"{call.name}: {call.error!r}")

    def _given_up(self, call: CallRun, error: JobNotFoundError) -> None:
        job = self._jobs.get(str(error.job_id))
        if (
            job is not None
            and job.is_there(self._timeline.now)
            and job.known_at <= job.created + VISIBILITY_DELAY
        ):
            self._break(
                "a job that need not show yet is not given up",
                f"{call.name}: {job.job_id} of {job.created:.1f} s is known since "
                f"{job.known_at:.1f} s",
            )

    # What they are made of.

    def _counting(
        self, call: CallRun, now: float, *, any_age: bool = False
    ) -> Iterator[SimulatedJob]:
        """Yield the jobs that can stand for the job of a call, and can be used."""
        created_after = None if any_age else self.created_after(call)
        for job in list(self._jobs.values()):
            if (
                job.request.what == call.plan.what
                and (job.request.content is None) == (call.plan.content is None)
                and (call.plan.trusts or job.request.content == call.plan.content)
                and job.is_usable(now)
                and (created_after is None or job.created >= created_after + UNSURE)
            ):
                yield job

    def created_after(self, call: CallRun) -> float | None:
        """Return since when a job must have been made for a call; None for any age."""
        return None if call.plan.lifetime is None else call.locked_at - call.plan.lifetime

    def _is_young_enough(self, call: CallRun, job: SimulatedJob) -> None:
        created_after = self.created_after(call)
        if created_after is not None and job.created < created_after - UNSURE:
            self._break(
                "no job is older than the call allows",
                f"{call.name} of {call.plan.lifetime:g} s got {job.job_id} of {job.created:.1f} s",
            )

    def _is_of_machine(self, call: CallRun, job: SimulatedJob) -> bool:
        return job.call.process.machine is call.process.machine

    def _right(self, call: CallRun, reference: JobReference) -> SimulatedJob:
        job = self._jobs.get(str(reference.job_id))
        if job is None:
            self._break("the job is one of the service", f"{call.name}: {reference.job_id}")
            raise AssertionError
        asked, ran = call.input.request, job.request
        if ran.what != asked.what or (not call.plan.trusts and ran.content != asked.content):
            self._break(
                "the job is that of the input",
                f"{call.name} asked for {asked} and got {job.job_id} of {ran}",
            )
        return job

    def _bound(self, call: CallRun) -> float:
        return VISIBILITY_DELAY + 12.0 + call.extra

    def _break(self, promise: str, why: str) -> None:
        self._world.break_promise(promise, why)


def had(call: CallRun, *names: str) -> bool:
    """Whether a fault met an operation of a call with one of these names."""
    return any(fault.partition(":")[0] in names for fault in call.faults)
