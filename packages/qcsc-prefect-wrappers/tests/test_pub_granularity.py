"""Looking PUBs up one by one: what was run before is not paid for again."""

from __future__ import annotations

import asyncio
import math
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from prefect import flow
from qiskit import QuantumCircuit
from qiskit.primitives import PrimitiveResult

from qcsc_prefect.core.errors import ConfigurationError, SubmissionUncertainError
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
def config(emulated_service: EmulatedService) -> QiskitRuntimeConfig:
    fields = emulated_service.runtime_config_fields()
    return QiskitRuntimeConfig(**fields, primitives="classic")


def pubs_run(emulated_service: EmulatedService) -> list[int]:
    """How many PUBs each job on the service holds."""
    return [len(job.params["pubs"]) for job in emulated_service.jobs]


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


async def test_only_new_pubs_are_submitted(prefect_home: Path, emulated_service, config):
    first, one = await sample(config, [basis_state("00"), basis_state("01"), basis_state("10")])
    second, two = await sample(
        config, [basis_state("10"), basis_state("11"), basis_state("00"), basis_state("01")]
    )
    assert pubs_run(emulated_service) == [3, 1]
    assert likeliest(one["result"]) == ["00", "01", "10"]
    assert likeliest(two["result"]) == ["10", "11", "00", "01"]
    old, new = first.job_id(), second.job_id()
    assert two["result"].metadata["job_ids"] == [old, new, old, old]
    assert [pub["job_id"] for pub in two["metadata"]["pubs"]] == [old, new, old, old]
    assert type(two["result"]) is PrimitiveResult
    assert two["result"][2].data.meas == one["result"][0].data.meas, "not sampled again"


async def test_nothing_is_submitted_where_all_is_known(
    prefect_home: Path, emulated_service, config
):
    pubs = [basis_state("00"), basis_state("01")]
    _, one = await sample(config, pubs)
    _, two = await sample(config, list(reversed(pubs)))
    assert pubs_run(emulated_service) == [2]
    assert likeliest(two["result"]) == ["01", "00"]
    assert two["job_id"] == one["job_id"]


async def test_equal_pubs_in_one_call_are_samples_of_their_own(
    prefect_home: Path, emulated_service, config
):
    superposition = QuantumCircuit(1)
    superposition.sx(0)
    superposition.measure_all()
    _, output = await sample(config, [superposition] * 3)
    _, again = await sample(config, [superposition] * 4)
    assert pubs_run(emulated_service) == [3, 1]
    arrays = [pub.data.meas.array.tobytes() for pub in again["result"]]
    assert len(set(arrays)) == 4
    assert arrays[:3] == [pub.data.meas.array.tobytes() for pub in output["result"]]


async def test_a_further_copy_is_a_sample_of_its_own(prefect_home: Path, emulated_service, config):
    superposition = QuantumCircuit(1)
    superposition.sx(0)
    superposition.measure_all()
    samples = []
    for number in (1, 2, 2, 4):
        _, output = await sample(config, [superposition] * number)
        samples.append([pub.data.meas.array.tobytes() for pub in output["result"]])
    assert pubs_run(emulated_service) == [1, 1, 2]
    assert len(set(samples[-1])) == 4
    assert [each == samples[-1][: len(each)] for each in samples] == [True] * 4


async def test_the_age_of_the_job_decides(prefect_home: Path, emulated_service, config):
    pubs = [basis_state("00"), basis_state("01")]
    _, first = await sample(config, pubs, cache_expiration=timedelta(microseconds=1))
    _, second = await sample(config, pubs[:1], cache_expiration=timedelta(microseconds=1))
    assert pubs_run(emulated_service) == [2, 1]
    _, again = await sample(config, pubs, cache_expiration=timedelta(hours=1))
    old, new = first["job_id"], second["job_id"]
    assert again["metadata"]["job_ids"] == [new, old], "a short limit was that of its call"
    assert pubs_run(emulated_service) == [2, 1]


async def test_each_fact_stands_where_it_belongs(prefect_home: Path, emulated_service, config):
    await sample(config, [basis_state("00"), basis_state("01")])
    _, output = await sample(config, [basis_state("11"), basis_state("01")])
    metadata = output["metadata"]
    new, old = metadata["job_ids"]
    assert set(metadata["jobs"]) == {new, old}
    assert "queue_seconds" not in metadata
    for name in ("job_id", "input_digest", "created"):
        assert name not in metadata, name
        assert metadata["jobs"][old][name] != metadata["jobs"][new][name], name
    for name in ("qpu_seconds", "charged_seconds"):
        if name in metadata["jobs"][old]:
            each = [job[name] for job in metadata["jobs"].values()]
            assert metadata[name] == sum(each), name
    assert "qpu_seconds" in metadata
    assert metadata["resource"] == "fake_manila"
    assert [pub["size"] for pub in metadata["pubs"]] == [4, 3], "though the job ran others, too"
    spans = output["result"].metadata["execution"]["execution_spans"]
    assert sorted(index for span in spans for index in span.pub_idxs) == [0, 1]
    started = {index: span.start for span in spans for index in span.pub_idxs}
    assert started[1] < started[0], "the second one was run first"
    assert "input_digest" not in output
    assert output["shots"] == 50


async def test_a_job_that_somebody_waits_for_is_not_cancelled(
    prefect_home: Path, emulated_service, config, caplog
):
    emulated_service.set_schedule(queued_seconds=math.inf)
    pubs = [basis_state("00"), basis_state("01")]
    flags = {"cancel_job_on_cancellation": True}
    # The first flow submits, the second takes a PUB of it, and the first one ends.
    flows = []
    for of_flow in (pubs, pubs[1:]):
        flows.append(asyncio.create_task(sample(config, of_flow, **flags)))
        while caplog.text.count(": QUEUED") < len(flows):
            await asyncio.sleep(0.05)
    flows[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await flows[0]
    assert [job.state for job in emulated_service.jobs] == ["Queued"]
    assert "somebody else waits for it" in caplog.text
    emulated_service.release_jobs()
    assert likeliest((await flows[1])[1]["result"]) == ["01"]


@pytest.mark.parametrize("longer", [True, False], ids=["a longer list", "another list"])
async def test_pubs_of_a_lost_answer_are_paid_once(
    prefect_home: Path, emulated_service, config, monkeypatch, longer: bool
):
    emulated_service.faults.hide_new_jobs(3600)
    emulated_service.faults.close("submit", when="after")
    with monkeypatch.context() as patch:
        patch.setenv("QCSC_PREFECT_PATIENCE_SECONDS", "0.0001")  # given up, and not sent again
        with pytest.raises(SubmissionUncertainError):
            await sample(config, [basis_state("00"), basis_state("01")], visibility_delay=0)
    emulated_service.faults.hide_new_jobs(0)
    wanted = ["00", "01", "10"] if longer else ["10", "01"]
    _, output = await sample(config, [basis_state(bits) for bits in wanted], visibility_delay=1)
    assert likeliest(output["result"]) == wanted
    assert pubs_run(emulated_service) == [2, 1]


async def test_a_failed_job_does_not_hold_its_pubs(prefect_home: Path, emulated_service, config):
    from qcsc_prefect.core.errors import JobFailedError

    emulated_service.faults.end_jobs("Failed")
    with pytest.raises(JobFailedError):
        await sample(config, [basis_state("01")])
    _, output = await sample(config, [basis_state("01")])
    assert likeliest(output["result"]) == ["01"]
    assert pubs_run(emulated_service) == [1, 1]


@pytest.mark.filterwarnings("ignore:Specifying different 'shots':DeprecationWarning")
async def test_shots_are_those_that_this_call_asked_for(
    prefect_home: Path, emulated_service, config
):
    one, two, three = basis_state("01"), basis_state("10"), basis_state("11")
    _, mixed = await sample(config, [(one, None, 60), two])
    assert mixed["shots"] is None
    assert "shots" not in mixed["metadata"]
    assert [pub["shots_asked"] for pub in mixed["metadata"]["pubs"]] == [60, 50]
    _, found = await sample(config, [(one, None, 60)])
    _, alone = await sample(config, [(three, None, 60)])
    _, both = await sample(config, [(one, None, 60), (three, None, 60)])
    assert pubs_run(emulated_service) == [2, 1]
    for output in (found, alone, both):
        assert output["shots"] == output["metadata"]["shots"] == 60
        assert {pub["shots_asked"] for pub in output["metadata"]["pubs"]} == {60}
    _, other = await sample(config, [two, (three, None, 60)])
    assert other["shots"] is None
    assert [pub["shots_asked"] for pub in other["metadata"]["pubs"]] == [50, 60]


@pytest.mark.parametrize("obstacle", ["a folder", "a loop", "no storage"])
async def test_a_pub_that_cannot_be_remembered_is_run(
    prefect_home: Path, emulated_service, config, caplog, obstacle: str
):
    _, once = await sample(config, [basis_state("01")])
    storage = prefect_home / "storage"
    locations = list(storage.glob("qiskit-sampler-pub-*"))
    assert locations
    if obstacle == "no storage":
        shutil.rmtree(storage)
        storage.write_text("")
    for location in locations if obstacle != "no storage" else []:
        location.unlink()
        if obstacle == "a folder":
            location.mkdir()
        else:
            location.symlink_to(location.name)
    _, again = await sample(config, [basis_state("01"), basis_state("10")])
    assert [*likeliest(once["result"]), "10"] == likeliest(again["result"])
    assert "could not be stored" in caplog.text
    assert sum(pubs_run(emulated_service)) == 3


async def test_the_estimator_does_it_too(prefect_home: Path, emulated_service, config):
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
    assert pubs_run(emulated_service) == [2, 1]


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
