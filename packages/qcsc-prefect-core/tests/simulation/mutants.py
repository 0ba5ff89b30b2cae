"""Faults planted in a copy of the engine; the simulation has to find each of them.

Each is one replacement in one module of `qcsc_prefect.core.engine`. A text that does not stand
there exactly once is an error: then the engine has changed, and so must the fault.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import qcsc_prefect.core

__all__ = ["MUTANTS", "DoesNotApplyError", "Mutant", "found_in"]

_CORE = Path(qcsc_prefect.core.__file__).parent
_TESTS = Path(__file__).parent.parent


class DoesNotApplyError(AssertionError):
    """The text that a planted fault replaces does not stand in the engine exactly once."""


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Attributes:
        name: What is wrong.
        module: In which module of the engine.
        old: What stands there.
        new: What is put in its place.
    """

    name: str
    module: str
    old: str
    new: str

    def planted(self, text: str) -> str:
        """Return the text of the module with the fault.

        Raises:
            DoesNotApplyError: If what it replaces is not there, or more than once.
        """
        if text.count(self.old) != 1:
            raise DoesNotApplyError(
                f"{self.name!r}: in {self.module}.py this stands {text.count(self.old)} times, and "
                f"has to stand once:\n{self.old}"
            )
        return text.replace(self.old, self.new)


def found_in(mutant: Mutant, seeds: int) -> str | None:
    """Run schedules on a copy of the engine with a fault.

    Args:
        mutant: The fault.
        seeds: How many schedules.

    Returns:
        The first failure; None where there is none.
    """
    with tempfile.TemporaryDirectory() as folder:
        core = Path(folder) / "qcsc_prefect" / "core"
        shutil.copytree(_CORE, core, ignore=shutil.ignore_patterns("__pycache__"))
        module = core / "engine" / f"{mutant.module}.py"
        module.write_text(mutant.planted(module.read_text()))
        done = subprocess.run(
            [sys.executable, "-m", "simulation", "--seeds", str(seeds), "--find"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(_TESTS)])},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    said = done.stdout.splitlines()
    if len(said) < 2 or said[0] != str(core):
        raise AssertionError(f"{mutant.name!r} was not run: {done.stdout}{done.stderr}")
    return said[1] if re.match(r"seed \d+: ", said[1]) else None


MUTANTS = (
    Mutant(
        "no intent is written before the job is sent",
        "once",
        "        await self.memory.declare_intent(self.identity, earlier)\n",
        "",
    ),
    Mutant(
        "the intent is cleared before the job is recorded",
        "once",
        "        self.is_recorded = await self.memory.record(self.identity.key, reference)\n",
        "        await self.memory.clear_intent(self.identity)\n"
        "        self.is_recorded = await self.memory.record(self.identity.key, reference)\n",
    ),
    Mutant(
        "the intent is cleared where the answer was lost",
        "once",
        "            raise  # the intent stays\n",
        "            await self.memory.clear_intent(self.identity)\n            raise\n",
    ),
    Mutant(
        "the service is not searched again after a submission",
        "once",
        "        return await self._give_way(reference)\n",
        "        return Submission(reference, reused=False)\n",
    ),
    Mutant(
        "an intent beside a record does not have the service searched",
        "once",
        "        if recorded is None or intent is None:\n",
        "        if True:\n",
    ),
    Mutant(
        "the lock is not held over the search",
        "once",
        "            yield _OneSubmission(self, request, draft, identity, memory, lookup)\n",
        "        yield _OneSubmission(self, request, draft, identity, memory, lookup)\n",
    ),
    Mutant(
        "a cancelled caller does not finish its submission",
        "sending",
        "        return await finish_though_cancelled(\n"
        "            submission, self._after_cancellation, shield=self.shield\n"
        "        )\n",
        "        return await submission\n",
    ),
    Mutant(
        "a refresh does not leave out the jobs that it replaces",
        "once",
        "        self.lookup = self.lookup.leaving_out(ids)\n        return ids\n",
        "        return ids\n",
    ),
    Mutant(
        "a refresh does not say which jobs it replaces",
        "once",
        "        await self.memory.declare_intent(self.identity, earlier)\n",
        "        await self.memory.declare_intent(self.identity)\n",
    ),
    Mutant(
        "a refresh that was cut short is begun again",
        "once",
        "        if not refresh or (intent is not None and intent.earlier is not None):\n",
        "        if not refresh:\n",
    ),
    Mutant(
        "a record that cannot be read stands for none",
        "once",
        "            recorded, intent = None, intent or self.memory.unreadable_intent(error)\n",
        "            recorded = None\n",
    ),
    Mutant(
        "an adopted job is not recorded",
        "once",
        "        if await self.memory.record(self.identity.key, reference):\n",
        "        if reference:\n",
    ),
    Mutant(
        "the age goes by the machine's clock",
        "once",
        "oldest_wanted(identity.lifetime, await self.service.now())",
        "oldest_wanted(identity.lifetime, self.clock.now())",
    ),
    Mutant(
        "a job that carries only a part of its tags",
        "sending",
        "self.service.submit(request, draft.tags or ())",
        "self.service.submit(request, (draft.tags or ())[:-1])",
    ),
    Mutant(
        "a record of a failed job is used",
        "memory",
        "        if status.state.has_failed:\n",
        "        if False:\n",
    ),
    Mutant(
        "a record of a job that is gone is used",
        "memory",
        "            if age_of(reference, await service.now()) < visibility_delay:\n",
        "            if True:\n",
    ),
    Mutant(
        "a record of a job that does not show yet is not used",
        "memory",
        "            if age_of(reference, await service.now()) < visibility_delay:\n",
        "            if False:\n",
    ),
    Mutant(
        "the age of a record is not looked at",
        "memory",
        "        if not is_recent(reference, created_after):\n",
        "        if False:\n",
    ),
    Mutant(
        "an intent that cannot be read stands for none",
        "memory",
        '            self.logger.warning("An intent to submit may be outstanding: %s", error)\n'
        "            return self.unreadable_intent(error)\n",
        "            return None\n",
    ),
    Mutant(
        "the record that a refresh is to replace is used",
        "memory",
        "        if reference is None or reference.job_id is None or reference.job_id in "
        "except_for:\n",
        "        if reference is None or reference.job_id is None:\n",
    ),
    Mutant(
        "the record of a chosen digest is taken whatever it ran",
        "memory",
        "        await self.refuse_other_input(identity, reference.job_id, "
        "reference.content_digest)\n",
        "",
    ),
    Mutant(
        "the youngest of several jobs is kept",
        "lookup",
        "        first, *others = usable\n",
        "        first, *others = reversed(usable)\n",
    ),
    Mutant(
        "duplicates are not cancelled",
        "lookup",
        "            if _repeats(job, first, repeated_within) and",
        "            if not _repeats(job, first, repeated_within) and",
    ),
    Mutant(
        "duplicates are cancelled without a look at their state",
        "lookup",
        "        if not duplicate.state.is_waiting:\n",
        "        if False:\n",
    ),
    Mutant(
        "who trusts a digest cancels jobs of other inputs",
        "lookup",
        " and content_tags(job.tags) == ran\n",
        "\n",
    ),
    Mutant(
        "the own job is not cancelled where the search does not show it yet",
        "lookup",
        "            await self._cancel_unlisted(job_id, submitted_at, oldest)\n",
        "            pass\n",
    ),
    Mutant(
        "failed jobs are adopted",
        "lookup",
        "        usable = [job for job in listed if not job.state.has_failed]\n",
        "        usable = list(listed)\n",
    ),
    Mutant(
        "a search asks for jobs of any age",
        "lookup",
        "        found = await self.service.jobs_with_tag(self.tag, self.created_after)\n",
        "        found = await self.service.jobs_with_tag(self.tag, None)\n",
    ),
    Mutant(
        "foreign content is accepted",
        "lookup",
        "        others = [job for job in counted if self._ran_something_else(job)]\n",
        "        others: list[ListedJob] = []\n",
    ),
    Mutant(
        "the visibility delay is not waited out",
        "lookup",
        "        deadline = loop.time() + visibility_delay\n",
        "        deadline = loop.time()\n",
    ),
    Mutant(
        "the visibility delay is waited out by half",
        "lookup",
        "        deadline = loop.time() + visibility_delay\n",
        "        deadline = loop.time() + visibility_delay / 2\n",
    ),
    Mutant(
        "the last search comes before the delay is over",
        "lookup",
        "            is_last = loop.time() >= deadline\n",
        "            is_last = loop.time() + pause >= deadline\n",
    ),
    Mutant(
        "a search that is not answered has found nothing",
        "lookup",
        "                if is_last or error.retryable is False:\n                    raise\n",
        "                if is_last or error.retryable is False:\n                    "
        "return None\n",
    ),
    Mutant(
        "who waited for a duplicate is not told of the job that is kept",
        "lookup",
        "                return next((one for one in earlier if _repeats(job, one, "
        "LOST_WITHIN)), None)\n",
        "                return None\n",
    ),
    Mutant(
        "what may have been accepted is sent again without a search",
        "patience",
        "                found = await look_for_it(error)\n",
        "                found = None\n",
    ),
    Mutant(
        "what was not taken is sent again without a search",
        "once",
        "await self.lookup.usable_job() if was_sent else None\n",
        "None\n",
    ),
    Mutant(
        "Retry-After is not waited out",
        "patience",
        "                wait = error.retry_after or pause\n",
        "                wait = pause\n",
    ),
    Mutant(
        "what was refused is sent again",
        "patience",
        "                if not is_limit and error.retryable is not True:\n              "
        "      raise\n",
        "",
    ),
    Mutant(
        "the tag does not hold the settings",
        "identity",
        '    named = f"{primitive} {settings} {input_digest}"\n',
        '    named = f"{primitive} {input_digest}"\n',
    ),
    Mutant(
        "nobody looks for jobs that show late",
        "late",
        "    if lookup is None or submitted_at is None:\n        return\n",
        "    if True:\n        return\n",
    ),
    Mutant(
        "late jobs are looked for only for ten seconds",
        "late",
        "(*range(2, 16, 2), 20, 25, DEFAULT_VISIBILITY_DELAY)",
        "(*range(2, 12, 2),)",
    ),
    Mutant(
        "a job that was cancelled as a duplicate is lost to who waits for it",
        "late",
        "    if status.state is not JobState.CANCELLED or status.ran_too_long:\n",
        "    if True:\n",
    ),
    Mutant(
        "who waits does not believe that a job need not show at once",
        "waiting",
        "        is_over = now - waited_for.since >= waited_for.limits.not_found\n",
        "        is_over = True\n",
    ),
    Mutant(
        "a cancelled job is waited for",
        "service",
        "        return self is JobState.DONE or self.has_failed\n",
        "        return self in {JobState.DONE, JobState.ERROR}\n",
    ),
)
