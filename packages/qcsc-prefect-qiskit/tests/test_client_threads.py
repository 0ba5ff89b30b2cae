"""Calls in threads that are given up: before their turn they are never made."""

from __future__ import annotations

import asyncio
import threading

import pytest

from qcsc_prefect.integrations.qiskit.services.connections.client_threads import ClientThreads


async def begun(threads: ClientThreads, release: threading.Event) -> asyncio.Task[bool]:
    """Begin a call that goes on until the event is set."""
    is_under_way = threading.Event()

    def hang() -> bool:
        is_under_way.set()
        return release.wait(30)

    call = asyncio.create_task(threads.call(hang))
    while not is_under_way.is_set():
        await asyncio.sleep(0.01)
    return call


@pytest.mark.parametrize("way", ["timeout", "cancellation"])
async def test_a_call_that_is_given_up_before_its_turn_is_never_made(way: str):
    threads, release = ClientThreads(at_once=1), threading.Event()
    first = await begun(threads, release)
    made: list[str] = []
    second = asyncio.create_task(threads.call(made.append, "second", seconds=0.1))
    if way == "cancellation":
        await asyncio.sleep(0)
        second.cancel()
    with pytest.raises(TimeoutError if way == "timeout" else asyncio.CancelledError):
        await second
    release.set()
    assert await first is True
    await threads.call(made.append, "third")
    assert made == ["third"]


async def test_the_time_that_a_call_waits_for_its_turn_is_not_taken_from_its_own():
    threads, release = ClientThreads(at_once=1), threading.Event()
    first = await begun(threads, release)
    second = asyncio.create_task(threads.call(lambda: threading.Event().wait(0.4), seconds=0.6))
    await asyncio.sleep(0.4)
    release.set()
    assert await first is True
    assert await second is False


async def test_the_functions_own_timeout_is_raised_as_it_is():
    def fail() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await ClientThreads().call(fail, seconds=5)
