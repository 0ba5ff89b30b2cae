"""The parts of the engine that need no service: what it may import, cancelling, failed posts."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import logging
from pathlib import Path

import pytest

import qcsc_prefect.core.engine
from qcsc_prefect.core.engine.cancelling import after_cancellation, finish_though_cancelled
from qcsc_prefect.core.engine.failed_posts import translate_submission_error
from qcsc_prefect.core.errors import JobError, SubmissionError, SubmissionUncertainError
from qcsc_prefect.core.retry import COMMON_RULES, RetryAnswer

ENGINE = Path(str(qcsc_prefect.core.engine.__file__)).parent


def _used(tree: ast.AST) -> set[str]:
    """Modules that are imported, and attributes that are read, as ``time`` and ``datetime.now``."""
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            used.add(str(node.module))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.add(f"{node.value.id}.{node.attr}")
    return used


@pytest.mark.parametrize("module", sorted(path.name for path in ENGINE.glob("*.py")))
def test_time_of_day_and_chance_come_from_one_place(module: str):
    used = _used(ast.parse((ENGINE / module).read_text()))
    forbidden = {"time", "random", "secrets", "uuid", "anyio", "prefect"}
    if module != "clock.py":
        forbidden |= {"datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
    assert not used & forbidden


async def test_work_is_finished_however_often_its_caller_is_cancelled():
    steps: list[str] = []

    async def work() -> str:
        for step in ("sent", "recorded"):
            await asyncio.sleep(0.02)
            steps.append(step)
        return "job"

    async def told(task: asyncio.Task[str]) -> None:
        await asyncio.sleep(0.02)
        steps.append(f"told of {task.result()}")

    caller = asyncio.create_task(finish_though_cancelled(work(), told))
    while not caller.done():
        await asyncio.sleep(0.005)
        caller.cancel()
    assert caller.cancelled()
    assert steps == ["sent", "recorded", "told of job"]


async def test_a_limit_ends_the_wait_for_work_that_hangs():
    left: list[bool] = []

    async def told(task: asyncio.Task[bool]) -> None:
        left.append(task.done())

    hanging = asyncio.Event()
    caller = asyncio.create_task(finish_though_cancelled(hanging.wait(), told, seconds=0.05))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert left == [False]
    hanging.set()


async def test_what_cancels_the_caller_is_kept_out_by_the_shield():
    entered: list[str] = []

    @contextlib.contextmanager
    def shield():
        entered.append("in")
        yield
        entered.append("out")

    async def told(task: asyncio.Task[None]) -> None:
        entered.append("told")

    caller = asyncio.create_task(finish_though_cancelled(asyncio.sleep(0.01), told, shield=shield))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert entered == ["in", "told", "out"]


async def test_a_job_that_cannot_be_cancelled_is_named(caplog: pytest.LogCaptureFixture):
    async def refuse() -> bool:
        raise JobError("no answer")

    await after_cancellation(
        refuse, "j-1", logging.getLogger("engine"), during="wait", cancel_job=True
    )
    assert "The wait of job j-1 was cancelled, and the job could not be cancelled" in caplog.text


class Answered(Exception):
    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.retry_after = retry_after


@pytest.mark.parametrize(
    ("error", "how", "is_uncertain", "retryable"),
    [
        (Answered(422), {}, False, False),
        (Answered(429, 7.0), {}, False, True),
        (Answered(422), {"sent_before": True}, True, None),
        (Answered(408), {}, True, None),
        (Answered(503), {}, True, None),
        (Answered(503), {"not_sent": True}, False, True),
        (Answered(200), {}, True, None),
        (ConnectionResetError("reset"), {}, True, None),
        (ConnectionRefusedError("nobody"), {"not_sent": True}, False, True),
        (ValueError("what is this"), {}, True, None),
        (ValueError("what is this"), {"not_sent": True}, False, None),
    ],
    ids=lambda value: repr(value) if isinstance(value, Exception) else None,
)
def test_a_failed_submission_is_refused_never_sent_or_uncertain(
    error: Exception, how: dict[str, bool], is_uncertain: bool, retryable: bool | None
):
    told = translate_submission_error(error, COMMON_RULES, backend_name="acme-1", **how)
    assert isinstance(told, SubmissionUncertainError) is is_uncertain
    assert told.retryable is retryable
    assert told.backend_name == "acme-1"
    assert told.status == getattr(error, "status", None)
    assert told.retry_after == getattr(error, "retry_after", None)
    assert ("no job was created" in str(told)) is not is_uncertain


def test_the_rules_of_the_vendor_decide_before_the_status():
    quota = Answered(429)
    rules = COMMON_RULES.extended(types={f"{__name__}.Answered": RetryAnswer.DO_NOT})
    assert translate_submission_error(quota, rules).retryable is False


def test_what_is_translated_already_stays_and_secrets_go():
    known = SubmissionError("refused")
    assert translate_submission_error(known, COMMON_RULES) is known
    told = translate_submission_error(
        Answered(401), COMMON_RULES, redacted=lambda text: text.replace("HTTP", "****")
    )
    assert "**** 401" in str(told)
