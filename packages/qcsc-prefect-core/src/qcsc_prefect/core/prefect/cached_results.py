"""Results that a task computes once and finds again in the result storage of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from prefect.results import get_result_store

from qcsc_prefect.core.prefect.records import aread_result_record, awrite_result_record
from qcsc_prefect.core.prefect.task_runs import refresh_requested, run_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["cached_result"]

T = TypeVar("T")


async def cached_result(key: str, compute: Callable[[], Awaitable[T]]) -> T:
    """Return what is stored under a key, or compute, store and return it.

    Made for the body of a task that fetches a result. Unlike Prefect's own cache it executes
    nothing that a record names: one that another serializer wrote, such as ``pickle``, is passed
    over with a warning, as is a damaged or expired one. A task run with ``refresh_cache`` computes
    anew. A result that cannot be stored is returned all the same, with a warning.

    Two that ask for one key at once both compute; where that costs something, hold a lock.

    Args:
        key: Where the result lies, such as `build_result_cache_key` makes of a job's id. It must
            name everything that the result depends on.
        compute: What makes the result where there is none; it is awaited once.

    Returns:
        The result. It may hold what a container may: plain values, numpy arrays, types that are
        registered with `register_value_type`.

    Raises:
        ConfigurationError: If ``QCSC_PREFECT_MAX_RECORD_BYTES`` holds no number.

    Example:
        >>> import asyncio
        >>> from prefect import flow, task
        >>> @task
        ... async def fetch(job_id: str) -> dict:
        ...     async def download():
        ...         return {"job_id": job_id, "energy": -1.0}
        ...     return await cached_result(f"acme-result-{job_id}", download)
        >>> @flow
        ... async def energies():
        ...     return await fetch("a"), await fetch("a")
        >>> asyncio.run(energies())  # doctest: +SKIP
        ({'job_id': 'a', 'energy': -1.0}, {'job_id': 'a', 'energy': -1.0})
    """
    store = get_result_store()
    stored = None if refresh_requested() else await aread_result_record(store, key)
    if stored is not None:
        run_logger().info("Reusing the result that is stored under the key %s", key)
        return cast("T", stored.output)
    computed = await compute()
    try:
        await awrite_result_record(store, key, computed)
    except Exception as error:  # noqa: BLE001 - storage blocks raise errors of any kind
        run_logger().warning(
            "A result was computed, but could not be stored under the key %s (%s: %s); the next "
            "call computes it again",
            key,
            type(error).__name__,
            error,
        )
    return computed
