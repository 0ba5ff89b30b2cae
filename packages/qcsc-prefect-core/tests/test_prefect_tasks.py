"""What a vendor's tasks take from core, in real runs of Prefect."""

from __future__ import annotations

import base64
import contextvars
import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from qcsc_prefect.core import COMMON_RULES, RetryAnswer
from qcsc_prefect.core.errors import JobWaitTimeoutError, SubmissionError
from qcsc_prefect.core.prefect import cached_result, current_flow_name, retry_condition

# ---- results that are computed once ----

KEY = "acme-result-1"


class AcmeJob:
    """A result that costs something, and the task that fetches it."""

    def __init__(self, **settings: Any) -> None:
        self.downloads = 0
        job = self

        @task(**settings)
        async def fetch() -> dict[str, Any]:
            return await cached_result(KEY, job.download)

        self.fetch = fetch

    async def download(self) -> dict[str, Any]:
        self.downloads += 1
        return {"energy": -1.0, "spins": (1, -1), "download": self.downloads}


@pytest.fixture
def storage(prefect_home: Path) -> Path:
    """Where the flows of a test keep their results."""
    return prefect_home / "storage"


@flow
async def run(fetch: Callable[[], Any]) -> Any:
    return await fetch()


async def test_a_result_is_computed_once(storage: Path):
    job = AcmeJob()
    first = await run(job.fetch)
    assert first == {"energy": -1.0, "spins": (1, -1), "download": 1}
    assert await run(job.fetch) == first
    assert job.downloads == 1


async def test_a_task_that_refreshes_its_cache_computes_anew(storage: Path):
    job = AcmeJob()
    await run(job.fetch)
    refreshed = await run(job.fetch.with_options(refresh_cache=True))
    assert refreshed["download"] == 2
    assert (await run(job.fetch))["download"] == 2


class Payload:
    """Runs code where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


async def test_a_record_that_names_pickle_is_not_read(
    storage: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    job, mark = AcmeJob(), tmp_path / "code has run"
    await run(job.fetch)
    record = json.loads((storage / KEY).read_bytes())
    record["metadata"]["serializer"] = {"type": "pickle", "picklelib": "cloudpickle"}
    record["result"] = base64.b64encode(pickle.dumps(Payload(mark))).decode()
    (storage / KEY).write_text(json.dumps(record))
    assert (await run(job.fetch))["download"] == 2
    assert not mark.exists()
    assert "serializer 'pickle'" in caplog.text
    # The forgery is what would run in Prefect's own reading.
    pickle.loads(base64.b64decode(record["result"]))
    assert mark.exists()


async def test_a_result_that_cannot_be_stored_is_returned(
    storage: Path, caplog: pytest.LogCaptureFixture
):
    storage.parent.mkdir()
    storage.write_text("a file in the folder's place")
    job = AcmeJob()
    for download in (1, 2):
        assert (await run(job.fetch))["download"] == download
    assert "could not be stored under the key acme-result-1" in caplog.text


async def test_a_failure_to_compute_is_the_callers(storage: Path):
    async def fail() -> None:
        raise LookupError("no such job")

    async def fetch() -> None:
        await cached_result(KEY, fail)

    with pytest.raises(LookupError, match="no such job"):
        await run(fetch)
    assert not (storage / KEY).exists()


# ---- retries ----


class BusyError(Exception):
    """What the vendor's client raises."""

    service_code = "ACME-BUSY"


RULES = COMMON_RULES.extended(service_codes={"ACME-BUSY": RetryAnswer.RETRY})


def wrapped(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (ConnectionResetError("lost"), 3),
        (BusyError("come back later"), 3),
        (wrapped(ValueError("no answer"), BusyError("come back later")), 3),
        (ValueError("a mistake"), 1),
        (RuntimeError("nothing is known"), 1),
        (JobWaitTimeoutError("max_wait is over"), 1),
        (wrapped(ConnectionResetError("lost"), SubmissionError("perhaps paid")), 1),
        (ExceptionGroup("both", [ConnectionResetError(), JobWaitTimeoutError("over")]), 1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("engine", ["synchronous", "asynchronous"])
async def test_tries_of_three(prefect_home: Path, engine: str, error: Exception, tries: int):
    settings: dict[str, Any] = {
        "retries": 2,
        "retry_delay_seconds": 0,
        "retry_condition_fn": retry_condition(RULES),
    }
    made: list[str] = []

    def attempt() -> None:
        made.append("try")
        raise error

    if engine == "synchronous":
        state: Any = task(attempt, **settings)(return_state=True)
    else:

        @task(**settings)
        async def fetch() -> None:
            attempt()

        state = await fetch(return_state=True)
    assert state.is_failed()
    assert len(made) == tries


class FailedState:
    """As much of Prefect's state as is read."""

    def __init__(self, data: object) -> None:
        self.data = data


def test_a_condition_reaches_other_processes():
    condition: Any = cloudpickle.loads(cloudpickle.dumps(retry_condition(RULES)))
    assert condition(None, None, FailedState(BusyError())) is True
    assert condition(None, None, FailedState(None)) is False
    assert retry_condition()(None, None, FailedState(BusyError())) is False


# ---- the flow's name ----


@task
def name_in_a_task() -> str | None:
    return current_flow_name()


@task
async def name_in_an_asynchronous_task() -> str | None:
    return current_flow_name()


@task
def name_in_a_task_of_a_task() -> str | None:
    return name_in_a_task()


def in_a_thread(function: Callable[[], str | None]) -> str | None:
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_a_flow_has_its_name_everywhere_in_it(prefect_home: Path):
    @flow(name="inner")
    def inner() -> str | None:
        return name_in_a_task()

    @flow(name="outer")
    def outer() -> dict[str, str | None]:
        context = contextvars.copy_context()
        return {
            "body": current_flow_name(),
            "task": name_in_a_task(),
            "nested": name_in_a_task_of_a_task(),
            "subflow": inner(),
            "copied context": in_a_thread(lambda: context.run(current_flow_name)),
            "bare thread": in_a_thread(current_flow_name),
        }

    expected = dict.fromkeys(["body", "task", "nested", "copied context"], "outer")
    assert outer() == {**expected, "subflow": "inner", "bare thread": None}
    assert current_flow_name() is None
    assert name_in_a_task() is None


@pytest.mark.parametrize("runner", [ThreadPoolTaskRunner, ProcessPoolTaskRunner])
def test_a_flow_has_its_name_where_its_runner_runs_tasks(prefect_home: Path, runner: type[Any]):
    @flow(name="outer", task_runner=runner(max_workers=2))
    def outer() -> list[str | None]:
        tasks = (name_in_a_task, name_in_an_asynchronous_task, name_in_a_task_of_a_task)
        return [future.result() for future in [each.submit() for each in tasks]]

    assert outer() == ["outer"] * 3
