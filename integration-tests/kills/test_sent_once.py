"""A submission is sent once, and its job is found where the answer does not tell of it.

Whatever came of the answer (dropped, cut, empty, a 504 in its place), there is one job, and the
caller gets its result without an error. What a service did not take, because it failed or could not
be reached, is sent again until it does. ``QCSC_PREFECT_ALL_FAULTS=1`` runs all combinations.
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.testing import EmulatedService, Endpoint

from .fault_cases import FAULTS
from .gate import Gate
from .program import LONGEST, WAYS, Observed, Program, as_soon_as, connected, set_limits
from .test_faults import ALL

#: After each of them there is a job, and the answer does not tell which.
LOST = {
    **{name: (name, 1) for name, fault in FAULTS.items() if fault.after and name != "hangs"},
    "504 after six times": ("504 after", 6),
}
_SHORT = [
    ("direct", "504 after six times", "classic", True),
    ("direct", "504 after six times", "client_side", False),
    ("direct", "closed after", "classic", False),
    ("direct", "truncated", "classic", True),
    ("direct", "cut", "client_side", True),
    ("direct", "malformed", "classic", False),
    ("direct", "empty", "client_side", True),
    ("proxied", "504 after", "classic", True),
    ("proxied", "closed after", "classic", True),
    ("proxied", "closed after", "client_side", False),
    ("proxied", "reset after", "client_side", True),
    ("proxied", "null", "classic", True),
]
_numbers = itertools.count(20000)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    set_limits(monkeypatch, answer=30.0, patience=6.0)


@pytest.mark.parametrize(
    ("way", "lost", "primitives", "cache_submit"),
    list(itertools.product(WAYS, LOST, ("classic", "client_side"), (True, False)))
    if ALL
    else _SHORT,
)
async def test_a_lost_answer_costs_nothing(
    emulated: EmulatedService,
    observed: Observed,
    tmp_path: Path,
    way: str,
    lost: str,
    primitives: str,
    cache_submit: bool,
):
    name, times = LOST[lost]
    with connected(emulated, way, tmp_path, primitives=primitives) as config:
        program = Program(config, emulated, next(_numbers), cache_submit)
        FAULTS[name].inject(emulated.faults, Endpoint.SUBMIT, times)
        async with asyncio.timeout(LONGEST):
            assert await program.run() == program.expected
    assert emulated.count(Endpoint.SUBMIT) == 1
    [job] = observed.jobs
    assert f"Reusing job {job.id}" in observed.log
    assert observed.intents == []
    assert observed.leaked == {}


@pytest.mark.parametrize("fault", ["503", "closed", "429"])
async def test_a_service_that_takes_nothing_for_a_while(
    config: QiskitRuntimeConfig, observed: Observed, fault: str
):
    service = observed.service
    FAULTS[fault].inject(service.faults, Endpoint.SUBMIT, None)

    program = Program(config, service, next(_numbers))
    recovering = asyncio.create_task(
        as_soon_as(lambda: service.count(Endpoint.SUBMIT) >= 4, service.faults.clear)
    )
    async with asyncio.timeout(LONGEST):
        assert await program.run() == program.expected
        await recovering
    assert len(observed.jobs) == 1
    assert observed.intents == []
    assert observed.leaked == {}


@pytest.mark.parametrize("cache_submit", [True, False])
@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_refused_before_the_submission(
    emulated: EmulatedService, observed: Observed, tmp_path: Path, way: str, cache_submit: bool
):
    gate = Gate(emulated.root_url)

    async def shut_for_a_while() -> None:
        while not emulated.count(Endpoint.USAGE):
            await asyncio.sleep(0.01)
        gate.shut()
        emulated.faults.clear()
        while not ("POST " in observed.log and "met a fault that may pass" in observed.log):
            await asyncio.sleep(0.01)
        gate.open()

    with connected(emulated, way, tmp_path, root_url=gate.root_url) as config:
        # A question before the submission is held back until the gate is shut.
        emulated.faults.delay(3600, Endpoint.USAGE, times=1)
        program = Program(config, emulated, next(_numbers), cache_submit)
        shutting = asyncio.create_task(shut_for_a_while())
        async with asyncio.timeout(LONGEST):
            assert await program.run() == program.expected
            await shutting
    gate.shut()
    assert emulated.count(Endpoint.SUBMIT) == 1
    assert len(observed.jobs) == 1
    assert observed.leaked == {}
