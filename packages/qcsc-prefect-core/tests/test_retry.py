"""The three-valued answer, asked of errors that the standard library's own clients raise."""

from __future__ import annotations

import asyncio
import errno
import functools
import importlib
import socket
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcsc_prefect.core.cache_keys import build_result_cache_key, build_submit_cache_key
from qcsc_prefect.core.errors import (
    ConfigurationError,
    InputError,
    JobFailedError,
    JobNotFoundError,
    ResultUnavailableError,
    SubmissionError,
    SubmissionUncertainError,
)
from qcsc_prefect.core.retry import (
    COMMON_RULES,
    ErrorFacts,
    RetryAnswer,
    advise_retry,
    error_type_names,
    iter_error_chain,
    read_error_facts,
    retry_after_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOK_FIRST = RetryAnswer.LOOK_FIRST
RETRY, DO_NOT, UNKNOWN = RetryAnswer.RETRY, RetryAnswer.DO_NOT, RetryAnswer.UNKNOWN


class WrappedError(Exception):
    """An error of somebody's client that says nothing about itself."""


class Answer:
    """What an HTTP client's response looks like from afar."""

    def __init__(self, status_code: int, headers: dict[str, str]) -> None:
        self.status_code = status_code
        self.headers = headers


class AnsweredError(Exception):
    def __init__(self, response: Answer) -> None:
        super().__init__("the server answered")
        self.response = response


class StatusError(Exception):
    def __init__(self, message: str, status_code: int, service_code: object = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.service_code = service_code


def raised(error: BaseException, *, cause: BaseException) -> BaseException:
    with pytest.raises(type(error)) as caught:
        raise error from cause
    return caught.value


def in_context(outer: BaseException, inner: BaseException) -> BaseException:
    """Raise `outer` while `inner` is handled, and hide `inner`, as clients do."""

    def client() -> None:
        try:
            raise inner
        except type(inner):
            raise outer from None

    with pytest.raises(type(outer)) as caught:
        client()
    return caught.value


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = int(self.path.strip("/"))
            self.send_response(status)
            if status in {429, 503}:
                self.send_header("Retry-After", "7")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize(
    ("status", "answer", "pause"),
    [
        (400, DO_NOT, None),
        (401, DO_NOT, None),
        (403, DO_NOT, None),
        (404, DO_NOT, None),
        (408, RETRY, None),
        (409, DO_NOT, None),
        (429, RETRY, 7.0),
        (500, RETRY, None),
        (501, DO_NOT, None),
        (502, RETRY, None),
        (503, RETRY, 7.0),
        (504, RETRY, None),
        (520, RETRY, None),
    ],
)
def test_answers_of_a_real_server(
    server: str, status: int, answer: RetryAnswer, pause: float | None
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{server}/{status}")  # loopback
    advice = advise_retry(caught.value)
    assert advice.answer is answer
    assert advice.status == status
    assert advice.retry_after == pause
    assert advice.because == f"HTTP status {status}"
    assert advice.decided_by is caught.value
    caught.value.close()


def test_refused_connection() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(urllib.error.URLError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/")
    advice = advise_retry(caught.value)
    assert advice.answer is RETRY
    assert advice.because == "builtins.ConnectionError"


def test_every_named_type_exists_under_that_name() -> None:
    for name in COMMON_RULES.types:
        module, _, qualified_name = name.rpartition(".")
        kind = getattr(importlib.import_module(module), qualified_name)
        assert f"{kind.__module__}.{kind.__qualname__}" == name


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (ConnectionResetError(), RETRY),
        (TimeoutError(), RETRY),
        (OSError(errno.ENETUNREACH, "unreachable"), RETRY),
        (FileNotFoundError(), UNKNOWN),
        (ValueError(), UNKNOWN),
        (KeyError("id"), DO_NOT),
        (TypeError(), DO_NOT),
        (asyncio.CancelledError(), DO_NOT),
        (KeyboardInterrupt(), DO_NOT),
        (ResultUnavailableError("cut short"), RETRY),
        (ResultUnavailableError("too large", retryable=False, status=503), DO_NOT),
        (JobFailedError("failed", status=503), DO_NOT),
        (JobNotFoundError("gone"), DO_NOT),
        (JobNotFoundError("not there yet", retryable=True), RETRY),
        (SubmissionError("refused", status=403), DO_NOT),
        (SubmissionError("busy", status=429, retry_after=3.0), RETRY),
    ],
)
def test_types_and_what_errors_say_of_themselves(error: BaseException, answer: RetryAnswer) -> None:
    assert advise_retry(error).answer is answer


@given(st.text(max_size=30), st.sampled_from([429, 500, 503, "timeout", "Connection reset"]))
def test_words_and_digits_of_a_message_decide_nothing(noise: str, word: object) -> None:
    assert advise_retry(WrappedError(f"{noise} {word} {noise}")).answer is UNKNOWN
    refused = StatusError(f"{noise} {word} timeout", 403)
    assert advise_retry(refused).answer is DO_NOT


def test_facts_behind_from_none_are_found() -> None:
    error = in_context(WrappedError("failed"), AnsweredError(Answer(429, {"Retry-After": "11"})))
    advice = advise_retry(error)
    assert (advice.answer, advice.status, advice.retry_after) == (RETRY, 429, 11.0)


def test_the_nearest_fact_decides() -> None:
    mistake = in_context(TypeError("bad call"), ConnectionResetError())
    assert advise_retry(mistake).answer is DO_NOT
    refused_while_reconnecting = in_context(StatusError("", 403), ConnectionResetError())
    assert advise_retry(refused_while_reconnecting).answer is DO_NOT


def test_cause_comes_before_context() -> None:
    outer = WrappedError()
    outer.__context__ = ConnectionResetError()
    outer.__cause__ = StatusError("", 403)
    assert [type(link) for link in iter_error_chain(outer)] == [
        WrappedError,
        StatusError,
        ConnectionResetError,
    ]
    assert advise_retry(outer).answer is DO_NOT


def test_minus_one_is_no_status() -> None:
    assert read_error_facts(StatusError("", -1)) == ErrorFacts()
    error = raised(StatusError("", -1), cause=ConnectionAbortedError())
    advice = advise_retry(error)
    assert (advice.answer, advice.status) == (RETRY, None)


def test_circles_end() -> None:
    first, second = WrappedError("a"), WrappedError("b")
    first.__cause__, second.__context__ = second, first
    assert list(iter_error_chain(first)) == [first, second]
    assert advise_retry(first).answer is UNKNOWN
    group = ExceptionGroup("g", [first])
    second.__cause__ = group
    assert advise_retry(group).answer is UNKNOWN
    assert advise_retry(first).answer is UNKNOWN


def test_a_long_chain_is_walked() -> None:
    error: BaseException = ConnectionResetError()
    for _ in range(5_000):
        outer = WrappedError()
        outer.__cause__ = error
        error = outer
    assert advise_retry(error).answer is RETRY


def test_groups_need_every_member() -> None:
    reset, busy = ConnectionResetError(), StatusError("", 429)
    patient = AnsweredError(Answer(503, {"Retry-After": "40"}))
    assert advise_retry(ExceptionGroup("g", [reset, busy])).answer is RETRY
    assert advise_retry(ExceptionGroup("g", [reset, patient, busy])).retry_after == 40.0
    assert advise_retry(ExceptionGroup("g", [reset, TypeError()])).answer is DO_NOT
    assert advise_retry(ExceptionGroup("g", [reset, ValueError()])).answer is UNKNOWN
    nested = ExceptionGroup("g", [ExceptionGroup("h", [reset])])
    assert advise_retry(raised(WrappedError(), cause=nested)).answer is RETRY


def test_a_vendor_fills_in_its_table() -> None:
    def read_wrapped(error: BaseException) -> ErrorFacts:
        return ErrorFacts(service_code=error.args[0])

    name = error_type_names(WrappedError())[0]
    rules = COMMON_RULES.extended(
        readers={name: read_wrapped},
        service_codes={7: RETRY, "E_FINAL": DO_NOT},
        last_resort_types={"builtins.ValueError": DO_NOT},
    )
    assert advise_retry(WrappedError(7), rules).because == "service code 7"
    assert advise_retry(WrappedError("E_FINAL"), rules).answer is DO_NOT
    assert advise_retry(WrappedError(8), rules).answer is UNKNOWN
    # The wrapper's cause knows better, if there is one.
    assert advise_retry(ValueError(), rules).answer is DO_NOT
    assert advise_retry(raised(ValueError(), cause=TimeoutError()), rules).answer is RETRY


def test_a_code_beats_the_status_it_came_with() -> None:
    rules = COMMON_RULES.extended(service_codes={1012: RETRY})
    body = StatusError("", 400, service_code=1012)
    wrapper = raised(StatusError("", 400), cause=body)
    assert advise_retry(wrapper, rules).because == "service code 1012"
    # The code of another answer is not this answer's code.
    other = raised(StatusError("", 403), cause=body)
    assert advise_retry(other, rules).because == "HTTP status 403"


def test_a_type_that_says_nothing_hides_its_bases() -> None:
    rules = COMMON_RULES.extended(types={"builtins.ConnectionRefusedError": UNKNOWN})
    assert advise_retry(ConnectionRefusedError(), rules).answer is UNKNOWN
    assert advise_retry(ConnectionResetError(), rules).answer is RETRY


def test_properties_that_raise_state_no_fact() -> None:
    class HostileError(Exception):
        @property
        def response(self) -> object:
            raise RuntimeError("closed")

        @property
        def retryable(self) -> object:
            raise RuntimeError("closed")

    assert advise_retry(HostileError()).answer is UNKNOWN


NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": " 120 "}, 120.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": ""}, None),
        ({}, None),
        (None, None),
        ("Retry-After: 3", None),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"Retry-After": format_datetime(NOW - timedelta(seconds=90), usegmt=True)}, 0.0),
        ({"Retry-After": "Thursday, 01-Jan-26 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Thu Jan  1 12:00:30 2026"}, 30.0),
        (
            {
                "Retry-After": "Thu, 01 Jan 2026 15:00:45 GMT",
                "Date": "Thu, 01 Jan 2026 15:00:00 GMT",
            },
            45.0,
        ),
    ],
)
def test_retry_after(headers: object, seconds: float | None) -> None:
    assert retry_after_seconds(headers, now=NOW) == seconds


LOST = {"status": 504, "retry_after": 1.0, "retryable": True}


@pytest.mark.parametrize(
    "error",
    [
        SubmissionUncertainError("lost", **LOST),
        raised(SubmissionUncertainError("lost"), cause=ConnectionResetError()),
        raised(TimeoutError(), cause=SubmissionUncertainError("lost")),
        in_context(ConnectionResetError(), SubmissionUncertainError("lost")),
        ExceptionGroup("g", [TypeError(), ExceptionGroup("h", [SubmissionUncertainError("lost")])]),
        raised(TimeoutError(), cause=ExceptionGroup("g", [SubmissionUncertainError("lost")])),
    ],
)
def test_an_uncertain_submission_is_looked_for_first(error: BaseException) -> None:
    advice = advise_retry(error)
    assert advice.answer is LOOK_FIRST
    assert "look for the job" in advice.because


class Record:
    """What holds a state's data from afar."""

    def __init__(self, result: object) -> None:
        self.result = result


class Hostile:
    @property
    def result(self) -> object:
        raise RuntimeError("closed")


@pytest.mark.parametrize("data", [None, 3, b"", [], Record(3), Hostile()])
def test_what_holds_no_error_is_unknown(data: object) -> None:
    assert advise_retry(data).answer is UNKNOWN


def test_a_record_of_an_error_is_read() -> None:
    assert advise_retry(Record(TimeoutError())).answer is RETRY


def nested(levels: int) -> BaseException:
    error: BaseException = ConnectionResetError()
    for _ in range(levels):
        error = ExceptionGroup("g", [error])
    return error


class ClosedHeaders:
    def get(self, key: str) -> object:
        raise RuntimeError("closed")


class PatientError(Exception):
    status = 503
    retry_after = 10**400


def unhashable_errno() -> OSError:
    error = OSError("odd")
    error.errno = []
    return error


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (PatientError(), RETRY),
        (unhashable_errno(), UNKNOWN),
        (AnsweredError(Answer(503, ClosedHeaders())), RETRY),
        (
            AnsweredError(Answer(503, {"Retry-After": "Mon, 1 Jan 2024 00:00:00 +" + "9" * 20})),
            RETRY,
        ),
        (nested(5_000), RETRY),
    ],
)
def test_what_cannot_be_read_is_no_fact(error: BaseException, answer: RetryAnswer) -> None:
    advice = advise_retry(error)
    assert (advice.answer, advice.retry_after) == (answer, None)


class FalseCauseError(Exception):
    __cause__ = 5


class NoContextError(Exception):
    @property
    def __context__(self) -> BaseException:
        raise RuntimeError("closed")


class NoClassError(Exception):
    @property
    def __class__(self) -> type:
        raise RuntimeError("closed")


class EndlessError(Exception):
    @property
    def __cause__(self) -> BaseException:
        return EndlessError()


class NoMembersError(ExceptionGroup):
    exceptions = 5


@pytest.mark.parametrize(
    "make",  # pytest asks an error for its class
    [
        FalseCauseError,
        NoContextError,
        NoClassError,
        EndlessError,
        functools.partial(NoMembersError, "g", [ValueError()]),
    ],
)
def test_what_a_class_makes_of_its_causes_does_not_count(
    make: Callable[[], BaseException],
) -> None:
    assert advise_retry(make()).answer is UNKNOWN
    assert advise_retry(raised(TimeoutError(), cause=make())).answer is RETRY
    assert advise_retry(raised(make(), cause=SubmissionUncertainError("lost"))).answer is LOOK_FIRST
    assert advise_retry(ExceptionGroup("g", [TimeoutError(), make()])).answer is UNKNOWN


def test_a_group_that_stands_in_many_places_is_read_once() -> None:
    group: BaseException = TimeoutError()
    for _ in range(60):
        group = ExceptionGroup("g", [group, group])
    assert advise_retry(group).answer is RETRY


def test_a_reader_that_fails_states_no_fact(caplog: pytest.LogCaptureFixture) -> None:
    def read(error: BaseException) -> ErrorFacts:
        return ErrorFacts(service_code=error.reply["code"])  # type: ignore[attr-defined]

    rules = COMMON_RULES.extended(readers={error_type_names(StatusError("", 503))[0]: read})
    assert advise_retry(StatusError("", 503), rules).because == "HTTP status 503"
    assert "StatusError failed: AttributeError" in caplog.text
    lost = SubmissionUncertainError("lost")
    rules = COMMON_RULES.extended(readers={error_type_names(lost)[0]: read})
    assert advise_retry(lost, rules).answer is LOOK_FIRST


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("TimeoutError", "builtins.TimeoutError"),
        ("AcmeError", "module.AcmeError"),
        ("acme errors.Lost", "module.Name"),
        ("acme..Lost", "module.Name"),
        (TimeoutError, "as text"),
        ("builtins.TimeoutEror", "no such name"),
        ("json.JSONDecodeError", "json.decoder.JSONDecodeError"),
        ("builtins.IOError", "builtins.OSError"),
        ("json.dumps", "no exception type"),
        ("builtins.dict", "no exception type"),
    ],
)
@pytest.mark.parametrize("table", ["types", "last_resort_types", "readers"])
def test_a_rule_that_never_matches_is_refused(table: str, name: object, hint: str) -> None:
    value = read_error_facts if table == "readers" else RETRY
    with pytest.raises(ConfigurationError, match=hint) as refused:
        COMMON_RULES.extended(**{table: {name: value}})
    assert f"{table}[{name!r}]" in str(refused.value)


@pytest.mark.parametrize("table", ["types", "last_resort_types", "statuses", "service_codes"])
def test_what_is_no_answer_is_refused(table: str) -> None:
    key = 404 if table == "statuses" else "acme.Lost"
    with pytest.raises(ConfigurationError, match="a member of RetryAnswer"):
        COMMON_RULES.extended(**{table: {key: True}})


def test_a_name_that_cannot_be_looked_up_is_taken() -> None:
    for name in ("acme.errors.Lost", "httpx.AddedLater", error_type_names(nested(1))[0]):
        assert COMMON_RULES.extended(types={name: RETRY}).types[name] is RETRY


def test_errors_of_httpx_and_of_json() -> None:
    import json

    import httpx

    with pytest.raises(json.JSONDecodeError) as damaged:
        json.loads("<html>")
    assert advise_retry(damaged.value).answer is RETRY
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(httpx.ConnectError) as refused:
        httpx.get(f"http://127.0.0.1:{port}/")
    assert advise_retry(refused.value).answer is RETRY
    assert advise_retry(httpx.ReadTimeout("")).answer is RETRY
    assert advise_retry(httpx.UnsupportedProtocol("")).answer is DO_NOT


def test_keys_take_a_configuration_as_it_is() -> None:
    class Account:
        backend_name = None

        def identity(self) -> dict[str, str | None]:
            return {"account": "lab"}

    for build, named in (
        (build_submit_cache_key, {"input_digest": "d"}),
        (build_result_cache_key, {"job_id": "j"}),
    ):
        as_it_is = build("acme", configuration=Account(), **named)
        assert as_it_is == build("acme", configuration={"account": "lab"}, **named)


def test_a_submission_is_keyed_by_its_backend_and_a_result_is_not() -> None:
    class Account:
        def __init__(self, backend_name: str) -> None:
            self.backend_name = backend_name

        def identity(self) -> dict[str, str | None]:
            return {"account": "lab"}

    one, other = Account("acme-1"), Account("acme-2")
    submitted = [
        build_submit_cache_key("a", input_digest="d", configuration=c) for c in (one, other)
    ]
    assert submitted[0] != submitted[1]
    facts = {"account": "lab", "backend_name": "acme-1"}
    assert submitted[0] == build_submit_cache_key("a", input_digest="d", configuration=facts)
    fetched = [build_result_cache_key("a", job_id="j", configuration=c) for c in (one, other)]
    assert fetched[0] == fetched[1]


@pytest.mark.parametrize("digest", [7, "", None, b"d"])
def test_what_is_no_digest_has_no_key(digest: object) -> None:
    with pytest.raises(InputError, match="input_digest refused"):
        build_submit_cache_key("a", input_digest=digest, configuration=None)


@pytest.mark.parametrize(
    "rules",
    [
        {"statuses": {"409": RETRY}},
        {"statuses": {True: RETRY}},
        {"statuses": {4: RETRY}},
        {"statuses": {409.0: RETRY}},
        {"service_codes": {None: RETRY}},
        {"service_codes": {"": RETRY}},
        {"service_codes": {1.5: RETRY}},
        {"readers": {"builtins.OSError": 5}},
    ],
)
def test_rules_that_never_match_are_refused(rules: dict[str, dict[object, object]]) -> None:
    [table] = rules
    with pytest.raises(ConfigurationError, match=rf"^{table}\["):
        COMMON_RULES.extended(**rules)
