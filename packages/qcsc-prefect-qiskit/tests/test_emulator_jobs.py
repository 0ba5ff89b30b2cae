"""How jobs live in the emulated service: their states, tags, searches and limits."""

from __future__ import annotations

import json
import math
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import requests
from qiskit import QuantumCircuit
from qiskit.circuit import Gate
from qiskit_ibm_runtime import QiskitRuntimeService, RuntimeEncoder, SamplerV2
from qiskit_ibm_runtime.exceptions import (
    IBMRuntimeError,
    RuntimeInvalidStateError,
    RuntimeJobFailureError,
    RuntimeJobNotFound,
    RuntimeProgramNotFound,
)

from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit.testing import (
    EmulatedAccount,
    EmulatedInstance,
    EmulatedService,
)

if TYPE_CHECKING:
    from qiskit_ibm_runtime import RuntimeJobV2

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BACKEND = "fake_manila"


def flip() -> QuantumCircuit:
    circuit = QuantumCircuit(5, 1)
    circuit.x(0)
    circuit.measure(0, 0)
    return circuit


@pytest.fixture
def service(emulated: EmulatedService) -> QiskitRuntimeService:
    fields = emulated.runtime_config_fields()
    del fields["backend_name"]
    return QiskitRuntimeService(**fields)


def submit(service: QiskitRuntimeService, **environment: object) -> RuntimeJobV2:
    sampler = SamplerV2(service.backend(BACKEND), options={"environment": environment})
    return sampler.run([flip()], shots=10)


class Wire:
    """Bare requests, for what the client would never send."""

    def __init__(self, emulated: EmulatedService) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"apikey {emulated.token}"
        self.session.headers["Service-CRN"] = emulated.instance
        self._url = emulated.url

    def send(self, method: str, path: str, **arguments: object) -> requests.Response:
        return self.session.request(method, self._url + path, timeout=10, **arguments)


@pytest.fixture
def wire(emulated: EmulatedService) -> Wire:
    return Wire(emulated)


def test_a_job_passes_through_its_states_by_the_clock(emulated, service) -> None:
    emulated.set_schedule(queued_seconds=0.4, running_seconds=0.4)
    started = time.monotonic()
    job = submit(service)
    seen = []
    while not seen or seen[-1] != "DONE":
        state = job.status()
        if state not in seen[-1:]:
            seen.append(state)
        time.sleep(0.02)
    assert seen == ["QUEUED", "RUNNING", "DONE"]
    assert time.monotonic() - started >= 0.8
    [record] = emulated.jobs
    assert (record.ended - record.created) >= timedelta(seconds=0.8)
    metrics = job.metrics()
    assert metrics["usage"]["status"] == "done"
    assert metrics["usage"]["qpu_charge_time_seconds"] >= 0.4
    assert "ended" not in job.logs()
    assert "Completed" in job.logs()


def test_jobs_can_be_held_until_they_are_released(emulated, service) -> None:
    emulated.set_schedule(queued_seconds=math.inf)
    first, second = submit(service), submit(service)
    assert [job.status() for job in (first, second)] == ["QUEUED", "QUEUED"]
    assert [job.metrics()["position_in_queue"] for job in (first, second)] == [1, 2]
    assert service.backend(BACKEND).status().pending_jobs == 2
    assert first.metrics()["usage"]["status"] == "pending"

    emulated.release_jobs(first.job_id())
    assert first.result()[0].data.c.get_counts() == {"1": 10}
    assert second.status() == "QUEUED"
    assert second.metrics()["position_in_queue"] == 1
    emulated.release_jobs()
    assert second.result()[0].data.c.get_counts() == {"1": 10}


def test_a_waiting_job_can_be_cancelled_and_an_ended_one_cannot(emulated, service) -> None:
    emulated.set_schedule(queued_seconds=math.inf)
    job = submit(service)
    job.cancel()
    assert service.job(job.job_id()).cancelled()
    emulated.release_jobs()
    assert service.job(job.job_id()).cancelled()
    with pytest.raises(RuntimeInvalidStateError, match="409"):
        job.cancel()
    with pytest.raises(RuntimeInvalidStateError, match="cancelled"):
        service.job(job.job_id()).result()


def posted_job(service: QiskitRuntimeService, wire: Wire, *pubs: object) -> RuntimeJobV2:
    """Post PUBs that the client itself would refuse."""
    posted = {"program_id": "sampler", "backend": BACKEND, "params": {"pubs": pubs}}
    answer = wire.send("POST", "/jobs", data=json.dumps(posted, cls=RuntimeEncoder))
    return service.job(answer.json()["id"])


def test_pubs_that_cannot_be_read_fail_the_job(service, emulated, wire) -> None:
    for pub in (["no circuit"], [flip(), None, -1], "nothing"):
        job = posted_job(service, wire, pub)
        with pytest.raises(RuntimeJobFailureError, match=r"1003.*PUBs cannot be read"):
            job.result()
    assert {record.state for record in emulated.jobs} == {"Failed"}


def test_pubs_that_cannot_be_simulated_fail_the_job(service, emulated, wire) -> None:
    circuit = flip()
    circuit.append(Gate("mystery", 1, []), [0])
    with pytest.raises(RuntimeJobFailureError, match=r"1002.*mystery"):
        posted_job(service, wire, [circuit, None, 10]).result()
    assert emulated.jobs[0].reason_code == 1002


def test_the_search_filters_sorts_and_pages(emulated, service) -> None:
    parities = ["even", "odd", "even", "odd", "even"]
    ids = [
        submit(service, job_tags=[f"n{number}", parity]).job_id()
        for number, parity in enumerate(parities)
    ]

    def found(**filters: object) -> list[str]:
        return [job.job_id() for job in service.jobs(**{"limit": None, **filters})]

    assert found() == ids[::-1]
    assert found(descending=False) == ids
    assert found(descending=False, limit=2, skip=1) == ids[1:3]
    assert found(job_tags=["even"], descending=False) == ids[::2]
    assert found(job_tags=["even", "n2"]) == [ids[2]]
    assert found(program_id="estimator") == []
    assert found(backend_name=BACKEND) == ids[::-1]
    middle = emulated.jobs[2].created
    assert found(created_after=middle, descending=False) == ids[2:]
    assert found(created_before=middle, descending=False) == ids[:3]
    future = datetime.now(UTC) + timedelta(hours=1)
    assert found(created_after=future) == []
    emulated.set_schedule(queued_seconds=math.inf)
    waiting = submit(service).job_id()
    assert found(pending=True) == [waiting]
    assert sorted(found(pending=False)) == sorted(ids)


def test_more_jobs_than_a_page_are_found(emulated, wire) -> None:
    posted = {"program_id": "sampler", "backend": BACKEND, "params": {"pubs": []}}
    emulated.set_schedule(queued_seconds=math.inf)
    ids = [wire.send("POST", "/jobs", json=posted).json()["id"] for _ in range(205)]
    page = wire.send("GET", "/jobs", params={"limit": 1000, "sort": "ASC"}).json()
    assert page["count"] == 205
    assert [job["id"] for job in page["jobs"]] == ids[:200]
    rest = wire.send("GET", "/jobs", params={"offset": 200, "sort": "ASC"}).json()
    assert [job["id"] for job in rest["jobs"]] == ids[200:]


def test_tags_are_limited_in_number_and_length(emulated, service, wire) -> None:
    job = submit(service, job_tags=[f"{n}" * 86 for n in range(8)])
    assert len(emulated.jobs[0].tags) == 8
    for tags in ([str(n) for n in range(9)], ["x" * 87]):
        with pytest.raises(IBMRuntimeError, match="400"):
            submit(service, job_tags=tags)
    assert len(emulated.jobs) == 1
    assert job.update_tags(["new"]) == ["new"]
    assert emulated.jobs[0].tags == ("new",)
    answer = wire.send("PUT", f"/jobs/{job.job_id()}/tags", json={"tags": ["x" * 87]})
    assert answer.status_code == 400
    assert emulated.jobs[0].tags == ("new",)


def test_the_result_of_a_private_job_is_read_once(emulated, service) -> None:
    job = submit(service, private=True)
    assert job.result()[0].data.c.get_counts() == {"1": 10}
    assert job.result() is None
    assert service.job(job.job_id()).private
    assert job.inputs == {}
    assert emulated.jobs[0].result_reads == 1


def test_the_inputs_of_a_job_come_back_decoded(service) -> None:
    [[circuit, _, shots]] = submit(service).inputs["pubs"]
    assert circuit == flip()
    assert shots == 10


def test_a_deleted_job_is_gone(service) -> None:
    job = submit(service)
    service.delete_job(job.job_id())
    with pytest.raises(RuntimeJobNotFound):
        service.job(job.job_id())


def test_an_unknown_program_is_not_found(service) -> None:
    with pytest.raises(RuntimeProgramNotFound):
        service._run("alchemy", {}, {"backend": service.backend(BACKEND)})


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/jobs", b"not json", 400),
        ("POST", "/jobs", b"[]", 400),
        ("POST", "/jobs", b'{"program_id": "sampler", "backend": "fake_manila"}', 400),
        ("POST", "/jobs", b'{"program_id": "sampler"}', 400),
        ("POST", "/jobs", b'{"program_id": "sampler", "backend": "other", "params": {}}', 404),
        ("GET", "/jobs?limit=many", b"", 400),
        ("GET", "/jobs?created_after=yesterday", b"", 400),
        ("GET", "/backends/other/configuration", b"", 404),
        ("GET", "/sessions/other", b"", 404),
        ("GET", "/elsewhere", b"", 404),
        ("DELETE", "/jobs", b"", 404),
    ],
)
def test_requests_that_make_no_sense_are_refused(wire, method, path, body, status) -> None:
    answer = wire.send(method, path, data=body)
    assert answer.status_code == status
    if status >= 400:
        assert set(answer.json()["errors"][0]) == {"code", "message", "solution", "more_info"}


def test_results_that_are_not_there_yet_are_no_content(emulated, service, wire) -> None:
    emulated.set_schedule(queued_seconds=math.inf)
    job = submit(service)
    assert wire.send("GET", f"/jobs/{job.job_id()}/results").status_code == 204


def test_requests_are_noted_without_secrets(emulated, service) -> None:
    submit(service)
    assert emulated.count("submit") == 1
    assert emulated.count() == len(emulated.requests)
    times = [record.time for record in emulated.requests]
    assert times == sorted(times)
    noted = repr(emulated.requests) + repr(emulated.jobs) + repr(emulated.accounts)
    assert emulated.token not in noted
    assert emulated.token not in repr(emulated)
    assert EmulatedAccount().token != emulated.token


def test_it_listens_on_one_address_only(emulated) -> None:
    port = int(emulated.root_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    # A server that listened everywhere would answer here too.
    with pytest.raises(OSError, match=r"refused|reach|assign|timed out"):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_a_quota_that_is_used_up_is_told() -> None:
    account = EmulatedAccount(instances=(EmulatedInstance(usage_limit_seconds=0),))
    with (
        EmulatedService(backends=[BACKEND], accounts=[account]) as emulated,
        emulated.client_environment(),
    ):
        fields = emulated.runtime_config_fields()
        del fields["backend_name"]
        service = QiskitRuntimeService(**fields)
        with pytest.warns(UserWarning, match="no more time available"):
            submit(service)


def test_the_jobs_of_an_earlier_service_go_on(emulated, service):
    done = submit(service, job_tags=["kept"], private=True)
    done.result()
    emulated.faults.end_jobs("Failed", reason="It broke.", code=1234)
    failed = submit(service)
    left = emulated.jobs
    with EmulatedService(backends=[BACKEND], accounts=emulated.accounts) as later:
        later.restore_jobs(left)
        with pytest.raises(ConfigurationError, match=f"has a job {done.job_id()} already"):
            later.restore_jobs(left)
        fields = later.runtime_config_fields()
        del fields["backend_name"]
        wait_for_end(later)
        shown = ("id", "tags", "created", "state", "reason", "reason_code", "result_reads")
        assert [[getattr(job, name) for name in shown] for job in later.jobs] == [
            [getattr(job, name) for name in shown] for job in left
        ]
        with later.client_environment():
            again = QiskitRuntimeService(**fields)
            assert [job.job_id() for job in again.jobs(job_tags=["kept"])] == [done.job_id()]
            assert again.job(failed.job_id()).error_message().endswith("It broke.")
    elsewhere = EmulatedService(backends=["fake_lima"])
    with pytest.raises(ConfigurationError, match="which this emulated service has not"):
        elsewhere.restore_jobs(left)


def wait_for_end(service: EmulatedService) -> None:
    deadline = time.monotonic() + 60
    while any(job.ended is None for job in service.jobs):
        assert time.monotonic() < deadline
        time.sleep(0.01)
