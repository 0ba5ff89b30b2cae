"""The retry condition as Prefect calls it, and what it rests on."""

from __future__ import annotations

import importlib
import inspect
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from prefect import task
from qiskit_ibm_runtime.api.exceptions import RequestsApiError
from qiskit_ibm_runtime.exceptions import IBMRuntimeError

from qcsc_prefect.core.errors import (
    JobError,
    JobFailedError,
    JobWaitTimeoutError,
    ResultUnavailableError,
    SubmissionError,
    SubmissionUncertainError,
)
from qcsc_prefect.core.retry import RetryAnswer, RetryRules
from qcsc_prefect.integrations.qiskit.errors.client_table import (
    NEW_JOB_RULES,
    QISKIT_RETRY_RULES,
)
from qcsc_prefect.integrations.qiskit.retry import (
    classify_qiskit_error,
    qiskit_retry_delays,
    should_retry_qiskit_fetch_failure,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any


def decides(error: object) -> bool:
    return should_retry_qiskit_fetch_failure(None, None, SimpleNamespace(data=error))


def test_delays_are_those_of_the_reference_and_a_new_list_each_time() -> None:
    qiskit_retry_delays().append(0)
    assert qiskit_retry_delays() == [60, 120, 300, 600, 900]


def test_prefect_calls_only_plain_functions() -> None:
    assert inspect.isfunction(should_retry_qiskit_fetch_failure)
    parameters = list(inspect.signature(should_retry_qiskit_fetch_failure).parameters)
    assert parameters == ["_task", "_task_run", "state"]


@pytest.mark.parametrize("rules", [QISKIT_RETRY_RULES, NEW_JOB_RULES])
def test_every_type_in_the_table_exists_under_that_name(rules: RetryRules) -> None:
    for name in [*rules.types, *rules.last_resort_types, *rules.readers]:
        module, _, qualified_name = name.rpartition(".")
        kind = getattr(importlib.import_module(module), qualified_name)
        assert issubclass(kind, BaseException)
        assert f"{kind.__module__}.{kind.__qualname__}" == name


def wrapped(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ResultUnavailableError("not a result"), True),
        (JobError("busy", status=503), True),
        (JobError("maintenance", status=403, service_code=1999), True),
        (ConnectionResetError(), True),
        (JobFailedError("failed: timeout 503"), False),
        (JobError("refused", status=403), False),
        (ValueError("timeout 503 connection reset"), False),
        (TypeError(), False),
        # The caller said how long to wait; repeating the wait is not what was asked for.
        (JobWaitTimeoutError("not yet"), False),
        (wrapped(ConnectionError(), JobWaitTimeoutError("not yet")), False),
        (ExceptionGroup("jobs", [ConnectionError(), JobWaitTimeoutError("not yet")]), False),
        (ExceptionGroup("jobs", [ConnectionError(), ConnectionResetError()]), True),
        # Asking again could pay twice.
        (wrapped(ConnectionError(), SubmissionError("busy", status=503, retryable=True)), False),
        (SubmissionUncertainError("lost", status=504), False),
        (None, False),
        ("503", False),
    ],
)
def test_what_a_failed_state_holds(error: object, expected: bool) -> None:
    assert decides(error) is expected


def test_it_never_raises() -> None:
    class HostileError(Exception):
        @property
        def response(self) -> object:
            raise RuntimeError("closed")

        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert decides(HostileError()) is False
    assert should_retry_qiskit_fetch_failure(None, None, object()) is False


def test_a_mistake_made_while_handling_an_outage_is_a_mistake() -> None:
    def fetch() -> None:
        try:
            socket.create_connection(("127.0.0.1", 1), timeout=5).close()
        except ConnectionRefusedError as error:
            error.no_such_attribute  # noqa: B018

    with pytest.raises(AttributeError) as caught:
        fetch()
    assert classify_qiskit_error(caught.value).answer is RetryAnswer.DO_NOT


def outage() -> None:
    try:
        raise RequestsApiError("Bad gateway", 502)
    except RequestsApiError:
        raise IBMRuntimeError("Failed to retrieve job") from None


def refused() -> None:
    raise RequestsApiError("503 timeout", 403)


def damaged() -> None:
    raise ResultUnavailableError("a str is no result")


def failed() -> None:
    raise JobFailedError("the job failed")


def mistaken() -> None:
    raise TypeError("a mistake")


TRIES_OF_THREE = {outage: 3, refused: 1, damaged: 3, failed: 1, mistaken: 1}
SETTINGS: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": 0,
    "retry_condition_fn": should_retry_qiskit_fetch_failure,
    "persist_result": True,
}


@pytest.mark.parametrize(("fault", "expected"), TRIES_OF_THREE.items())
def test_tries_in_prefects_synchronous_engine(
    prefect_home: Path, fault: Callable[[], None], expected: int
) -> None:
    tries: list[str] = []

    @task(**SETTINGS)
    def fetch() -> None:
        tries.append("try")
        fault()

    assert fetch(return_state=True).is_failed()
    assert len(tries) == expected


@pytest.mark.parametrize(("fault", "expected"), TRIES_OF_THREE.items())
async def test_tries_in_prefects_asynchronous_engine(
    prefect_home: Path, fault: Callable[[], None], expected: int
) -> None:
    tries: list[str] = []

    @task(**SETTINGS)
    async def fetch() -> None:
        tries.append("try")
        fault()

    state = await fetch(return_state=True)
    assert state.is_failed()
    assert len(tries) == expected
