"""The answers that concern jobs and the sessions they run in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from qcsc_prefect.integrations.qiskit.testing.exchange import (
    NO_CODE,
    Endpoint,
    Response,
    error_response,
    json_response,
)
from qcsc_prefect.integrations.qiskit.testing.jobs import FINAL_STATES, Submission
from qcsc_prefect.integrations.qiskit.testing.runner import PROGRAMS
from qcsc_prefect.integrations.qiskit.testing.sessions import SESSION_CLOSED, EmulatedSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qcsc_prefect.integrations.qiskit.testing.backends import EmulatedBackend
    from qcsc_prefect.integrations.qiskit.testing.endpoints import Caller, Route
    from qcsc_prefect.integrations.qiskit.testing.exchange import JSONValue, Request
    from qcsc_prefect.integrations.qiskit.testing.fault_queue import Faults
    from qcsc_prefect.integrations.qiskit.testing.job_store import JobStore
    from qcsc_prefect.integrations.qiskit.testing.jobs import Job
    from qcsc_prefect.integrations.qiskit.testing.sessions import SessionStore

MAX_TAGS = 8
"""The number of tags a job can have on the service."""

MAX_TAG_LENGTH = 86
"""The number of characters of one tag on the service."""

MAX_PAGE = 200
"""The number of jobs that one search answers with at most."""

BAD_REQUEST = 1003
"""The service's code for a payload it cannot use."""

JOB_NOT_FOUND = 3250
"""The service's code for a job id that it does not know."""


class BadRequestError(Exception):
    """A request that the service refuses with 400; the message says why."""


class JobEndpoints:
    """Answers requests about jobs.

    Args:
        store: The jobs.
        backends: What the caller's instance offers, asked for at each submission.
        faults: What was injected into the search and into the next jobs.
        sessions: The sessions and batches.
    """

    def __init__(
        self,
        store: JobStore,
        backends: Callable[[Caller], Mapping[str, EmulatedBackend]],
        faults: Faults,
        sessions: SessionStore,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._backends = backends
        self._faults = faults

    def queue_length(self, backend_name: str) -> int:
        """Return how many jobs wait for a backend."""
        return len(self._store.queue(backend_name))

    def answer(self, request: Request, asked: Route, caller: Caller) -> Response:
        """Carry a request out and return the answer."""
        try:
            match asked.endpoint:
                case Endpoint.SUBMIT:
                    return self._submit(request, caller)
                case Endpoint.SEARCH:
                    return self._search(request, caller)
                case Endpoint.SESSION:
                    return self._session(request, asked.name, caller)
            job = self._store.find(asked.name)
            if job is None or job.submission.instance != caller.instance.crn:
                return error_response(
                    404,
                    f"Job not found. Job ID: {asked.name}",
                    code=JOB_NOT_FOUND,
                    solution="Check that the job id is right and that the instance owns the job.",
                )
            return self._answer_about(job, request, asked)
        except BadRequestError as error:
            return error_response(400, str(error), code=BAD_REQUEST)

    def _answer_about(self, job: Job, request: Request, asked: Route) -> Response:
        match asked.endpoint:
            case Endpoint.JOB:
                with_params = request.parameter("exclude_params") != "true"
                response = json_response(_described(job, with_params=with_params))
            case Endpoint.RESULT:
                output = self._store.take_output(job)
                response = Response(204) if output is None else Response(200, output.encode())
            case Endpoint.METRICS:
                response = json_response(self._metrics(job))
            case Endpoint.LOGS:
                response = Response(200, _log(job).encode(), content_type="text/plain")
            case Endpoint.CANCEL:
                response = self._cancel(job)
            case Endpoint.TAGS:
                job.tags = _read_tags(_read_object(request))
                response = Response(204)
            case _:
                self._store.delete(job)
                response = Response(204)
        return response

    def _submit(self, request: Request, caller: Caller) -> Response:
        posted = _read_object(request)
        program = _text(posted, "program_id")
        if program not in PROGRAMS:
            return error_response(404, f"There is no program {program!r}.", code=NO_CODE)
        backends = self._backends(caller)
        backend_name = _text(posted, "backend")
        if backend_name not in backends:
            return error_response(
                404, f"The instance has no backend {backend_name!r}.", code=NO_CODE
            )
        params = posted.get("params")
        if not isinstance(params, dict):
            raise BadRequestError("params must be an object.")
        session_id = posted.get("session_id")
        if isinstance(session_id, str):
            session = self._sessions.find(session_id, caller.instance.crn)
            if session is None or not session.accepting_jobs:
                return error_response(
                    400, f"The session {session_id} has been closed.", code=SESSION_CLOSED
                )
        cost = posted.get("cost")
        submission = Submission(
            program=program,
            backend=backends[backend_name],
            params=params,
            user_id=caller.account.user_id,
            instance=caller.instance.crn,
            tags=_read_tags(posted),
            private=posted.get("private") is True,
            session_id=session_id if isinstance(session_id, str) else None,
            cost=cost if isinstance(cost, int) else None,
        )
        job = self._store.submit(submission, self._faults.next_job_end())
        return json_response({"id": job.id, "backend": backend_name})

    def _search(self, request: Request, caller: Caller) -> Response:
        wanted = _read_filter(request)
        found = [
            job
            for job in self._store.all()
            if job.submission.instance == caller.instance.crn
            and wanted.matches(job)
            and self._faults.shows(job.id, job.age)
        ]
        if request.parameter("sort") != "ASC":
            found.reverse()
        offset = _whole_number(request, "offset", 0)
        limit = min(_whole_number(request, "limit", MAX_PAGE), MAX_PAGE)
        with_params = request.parameter("exclude_params") != "true"
        page: list[JSONValue] = [
            _described(job, with_params=with_params) for job in found[offset : offset + limit]
        ]
        return json_response({"jobs": page, "count": len(found), "limit": limit, "offset": offset})

    def _cancel(self, job: Job) -> Response:
        if self._store.cancel(job):
            return Response(204)
        return error_response(
            409,
            f"Job {job.id} cannot be cancelled: it is {job.state}.",
            code=NO_CODE,
            solution="Only a job that has not ended can be cancelled.",
        )

    def _metrics(self, job: Job) -> dict[str, JSONValue]:
        seconds = 0.0
        if job.started and job.ended:
            seconds = (job.ended - job.started).total_seconds()
        metrics: dict[str, JSONValue] = {
            "timestamps": {
                "created": _timestamp(job.created),
                "running": _timestamp(job.started),
                "finished": _timestamp(job.ended),
            },
            "usage": {
                "status": "done" if job.ended else "pending",
                "quantum_seconds": round(seconds, 3),
                "seconds": round(seconds, 3),
                "qpu_charge_time_seconds": round(seconds, 3),
            },
        }
        queue = self._store.queue(job.submission.backend.name)
        if job in queue:
            metrics["position_in_queue"] = queue.index(job) + 1
        return metrics

    def _session(self, request: Request, session_id: str, caller: Caller) -> Response:
        if request.method == "POST":
            session = self._new_session(request, caller)
        else:
            found = self._sessions.find(session_id, caller.instance.crn)
            if found is None:
                return error_response(404, f"There is no session {session_id!r}.", code=NO_CODE)
            session = found
        if request.method == "PATCH" and _read_object(request).get("accepting_jobs") is False:
            session.close()
        if request.method == "DELETE":
            session.close()
            for job in self._store.all():
                if job.submission.session_id == session.id:
                    self._store.cancel(job)
        return json_response(session.described())

    def _new_session(self, request: Request, caller: Caller) -> EmulatedSession:
        asked_for = _read_object(request)
        backend, max_ttl = asked_for.get("backend"), asked_for.get("max_ttl")
        mode = asked_for.get("mode", "dedicated")
        if mode not in ("dedicated", "batch"):
            raise BadRequestError(f"mode must be 'dedicated' or 'batch', not {mode!r}.")
        session = EmulatedSession(
            mode=str(mode),
            backend=backend if isinstance(backend, str) else None,
            instance=caller.instance.crn,
            max_ttl=max_ttl if isinstance(max_ttl, int) else None,
        )
        self._sessions.add(session)
        return session


def _described(job: Job, *, with_params: bool) -> dict[str, JSONValue]:
    record = job.record()
    state: dict[str, JSONValue] = {"status": record.state}
    if record.reason is not None:
        state["reason"] = record.reason
    if record.reason_code is not None:
        state["reasonCode"] = record.reason_code
    described: dict[str, JSONValue] = {
        "id": record.id,
        "backend": record.backend,
        "program": {"id": record.program},
        "state": state,
        "status": record.state,
        "created": _timestamp(record.created),
        "ended": _timestamp(record.ended),
        "tags": list(record.tags),
        "private": record.private,
        "user_id": record.user_id,
        "session_id": record.session_id,
        "cost": record.cost,
        "estimated_running_time_seconds": 1.0,
    }
    if with_params and not record.private:
        described["params"] = job.submission.params
    return described


@dataclass(frozen=True)
class _Filter:
    """What a search asks for; None stands for anything."""

    tags: frozenset[str]
    backend: str | None
    program: str | None
    session_id: str | None
    pending: str | None
    created_after: datetime | None
    created_before: datetime | None

    def matches(self, job: Job) -> bool:
        submission = job.submission
        # The state comes last: it takes longer than all the others.
        return (
            (not self.tags or self.tags.issubset(job.tags))
            and (self.created_after is None or job.created >= self.created_after)
            and (self.created_before is None or job.created <= self.created_before)
            and self.backend in (None, submission.backend.name)
            and self.program in (None, submission.program)
            and self.session_id in (None, submission.session_id)
            and self.pending in (None, "false" if job.state in FINAL_STATES else "true")
        )


def _read_filter(request: Request) -> _Filter:
    return _Filter(
        tags=frozenset(request.query.get("tags", ())),
        backend=request.parameter("backend"),
        program=request.parameter("program"),
        session_id=request.parameter("session_id"),
        pending=request.parameter("pending"),
        created_after=_read_time(request.parameter("created_after")),
        created_before=_read_time(request.parameter("created_before")),
    )


def _log(job: Job) -> str:
    lines = [f"{_timestamp(job.created)} created"]
    if job.started:
        lines.append(f"{_timestamp(job.started)} started")
    if job.ended:
        lines.append(f"{_timestamp(job.ended)} {job.state}")
    return "\n".join(lines) + "\n"


def _read_object(request: Request) -> dict[str, JSONValue]:
    try:
        document = json.loads(request.body)
    except ValueError as error:
        raise BadRequestError(f"The body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadRequestError("The body must be a JSON object.")
    return document


def _read_tags(posted: dict[str, JSONValue]) -> tuple[str, ...]:
    posted_tags = posted.get("tags") or []
    if not isinstance(posted_tags, list):
        raise BadRequestError("tags must be a list of texts.")
    tags = tuple(tag for tag in posted_tags if isinstance(tag, str))
    if len(tags) != len(posted_tags):
        raise BadRequestError("tags must be a list of texts.")
    if len(tags) > MAX_TAGS:
        raise BadRequestError(f"A job can have {MAX_TAGS} tags, not {len(tags)}.")
    if any(len(tag) > MAX_TAG_LENGTH for tag in tags):
        raise BadRequestError(f"A tag can have {MAX_TAG_LENGTH} characters.")
    return tags


def _text(posted: dict[str, JSONValue], name: str) -> str:
    value = posted.get(name)
    if not isinstance(value, str):
        raise BadRequestError(f"{name} must be a text.")
    return value


def _whole_number(request: Request, name: str, default: int) -> int:
    text = request.parameter(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise BadRequestError(f"{name} must be a whole number, not {text!r}.")
    return int(text)


def _read_time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequestError(f"{text!r} is not a time in ISO 8601.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _timestamp(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
