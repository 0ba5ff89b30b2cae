"""Collecting metadata: right where a fact is known, absent where not, never late."""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from msgspec import UNSET
from qiskit import QuantumCircuit, transpile
from qiskit.primitives import DataBin, PrimitiveResult, PubResult
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit_ibm_runtime import (
    QiskitRuntimeService,
    RuntimeJobV2,
    SamplerOptions,
    SamplerV2,
)
from qiskit_ibm_runtime.api.client import RuntimeClient
from qiskit_ibm_runtime.api.client_parameters import ClientParameters
from qiskit_ibm_runtime.execution_span import DoubleSliceSpan, ExecutionSpans

from qcsc_prefect.core.metadata import JobMetadata
from qcsc_prefect.integrations.qiskit.fetching.metadata import METRICS_SECONDS, collect_job_metadata
from qcsc_prefect.integrations.qiskit.fetching.pub_metadata import describe_pubs

METRICS = {
    "timestamps": {
        "created": "2026-01-05T10:00:00.000Z",
        "running": "2026-01-05T10:00:40.500Z",
        "finished": "2026-01-05T10:01:00.000Z",
    },
    "usage": {"qpu_charge_time_seconds": 7, "status": "complete"},
    "circuits_execution_time_ns": 2_500_000_000,
    "qiskit_version": "2.2.1",
}


class _Service(ThreadingHTTPServer):
    """Answers the token request, and that for a job's metrics as the test says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body, self.delay = 200, json.dumps(METRICS), 0.0
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Service

    def do_POST(self) -> None:
        now = int(time.time())
        token = {"access_token": "t", "expires_in": 3600, "expiration": now + 3600}
        self._answer(200, json.dumps({**token, "token_type": "Bearer", "refresh_token": "r"}))

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        time.sleep(self.server.delay)
        self._answer(self.server.status, self.server.body)

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


@contextmanager
def _running(service: _Service):
    thread = threading.Thread(target=service.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()


@pytest.fixture
def service(monkeypatch):
    with _running(_Service()) as service:
        monkeypatch.setenv("IAM_URL", service.url)
        yield service


@pytest.fixture
def job(service, backend) -> RuntimeJobV2:
    """A job of the real client, at a service on loopback."""
    parameters = ClientParameters(
        channel="ibm_quantum_platform",
        token="secret-token",
        url=service.url,
        instance="crn:v1:test",
        url_resolver=lambda url, *_: url,
    )
    return RuntimeJobV2(
        backend=backend,
        api_client=RuntimeClient(parameters),
        job_id="d1c0",
        program_id="sampler",
        service=None,
        tags=["mine", "qcsc-1"],
    )


def test_facts_of_a_job_on_the_service(job, service):
    record = collect_job_metadata(
        primitive="sampler", backend_name="ibm_x", job_id="d1c0", job=job, shots=100
    )
    assert record.created == "2026-01-05T10:00:00Z"
    assert record.started == "2026-01-05T10:00:40.500000Z"
    assert record.completed == "2026-01-05T10:01:00Z"
    assert (record.queue_seconds, record.work_seconds) == (40.5, 19.5)
    assert (record.qpu_seconds, record.charged_seconds) == (2.5, 7.0)
    assert record.tags == ["mine", "qcsc-1"]
    assert record.versions["qiskit (service)"] == "2.2.1"
    assert set(record.versions) >= {"qiskit", "qiskit-ibm-runtime", "qcsc-prefect-core"}
    assert record.instance is UNSET, "this backend has none"
    assert len(service.requests) == 1
    assert JobMetadata.from_builtins(json.loads(json.dumps(record.to_builtins()))) == record


@pytest.mark.filterwarnings("ignore")
def test_a_real_run_on_the_emulated_service(backend, emulated):
    client = QiskitRuntimeService(
        channel="ibm_quantum_platform",
        token=emulated.token,
        url=emulated.url,
        instance=emulated.instance,
    )
    circuit = QuantumCircuit(2, name="bell")
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    sampler = SamplerV2(mode=client.backend("fake_manila"))
    sampler.options.environment.job_tags = ["mine"]
    job = sampler.run([transpile(circuit, backend)], shots=30)
    result, job = job.result(), client.job(job.job_id())
    before = len(emulated.requests)
    record = collect_job_metadata(primitive="sampler", job=job, result=result, pubs=[circuit])
    assert len(emulated.requests) - before == 1
    assert (record.tags, record.instance) == (["mine"], emulated.instance)
    assert record.created <= record.started <= record.pubs[0].started
    assert record.pubs[0].completed <= record.completed
    assert record.pubs[0].shots == 30


def test_usage_that_is_not_settled_is_absent(job, service):
    service.body = json.dumps({"usage": {"qpu_charge_time_seconds": 0, "status": "pending"}})
    record = collect_job_metadata(primitive="sampler", job_id="d1c0", job=job)
    assert "charged_seconds" not in record.to_builtins()


def test_the_older_form_of_usage_is_understood(job, service):
    service.body = json.dumps({"usage": {"quantum_seconds": 3}, "bss": {"seconds": 4}})
    record = collect_job_metadata(primitive="sampler", job_id="d1c0", job=job)
    assert (record.qpu_seconds, record.charged_seconds) == (3.0, 4.0)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, '{"errors": [{"code": 1291, "message": "not found"}]}'),
        (401, "{}"),
        (200, "<html>"),
        (200, ""),
        (200, "[]"),
        (200, "null"),
        (200, '"text"'),
        (200, '{"timestamps": 3, "usage": [], "bss": null}'),
        (200, '{"timestamps": {"created": "yesterday", "running": 1e999, "finished": true}}'),
        (200, '{"usage": {"qpu_charge_time_seconds": "seven", "quantum_seconds": -1}}'),
    ],
)
def test_a_damaged_answer_leaves_its_facts_absent(job, service, status, body, caplog):
    service.status, service.body = status, body
    record = collect_job_metadata(primitive="sampler", job_id="d1c0", shots=100, job=job)
    known = record.to_builtins()
    assert known.keys() & {"created", "started", "completed"} == set()
    assert known.keys() & {"queue_seconds", "work_seconds", "qpu_seconds"} == set()
    assert (known["job_id"], known["shots"]) == ("d1c0", 100)
    assert "secret-token" not in caplog.text


def test_a_service_that_does_not_answer_costs_a_few_seconds(job, service, caplog):
    service.delay = METRICS_SECONDS + 4
    before = time.monotonic()
    with caplog.at_level(logging.WARNING):
        record = collect_job_metadata(primitive="sampler", job_id="d1c0", shots=100, job=job)
    assert time.monotonic() - before < METRICS_SECONDS + 2
    assert record.shots == 100
    assert record.created is UNSET
    assert "d1c0: no metrics within" in caplog.text


def test_times_given_by_the_caller_take_precedence(job):
    start = datetime(2026, 1, 5, 12, tzinfo=UTC)
    record = collect_job_metadata(
        primitive="sampler",
        job=job,
        timestamps={"started": start, "completed": (start + timedelta(seconds=2)).timestamp()},
    )
    assert record.created == "2026-01-05T10:00:00Z"
    assert record.started == "2026-01-05T12:00:00Z"
    assert record.work_seconds == 2


def test_clocks_that_disagree_give_no_negative_length():
    record = collect_job_metadata(
        primitive="sampler",
        timestamps={"created": "2026-01-05T10:00:01Z", "started": "2026-01-05T10:00:00Z"},
    )
    assert record.queue_seconds is UNSET


def test_facts_of_pubs(ghz, rotation, sample):
    angles = np.linspace(0, 1, 4).reshape(2, 2)
    pubs = [ghz, (rotation, angles), SamplerPub.coerce((ghz, None, 70))]
    record = collect_job_metadata(primitive="sampler", pubs=pubs, result=sample(pubs, shots=50))
    first, second, third = record.pubs
    assert first.circuit_name == "ghz"
    assert first.two_qubit_count == ghz.count_ops()["cx"]
    assert (first.depth, first.size, first.num_qubits) == (ghz.depth(), ghz.size(), 5)
    assert (first.shape, second.shape) == ([], [2, 2])
    assert (first.shots, second.shots, third.shots) == (50, 50, 70)
    assert second.two_qubit_count == 0


def test_shots_of_the_call_are_left_out_where_its_pubs_name_others(ghz, ghz_result):
    def shots_of(*pubs: object) -> object:
        return collect_job_metadata(primitive="sampler", shots=100, pubs=pubs).shots

    assert shots_of(ghz, (ghz,)) == 100
    assert shots_of(SamplerPub.coerce(ghz, 50), (ghz, None, 50)) == 50
    assert shots_of(ghz, (ghz, None, 50)) is UNSET
    record = collect_job_metadata(primitive="sampler", shots=100, pubs=[ghz, (ghz, None, 50)])
    assert [pub.shots_asked for pub in record.pubs] == [100, 50]


def test_precision_of_estimator_pubs(energy_pub, energy_result):
    record = collect_job_metadata(primitive="estimator", pubs=[energy_pub], result=energy_result)
    assert record.pubs[0].precision == 0.05
    assert record.pubs[0].shape == [9]


def test_gates_inside_control_flow_and_boxes_are_counted():
    circuit = QuantumCircuit(2, 1)
    circuit.cx(0, 1)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.cz(0, 1)
        circuit.barrier(0, 1)
    with circuit.box():
        circuit.swap(0, 1)
    circuit.barrier()
    record = collect_job_metadata(primitive="sampler", pubs=[circuit])
    assert record.pubs[0].two_qubit_count == 3


def test_pubs_of_another_job_are_not_mixed_with_the_result(ghz, ghz_result):
    record = collect_job_metadata(primitive="sampler", pubs=[ghz, ghz], result=ghz_result)
    assert len(record.pubs) == 1
    assert record.pubs[0].circuit_name is UNSET
    assert record.pubs[0].shots == 500


def test_no_circuit_is_walked_after_the_deadline(ghz, ghz_result):
    late = describe_pubs([ghz], ghz_result, deadline=time.monotonic() - 1)
    assert (late[0].circuit_name, late[0].depth, late[0].shots) == ("ghz", UNSET, 500)


def test_execution_spans_become_times_of_the_pubs():
    start = datetime(2026, 1, 5, 10, tzinfo=UTC)
    shots = DataBin(shape=())
    spans = ExecutionSpans(
        [
            # PUB 0 in two windows that overlap by a second, PUB 1 in the second one only.
            DoubleSliceSpan(
                start, start + timedelta(seconds=3), {0: ((10,), slice(0, 1), slice(0, 5))}
            ),
            DoubleSliceSpan(
                start + timedelta(seconds=2),
                start + timedelta(seconds=6),
                {
                    0: ((10,), slice(0, 1), slice(5, 10)),
                    1: ((10,), slice(0, 1), slice(0, 10)),
                },
            ),
        ]
    )
    result = PrimitiveResult(
        [PubResult(shots), PubResult(shots), PubResult(shots)],
        metadata={"execution": {"execution_spans": spans}},
    )
    first, second, third = collect_job_metadata(primitive="sampler", result=result).pubs
    assert (first.started, first.completed) == ("2026-01-05T10:00:00Z", "2026-01-05T10:00:06Z")
    assert (first.execution_seconds, second.execution_seconds) == (6.0, 4.0)
    assert third.execution_seconds is UNSET


def test_a_fact_that_a_record_refuses_is_left_out(ghz, caplog):
    pub_result = PubResult(
        DataBin(shape=()), metadata={"shots": np.int64(7), "target_precision": float("nan")}
    )
    record = collect_job_metadata(
        primitive="sampler",
        job_id="d1c0",
        session_id=3,
        shots=np.int64(50),
        precision=float("inf"),
        pubs=[ghz],
        result=PrimitiveResult([pub_result]),
    )
    known = record.to_builtins()
    assert known.keys() & {"session_id", "precision"} == set()
    assert (known["job_id"], known["shots"]) == ("d1c0", 50)
    assert (known["pubs"][0]["shots"], known["pubs"][0]["circuit_name"]) == (7, "ghz")
    assert "precision" not in known["pubs"][0]
    for left_out in ("d1c0: Job metadata refused at 'session_id'", "PUB 0: PUB metadata refused"):
        assert left_out in caplog.text


def test_options_become_plain_values():
    options = {
        "default_shots": np.int64(1024),
        "twirling": {"enable_gates": np.True_, "strategy": "active"},
        "weights": np.array([[1.0, 2.0]]),
        "environment": {"callback": print, "job_tags": ("a", "b")},
        "holes": [1, print],
        "bad": float("nan"),
        1: "number as key",
    }
    record = collect_job_metadata(primitive="sampler", options=options)
    assert record.options == {
        "default_shots": 1024,
        "twirling": {"enable_gates": True, "strategy": "active"},
        "weights": [[1.0, 2.0]],
        "environment": {"job_tags": ["a", "b"]},
        "1": "number as key",
    }
    assert json.loads(json.dumps(record.to_builtins()))["options"] == record.options


def test_native_options_keep_what_is_set():
    options = SamplerOptions()
    options.default_shots = 77
    options.dynamical_decoupling.enable = True
    record = collect_job_metadata(primitive="sampler", options=options)
    assert record.options["default_shots"] == 77
    assert record.options["dynamical_decoupling"] == {"enable": True}


def test_options_that_cannot_be_read_are_absent_and_logged(caplog):
    record = collect_job_metadata(primitive="sampler", shots=5, options=object())
    assert record.to_builtins().keys() == {"primitive", "schema_version", "shots", "versions"}
    assert "its options could not be read" in caplog.text


@pytest.mark.parametrize(("shots", "asked"), [(None, 77), (5, 5)])
def test_shots_asked_for_in_the_options_count_as_asked_for(ghz, shots, asked):
    options = SamplerOptions(default_shots=77)
    for given in (options, {"default_shots": 77}):
        record = collect_job_metadata(
            primitive="sampler", options=given, shots=shots, pubs=[(ghz,)]
        )
        assert (record.shots, record.pubs[0].shots_asked) == (asked, asked)
    assert collect_job_metadata(primitive="sampler", pubs=[(ghz,)]).shots is UNSET
