"""The real client against the emulated service, in each of the ways that reach it."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp
from qiskit_ibm_runtime import Batch, EstimatorV2, QiskitRuntimeService, SamplerV2
from qiskit_ibm_runtime.exceptions import IBMRuntimeError

from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit.testing import (
    ACCOUNT_NAME,
    EmulatedAccount,
    EmulatedInstance,
    EmulatedService,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning",
        "ignore:Unverified HTTPS",
        "ignore:Unable to retrieve IBM Cloud access token",
    ),
    pytest.mark.emulated_service(seed=11),
]

BACKEND = "fake_manila"


def bell(*, measured: bool = True) -> QuantumCircuit:
    """A Bell pair on the first two qubits, in the gates of the device."""
    circuit = QuantumCircuit(5)
    circuit.rz(np.pi / 2, 0)
    circuit.sx(0)
    circuit.rz(np.pi / 2, 0)
    circuit.cx(0, 1)
    if measured:
        circuit.measure_all()
    return circuit


def connect(emulated: EmulatedService, **fields: object) -> QiskitRuntimeService:
    """Construct the client by URL; the environment must be set."""
    arguments: dict[str, object] = {**emulated.runtime_config_fields(), **fields}
    del arguments["backend_name"]
    return QiskitRuntimeService(**arguments)


def connect_by_proxy(emulated: EmulatedService, folder: Path) -> QiskitRuntimeService:
    """Construct the client from a saved account file."""
    path = emulated.account_file(folder / "accounts.json")
    return QiskitRuntimeService(filename=str(path), name=ACCOUNT_NAME)


@pytest.fixture
def proxied() -> Iterator[EmulatedService]:
    with EmulatedService(backends=[BACKEND], seed=11) as service:
        yield service


@pytest.fixture(params=["url", "proxy"])
def client(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[EmulatedService, QiskitRuntimeService]]:
    """An emulator and a client of it, connected in both ways."""
    with EmulatedService(backends=[BACKEND], seed=11) as service:
        if request.param == "proxy":
            yield service, connect_by_proxy(service, tmp_path)
        else:
            with service.client_environment():
                yield service, connect(service)


def test_a_sampler_job_runs_and_is_found_again(client) -> None:
    emulated, service = client
    backend = service.backend(BACKEND)
    sampler = SamplerV2(backend, options={"environment": {"job_tags": ["mine"]}})
    job = sampler.run([bell()], shots=200)
    counts = job.result()[0].data.meas.get_counts()

    assert sum(counts.values()) == 200
    assert set(counts) == {"00000", "00011"}
    spans = job.result().metadata["execution"]["execution_spans"]
    assert spans[0].size == 200

    found = service.job(job.job_id())
    assert found.result()[0].data.meas.get_counts() == counts
    assert found.tags == ["mine"]
    assert [j.job_id() for j in service.jobs(job_tags=["mine"])] == [job.job_id()]
    assert service.jobs(job_tags=["mine", "yours"]) == []

    [record] = emulated.jobs
    assert record.id == job.job_id()
    assert (record.program, record.backend, record.state) == ("sampler", BACKEND, "Completed")
    assert record.instance == emulated.instance
    assert len(record.params["pubs"]) == 1


def test_an_estimator_job_runs(client) -> None:
    _, service = client
    backend = service.backend(BACKEND)
    observables = [SparsePauliOp("IIIZZ"), SparsePauliOp("IIIXX"), SparsePauliOp("IIIZI")]
    job = EstimatorV2(backend).run([(bell(measured=False), observables)], precision=0.02)
    data = job.result()[0].data

    assert data.evs.shape == (3,)
    assert data.evs == pytest.approx([1.0, 1.0, 0.0], abs=0.1)


def test_parameters_are_swept_in_the_shape_of_the_pub(emulated) -> None:
    angle = Parameter("angle")
    circuit = QuantumCircuit(5)
    circuit.sx(0)
    circuit.rz(angle, 0)
    circuit.sx(0)
    circuit.measure_all()
    backend = connect(emulated).backend(BACKEND)
    # sx rz(0) sx is x; sx rz(pi) sx is the identity up to a phase.
    values = np.array([[0.0, np.pi]]).reshape(2, 1, 1)
    data = SamplerV2(backend).run([(circuit, values, 64)]).result()[0].data

    assert data.shape == (2, 1)
    assert data.meas[0, 0].get_counts() == {"00001": 64}
    assert data.meas[1, 0].get_counts() == {"00000": 64}


def test_the_executor_program_runs_both_newer_primitives(emulated) -> None:
    executor_sampler = pytest.importorskip("qiskit_ibm_runtime.executor_sampler")
    executor_estimator = pytest.importorskip("qiskit_ibm_runtime.executor_estimator")
    backend = connect(emulated).backend(BACKEND)

    sampled = executor_sampler.Sampler(backend).run([bell()], shots=100).result()
    counts = sampled[0].data.meas.get_counts()
    assert sum(counts.values()) == 100
    assert set(counts) == {"00000", "00011"}

    pub = (bell(measured=False), SparsePauliOp("IIIZZ"))
    estimated = executor_estimator.Estimator(backend).run([pub]).result()
    assert estimated[0].data.evs == pytest.approx(1.0, abs=0.1)
    assert [job.program for job in emulated.jobs] == ["executor", "executor"]


def test_a_seed_makes_equal_jobs_equal_and_its_absence_does_not(emulated) -> None:
    def counts(service: QiskitRuntimeService) -> list[int]:
        backend = service.backend(BACKEND)
        jobs = [SamplerV2(backend).run([bell()], shots=4096) for _ in range(2)]
        return [job.result()[0].data.meas.get_counts()["00000"] for job in jobs]

    first, second = counts(connect(emulated))
    assert first == second
    with EmulatedService(backends=[BACKEND]) as unseeded, unseeded.client_environment():
        drawn = {n for _ in range(3) for n in counts(connect(unseeded))}
    assert len(drawn) > 1


@pytest.mark.emulated_service(seed=3, noise=True)
def test_noise_of_the_device_is_simulated_on_request(emulated) -> None:
    pytest.importorskip("qiskit_aer")
    backend = connect(emulated).backend(BACKEND)
    counts = SamplerV2(backend).run([bell()], shots=4096).result()[0].data.meas.get_counts()
    assert set(counts) > {"00000", "00011"}


@pytest.mark.emulated_service(backends={"ibm_sherbrooke": "fake_sherbrooke"})
def test_a_wide_device_can_take_the_name_of_a_real_one(emulated) -> None:
    backend = connect(emulated).backend("ibm_sherbrooke")
    assert (backend.name, backend.num_qubits) == ("ibm_sherbrooke", 127)
    circuit = QuantumCircuit(127, 1)
    circuit.x(5)
    circuit.measure(5, 0)
    data = SamplerV2(backend).run([circuit], shots=10).result()[0].data
    assert data.c.get_counts() == {"1": 10}
    assert backend.properties().backend_name == "ibm_sherbrooke"
    assert backend.status().pending_jobs == 0


def test_requests_of_each_call_by_proxy(proxied, tmp_path) -> None:
    """The table of costs: what each call of the client sends."""

    def sent() -> list[str]:
        endpoints = [record.endpoint.value for record in proxied.requests]
        proxied.clear_requests()
        return endpoints

    service = connect_by_proxy(proxied, tmp_path)
    connections = {record.connection for record in proxied.requests}
    assert len(connections) == 5
    assert sent() == ["token", "instances", "plan", "token", "backends"]
    backend = service.backend(BACKEND)
    assert sent() == ["backends", "configuration"]
    service.backend(BACKEND)
    assert sent() == ["backends"]
    assert backend.target.num_qubits == 5
    assert sent() == ["properties"]
    assert backend.target.num_qubits == 5
    assert sent() == []
    job = SamplerV2(backend).run([bell()], shots=10)
    assert sent() == ["usage", "status", "submit"]
    while not job.in_final_state():
        pass
    sent()
    fresh = connect_by_proxy(proxied, tmp_path)
    sent()
    found = fresh.job(job.job_id())
    assert sent() == ["job", "configuration"]
    fresh.job(job.job_id())
    assert sent() == ["job"]
    found.result()
    assert sent() == ["job", "result"]
    found.metrics()
    assert sent() == ["metrics"]
    fresh.usage()
    assert sent() == ["usage"]
    SamplerV2(fresh.backend(BACKEND)).run([bell()], shots=10)
    assert sent() == ["backends", "properties", "usage", "status", "submit"]


def test_waiting_for_a_result_asks_twice_a_second(emulated) -> None:
    emulated.set_schedule(running_seconds=1.2)
    job = SamplerV2(connect(emulated).backend(BACKEND)).run([bell()], shots=10)
    emulated.clear_requests()
    job.result()
    # At 0.0, 0.5, 1.0 and 1.5 s; a slow machine asks less often.
    assert 2 <= emulated.count("job") <= 4
    assert emulated.count("result") == 1


def test_one_client_serves_many_threads(emulated) -> None:
    service = connect(emulated)
    backend = service.backend(BACKEND)
    assert backend.target.num_qubits == 5

    def run(shots: int) -> int:
        job = SamplerV2(backend).run([bell()], shots=shots)
        return sum(job.result()[0].data.meas.get_counts().values())

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(run, range(1, 17))) == list(range(1, 17))
    assert len({job.id for job in emulated.jobs}) == 16
    assert emulated.count("submit") == 16


def test_accounts_see_the_jobs_of_their_own_instances_only() -> None:
    alice_instances = (EmulatedInstance(name="one"), EmulatedInstance(name="two"))
    alice = EmulatedAccount(user_id="alice", instances=alice_instances)
    bob = EmulatedAccount(user_id="bob")
    with (
        EmulatedService(backends=[BACKEND], accounts=[alice, bob]) as emulated,
        emulated.client_environment(),
    ):

        def as_(account: EmulatedAccount, number: int = 0) -> QiskitRuntimeService:
            crn = account.instances[number].crn
            return connect(
                emulated, **emulated.runtime_config_fields(account=account, instance=crn)
            )

        submitting = as_(alice)
        job = SamplerV2(submitting.backend(BACKEND)).run([bell()], shots=10)
        assert as_(alice).job(job.job_id()).job_id() == job.job_id()
        for other in (as_(alice, 1), as_(bob)):
            assert other.jobs() == []
            with pytest.raises(IBMRuntimeError, match="not found"):
                other.job(job.job_id())
        assert [(record.user_id, record.instance) for record in emulated.jobs] == [
            ("alice", alice.instances[0].crn)
        ]
        stolen = emulated.runtime_config_fields(account=bob, instance=alice.instances[0].crn)
        with pytest.raises(Exception, match="No backend matches"):
            connect(emulated, **stolen).backend(BACKEND)
    refused = [record for record in emulated.requests if record.status == 403]
    assert refused


def test_the_client_chooses_among_instances_by_proxy(tmp_path) -> None:
    paid = EmulatedInstance(name="paid", plan="premium", pricing_type="paid", backends=("b",))
    free = EmulatedInstance(name="free", backends=("a",))
    account = EmulatedAccount(instances=(paid, free))
    with EmulatedService(
        backends={"a": "fake_manila", "b": "fake_lima"}, accounts=[account]
    ) as emulated:
        path = emulated.account_file(tmp_path / "accounts.json", instance="auto")
        service = QiskitRuntimeService(filename=str(path), name=ACCOUNT_NAME)
        assert [found["name"] for found in service.instances()] == ["paid", "free"]
        assert {backend.name for backend in service.backends()} == {"a", "b"}
        job = SamplerV2(service.backend("b")).run([bell()], shots=10)
        job.result()
        assert emulated.jobs[0].instance == paid.crn


def test_a_client_that_knows_only_a_token_arrives_through_environment(tmp_path) -> None:
    with EmulatedService(backends=[BACKEND]) as emulated:
        bundle = emulated.certificate_file(tmp_path / "ca.pem")
        code = (
            "import sys\n"
            "from qiskit_ibm_runtime import QiskitRuntimeService\n"
            "service = QiskitRuntimeService(channel='ibm_quantum_platform',\n"
            "                               token=sys.argv[1], instance=sys.argv[2])\n"
            "print([backend.name for backend in service.backends()])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, emulated.token, emulated.instance],
            env={"HTTPS_PROXY": emulated.root_url, "REQUESTS_CA_BUNDLE": str(bundle)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.stdout.strip() == f"['{BACKEND}']", done.stderr


def test_a_wrong_token_is_refused(emulated) -> None:
    # Nothing more is asked of this client: its next call would stall for 60 s.
    connect(emulated, token="not-a-token")
    statuses = [(record.endpoint.value, record.status) for record in emulated.requests]
    assert statuses == [("token", 400), ("backends", 401)]


@pytest.mark.emulated_service(token_lifetime=2.0)
def test_the_client_renews_an_access_token_that_runs_out(emulated) -> None:
    service = connect(emulated)
    assert emulated.count("token") == 1
    time.sleep(2.5)
    assert service.usage()["instance_id"] == emulated.instance
    assert emulated.count("token") == 2


def test_jobs_run_in_a_batch(emulated) -> None:
    service = connect(emulated)
    with Batch(service.backend(BACKEND)) as batch:
        job = SamplerV2(batch).run([bell()], shots=10)
        assert batch.details()["accepting_jobs"] is True
    job.result()
    assert batch.details()["state"] == "closed"
    assert emulated.jobs[0].session_id == batch.session_id
    assert [j.job_id() for j in service.jobs(session_id=batch.session_id)] == [job.job_id()]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backends": ["fake_atlantis"]}, "fake_manila"),
        ({"backends": []}, "at least one backend"),
        ({"accounts": []}, "at least one account"),
        ({"accounts": [EmulatedAccount(instances=())]}, "no instance"),
        (
            {"accounts": [EmulatedAccount(instances=(EmulatedInstance(backends=("x",)),))]},
            "offers x",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        EmulatedService(**settings)
