"""Faults that strike at random: within their bounds, and the same ones for the same seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow
from qiskit import QuantumCircuit

from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.testing import (
    EmulatedService,
    Endpoint,
    Fault,
    FaultKind,
    Faults,
    RandomFaults,
)

#: Seeds of which the first two lose the answer to a submission, and the third the submission.
LOSING = [9, 13, 2]


def faults_of(seed: int, bounds: RandomFaults | None = None) -> Faults:
    return EmulatedService(seed=seed, random_faults=bounds or RandomFaults()).faults


def struck(faults: Faults, endpoint: Endpoint, requests: int) -> list[list[Fault]]:
    return [faults.strike(endpoint) for _ in range(requests)]


def disturbing(faults: list[Fault]) -> list[Fault]:
    return [fault for fault in faults if fault.kind is not FaultKind.DELAY]


def test_a_seed_decides_what_each_request_of_an_endpoint_meets():
    alone = struck(faults_of(5), Endpoint.JOB, 200)
    assert alone != struck(faults_of(6), Endpoint.JOB, 200)
    among_others = faults_of(5)
    found = []
    for _ in range(200):
        among_others.strike(Endpoint.SEARCH)
        found.append(among_others.strike(Endpoint.JOB))
    assert found == alone


def test_the_shares_are_those_that_were_asked_for():
    bounds = RandomFaults(lost_requests=0.2, lost_answers=0.1, in_a_row=10**6)
    requests = 20_000
    met = struck(faults_of(1, bounds), Endpoint.SEARCH, requests)
    late = [fault for faults in met for fault in faults if fault.kind is FaultKind.DELAY]
    others = Counter(
        "after" if fault.when == "after" else fault.status if fault.kind == "status" else "lost"
        for faults in met
        for fault in disturbing(faults)
    )
    failures = others[500] + others[502] + others[503]
    assert len(late) / requests == pytest.approx(bounds.late, rel=0.1)
    assert max(fault.seconds for fault in late) < bounds.latest
    assert others["lost"] / requests == pytest.approx(bounds.lost_requests, rel=0.1)
    assert others["after"] / requests == pytest.approx(bounds.lost_answers, rel=0.1)
    assert failures / requests == pytest.approx(bounds.failures, rel=0.15)
    assert others[429] / requests == pytest.approx(bounds.refusals, rel=0.15)


@pytest.mark.parametrize("in_a_row", [0, 1, 3])
def test_faults_in_a_row_are_bounded(in_a_row: int):
    bounds = RandomFaults(
        lost_requests=0.5, lost_answers=0.5, failures=0, refusals=0, in_a_row=in_a_row
    )
    met = struck(faults_of(1, bounds), Endpoint.JOB, 40)
    assert [bool(disturbing(faults)) for faults in met] == ([*[True] * in_a_row, False] * 40)[:40]


def test_a_result_is_never_handed_out_in_vain():
    met = struck(faults_of(1, RandomFaults(lost_answers=0.8)), Endpoint.RESULT, 500)
    found = [fault for faults in met for fault in disturbing(faults)]
    assert len(found) > 100
    assert {fault.when for fault in found} == {"before"}


def test_what_was_injected_comes_first_and_clearing_ends_the_rest():
    faults = faults_of(1, RandomFaults(lost_requests=0.8))
    faults.answer("submit", status=418)
    assert [fault.status for fault in disturbing(faults.strike(Endpoint.SUBMIT))] == [418]
    faults.clear()
    assert struck(faults, Endpoint.SUBMIT, 100) == [[]] * 100


def test_a_new_job_shows_within_the_bound():
    faults = faults_of(1, RandomFaults(hidden=4.0))
    hidden = [not faults.shows(f"job-{number}", 2.0) for number in range(400)]
    assert 150 < sum(hidden) < 250
    assert all(faults.shows(f"job-{number}", 4.0) for number in range(400))


@pytest.mark.parametrize(
    "wrong",
    [{"late": 1.5}, {"lost_answers": 0.9, "lost_requests": 0.2}, {"hidden": -1.0}],
    ids="-".join,
)
def test_impossible_bounds_are_refused(wrong: dict[str, float]):
    with pytest.raises(ConfigurationError, match="cannot be"):
        RandomFaults(**wrong)


def test_random_faults_need_a_seed():
    with pytest.raises(ConfigurationError, match="Pass seed="):
        EmulatedService(random_faults=RandomFaults())


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("QCSC_PREFECT_PATIENCE_SECONDS", "30")
    yield
    get_service_pool().clear()


@flow
async def one_job(config: QiskitRuntimeConfig) -> dict[str, int]:
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.measure_all()
    reference = await submit_sampler_job_task(
        [circuit], shots=10, runtime_config=config, cache_submit=True, visibility_delay=1.0
    )
    output = await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)
    return output["result"][0].data.meas.get_counts()


async def met_by_one_job(seed: int) -> dict[Endpoint, list[str | None]]:
    """Run the flow under the faults of a seed, and return what the requests have met."""
    with (
        EmulatedService(seed=seed, random_faults=RandomFaults()) as service,
        service.client_environment(),
    ):
        config = QiskitRuntimeConfig(**service.runtime_config_fields())
        assert await one_job(config) == {"01": 10}
        assert len(service.jobs) == 1
        met: dict[Endpoint, list[str | None]] = {}
        for request in service.requests:
            met.setdefault(request.endpoint, []).append(request.fault)
        return met


@pytest.mark.parametrize("seed", LOSING)
async def test_a_flow_that_is_right_pays_once_and_meets_the_same_again(
    prefect_home: Path, patient: None, seed: int
):
    first, second = await met_by_one_job(seed), await met_by_one_job(seed)
    assert first[Endpoint.SUBMIT] == second[Endpoint.SUBMIT] != [None]
    for endpoint, faults in first.items():
        # How often a job is asked for depends on the time that it takes.
        both = zip(faults, second.get(endpoint, []), strict=False)
        assert all(one == other for one, other in both), endpoint
