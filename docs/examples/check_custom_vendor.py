"""Checks that the imaginary vendor's jobs are paid for once, whatever goes wrong.

uv run docs/examples/check_custom_vendor.py
"""

from __future__ import annotations

import asyncio
from functools import partial

from acme_server import AcmeServer
from custom_vendor import STATES, AcmeService

from qcsc_prefect.core import JobError
from qcsc_prefect.core.conformance import Faults, check_vendor
from qcsc_prefect.core.engine.service import JobState


class AcmeFaults(Faults):
    """Makes faults in the emulated vendor."""

    def __init__(self, acme: AcmeServer) -> None:
        self.acme = acme

    def jobs(self) -> dict[str, JobState]:
        """Return the jobs as the vendor itself knows them."""
        return {job_id: STATES[job["state"]] for job_id, job in self.acme.jobs.items()}

    def clear(self) -> None:
        """Take every fault back."""
        self.acme.faults.clear()
        self.acme.shown_after, self.acme.held, self.acme.next_end = 0.0, False, "cold"

    def drop_answer(self) -> None:
        """Accept the next submission, and close the connection."""
        self.acme.faults["submit"] = ["drop"]

    def cut_answer(self) -> None:
        """Accept the next submission, and send half of the answer."""
        self.acme.faults["submit"] = ["cut"]

    def time_out_answer(self) -> None:
        """Accept the next submission, and answer 504."""
        self.acme.faults["submit"] = ["time out"]

    def refuse(self) -> None:
        """Refuse the next submission by a 400."""
        self.acme.faults["submit"] = ["refuse"]

    def limit(self, seconds: int) -> None:
        """Refuse the next submission by a 429."""
        self.acme.faults["submit"] = [f"limit {seconds}"]

    def break_questions(self) -> None:
        """Answer the next search and the next question for a status by a 503."""
        self.acme.faults["search"] = self.acme.faults["status"] = ["break"]

    def show_late(self, seconds: float) -> None:
        """Let searches show no younger job."""
        self.acme.shown_after = seconds

    def hold(self) -> None:
        """Let new jobs wait."""
        self.acme.held = True

    def fail_next_job(self) -> None:
        """Let the next job fail."""
        self.acme.next_end = "cracked"

    def vanish(self, job_id: str) -> None:
        """Forget a job."""
        del self.acme.jobs[job_id]

    async def fetch(self, job_id: str) -> object:
        """Fetch a result, again where Acme is busy."""
        service = AcmeService(self.acme.url)
        try:
            return await service.result(job_id)
        except JobError as error:
            if error.service_code != "ACME-BUSY":
                raise
        return await service.result(job_id)

    def truncate_result(self) -> None:
        """Send half of the next result."""
        self.acme.faults["result"] = ["cut"]


async def check(acme: AcmeServer) -> str:
    """Run every check, and say what came of it."""
    report = await check_vendor(
        partial(AcmeService, acme.url), {"a b": 1.0}, AcmeFaults(acme), visibility_delay=1.0
    )
    return str(report)


if __name__ == "__main__":
    with AcmeServer() as running:
        print(asyncio.run(check(running)))
