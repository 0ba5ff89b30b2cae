"""Looking PUBs up one by one: what was run before is not paid for again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow
from qiskit import QuantumCircuit
from qiskit.primitives import PrimitiveResult

from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit import (
    QCSCEstimatorV2,
    QCSCPrimitiveJob,
    QCSCSamplerV2,
    QiskitRuntimeConfig,
)
from qcsc_prefect.integrations.qiskit.testing import EmulatedService


def basis_state(bits: str) -> QuantumCircuit:
    """A circuit whose every shot reads these bits."""
    circuit = QuantumCircuit(len(bits))
    for qubit, bit in enumerate(reversed(bits)):
        if bit == "1":
            circuit.x(qubit)
    circuit.measure_all()
    return circuit


@pytest.fixture
def service() -> Iterator[EmulatedService]:
    with EmulatedService(backends=["fake_manila"]) as service, service.client_environment():
        yield service


@pytest.fixture
def config(service: EmulatedService) -> QiskitRuntimeConfig:
    return QiskitRuntimeConfig(**service.runtime_config_fields(), primitives="classic")


def pubs_run(service: EmulatedService) -> list[int]:
    """How many PUBs each job on the service holds."""
    return [len(job.params["pubs"]) for job in service.jobs]


async def sample(config: QiskitRuntimeConfig, pubs: list, **more) -> tuple[QCSCPrimitiveJob, dict]:
    @flow(name="pub-by-pub")
    async def samples() -> tuple[QCSCPrimitiveJob, dict]:
        job = await QCSCSamplerV2(runtime_config=config).run(
            pubs, shots=50, cache_submit=True, cache_result=True, cache_granularity="pub", **more
        )
        return job, await job.output()

    return await samples()


def likeliest(result: PrimitiveResult) -> list[str]:
    return [
        max(counts, key=counts.get) for counts in (pub.data.meas.get_counts() for pub in result)
    ]


async def test_only_new_pubs_are_submitted(prefect_home: Path, service, config):
    first, one = await sample(config, [basis_state("00"), basis_state("01"), basis_state("10")])
    second, two = await sample(
        config, [basis_state("10"), basis_state("11"), basis_state("00"), basis_state("01")]
    )
    assert pubs_run(service) == [3, 1]
    assert likeliest(one["result"]) == ["00", "01", "10"]
    assert likeliest(two["result"]) == ["10", "11", "00", "01"]
    old, new = first.job_id(), second.job_id()
    assert two["result"].metadata["job_ids"] == [old, new, old, old]
    assert [pub["job_id"] for pub in two["metadata"]["pubs"]] == [old, new, old, old]
    assert type(two["result"]) is PrimitiveResult
    assert two["result"][2].data.meas == one["result"][0].data.meas, "not sampled again"


async def test_nothing_is_submitted_where_all_is_known(prefect_home: Path, service, config):
    pubs = [basis_state("00"), basis_state("01")]
    _, one = await sample(config, pubs)
    _, two = await sample(config, list(reversed(pubs)))
    assert pubs_run(service) == [2]
    assert likeliest(two["result"]) == ["01", "00"]
    assert two["job_id"] == one["job_id"]


async def test_equal_pubs_in_one_call_are_samples_of_their_own(prefect_home: Path, service, config):
    superposition = QuantumCircuit(1)
    superposition.sx(0)
    superposition.measure_all()
    _, output = await sample(config, [superposition] * 3)
    _, again = await sample(config, [superposition] * 4)
    assert pubs_run(service) == [3, 1]
    arrays = [pub.data.meas.array.tobytes() for pub in again["result"]]
    assert len(set(arrays)) == 4
    assert arrays[:3] == [pub.data.meas.array.tobytes() for pub in output["result"]]


async def test_a_failed_job_does_not_hold_its_pubs(prefect_home: Path, service, config):
    from qcsc_prefect.core.errors import JobFailedError

    service.faults.end_jobs("Failed")
    with pytest.raises(JobFailedError):
        await sample(config, [basis_state("01")])
    _, output = await sample(config, [basis_state("01")])
    assert likeliest(output["result"]) == ["01"]
    assert pubs_run(service) == [1, 1]


async def test_the_estimator_does_it_too(prefect_home: Path, service, config):
    circuit = basis_state("01").remove_final_measurements(inplace=False)

    @flow(name="pub-by-pub")
    async def estimate(observables: list[str]) -> list[float]:
        result = await (
            await QCSCEstimatorV2(runtime_config=config).run(
                [(circuit, observable) for observable in observables],
                precision=0.1,
                cache_submit=True,
                cache_granularity="pub",
            )
        ).result()
        return [float(pub.data.evs) for pub in result]

    assert await estimate(["IZ", "ZI"]) == pytest.approx([-1, 1], abs=0.4)
    assert await estimate(["ZZ", "IZ"]) == pytest.approx([-1, -1], abs=0.4)
    assert pubs_run(service) == [2, 1]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"options": {"simulator": {"seed_simulator": 1}}}, "seed_simulator"),
        ({"options": {"max_execution_time": 300}}, "time limit"),
        ({"options": {"experimental": {"a": 1}}}, "experimental"),
        ({"input_digest": "mine"}, "digest of its own"),
        ({"cache_submit": False}, "cache_submit=True"),
    ],
)
async def test_pubs_that_are_not_independent_are_refused(prefect_home: Path, more, reason):
    config = QiskitRuntimeConfig(channel="local", backend_name="fake_manila")
    sampler = QCSCSamplerV2(runtime_config=config)
    arguments = {"cache_submit": True, "cache_granularity": "pub", **more}
    with pytest.raises(ConfigurationError, match=reason):
        await sampler.run([basis_state("0")], **arguments)


async def test_the_one_task_path_refuses_it(prefect_home: Path):
    config = QiskitRuntimeConfig(channel="local", backend_name="fake_manila")
    with pytest.raises(ConfigurationError, match="cache_granularity"):
        await QCSCSamplerV2(runtime_config=config).run_and_fetch(
            [basis_state("0")], robust=False, cache_granularity="pub"
        )
