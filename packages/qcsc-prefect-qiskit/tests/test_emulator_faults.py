"""Every injected fault, as the real client sees it."""

from __future__ import annotations

import contextlib
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import requests
from qiskit import QuantumCircuit
from qiskit.providers.exceptions import QiskitBackendNotFoundError
from qiskit_ibm_runtime import QiskitRuntimeService, SamplerV2
from qiskit_ibm_runtime.accounts.exceptions import InvalidAccountError
from qiskit_ibm_runtime.api.exceptions import RequestsApiError
from qiskit_ibm_runtime.exceptions import (
    IBMNotAuthorizedError,
    IBMRuntimeError,
    RuntimeInvalidStateError,
    RuntimeJobFailureError,
    RuntimeJobMaxTimeoutError,
    RuntimeJobNotFound,
    RuntimeJobTimeoutError,
)

from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit.testing import (
    ACCOUNT_NAME,
    EmulatedService,
    Endpoint,
    Faults,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qiskit_ibm_runtime import RuntimeJobV2

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore:Unverified HTTPS",
    "ignore:Unable to retrieve IBM Cloud access token",
)

BACKEND = "fake_manila"
DAMAGED_BODY = requests.exceptions.JSONDecodeError


def flip() -> QuantumCircuit:
    circuit = QuantumCircuit(5, 1)
    circuit.x(0)
    circuit.measure(0, 0)
    return circuit


def connect(emulator: EmulatedService) -> QiskitRuntimeService:
    fields = emulator.runtime_config_fields()
    del fields["backend_name"]
    return QiskitRuntimeService(**fields)


@dataclass
class Scene:
    """An emulator with a client and a job that has ended."""

    emulator: EmulatedService
    service: QiskitRuntimeService
    job: RuntimeJobV2

    def submit(self) -> RuntimeJobV2:
        return SamplerV2(self.service.backend(BACKEND)).run([flip()], shots=10)


@contextlib.contextmanager
def opened_scene() -> Iterator[Scene]:
    with EmulatedService(backends=[BACKEND], seed=5) as emulator:
        with emulator.client_environment():
            service = connect(emulator)
        backend = service.backend(BACKEND)
        job = SamplerV2(backend).run([flip()], shots=10)
        while emulator.jobs[0].state != "Completed":
            time.sleep(0.01)
        emulator.clear_requests()
        yield Scene(emulator, service, job)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with opened_scene() as opened:
        yield opened


RAW_CALLS: dict[str, tuple[Endpoint, Callable[[Scene], object]]] = {
    "status": (Endpoint.JOB, lambda scene: scene.job.status()),
    "result": (Endpoint.RESULT, lambda scene: scene.job.result()),
    "usage": (Endpoint.USAGE, lambda scene: scene.service.usage()),
    "jobs": (Endpoint.SEARCH, lambda scene: scene.service.jobs()),
    "target": (
        Endpoint.PROPERTIES,
        lambda scene: scene.service.backend(BACKEND).target,
    ),
}
"""Calls of the client that hand its errors on as they are."""


def chain(error: BaseException) -> list[str]:
    """The types of an error and of all that stands behind it."""
    names = []
    link: BaseException | None = error
    while link is not None:
        names.append(type(link).__name__)
        reason = getattr(link, "reason", None)
        if isinstance(reason, BaseException):
            link = reason
            continue
        inner = next((a for a in link.args if isinstance(a, BaseException)), None)
        link = link.__cause__ or link.__context__ or inner
    return names


@pytest.mark.parametrize("call", RAW_CALLS)
def test_refusals_carry_their_status(scene, call) -> None:
    endpoint, run = RAW_CALLS[call]
    for status in (400, 403, 404, 409, 429):
        scene.emulator.clear_requests()
        message = f"Broken with {status}."
        scene.emulator.faults.answer(endpoint, status=status, code=4711, message=message)
        with pytest.raises(RequestsApiError, match=rf"4711.*{message}") as caught:
            run(scene)
        assert caught.value.status_code == status
        assert isinstance(caught.value.__cause__, requests.HTTPError)
        assert caught.value.__cause__.response.status_code == status
        assert scene.emulator.count(endpoint) == 1
    run(scene)


@pytest.mark.parametrize("call", RAW_CALLS)
def test_a_revoked_token_is_not_authorized(scene, call) -> None:
    _, run = RAW_CALLS[call]
    if call == "target":
        # The list of backends comes first, and hides its own failure.
        backend = scene.service.backend(BACKEND)
        run = lambda _: backend.target  # noqa: E731
    scene.emulator.revoke_access_tokens()
    with pytest.raises(IBMNotAuthorizedError) as caught:
        run(scene)
    assert not isinstance(caught.value, RequestsApiError)
    assert isinstance(caught.value.__cause__, requests.HTTPError)
    with scene.emulator.client_environment():
        renewed = connect(scene.emulator)
    assert renewed.usage()["instance_id"] == scene.emulator.instance


@pytest.mark.parametrize("call", RAW_CALLS)
def test_a_truncated_body_is_an_error_at_once(scene, call) -> None:
    endpoint, run = RAW_CALLS[call]
    scene.emulator.faults.truncate(endpoint)
    with pytest.raises(RequestsApiError) as caught:
        run(scene)
    assert caught.value.status_code == -1
    assert "ChunkedEncodingError" in chain(caught.value)
    assert scene.emulator.count(endpoint) == 1


DAMAGES: dict[str, Callable[[Faults, Endpoint], None]] = {
    "malformed": lambda faults, endpoint: faults.malform(endpoint),
    "empty": lambda faults, endpoint: faults.empty(endpoint),
    "cut": lambda faults, endpoint: faults.truncate(endpoint, announced=False),
}


@pytest.mark.parametrize("call", [call for call in RAW_CALLS if call != "result"])
def test_a_damaged_body_is_a_bare_decoding_error(scene, call) -> None:
    endpoint, run = RAW_CALLS[call]
    for damage in DAMAGES.values():
        scene.emulator.clear_requests()
        damage(scene.emulator.faults, endpoint)
        with pytest.raises(DAMAGED_BODY):
            run(scene)
        assert scene.emulator.count(endpoint) == 1


def test_a_body_of_another_shape_reaches_the_caller(scene) -> None:
    scene.emulator.faults.replace_body("usage", ["surprise"])
    assert scene.service._active_api_client.cloud_usage() == ["surprise"]
    assert "usage_limit_reached" in scene.service._active_api_client.cloud_usage()


@pytest.mark.parametrize(
    ("damage", "returned"),
    [("malformed", str), ("cut", str), ("empty", type(None))],
)
def test_a_damaged_result_is_returned_as_if_it_were_one(scene, damage, returned) -> None:
    DAMAGES[damage](scene.emulator.faults, Endpoint.RESULT)
    assert type(scene.job.result()) is returned
    assert scene.job.result()[0].data.c.get_counts() == {"1": 10}


SLOW_FAULTS: dict[str, Callable[[Faults, Endpoint], None]] = {
    "500": lambda faults, endpoint: faults.answer(endpoint, status=500, times=None),
    "503": lambda faults, endpoint: faults.answer(endpoint, status=503, times=None),
    "504": lambda faults, endpoint: faults.answer(endpoint, status=504, times=None),
    "closed": lambda faults, endpoint: faults.close(endpoint, times=None),
    "reset": lambda faults, endpoint: faults.close(endpoint, times=None, reset=True),
}
"""Faults that the client meets with six requests in 15 s."""


def test_lasting_faults_exhaust_the_patience_of_the_client() -> None:
    """All at once, since each takes the client 15 s."""

    def observe(call: str, fault: str) -> tuple[str, str, type[BaseException], int, int, list[str]]:
        scene = scenes[call, fault]
        endpoint, run = RAW_CALLS[call]
        with pytest.raises(Exception) as caught:  # noqa: PT011 - looked at below
            run(scene)
        status = getattr(caught.value, "status_code", 0)
        sent = scene.emulator.count(endpoint)
        return call, fault, type(caught.value), status, sent, chain(caught.value)

    cases = [(call, fault) for call in RAW_CALLS for fault in SLOW_FAULTS]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(cases)) as threads:
        scenes = {case: stack.enter_context(opened_scene()) for case in cases}
        for call, fault in cases:
            SLOW_FAULTS[fault](scenes[call, fault].emulator.faults, RAW_CALLS[call][0])
        observed = list(threads.map(observe, *zip(*cases, strict=True)))
    for call, fault, error_type, status, sent, links in observed:
        assert (error_type, status, sent) == (RequestsApiError, -1, 6), (call, fault, links)
        # The client raises its 503 as an error of its own, without a cause.
        expected = "ProtocolError" if fault in {"closed", "reset"} else "ResponseError"
        assert expected in links, (call, fault, links)


def test_a_passing_fault_is_ridden_out_by_the_client(scene) -> None:
    scene.emulator.faults.answer("usage", status=503, times=2)
    assert scene.service.usage()["instance_id"] == scene.emulator.instance
    assert [record.status for record in scene.emulator.requests] == [503, 503, 200]
    assert [record.fault for record in scene.emulator.requests] == ["status", "status", None]


def test_a_service_that_is_gone_refuses_connections(scene) -> None:
    scene.emulator.close()
    with pytest.raises(RequestsApiError) as caught:
        scene.job.status()
    assert caught.value.status_code == -1
    assert "NewConnectionError" in chain(caught.value)


def test_retry_after_makes_the_client_wait_and_ask_again(scene) -> None:
    scene.emulator.faults.answer("usage", status=429, retry_after=1)
    started = time.monotonic()
    scene.service.usage()
    assert time.monotonic() - started >= 1.0
    assert [record.status for record in scene.emulator.requests] == [429, 200]


@pytest.mark.parametrize("retry_after", [None, 1])
def test_a_rate_limited_submission_is_not_repeated(scene, retry_after) -> None:
    scene.emulator.faults.answer("submit", status=429, retry_after=retry_after, code=1202)
    with pytest.raises(IBMRuntimeError, match="1202") as caught:
        scene.submit()
    link = caught.value.__context__
    assert isinstance(link, RequestsApiError)
    assert link.status_code == 429
    assert scene.emulator.count("submit") == 1
    assert len(scene.emulator.jobs) == 1


@pytest.mark.parametrize("announced", [True, False])
def test_a_rate_limit_lets_so_many_requests_through(scene, announced) -> None:
    seconds = 3.5
    scene.emulator.faults.limit_rate("submit", requests=2, seconds=seconds, announced=announced)
    before = time.monotonic()
    scene.submit()
    after_first = time.monotonic()
    scene.submit()
    with pytest.raises(IBMRuntimeError, match="At most 2 requests") as caught:
        scene.submit()
    refused = time.monotonic()
    response = caught.value.__context__.__cause__.response
    header = response.headers.get("Retry-After")
    if announced:
        # Whole seconds, until the first of the two is so long ago that another may follow.
        assert math.ceil(seconds - (refused - before)) <= int(header) <= math.ceil(seconds)
        time.sleep(int(header))
    else:
        assert header is None
        time.sleep(max(0, after_first + seconds - time.monotonic()))
    scene.submit()
    assert len(scene.emulator.jobs) == 4


def test_each_repeated_submission_can_create_a_job(scene) -> None:
    scene.emulator.faults.answer("submit", status=504, times=1, when="after")
    job = scene.submit()
    created = scene.emulator.jobs[1:]
    assert len(created) == 2
    assert job.job_id() == created[-1].id


def test_a_dropped_submission_is_an_error_that_says_nothing_of_the_job(scene) -> None:
    scene.emulator.faults.close("submit", when="after")
    with pytest.raises(IBMRuntimeError, match="Failed to run program") as caught:
        scene.submit()
    assert caught.value.__cause__ is None
    assert isinstance(caught.value.__context__, RequestsApiError)
    assert len(scene.emulator.jobs) == 2

    scene.emulator.faults.close("submit", when="before")
    with pytest.raises(IBMRuntimeError, match="Failed to run program"):
        scene.submit()
    assert len(scene.emulator.jobs) == 2


def test_a_truncated_answer_to_a_submission_is_not_repeated(scene) -> None:
    scene.emulator.faults.truncate("submit")
    with pytest.raises(IBMRuntimeError, match="Failed to run program"):
        scene.submit()
    assert len(scene.emulator.jobs) == 2
    assert scene.emulator.count("submit") == 1


def test_behind_a_proxy_a_dropped_submission_is_silently_sent_again(tmp_path) -> None:
    with EmulatedService(backends=[BACKEND]) as emulator:
        path = emulator.account_file(tmp_path / "accounts.json")
        service = QiskitRuntimeService(filename=str(path), name=ACCOUNT_NAME)
        sampler = SamplerV2(service.backend(BACKEND))
        emulator.faults.close("submit", when="after", times=2)
        job = sampler.run([flip()], shots=10)
        assert [record.status for record in emulator.requests][-3:] == [None, None, 200]
        assert [record.id for record in emulator.jobs][-1] == job.job_id()
        assert len(emulator.jobs) == 3


def test_wrapped_errors_keep_their_facts_in_the_context(scene) -> None:
    faults = scene.emulator.faults
    calls: list[tuple[str, Callable[[], object], str]] = [
        ("job", lambda: scene.service.job(scene.job.job_id()), "Failed to retrieve job"),
        ("metrics", scene.job.metrics, "Failed to get job metadata"),
        ("cancel", scene.job.cancel, "Failed to cancel job"),
        ("submit", scene.submit, "Failed to run program"),
    ]
    for endpoint, call, message in calls:
        faults.answer(endpoint, status=400)
        with pytest.raises(IBMRuntimeError, match=message) as caught:
            call()
        assert caught.value.__cause__ is None
        link = caught.value.__context__
        assert isinstance(link, RequestsApiError)
        assert link.status_code == 400


def test_a_job_that_is_not_there_is_not_found(scene) -> None:
    with pytest.raises(RuntimeJobNotFound):
        scene.service.job("not-a-job")
    scene.emulator.faults.answer("job", status=404)
    with pytest.raises(RuntimeJobNotFound):
        scene.service.job(scene.job.job_id())


def test_faults_of_backends_are_lost(scene) -> None:
    for fault in (
        lambda: scene.emulator.faults.answer("backends", status=400),
        lambda: scene.emulator.faults.malform("backends"),
    ):
        fault()
        with pytest.raises(QiskitBackendNotFoundError) as caught:
            scene.service.backend(BACKEND)
        assert chain(caught.value) == ["QiskitBackendNotFoundError"]


def test_a_fault_of_the_instance_search_looks_like_a_wrong_token(tmp_path) -> None:
    with EmulatedService(backends=[BACKEND]) as emulator:
        path = emulator.account_file(tmp_path / "accounts.json")
        emulator.faults.answer("instances", status=400)
        with pytest.raises(InvalidAccountError, match="valid API token") as caught:
            QiskitRuntimeService(filename=str(path), name=ACCOUNT_NAME)
        assert type(caught.value.__cause__).__name__ == "ApiException"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_delay_holds_the_answer_back(scene, when) -> None:
    scene.emulator.faults.delay(1.0, "usage", times=1, when=when)
    started = time.monotonic()
    scene.service.usage()
    first = time.monotonic() - started
    scene.service.usage()
    assert first >= 1.0
    assert time.monotonic() - started - first < first


def test_a_delay_and_another_fault_strike_together(scene) -> None:
    scene.emulator.faults.delay(0.2)
    scene.emulator.faults.answer("usage", status=400)
    started = time.monotonic()
    with pytest.raises(RequestsApiError):
        scene.service.usage()
    assert time.monotonic() - started >= 0.2
    scene.emulator.faults.clear()
    assert scene.emulator.faults.pending == ()


def test_a_request_that_is_held_back_is_let_go_with_the_fault(scene) -> None:
    scene.emulator.faults.delay(600.0, "usage")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(scene.service.usage)
        while scene.emulator.count("usage") == 0:
            time.sleep(0.01)
        scene.emulator.faults.clear()
        assert waiting.result(timeout=30) == scene.service.usage()


def test_closing_ends_delays_that_are_under_way() -> None:
    with opened_scene() as scene, ThreadPoolExecutor(1) as threads:
        scene.emulator.faults.delay(600.0, "usage", times=1)
        waiting = threads.submit(scene.service.usage)
        while scene.emulator.count("usage") == 0:
            time.sleep(0.01)
        scene.emulator.close()
        # Either the answer still got out or the connection was gone before.
        assert waiting.exception(timeout=30) is None or isinstance(
            waiting.exception(), RequestsApiError
        )


def test_a_failed_job_says_why(scene) -> None:
    scene.emulator.faults.end_jobs("Failed", reason="The fridge is warm.", code=6053)
    job = scene.submit()
    with pytest.raises(RuntimeJobFailureError, match=r"6053.*The fridge is warm"):
        job.result()
    assert job.errored()
    assert "The fridge is warm" in job.error_message()
    [_, record] = scene.emulator.jobs
    assert (record.state, record.reason_code) == ("Failed", 6053)


def test_a_job_that_ran_too_long_says_so(scene) -> None:
    scene.emulator.faults.stop_jobs()
    job = scene.submit()
    with pytest.raises(RuntimeJobMaxTimeoutError, match="1305"):
        job.result()


def test_a_cancelled_job_has_no_result(scene) -> None:
    scene.emulator.faults.end_jobs("Cancelled")
    with pytest.raises(RuntimeInvalidStateError, match="cancelled"):
        scene.submit().result()


def test_an_unknown_state_lasts_for_ever(scene) -> None:
    scene.emulator.faults.end_jobs("Hibernating")
    job = scene.submit()
    assert job.status() == "HIBERNATING"
    with pytest.raises(RuntimeJobTimeoutError):
        job.result(timeout=0.3, poll_interval=0.1)


def test_an_unknown_state_can_pass(scene) -> None:
    scene.emulator.faults.show_state("Hibernating", times=2)
    assert [scene.job.status() for _ in range(3)] == ["HIBERNATING", "HIBERNATING", "DONE"]


def test_new_jobs_can_be_hidden_from_the_search(scene) -> None:
    scene.emulator.faults.hide_new_jobs(1.0)
    job = scene.submit()
    assert job.job_id() not in [found.job_id() for found in scene.service.jobs()]
    assert scene.service.job(job.job_id()).job_id() == job.job_id()
    time.sleep(1.0)
    assert job.job_id() in [found.job_id() for found in scene.service.jobs()]


def test_bad_faults_are_refused() -> None:
    faults = Faults()
    with pytest.raises(ConfigurationError, match="'jobz'; they are token,"):
        faults.answer("jobz", status=500)
    with pytest.raises(ConfigurationError, match="0 times"):
        faults.close("submit", times=0)
    with pytest.raises(ConfigurationError, match="lets nothing through"):
        faults.limit_rate("submit", requests=0)
    assert faults.pending == ()


def test_faults_of_one_endpoint_strike_in_their_order() -> None:
    faults = Faults()
    faults.answer("job", status=500, times=2)
    faults.close(None)
    faults.delay(1.0, "job", times=1)
    faults.malform("submit")
    struck = [[f.kind.value for f in faults.strike(Endpoint.JOB)] for _ in range(4)]
    assert struck == [["delay", "status"], ["status"], ["close"], []]
    assert [f.kind.value for f in faults.strike(Endpoint.SUBMIT)] == ["malform"]


@pytest.mark.parametrize(("status", "code"), [(404, 3250), (409, 0), (500, 1000), (502, 1000)])
def test_an_answer_has_a_code_of_the_service_that_fits_it(status: int, code: int) -> None:
    faults = Faults()
    faults.answer("job", status=status)
    assert [fault.code for fault in faults.pending] == [code]


def test_access_tokens_are_known_after_they_were_revoked(scene) -> None:
    (token,) = {t for t in scene.emulator.access_tokens if f"Bearer {t}" == bearer(scene.service)}
    scene.emulator.revoke_access_tokens()
    assert token in scene.emulator.access_tokens


def bearer(service: QiskitRuntimeService) -> str:
    return service._active_api_client._session.auth.get_headers()["Authorization"]
