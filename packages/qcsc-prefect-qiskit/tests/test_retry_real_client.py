"""Each fault of the network and of the service, raised by the real client against loopback."""

from __future__ import annotations

import base64
import json
import pickle
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from qiskit.providers.exceptions import QiskitBackendNotFoundError
from qiskit_ibm_runtime import QiskitRuntimeService
from qiskit_ibm_runtime.accounts.exceptions import InvalidAccountError
from qiskit_ibm_runtime.api.rest.program_job import ProgramJob
from qiskit_ibm_runtime.api.rest.runtime import Runtime
from qiskit_ibm_runtime.api.session import STATUS_FORCELIST, PostForcelistRetry, RetrySession
from qiskit_ibm_runtime.exceptions import RuntimeInvalidStateError
from requests.adapters import HTTPAdapter

from qcsc_prefect.core.errors import (
    JobCancelledError,
    JobError,
    JobFailedError,
    JobNotFoundError,
    JobTimeLimitError,
    JobWaitTimeoutError,
    SubmissionError,
    SubmissionUncertainError,
)
from qcsc_prefect.core.retry import RetryAnswer
from qcsc_prefect.integrations.qiskit.retry import (
    classify_qiskit_error,
    translate_qiskit_error,
    translate_qiskit_submission_error,
)
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RETRY, DO_NOT, UNKNOWN = RetryAnswer.RETRY, RetryAnswer.DO_NOT, RetryAnswer.UNKNOWN

TOKEN = "an-api-key-that-must-never-be-seen-0123456789"
CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/1:2::"
JOB_ID = "d503timeout429"  # digits and words that must decide nothing


def web_token() -> str:
    """Return a JSON web token that the client accepts; nobody checks its signature here."""
    parts = [{"alg": "HS256", "typ": "JWT"}, {"iat": 0, "exp": 4_000_000_000}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join([*(part.rstrip("=") for part in encoded), "c2lnbmF0dXJl"])


ACCESS_TOKEN = web_token()


@dataclass(frozen=True)
class Fault:
    """What the server does with one request."""

    status: int = 200
    code: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    breaks: str = ""

    def payload(self) -> bytes:
        if self.body is not None:
            return self.body
        error = {"code": self.code, "message": "It went wrong", "solution": "Read the manual"}
        return json.dumps({"errors": [error]}).encode()


class LoopbackService:
    """A server of the few endpoints that these tests need, which misbehaves on demand."""

    def __init__(self) -> None:
        self.faults: dict[tuple[str, str], list[Fault]] = {}
        self.released = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_GET(self) -> None:
                service.answer(self)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._httpd.server_port}"
        serve = threading.Thread(
            target=self._httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        serve.start()

    def close(self) -> None:
        self.released.set()
        self._httpd.shutdown()
        self._httpd.server_close()

    def fail(self, method: str, path: str, *faults: Fault) -> None:
        """Answer by the faults in turn; the last one stays."""
        self.faults[method, path] = list(faults)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.split("?")[0].removeprefix("/experimental/api/v1")
        planned = self.faults.get((handler.command, path))
        if planned:
            fault = planned.pop(0) if len(planned) > 1 else planned[0]
        else:
            fault = Fault(body=json.dumps(regular_answer(path)).encode())
        if fault.breaks == "closed":
            handler.close_connection = True
        elif fault.breaks == "reset":
            # With no time to linger, closing sends a reset.
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.close_connection = True
            handler.rfile.close()
            handler.connection.close()
        elif fault.breaks == "stalls":
            self.released.wait(1.5)  # longer than any read of the client but that of a POST waits
            handler.close_connection = True
        else:
            send(handler, fault)


def send(handler: BaseHTTPRequestHandler, fault: Fault) -> None:
    payload = fault.payload()
    sent = payload[: len(payload) // 2] if fault.breaks else payload
    handler.send_response(fault.status)
    for name, value in fault.headers.items():
        handler.send_header(name, value)
    if fault.breaks == "cut":  # no length is announced, so the client cannot notice
        handler.send_header("Connection", "close")
    else:
        handler.send_header("Content-Length", str(len(payload)))
    with suppress(OSError):
        handler.end_headers()
        handler.wfile.write(sent)
        handler.wfile.flush()
    handler.close_connection = bool(fault.breaks)


def regular_answer(path: str) -> object:
    if path == "/identity/token":
        return {
            "access_token": ACCESS_TOKEN,
            "expires_in": 3600,
            "expiration": 4_000_000_000,
            "refresh_token": "none",
            "token_type": "Bearer",
        }
    if path == f"/jobs/{JOB_ID}":
        return regular_job()
    if path == "/backends":
        return {"devices": []}
    return {"id": JOB_ID, "backend": "ibm_loopback"}


def regular_job() -> dict[str, object]:
    return {
        "id": JOB_ID,
        "backend": "ibm_loopback",
        "state": {"status": "Completed"},
        "program": {"id": "sampler"},
    }


@pytest.fixture
def service() -> Iterator[LoopbackService]:
    server = LoopbackService()
    yield server
    server.close()


def quick_retries(session: RetrySession) -> RetrySession:
    """Let the client repeat by its own rules, once and without its pauses of 15 s in total."""
    retry = PostForcelistRetry(total=1, backoff_factor=0, status_forcelist=STATUS_FORCELIST)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


@pytest.fixture
def session(service: LoopbackService) -> RetrySession:
    return quick_retries(RetrySession(service.url, timeout=(5.0, 0.3)))


@pytest.fixture
def client(service: LoopbackService, monkeypatch: pytest.MonkeyPatch) -> QiskitRuntimeService:
    monkeypatch.setenv("IAM_URL", service.url)
    monkeypatch.setenv("QISKIT_FUNCTIONS_EXPERIMENTAL", "1")
    runtime = QiskitRuntimeService(
        channel="ibm_quantum_platform",
        token=TOKEN,
        instance=CRN,
        url=f"{service.url}/experimental/api/v1",
    )
    quick_retries(runtime._active_api_client._session)._timeout = (5.0, 0.3)
    return runtime


def failure_of(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which type it is, the test asks next
        call()
    return caught.value


RESULT = b'{"results": ["' + b"0" * 4000 + b'"]}'

FAULTS = [
    pytest.param(Fault(400), DO_NOT, 400, id="400"),
    pytest.param(Fault(401), DO_NOT, 401, id="401"),
    pytest.param(Fault(403, code=1200), DO_NOT, 403, id="403"),
    pytest.param(Fault(404), DO_NOT, 404, id="404"),
    pytest.param(Fault(409), DO_NOT, 409, id="409"),
    pytest.param(Fault(429), RETRY, 429, id="429"),
    # With Retry-After the client waits and asks again by itself before it raises.
    pytest.param(Fault(429, headers={"Retry-After": "0"}), RETRY, 429, id="429 Retry-After"),
    pytest.param(Fault(500), RETRY, None, id="500"),
    pytest.param(Fault(502), RETRY, None, id="502"),
    pytest.param(Fault(503), RETRY, None, id="503"),
    pytest.param(Fault(503, headers={"Retry-After": "0"}), RETRY, None, id="503 Retry-After"),
    pytest.param(Fault(504), RETRY, None, id="504"),
    pytest.param(Fault(520), RETRY, None, id="520"),
    pytest.param(Fault(524), RETRY, None, id="524"),
    pytest.param(Fault(521), RETRY, None, id="521"),
    pytest.param(Fault(522), RETRY, None, id="522"),
    # Not among those that the client repeats.
    pytest.param(Fault(408), RETRY, 408, id="408"),
    pytest.param(Fault(425), RETRY, 425, id="425"),
    pytest.param(Fault(501), DO_NOT, 501, id="501"),
    pytest.param(Fault(505), DO_NOT, 505, id="505"),
    pytest.param(Fault(523), RETRY, 523, id="523"),
    pytest.param(Fault(breaks="closed"), RETRY, None, id="closed"),
    pytest.param(Fault(breaks="reset"), RETRY, None, id="reset"),
    pytest.param(Fault(breaks="stalls"), RETRY, None, id="read timeout"),
    pytest.param(Fault(body=RESULT, breaks="truncated"), RETRY, None, id="truncated"),
    pytest.param(Fault(body=RESULT, breaks="cut"), RETRY, None, id="cut"),
    pytest.param(Fault(body=b"<html>Bad gateway</html>"), RETRY, None, id="malformed"),
    pytest.param(Fault(body=b""), RETRY, None, id="empty"),
    # A code decides against a status that says the opposite.
    *(
        pytest.param(Fault(status, code=code), answer, status, id=f"{status} with code {code}")
        for status, answer, codes in (
            (400, RETRY, (1000, 1006, 1008, 1010, 1011, 1012, 1202, 1999, 3458)),
            (429, DO_NOT, (1002, 1003, 1005, 1007, 3211, 3220, 3236, 1200, 1201, 1305)),
            (429, DO_NOT, (3250, 3302, 4317, 5201, 5202, 5302, 6053)),
        )
        for code in codes
    ),
    # One that no public material names leaves the decision to the status.
    pytest.param(Fault(400, code=9999), DO_NOT, 400, id="400 with a code that nobody knows"),
    pytest.param(Fault(429, code=9999), RETRY, 429, id="429 with a code that nobody knows"),
]


@pytest.mark.parametrize(("fault", "answer", "status"), FAULTS)
def test_reading_a_job(
    service: LoopbackService,
    session: RetrySession,
    fault: Fault,
    answer: RetryAnswer,
    status: int | None,
) -> None:
    service.fail("GET", f"/jobs/{JOB_ID}", fault)
    error = failure_of(ProgramJob(session, JOB_ID).get)
    advice = classify_qiskit_error(error)
    assert (advice.answer, advice.status) == (answer, status)
    assert advice.service_code == fault.code


@pytest.mark.parametrize(("fault", "answer", "status"), FAULTS)
def test_the_same_wrapped_by_the_service_object(
    service: LoopbackService,
    client: QiskitRuntimeService,
    fault: Fault,
    answer: RetryAnswer,
    status: int | None,
) -> None:
    service.fail("GET", f"/jobs/{JOB_ID}", fault)
    error = failure_of(lambda: client.job(JOB_ID))
    advice = classify_qiskit_error(error)
    assert (advice.answer, advice.status) == (answer, status)

    translated = translate_qiskit_error(
        error, job_id=JOB_ID, backend_name="ibm_loopback", doing="Reading the status"
    )
    assert translated.retryable is (answer is RETRY)
    assert (translated.status, translated.service_code) == (status, fault.code)
    assert isinstance(translated, JobNotFoundError) == (status == 404)
    message = str(translated)
    assert f"Reading the status failed for job {JOB_ID} on ibm_loopback" in message
    assert TOKEN not in message
    if fault.code is not None:
        assert f"code {fault.code}" in message
        assert "It went wrong. Read the manual." in message
    assert pickle.loads(pickle.dumps(translated)).retryable is translated.retryable


def test_refused_connection() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    session = quick_retries(RetrySession(f"http://127.0.0.1:{port}"))
    advice = classify_qiskit_error(failure_of(ProgramJob(session, JOB_ID).get))
    assert advice.answer is RETRY


def test_unknown_host() -> None:
    session = quick_retries(RetrySession("http://no-such-host.invalid"))
    assert classify_qiskit_error(failure_of(ProgramJob(session, JOB_ID).get)).answer is RETRY


def test_a_url_that_is_none_does_not_mend() -> None:
    session = quick_retries(RetrySession("nonsense"))
    assert classify_qiskit_error(failure_of(ProgramJob(session, JOB_ID).get)).answer is DO_NOT


def test_a_broken_tls_handshake_may_pass(service: LoopbackService) -> None:
    session = RetrySession(service.url.replace("http:", "https:"), retries_total=0)
    assert classify_qiskit_error(failure_of(ProgramJob(session, JOB_ID).get)).answer is RETRY


def test_a_refused_certificate_does_not_mend() -> None:
    with EmulatedService(["fake_manila"]) as emulated:
        # It ends the tunnel to any host with a certificate that only its own file vouches for.
        session = quick_retries(
            RetrySession("https://quantum.example", proxies={"https": emulated.root_url})
        )
        advice = classify_qiskit_error(failure_of(ProgramJob(session, JOB_ID).get))
    assert advice.answer is DO_NOT
    assert advice.because.startswith("ssl.SSLCertVerificationError"), advice


def test_retry_after_is_found_where_the_client_does_not_wait_itself(
    service: LoopbackService, session: RetrySession
) -> None:
    service.fail("POST", "/jobs", Fault(429, code=1202, headers={"Retry-After": "37"}))
    error = failure_of(lambda: submit(session))
    assert classify_qiskit_error(error).retry_after == 37.0
    refused = translate_qiskit_submission_error(error, backend_name="ibm_loopback")
    assert type(refused) is SubmissionError
    assert (refused.retryable, refused.retry_after) == (True, 37.0)
    assert "37 s" in str(refused)


def test_a_job_submitted_just_now_may_show_up(
    service: LoopbackService, client: QiskitRuntimeService
) -> None:
    service.fail("GET", f"/jobs/{JOB_ID}", Fault(404, code=3250))
    error = failure_of(lambda: client.job(JOB_ID))
    assert classify_qiskit_error(error).answer is DO_NOT
    assert classify_qiskit_error(error, recently_submitted=True).answer is RETRY
    translated = translate_qiskit_error(
        error, job_id=JOB_ID, backend_name=None, doing="Reading", recently_submitted=True
    )
    assert isinstance(translated, JobNotFoundError)
    assert classify_qiskit_error(translated).answer is RETRY


def test_cancelling_too_late_is_no_cancelled_job(
    service: LoopbackService, client: QiskitRuntimeService
) -> None:
    job = client.job(JOB_ID)
    service.fail("POST", f"/jobs/{JOB_ID}/cancel", Fault(409))
    error = failure_of(job.cancel)
    assert isinstance(error, RuntimeInvalidStateError)
    translated = translate_qiskit_error(
        error, job_id=JOB_ID, backend_name="ibm_loopback", doing="Cancelling"
    )
    assert type(translated) is JobError
    assert translated.retryable is False


@pytest.mark.parametrize(
    ("state", "expected", "code"),
    [
        (
            {"status": "Failed", "reason": "Register too small", "reasonCode": 6053},
            JobFailedError,
            None,
        ),
        (
            {"status": "Failed", "reason": "Internal", "reason_code": 1000},
            JobFailedError,
            None,
        ),
        ({"status": "Cancelled"}, JobCancelledError, None),
        (
            {"status": "Cancelled", "reason": "Ran too long", "reason_code": 1305},
            JobTimeLimitError,
            1305,
        ),
    ],
)
def test_a_job_that_has_ended_is_final(
    service: LoopbackService,
    client: QiskitRuntimeService,
    state: dict[str, object],
    expected: type[JobFailedError],
    code: int | None,
) -> None:
    job = client.job(JOB_ID)
    answer = {**regular_job(), "state": state}
    service.fail("GET", f"/jobs/{JOB_ID}", Fault(body=json.dumps(answer).encode()))
    error = failure_of(job.result)
    assert classify_qiskit_error(error).answer is DO_NOT
    translated = translate_qiskit_error(
        error, job_id=JOB_ID, backend_name="ibm_loopback", doing="Reading the result"
    )
    assert type(translated) is expected
    assert translated.retryable is False
    assert translated.service_code == code
    assert str(state.get("reason", "cancelled")) in str(translated)
    told = translate_qiskit_error(
        error, job_id=JOB_ID, backend_name=None, doing="Reading the result", service_code=6053
    )
    assert told.service_code == 6053


def test_a_job_that_goes_on_beyond_the_clients_timeout(
    service: LoopbackService, client: QiskitRuntimeService
) -> None:
    job = client.job(JOB_ID)
    answer = {**regular_job(), "state": {"status": "Queued"}}
    service.fail("GET", f"/jobs/{JOB_ID}", Fault(body=json.dumps(answer).encode()))
    error = failure_of(lambda: job.result(timeout=0.2))
    assert classify_qiskit_error(error).answer is DO_NOT
    translated = translate_qiskit_error(error, job_id=JOB_ID, backend_name=None, doing="Waiting")
    assert isinstance(translated, JobWaitTimeoutError)
    assert "The job goes on" in str(translated)


@pytest.mark.parametrize("call", ["metrics", "cancel"])
def test_other_calls_about_a_job(
    service: LoopbackService, client: QiskitRuntimeService, call: str
) -> None:
    job = client.job(JOB_ID)
    service.fail("GET", f"/jobs/{JOB_ID}/metrics", Fault(503))
    service.fail("POST", f"/jobs/{JOB_ID}/cancel", Fault(503))
    assert classify_qiskit_error(failure_of(getattr(job, call))).answer is RETRY


def test_a_backend_that_is_not_found_tells_nothing(client: QiskitRuntimeService) -> None:
    error = failure_of(lambda: client.backend("ibm_loopback"))
    assert isinstance(error, QiskitBackendNotFoundError)
    assert classify_qiskit_error(error).answer is UNKNOWN


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (Fault(400, body=b'{"errorCode": "BXNIM0415E", "errorMessage": "no such key"}'), DO_NOT),
        (Fault(401), DO_NOT),
        (Fault(429, headers={"Retry-After": "5"}), RETRY),
        (Fault(500), RETRY),
        (Fault(503), RETRY),
        (Fault(breaks="closed"), RETRY),
        (Fault(breaks="reset"), RETRY),
        (Fault(body=b"<html>"), RETRY),
        (Fault(body=b""), RETRY),
    ],
)
def test_token_service_that_fails_while_a_service_object_is_made(
    service: LoopbackService, monkeypatch: pytest.MonkeyPatch, fault: Fault, answer: RetryAnswer
) -> None:
    monkeypatch.setenv("IAM_URL", service.url)
    monkeypatch.delenv("QISKIT_FUNCTIONS_EXPERIMENTAL", raising=False)
    service.fail("POST", "/identity/token", fault)
    error = failure_of(
        lambda: QiskitRuntimeService(channel="ibm_quantum_platform", token=TOKEN, instance=CRN)
    )
    assert isinstance(error, InvalidAccountError)
    advice = classify_qiskit_error(error)
    assert advice.answer is answer
    if fault.headers:
        assert advice.retry_after == 5.0


def submit(session: RetrySession) -> object:
    return Runtime(session).program_run(
        program_id="sampler",
        backend_name="ibm_loopback",
        params={},
        image="",
        log_level=None,
        session_id=None,
    )


@pytest.mark.parametrize(
    ("faults", "expected", "retryable"),
    [
        pytest.param([Fault(400, code=1003)], SubmissionError, False, id="400"),
        pytest.param([Fault(401)], SubmissionError, False, id="401"),
        pytest.param([Fault(403)], SubmissionError, False, id="403"),
        pytest.param([Fault(429)], SubmissionError, True, id="429"),
        pytest.param([Fault(400, code=1012)], SubmissionError, True, id="too many pending"),
        pytest.param([Fault(408)], SubmissionUncertainError, None, id="408"),
        pytest.param([Fault(500)], SubmissionUncertainError, None, id="500"),
        pytest.param([Fault(504)], SubmissionUncertainError, None, id="504"),
        pytest.param([Fault(523)], SubmissionUncertainError, None, id="523"),
        # The refusal is the second answer: the first one may have come after a job was made.
        pytest.param([Fault(504), Fault(429)], SubmissionUncertainError, None, id="504, 429"),
        pytest.param([Fault(504), Fault(400)], SubmissionUncertainError, None, id="504, 400"),
        pytest.param([Fault(breaks="closed")], SubmissionUncertainError, None, id="closed"),
        pytest.param([Fault(breaks="reset")], SubmissionUncertainError, None, id="reset"),
        pytest.param([Fault(breaks="stalls")], SubmissionUncertainError, None, id="no answer"),
        pytest.param(
            [Fault(body=RESULT, breaks="truncated")], SubmissionUncertainError, None, id="truncated"
        ),
        pytest.param([Fault(body=b"")], SubmissionUncertainError, None, id="empty"),
        pytest.param([Fault(body=b"{")], SubmissionUncertainError, None, id="malformed"),
    ],
)
def test_whether_a_failed_submission_may_have_made_a_job(
    service: LoopbackService,
    session: RetrySession,
    faults: list[Fault],
    expected: type[SubmissionError],
    retryable: bool | None,
) -> None:
    service.fail("POST", "/jobs", *faults)
    error = failure_of(lambda: submit(session))
    translated = translate_qiskit_submission_error(error, backend_name="ibm_loopback")
    assert type(translated) is expected
    assert translated.retryable is retryable
    assert "ibm_loopback" in str(translated)


def test_a_fault_before_the_post_made_no_job(
    service: LoopbackService, session: RetrySession
) -> None:
    service.fail("GET", "/instances/usage", Fault(503))
    error = failure_of(Runtime(session).cloud_usage)
    translated = translate_qiskit_submission_error(error, backend_name="ibm_loopback")
    assert type(translated) is SubmissionError
    assert translated.retryable is True


def test_credentials_in_an_answer_are_blacked_out(
    service: LoopbackService, client: QiskitRuntimeService
) -> None:
    leaky = {
        "errors": [
            {
                "code": 1200,
                "message": f"key {TOKEN} refused; sent Authorization: Bearer {ACCESS_TOKEN}",
            }
        ]
    }
    service.fail("GET", f"/jobs/{JOB_ID}", Fault(403, body=json.dumps(leaky).encode()))
    error = failure_of(lambda: client.job(JOB_ID))
    translated = translate_qiskit_error(
        error, job_id=JOB_ID, backend_name=None, doing="Reading the status", secrets=[TOKEN]
    )
    for text in (str(translated), repr(translated), repr(pickle.dumps(translated))):
        assert TOKEN not in text
        assert ACCESS_TOKEN not in text
    assert "refused" in str(translated)


def test_no_credential_stands_in_an_advice(
    service: LoopbackService, client: QiskitRuntimeService
) -> None:
    service.fail("GET", f"/jobs/{JOB_ID}", Fault(403))
    advice = classify_qiskit_error(failure_of(lambda: client.job(JOB_ID)))
    assert ACCESS_TOKEN not in repr(advice)
    assert TOKEN not in repr(advice)
