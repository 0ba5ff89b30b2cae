"""How requests travel: what is sent once, what again, and that each of them ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from qiskit_ibm_runtime import QiskitRuntimeService
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import RequestException, SSLError

from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.services.connections.wire import (
    clock_ahead,
    own_requests,
    watch_post,
    whole_results,
)
from qcsc_prefect.integrations.qiskit.services.connections.wire_limits import WireLimits
from qcsc_prefect.integrations.qiskit.testing import (
    ACCOUNT_NAME,
    EmulatedAccount,
    EmulatedInstance,
    EmulatedService,
)

#: What one request is answered with: a status, headers and a body; or None to break it off.
Answer = tuple[int, dict[str, str], bytes] | None

WHOLE: Answer = (200, {}, b'{"id": "a"}')
QUICK = WireLimits(answer=0.4, patience=1.2)


class Scripted(ThreadingHTTPServer):
    """A server that answers as it was told, and the last answer ever after."""

    def __init__(self, answers: list[Answer], *, port: int = 0) -> None:
        self.answers = answers
        self.seen: list[tuple[str, str, int]] = []
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """What breaks off here is meant to."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answers = self.server.answers
        self.server.seen.append((self.command, self.path, self.client_address[1]))
        given = answers.pop(0) if len(answers) > 1 else answers[0]
        if given is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, headers, body = given
        if "hang" in headers:
            time.sleep(float(headers["hang"]))
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - the names of the base class

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(*answers: Answer, port: int = 0) -> Iterator[Scripted]:
    server = Scripted(list(answers), port=port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        own_requests(session, QUICK)
        yield session


def broken(kind: str) -> Answer:
    body = b'{"id": "a", "more": "' + b"x" * 200 + b'"}'
    return {
        "dropped": None,
        "truncated": (200, {"Content-Length": str(len(body))}, body[:50]),
        "cut": (200, {}, body[:50]),
        "empty": (200, {}, b""),
        "malformed": (200, {}, b"<html>"),
        "no object": (200, {}, b"null"),
        "503": (503, {}, b"{}"),
        "504": (504, {}, b"{}"),
        "429": (429, {}, b"{}"),
        "500, a code that passes": (500, {}, b'{"errors": [{"code": 1000}]}'),
        "hangs": (200, {"hang": "2.5"}, body),
    }[kind]


FAULTS = [
    "dropped",
    "truncated",
    "cut",
    "empty",
    "malformed",
    "no object",
    "503",
    "504",
    "429",
    "500, a code that passes",
    "hangs",
]


@pytest.mark.parametrize("kind", FAULTS)
def test_a_question_is_asked_again(session: requests.Session, kind: str) -> None:
    with served(broken(kind), WHOLE) as server:
        assert session.get(f"{server.url}/jobs/a").json() == {"id": "a"}
        assert len(server.seen) == 2


@pytest.mark.parametrize(("method", "path"), [("POST", "/jobs"), ("POST", "/sessions")])
@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind != "429"])
def test_what_makes_something_is_sent_once(
    session: requests.Session, method: str, path: str, kind: str
) -> None:
    with served(broken(kind), WHOLE) as server, watch_post() as post:
        try:
            answer = session.request(method, server.url + path, json={})
        except RequestException:
            answer = None
        assert len(server.seen) == 1
        if path == "/jobs":
            assert post.sent
            whole_status = None if kind in {"dropped", "hangs"} else broken(kind)[0]
            assert post.status == whole_status
        assert answer is None or answer.status_code == broken(kind)[0]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/jobs/a/cancel"), ("PATCH", "/sessions/a/close"), ("DELETE", "/sessions/a")],
)
@pytest.mark.parametrize("kind", ["dropped", "503", "hangs"])
def test_what_may_be_said_twice_is(
    session: requests.Session, method: str, path: str, kind: str
) -> None:
    with served(broken(kind), (204, {}, b"")) as server:
        assert session.request(method, server.url + path).status_code == 204
        assert len(server.seen) == 2


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_without_end_ends(session: requests.Session, kind: str) -> None:
    with served(broken(kind)) as server:
        began = time.monotonic()
        if kind in {"dropped", "truncated", "hangs"}:
            with pytest.raises(RequestException):
                session.get(f"{server.url}/jobs/a")
        else:
            answer = session.get(f"{server.url}/jobs/a")
            assert (answer.status_code, answer.content) == (broken(kind)[0], broken(kind)[2])
        assert time.monotonic() - began < 4
        assert 2 <= len(server.seen) <= 5


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b"{}"),
        (401, b"{}"),
        (404, b'{"errors": [{"code": 3250}]}'),
        (409, b"{}"),
        (429, b'{"errors": [{"code": 4317}]}'),
        (500, b'{"errors": [{"code": 1003}]}'),
    ],
)
def test_what_is_refused_for_good_is_not_asked_again(
    session: requests.Session, status: int, body: bytes
) -> None:
    with served((status, {}, body), WHOLE) as server:
        assert session.get(f"{server.url}/jobs/a").status_code == status
        assert len(server.seen) == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("seconds", "asked"), [("1", 2), ("30", 1)])
def test_a_retry_after_is_kept_or_handed_on(
    session: requests.Session, status: int, seconds: str, asked: int
) -> None:
    with served((status, {"Retry-After": seconds}, b"{}"), WHOLE) as server:
        began = time.monotonic()
        answer = session.get(f"{server.url}/jobs/a")
        assert len(server.seen) == asked
        if asked == 1:
            assert (answer.status_code, answer.headers["Retry-After"]) == (status, "30")
        else:
            assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/jobs/a/results", b'{"value": NaN, "other": [Infinity, -Infinity]}'),
        ("/jobs/a/results", b' \n{"a": 1}\n '),
        ("/jobs/a/logs", b""),
        ("/jobs/a/logs", b"2026 a line"),
    ],
)
def test_a_whole_answer_is_taken(session: requests.Session, path: str, body: bytes) -> None:
    with served((200, {}, body)) as server, whole_results():
        assert session.get(server.url + path).content == body
        assert len(server.seen) == 1


@pytest.mark.parametrize("body", [b"", b"Traceback of a job that failed"])
def test_a_result_is_taken_as_it_comes_unless_it_must_be_whole(
    session: requests.Session, body: bytes
) -> None:
    with served((200, {}, body), WHOLE) as server:
        assert session.get(f"{server.url}/jobs/a/results").content == body
        assert len(server.seen) == 1
    with served((200, {}, body), WHOLE) as server, whole_results():
        assert session.get(f"{server.url}/jobs/a/results").json() == {"id": "a"}
        assert len(server.seen) == 2


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_finds_nobody_waits_for_somebody(method: str) -> None:
    session = requests.Session()
    session.trust_env = False
    own_requests(session, WireLimits(answer=10, patience=30))
    port = free_port()
    answers: list[int] = []

    def ask() -> None:
        answers.append(session.request(method, f"http://127.0.0.1:{port}/jobs").status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.4)
    with served(WHOLE, port=port) as server:
        asking.join()
        assert answers == [200]
        assert len(server.seen) == 1


def unreachable_name() -> str:
    return "http://no-such-host.invalid/jobs"


def nobody_listens() -> str:
    return f"http://127.0.0.1:{free_port()}/jobs"


@pytest.mark.parametrize("url", [unreachable_name, nobody_listens])
def test_what_never_had_a_connection_was_not_sent(
    session: requests.Session, url: Callable[[], str]
) -> None:
    with watch_post() as post, pytest.raises(RequestsConnectionError):
        session.post(url(), json={})
    assert not post.sent


def test_what_failed_to_greet_was_not_sent(session: requests.Session) -> None:
    """A server that speaks no TLS: the handshake fails before the request is sent."""
    with served(WHOLE) as server:
        with watch_post() as post, pytest.raises((SSLError, RequestsConnectionError)):
            session.post(server.url.replace("http:", "https:") + "/jobs", json={})
        assert not post.sent


def test_a_proxy_that_refuses_the_tunnel_sends_nothing(session: requests.Session) -> None:
    with served((502, {}, b"")) as proxy:
        session.proxies = {"https": proxy.url}
        with watch_post() as post, pytest.raises(RequestException):
            session.post("https://service.invalid/jobs", json={})
        assert not post.sent


def test_behind_a_proxy_a_dropped_submission_is_not_sent_again(session: requests.Session) -> None:
    with served(None, WHOLE) as proxy:
        session.proxies = {"http": proxy.url}
        with watch_post() as post, pytest.raises(RequestsConnectionError):
            session.post("http://service.invalid/jobs", json={})
        assert post.sent
        assert len(proxy.seen) == 1


def test_a_submission_does_not_trust_a_kept_connection(session: requests.Session) -> None:
    with served(WHOLE) as server:
        session.get(f"{server.url}/jobs")
        session.get(f"{server.url}/jobs")
        session.post(f"{server.url}/jobs", json={})
        session.post(f"{server.url}/jobs", json={})
        ports = [port for _, _, port in server.seen]
        assert ports[0] == ports[1], "questions share one"
        assert len(set(ports[1:])) == 3


def test_a_wrong_certificate_is_not_waited_out(session: requests.Session) -> None:
    with EmulatedService(["fake_manila"]) as emulated:
        began = time.monotonic()
        session.proxies = {"https": emulated.root_url}
        with pytest.raises(SSLError):
            session.get("https://service.invalid/jobs")
        assert time.monotonic() - began < QUICK.patience


@pytest.mark.parametrize("text", ["", "soon", "-1", "0", "nan", "inf", "1e300"])
@pytest.mark.parametrize("name", ["QCSC_PREFECT_PATIENCE_SECONDS", "QCSC_PREFECT_ANSWER_SECONDS"])
def test_a_limit_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigurationError, match=name):
        WireLimits.current()


class PlainConfig(QiskitRuntimeConfig):
    """A block whose service is the client's own, as somebody may make it."""

    _block_type_slug = "plain-config"

    def get_service(self) -> QiskitRuntimeService:
        return QiskitRuntimeService(filename=self.filename, name=self.account_name)


@pytest.mark.parametrize("block", [QiskitRuntimeConfig, PlainConfig])
async def test_every_connection_of_a_service_is_owned(
    block: type[QiskitRuntimeConfig], tmp_path: Path
) -> None:
    first = EmulatedInstance(name="first", backends=("fake_manila",))
    second = EmulatedInstance(name="second", backends=("fake_lima",))
    account = EmulatedAccount(instances=(first, second))
    with EmulatedService(["fake_manila", "fake_lima"], accounts=[account]) as emulated:
        file = emulated.account_file(tmp_path / "account.json", instance="auto")
        config = block(account_name=ACCOUNT_NAME, filename=str(file), backend_name="fake_manila")
        service = await get_service_pool().service(config)
        assert isinstance(service, QiskitRuntimeService)
        del service._api_clients[second.crn]
        service._get_or_create_cloud_client(second.crn)  # as the client does for a job elsewhere
        connections = [service._active_api_client, *service._api_clients.values()]
        assert {connection._instance for connection in connections} == {first.crn, second.crn}
        for connection in connections:
            adapters = connection._session.adapters.values()
            assert {adapter.max_retries.total for adapter in adapters} == {0}
    get_service_pool().clear()


@pytest.mark.parametrize("hours", [-1, 0, 2])
def test_the_services_clock_is_told_by_its_answers(session: requests.Session, hours: int) -> None:
    assert clock_ahead(session) == timedelta()
    told = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    with served((200, {"Date": told}, b"{}")) as server:
        session.get(f"{server.url}/jobs")
    assert abs(clock_ahead(session) - timedelta(hours=hours)) < timedelta(seconds=5)
