"""A user's program in this process, and what can be seen of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from prefect import flow
from prefect.settings import PREFECT_HOME, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.testing import (
    ACCOUNT_NAME,
    EmulatedService,
    Endpoint,
    JobRecord,
)

from ..hidden_secrets import found_in, found_in_text
from .runs import outstanding_intents
from .worker import SHOTS, circuit_of

__all__ = [
    "DELAY",
    "LOGGERS",
    "LONGEST",
    "WAYS",
    "Observed",
    "Program",
    "as_soon_as",
    "connected",
    "set_limits",
]

#: How a service is reached.
WAYS = ("direct", "proxied")
#: Seconds that a program may take which copes with what goes wrong.
LONGEST = 120.0

#: Seconds after which the search shows a new job for certain.
DELAY = 0.5
#: Whoever writes to one of these could write a credential.
LOGGERS = (
    "qcsc_prefect",
    "prefect.qcsc_prefect",
    "prefect.flow_runs",
    "prefect.task_runs",
    "qiskit_ibm_runtime",
    "ibm-cloud-sdk-core",
    "urllib3",
)


def set_limits(environment: pytest.MonkeyPatch, *, answer: float, patience: float) -> None:
    """Say how long an answer may take, and how long a fault is waited out, in seconds."""
    environment.setenv("QCSC_PREFECT_ANSWER_SECONDS", f"{answer:g}")
    environment.setenv("QCSC_PREFECT_PATIENCE_SECONDS", f"{patience:g}")


@contextmanager
def connected(
    service: EmulatedService,
    way: Literal["direct", "proxied"],
    folder: Path,
    *,
    root_url: str | None = None,
    **more: str,
) -> Iterator[QiskitRuntimeConfig]:
    """Yield a configuration that reaches the service, as in a process that has just begun.

    Args:
        service: The service.
        way: How it is reached.
        folder: Where a file with the account may lie.
        root_url: Another address that leads to the service.
        **more: Further fields of the configuration.
    """
    root_url = root_url or service.root_url
    service.faults.clear()
    get_service_pool().clear()
    if way == "direct":
        fields = service.runtime_config_fields()
        fields["url"] = fields["url"].replace(service.root_url, root_url)
        with service.client_environment():
            yield QiskitRuntimeConfig(**fields, **more)
    else:
        file = service.account_file(folder / "accounts.json")
        file.write_text(file.read_text().replace(service.root_url, root_url))
        yield QiskitRuntimeConfig(
            account_name=ACCOUNT_NAME, filename=str(file), backend_name="fake_manila", **more
        )
    service.faults.clear()
    get_service_pool().clear()


async def as_soon_as(condition: Callable[[], object], then: Callable[[], None]) -> None:
    """Watch for something beside the program, and do something about it."""
    while not condition():
        await asyncio.sleep(0.005)
    then()


@dataclass
class Program:
    """Submits one job and fetches its result.

    Attributes:
        config: How it reaches the service.
        service: The service, on which its job waits until it knows the job.
        number: Its input.
        cache_submit: Whether it asks to submit its job once.
    """

    config: QiskitRuntimeConfig
    service: EmulatedService
    number: int
    cache_submit: bool = True

    @property
    def expected(self) -> dict[str, int]:
        return {f"{self.number & 31:05b}": SHOTS}

    async def submit(self) -> dict:
        return await submit_sampler_job_task(
            [circuit_of(self.number)],
            shots=SHOTS,
            runtime_config=self.config,
            cache_submit=self.cache_submit,
            cache_scope="global",
            visibility_delay=DELAY,
        )

    async def submit_elsewhere(self, home: Path) -> str:
        """Submit the same job on another machine, which this one does not see until it is shown.

        Args:
            home: The Prefect home of that machine.

        Returns:
            The job's id.
        """
        self.service.faults.hide_new_jobs(3600)
        there = {PREFECT_HOME: home, PREFECT_LOCAL_STORAGE_PATH: home / "storage"}
        with temporary_settings(there):
            return (await self.submit())["job_id"]

    async def run(
        self,
        when_submitted: Callable[[], None] = lambda: None,
        *,
        max_wait: float | None = None,
        cancelled: bool = False,
    ) -> dict[str, int]:
        """Run to the end, or until the wait is cancelled, and the job with it.

        Args:
            when_submitted: Called between the two tasks.
            max_wait: How long to wait for the job, in seconds.
            cancelled: Cancel the wait as soon as it is under way.
        """

        # A flow that persists what it returns persists what it fails with, too.
        @flow(persist_result=True)
        async def experiment() -> dict[str, int]:
            reference = await self.submit()
            when_submitted()
            if not cancelled:
                self.service.release_jobs()
            output = await fetch_qiskit_job_result_task(
                job_reference=reference,
                runtime_config=self.config,
                cache_result=True,
                max_wait=max_wait,
                cancel_job_on_cancellation=cancelled,
            )
            return output["result"][0].data.meas.get_counts()

        running = asyncio.ensure_future(experiment())
        if cancelled:
            while not running.done() and not self.service.count(Endpoint.JOB):
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
            running.cancel()
        return await running


@dataclass
class Observed:
    """What a test can see of a program: its files, its logs, and its jobs on the service.

    Attributes:
        service: The service.
        before: How many jobs it had before.
        home: The Prefect home.
        logged: What was logged, down to DEBUG.
        warned: What was warned of.
        secrets: What must stand nowhere, by names that may be shown.
    """

    service: EmulatedService
    before: int
    home: Path
    logged: pytest.LogCaptureFixture
    warned: pytest.WarningsRecorder
    secrets: dict[str, str]

    @property
    def jobs(self) -> list[JobRecord]:
        """The jobs that it submitted, the oldest first."""
        return list(self.service.jobs[self.before :])

    @property
    def paid(self) -> list[JobRecord]:
        """Those of them that were not cancelled in the queue."""
        return [job for job in self.jobs if job.state != "Cancelled"]

    @property
    def intents(self) -> list[dict]:
        """Intents of submissions whose jobs may not all be known."""
        return outstanding_intents(self.home)

    @property
    def log(self) -> str:
        return self.logged.text

    @property
    def leaked(self) -> dict[str, set[str]]:
        """Credentials that stand in a file or a log, and where."""
        leaked = found_in(self.home, self.secrets)
        said = {"a log": self.log, "a warning": "\n".join(str(w.message) for w in self.warned)}
        for place, text in said.items():
            for name in found_in_text(text, self.secrets):
                leaked.setdefault(name, set()).add(place)
        return leaked
