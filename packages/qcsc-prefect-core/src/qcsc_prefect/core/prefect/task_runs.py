"""What a task body needs to know of the Prefect run it stands in."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger
from prefect.settings import PREFECT_TASKS_REFRESH_CACHE
from prefect.transactions import TransactionState, get_transaction

if TYPE_CHECKING:
    import logging

RunLogger: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"

__all__ = [
    "RunLogger",
    "current_flow_name",
    "mark_run_as_cached",
    "refresh_requested",
    "run_logger",
]


def current_flow_name() -> str | None:
    """Return the name of the running flow, for `build_input_digest`.

    Prefect hands a flow's context on to its tasks, wherever their runner runs them: in threads, in
    processes, on other machines. A thread that you start yourself has none, unless it runs in a
    copy of yours (``contextvars.copy_context().run``).

    Returns:
        The name; None outside of a flow.

    Example:
        >>> current_flow_name() is None
        True
    """
    context = FlowRunContext.get()
    return None if context is None or context.flow is None else context.flow.name


def run_logger() -> RunLogger:
    """Return the logger of the current run, or the package's own outside of one."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("qcsc_prefect")


def refresh_requested() -> bool:
    """Whether the current task run was told to refresh what is cached.

    The task's ``refresh_cache`` option decides, and where it is not set the setting
    ``PREFECT_TASKS_REFRESH_CACHE``, as for Prefect's own cache.
    """
    context = TaskRunContext.get()
    if context is None or context.task.refresh_cache is None:
        return bool(PREFECT_TASKS_REFRESH_CACHE.value())
    return context.task.refresh_cache


def mark_run_as_cached() -> None:
    """Let the current task run end as ``Cached``, so that a reader of the UI sees the reuse.

    What the run returns was read from storage, so its transaction has nothing left to commit; a
    transaction that says so makes Prefect name the final state ``Cached``. A run that is to
    persist its own result is left alone, since it still has to write it.
    """
    context = TaskRunContext.get()
    transaction = get_transaction()
    # A body that is called without its task stands in somebody else's transaction.
    if context is None or transaction is None or context.persist_result:
        return
    transaction.state = TransactionState.COMMITTED
