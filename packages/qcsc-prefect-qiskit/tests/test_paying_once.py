"""Submitting once through the real client against the emulated service, fault by fault."""

from __future__ import annotations

import asyncio
import logging
import math
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import cloudpickle
import pytest
from prefect import flow
from qiskit import QuantumCircuit

from qcsc_prefect.core.errors import (
    ConfigurationError,
    JobError,
    JobFailedError,
    JobNotFoundError,
    ResultUnavailableError,
    SubmissionError,
    SubmissionUncertainError,
)
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    fetch_qiskit_job_result_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.testing import (
    ACCOUNT_NAME,
    EmulatedAccount,
    EmulatedInstance,
    EmulatedService,
)

DELAY = 1.0


def ones(number: int) -> QuantumCircuit:
    """A circuit whose outcome is the number, in five bits."""
    circuit = QuantumCircuit(5)
    for qubit in range(5):
        if number >> qubit & 1:
            circuit.x(qubit)
    circuit.measure_all()
    return circuit


async def submit(config: QiskitRuntimeConfig, number: int = 1, **more) -> dict:
    return await submit_sampler_job_task(
        [ones(number)],
        shots=10,
        runtime_config=config,
        cache_submit=True,
        cache_scope="global",
        **{"visibility_delay": DELAY, **more},
    )


async def fetch(config: QiskitRuntimeConfig, reference: dict, **more) -> dict:
    return await fetch_qiskit_job_result_task(
        job_reference=reference, runtime_config=config, cache_result=True, **more
    )


def counts(output: dict) -> dict:
    return output["result"][0].data.meas.get_counts()


async def test_submit_and_fetch_with_both_caches(prefect_home: Path, emulated, config):
    reference = await submit(config, 5)
    assert reference["instance"] == emulated.instance
    assert counts(await fetch(config, reference)) == {f"{5:05b}": 10}
    assert await submit(config, 5) == reference
    emulated.clear_requests()
    assert counts(await fetch(config, reference)) == {f"{5:05b}": 10}
    assert emulated.count() == 0, "a kept result needs no request"
    assert len(emulated.jobs) == 1


@pytest.mark.parametrize(
    ("retry_after", "least_pauses"), [(3, [3]), (None, [2, 4])], ids=["with Retry-After", "without"]
)
async def test_a_429_is_waited_out(
    prefect_home: Path, emulated, config, monkeypatch, retry_after, least_pauses: list[int]
):
    monkeypatch.setenv("QCSC_PREFECT_PATIENCE_SECONDS", "60")
    refused = len(least_pauses)
    emulated.faults.answer("submit", status=429, times=refused, retry_after=retry_after)
    reference = await submit(config)
    assert [job.id for job in emulated.jobs] == [reference["job_id"]]
    sent = [request.time for request in emulated.requests if request.endpoint == "submit"]
    pauses = [(after - before).total_seconds() for before, after in pairwise(sent)]
    assert len(pauses) == refused
    # The service asks for more than the first pause would be; where it asks for nothing, they grow.
    assert all(pause >= least for pause, least in zip(pauses, least_pauses, strict=True)), pauses


async def test_a_429_without_end_is_an_error_with_its_facts(prefect_home: Path, emulated, config):
    emulated.faults.answer("submit", status=429, times=None, retry_after=86400)
    with pytest.raises(SubmissionError) as caught:
        await submit(config)
    assert (caught.value.status, caught.value.retry_after) == (429, 86400)
    emulated.faults.clear()
    started = asyncio.get_running_loop().time()
    await submit(config, visibility_delay=60)
    assert asyncio.get_running_loop().time() - started < 10, "nothing is outstanding"


@pytest.mark.parametrize("status", [400, 403, 404, 409])
async def test_a_refusal_leaves_nothing_outstanding(prefect_home: Path, emulated, config, status):
    emulated.faults.answer("submit", status=status)
    with pytest.raises(SubmissionError) as caught:
        await submit(config)
    assert not isinstance(caught.value, SubmissionUncertainError)
    assert caught.value.status == status
    started = asyncio.get_running_loop().time()
    await submit(config, visibility_delay=60)
    assert asyncio.get_running_loop().time() - started < 10
    assert len(emulated.jobs) == 1


async def test_revoked_access_is_renewed_for_a_submission(prefect_home: Path, emulated, config):
    await submit(config, 1)
    emulated.revoke_access_tokens()
    reference = await submit(config, 2)
    assert reference["job_id"] == emulated.jobs[-1].id
    assert len(emulated.jobs) == 2


@pytest.mark.parametrize(
    "lose",
    [
        lambda faults: faults.close("submit", when="after"),
        lambda faults: faults.close("submit", when="after", reset=True),
        lambda faults: faults.truncate("submit"),
        lambda faults: faults.truncate("submit", announced=False),
        lambda faults: faults.malform("submit"),
        lambda faults: faults.empty("submit"),
        lambda faults: faults.answer("submit", status=504, when="after"),
        lambda faults: faults.answer("submit", status=504, when="after", times=3),
    ],
    ids=["closed", "reset", "truncated", "cut", "malformed", "empty", "504", "504 thrice"],
)
@pytest.mark.parametrize("hidden", [0.0, 0.7], ids=["shown at once", "shown later"])
async def test_a_lost_answer_is_one_job_in_the_end(
    prefect_home: Path, emulated, config, lose, hidden
):
    emulated.set_schedule(queued_seconds=math.inf)
    emulated.faults.hide_new_jobs(hidden)
    lose(emulated.faults)
    reference = await submit(config)
    alive = [job for job in emulated.jobs if job.state != "Cancelled"]
    assert [job.id for job in alive] == [reference["job_id"]]
    assert alive[0].id == emulated.jobs[0].id, "the oldest is kept"
    assert (await submit(config))["job_id"] == reference["job_id"]
    emulated.release_jobs()
    assert counts(await fetch(config, reference)) == {"00001": 10}


async def test_behind_a_proxy_a_dropped_post_is_one_job(
    prefect_home: Path, emulated, tmp_path: Path, monkeypatch, caplog
):
    for name in emulated.environment:
        monkeypatch.delenv(name)
    file = emulated.account_file(tmp_path / "accounts.json")
    config = QiskitRuntimeConfig(
        account_name=ACCOUNT_NAME, filename=str(file), backend_name="fake_manila"
    )
    emulated.set_schedule(queued_seconds=math.inf)
    emulated.faults.close("submit", when="after", times=2)
    with caplog.at_level(logging.WARNING):
        reference = await submit(config)
    assert [job.id for job in emulated.jobs] == [reference["job_id"]]
    assert emulated.count("submit") == 1
    assert "a job may have been created" in caplog.text
    assert (await submit(config, visibility_delay=60))["job_id"] == reference["job_id"]


async def test_what_was_lost_before_it_was_accepted_is_sent_again(
    prefect_home: Path, emulated, config
):
    emulated.faults.close("submit", when="before")
    reference = await submit(config)
    first, second = (record for record in emulated.requests if record.endpoint == "submit")
    assert (second.time - first.time).total_seconds() >= DELAY, "it was looked for first"
    assert [job.id for job in emulated.jobs] == [reference["job_id"]]


async def test_an_outage_of_submissions_is_waited_out(
    prefect_home: Path, emulated, config, monkeypatch
):
    emulated.faults.answer("submit", status=503, times=3)
    reference = await submit(config, visibility_delay=0.1)
    assert [job.id for job in emulated.jobs] == [reference["job_id"]]
    # One without end ends in an error, and the intent stays.
    monkeypatch.setenv("QCSC_PREFECT_PATIENCE_SECONDS", "0.2")
    emulated.faults.close("submit", when="before", times=None)
    with pytest.raises(SubmissionUncertainError, match="rerun"):
        await submit(config, 2)
    emulated.faults.clear()
    started = asyncio.get_running_loop().time()
    reference = await submit(config, 2)
    assert asyncio.get_running_loop().time() - started >= DELAY, "the intent was heeded"
    assert [job.id for job in emulated.jobs][1:] == [reference["job_id"]]


@pytest.mark.parametrize("endpoint", ["usage", "status"])
@pytest.mark.parametrize("damage", ["truncate", "malform", "empty", "cut", "null"])
async def test_damage_before_the_job_is_sent_is_no_doubt(
    prefect_home: Path, emulated, config, monkeypatch, endpoint: str, damage: str
):
    def strike(times: int | None) -> None:
        if damage == "cut":
            emulated.faults.truncate(endpoint, announced=False, times=times)
        elif damage == "null":
            emulated.faults.replace_body(endpoint, None, times=times)
        else:
            getattr(emulated.faults, damage)(endpoint, times=times)

    strike(1)
    await submit(config, visibility_delay=60)
    assert len(emulated.jobs) == 1
    monkeypatch.setenv("QCSC_PREFECT_PATIENCE_SECONDS", "0.1")
    get_service_pool().clear()
    strike(None)
    with pytest.raises(SubmissionError, match=r"(?i)no job was created") as caught:
        await submit(config, 2, visibility_delay=60)
    assert not isinstance(caught.value, SubmissionUncertainError)
    assert caught.value.retryable is True
    emulated.faults.clear()
    await submit(config, 2, visibility_delay=60)
    assert len(emulated.jobs) == 2


async def test_nothing_is_sent_where_the_search_fails(prefect_home: Path, emulated, config):
    emulated.faults.answer("search", status=403)
    with pytest.raises(JobError, match="Looking for a job of this input failed"):
        await submit(config)
    assert emulated.count("submit") == 0


async def test_a_job_that_failed_or_is_gone_is_submitted_anew(
    prefect_home: Path, emulated, config, caplog
):
    emulated.faults.end_jobs("Failed", reason="Calibration is broken", code=1008)
    failed = await submit(config)
    with caplog.at_level(logging.WARNING):
        second = await submit(config)
    assert second["job_id"] != failed["job_id"]
    assert "Calibration is broken" in caplog.text
    (await get_service_pool().service(config)).delete_job(second["job_id"])
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        again = await submit(config, visibility_delay=0)
    assert again["job_id"] not in {failed["job_id"], second["job_id"]}
    assert "does not know it any more" in caplog.text


@pytest.mark.parametrize(
    ("state", "is_saved"), [("Failed", False), ("Failed", True), ("Cancelled", True)]
)
async def test_a_token_in_the_words_of_the_service_is_nowhere(
    prefect_home: Path, emulated, config, caplog, tmp_path, state, is_saved
):
    if is_saved:  # the client finds the token by itself
        file = emulated.account_file(tmp_path / "accounts.json")
        config = QiskitRuntimeConfig(
            account_name=ACCOUNT_NAME, filename=str(file), backend_name="fake_manila"
        )
    emulated.faults.end_jobs(state, reason=f"refused: {emulated.token}", code=1008)
    with caplog.at_level(logging.INFO):
        reference = await submit(config)
        with pytest.raises(JobFailedError, match=r"refused: \*{8}") as ended:
            await fetch(config, reference)
        again = await submit(config)
    assert again["job_id"] != reference["job_id"]
    assert "refused: ********" in caplog.text
    assert emulated.token not in caplog.text
    assert emulated.token.encode() not in cloudpickle.dumps(ended.value)


async def test_a_cancelled_job_is_not_handed_out_again(
    prefect_home: Path, emulated, config, caplog
):
    emulated.set_schedule(queued_seconds=math.inf)
    cancelled = await submit(config)
    assert (await submit(config))["job_id"] == cancelled["job_id"]
    (await get_service_pool().service(config)).job(cancelled["job_id"]).cancel()
    emulated.set_schedule()
    with caplog.at_level(logging.WARNING):
        again = await submit(config)
    assert [job.id for job in emulated.jobs] == [cancelled["job_id"], again["job_id"]]
    assert f"Job {cancelled['job_id']} is recorded for this input, but it ended as CANCELLED" in (
        caplog.text
    )
    assert (await submit(config))["job_id"] == again["job_id"]
    assert counts(await fetch(config, again)) == {"00001": 10}


async def test_a_record_is_kept_where_the_job_cannot_be_seen_now(
    prefect_home: Path, emulated, config
):
    reference = await submit(config)
    emulated.faults.answer("job", status=403)
    with pytest.raises(JobError) as caught:
        await submit(config)
    assert caught.value.status == 403
    emulated.faults.answer("job", status=429)
    assert (await submit(config))["job_id"] == reference["job_id"]
    assert len(emulated.jobs) == 1


async def test_a_machine_without_the_record_finds_the_job(
    prefect_home: Path, emulated, config, tmp_path: Path
):
    from prefect.settings import PREFECT_HOME, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    reference = await submit(config)
    elsewhere = tmp_path / "another-machine"
    with temporary_settings(
        {PREFECT_HOME: elsewhere, PREFECT_LOCAL_STORAGE_PATH: elsewhere / "storage"}
    ):
        adopted = await submit(config)
        assert adopted["job_id"] == reference["job_id"]
        # An age limit holds for jobs that others submitted, too.
        await asyncio.sleep(0.3)
        (elsewhere / "storage").rename(elsewhere / "forgotten")
        new = await submit(config, cache_expiration=timedelta(seconds=0.2))
        assert new["job_id"] != reference["job_id"]


async def test_a_refreshed_job_is_not_taken_for_a_duplicate(prefect_home: Path, emulated, config):
    emulated.set_schedule(queued_seconds=math.inf)
    first = await submit(config)
    refreshing = submit_sampler_job_task.with_options(refresh_cache=True)
    emulated.faults.close("submit", when="after")
    second = await refreshing(
        [ones(1)],
        shots=10,
        runtime_config=config,
        cache_submit=True,
        cache_scope="global",
        visibility_delay=DELAY,
    )
    assert second["job_id"] != first["job_id"]
    assert [job.state for job in emulated.jobs] == ["Queued", "Queued"]
    assert (await submit(config))["job_id"] == second["job_id"]


async def test_accounts_that_differ_in_their_tokens_only_have_jobs_of_their_own(
    prefect_home: Path, tmp_path: Path
):
    accounts = [EmulatedAccount(user_id=name) for name in ("alice", "bob")]
    with EmulatedService(["fake_manila"], accounts=accounts, seed=7) as emulated:
        file = tmp_path / "accounts.json"
        config = QiskitRuntimeConfig(
            account_name=ACCOUNT_NAME, filename=str(file), backend_name="fake_manila"
        )
        references = []
        for account in accounts:
            # The same file name and account name, saved anew for somebody else.
            emulated.account_file(file, account=account, instance="auto")
            get_service_pool().clear()
            references.append(await submit(config))
            assert counts(await fetch(config, references[-1])) == {"00001": 10}
        assert [job.user_id for job in emulated.jobs] == ["alice", "bob"]
        assert references[0]["instance"] != references[1]["instance"]
        with pytest.raises(ConfigurationError, match="belongs to the service instance"):
            await fetch_qiskit_job_result_task(job_reference=references[0], runtime_config=config)
    get_service_pool().clear()


async def test_an_account_with_several_instances(prefect_home: Path, tmp_path: Path):
    instances = (
        EmulatedInstance(name="small", backends=("fake_manila",)),
        EmulatedInstance(name="large", backends=("fake_lima",)),
    )
    account = EmulatedAccount(instances=instances)
    with EmulatedService(["fake_manila", "fake_lima"], accounts=[account], seed=7) as emulated:
        file = emulated.account_file(tmp_path / "accounts.json", instance="auto")

        def config(backend_name: str | None) -> QiskitRuntimeConfig:
            return QiskitRuntimeConfig(
                account_name=ACCOUNT_NAME, filename=str(file), backend_name=backend_name
            )

        names = ["fake_manila", "fake_lima"] * 4
        references = await asyncio.gather(
            *(submit(config(name), number) for number, name in enumerate(names))
        )
        for number, (name, reference) in enumerate(zip(names, references, strict=True)):
            crn = instances[0 if name == "fake_manila" else 1].crn
            job = next(job for job in emulated.jobs if job.id == reference["job_id"])
            assert (job.backend, job.instance, reference["instance"]) == (name, crn, crn)
            by_id = await fetch_qiskit_job_result_task(
                job_id=reference["job_id"], runtime_config=config(None), cache_result=True
            )
            assert counts(by_id) == {f"{number:05b}": 10}
        with pytest.raises(JobNotFoundError, match="None of the 2 service instances"):
            await fetch_qiskit_job_result_task(job_id="nobody", runtime_config=config(None))
        # One instance that does not answer is not one that does not know the job.
        get_service_pool().clear()
        emulated.faults.answer("job", status=403, times=2)
        with pytest.raises(JobError) as caught:
            await fetch_qiskit_job_result_task(
                job_id=references[1]["job_id"], runtime_config=config(None)
            )
        assert not isinstance(caught.value, JobNotFoundError)
        assert caught.value.status == 403
    get_service_pool().clear()


async def test_a_preferred_plan_is_billed(prefect_home: Path, tmp_path: Path):
    instances = tuple(
        EmulatedInstance(name=plan, plan=plan, pricing_type=pricing)
        for plan, pricing in (("open", "free"), ("premium", "paid"))
    )
    account = EmulatedAccount(instances=instances)
    with EmulatedService(["fake_manila"], accounts=[account], seed=7) as emulated:
        file = emulated.account_file(tmp_path / "accounts.json", instance="auto")
        for plan, instance in zip(("open", "premium"), instances, strict=True):
            config = QiskitRuntimeConfig(
                account_name=ACCOUNT_NAME,
                filename=str(file),
                backend_name="fake_manila",
                plans_preference=[plan],
            )
            reference = await submit(config)
            assert reference["instance"] == instance.crn
        assert [job.instance for job in emulated.jobs] == [instance.crn for instance in instances]
    get_service_pool().clear()


PRIVATE = {"environment": {"private": True}}


async def test_a_private_result_survives_what_happens_after_its_download(
    prefect_home: Path, emulated, config
):
    reference = await submit(config, 3, options=PRIVATE)
    # The caller keeps nothing of this fetch.
    first = await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)
    assert emulated.jobs[0].result_reads == 1
    second = await fetch(config, reference)
    assert counts(first) == counts(second) == {"00011": 10}
    assert emulated.jobs[0].result_reads == 1
    kept = [path for path in prefect_home.rglob("*") if "private" in path.name]
    assert kept == [], "what is recorded is not kept twice"
    assert counts(await fetch(config, reference)) == {"00011": 10}


async def test_a_damaged_private_result_is_kept_as_it_came(prefect_home: Path, emulated, config):
    reference = await submit(config, 3, options=PRIVATE)
    emulated.faults.truncate("result", announced=False)
    for _ in range(2):
        with pytest.raises(ResultUnavailableError, match="came back damaged"):
            await fetch(config, reference)
    [kept] = [path for path in prefect_home.rglob("*") if "private" in path.name]
    assert kept.read_text().partition("\n")[2].startswith("{")


async def test_a_private_result_of_another_job_is_not_taken(
    prefect_home: Path, emulated, config, caplog
):
    places = []
    for state in (1, 2):
        reference = await submit(config, state, options=PRIVATE)
        await fetch_qiskit_job_result_task(job_reference=reference, runtime_config=config)
        places += {path for path in prefect_home.rglob("*private*") if path not in places}
    first, second = places
    second.write_bytes(first.read_bytes())
    with caplog.at_level(logging.WARNING), pytest.raises(ResultUnavailableError):
        # The service hands it out once; what lies here is not it.
        await fetch(config, reference)
    assert f"result of the private job {reference['job_id']}" in caplog.text
    assert "is not what was written there" in caplog.text


async def test_a_job_is_returned_and_named_where_it_cannot_be_recorded(
    prefect_home: Path, emulated, config, caplog
):
    # Every path below the storage is unwritable, for root too: the folder is a file.
    prefect_home.mkdir(parents=True, exist_ok=True)
    (prefect_home / "storage").write_text("occupied")
    with caplog.at_level(logging.WARNING):
        reference = await submit(config)
    assert reference["job_id"] == emulated.jobs[0].id
    warning = next(
        r
        for r in caplog.records
        if "could not be stored" in r.getMessage() and reference["job_id"] in r.getMessage()
    )
    assert warning.levelno == logging.WARNING
    assert counts(await fetch(config, reference)) == {"00001": 10}


async def test_twenty_equal_submissions_at_once_are_one_job(prefect_home: Path, emulated, config):
    @flow
    async def twenty() -> list[dict]:
        return await asyncio.gather(*(submit(config) for _ in range(20)))

    references = await twenty()
    assert {reference["job_id"] for reference in references} == {emulated.jobs[0].id}
    assert len(emulated.jobs) == 1
