"""Hands one job to the native client, and says whether a job may exist where that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qiskit_ibm_runtime.exceptions import IBMInputValueError

from qcsc_prefect.core.errors import (
    InputError,
    JobError,
    SubmissionError,
    SubmissionUncertainError,
)
from qcsc_prefect.integrations.qiskit.errors.translation import (
    redacted,
    translate_qiskit_error,
    translate_qiskit_submission_error,
)
from qcsc_prefect.integrations.qiskit.inputs.pubs import a_job
from qcsc_prefect.integrations.qiskit.services.connections.owned_service import own_connection
from qcsc_prefect.integrations.qiskit.services.connections.wire import watch_post
from qcsc_prefect.integrations.qiskit.services.ibm.asking import CLIENT_ERRORS, UNREADABLE
from qcsc_prefect.integrations.qiskit.services.ibm.prepared_run import PreparedRun
from qcsc_prefect.integrations.qiskit.services.native_primitives import (
    create_primitive,
    refuse_circuits_not_isa,
    run_primitive,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from qiskit_ibm_runtime import IBMBackend, RuntimeJobV2
    from qiskit_ibm_runtime.session import Session

    from qcsc_prefect.integrations.qiskit.execution_modes import ExecutionGroup
    from qcsc_prefect.integrations.qiskit.inputs.pubs import Pub
    from qcsc_prefect.integrations.qiskit.services.job_service import JobRequest

__all__ = ["NativeSubmission", "nothing_submitted", "submit_natively"]


#: What the client raises over an answer that is JSON and no object, such as null.
_STUMBLED = (AttributeError, KeyError, TypeError)
_CLIENT_ERRORS_BEGIN = 400
_SERVER_ERRORS = 500


class NativeSubmission(NamedTuple):
    """What became of a submission.

    Attributes:
        job: The native job.
        session_id: The batch or session that the job belongs to, where it belongs to one.
    """

    job: RuntimeJobV2
    session_id: str | None = None


def submit_natively(
    backend: IBMBackend,
    request: JobRequest,
    tags: Sequence[str] = (),
    *,
    secrets: Iterable[str] = (),
) -> NativeSubmission:
    """Submit a job through the native primitive; blocks.

    Args:
        backend: The native backend.
        request: The job.
        tags: Tags under which the service is to list it.
        secrets: Texts that must stand in no message.

    Returns:
        The native job, and how it came about.

    Raises:
        InputError: If the client refuses the request; nothing was sent.
        SubmissionError: If no job was created.
        SubmissionUncertainError: If a job may have been created.
    """
    if request.implementation == "client_side":
        refuse_circuits_not_isa(request.pubs, backend)  # they leave that to the service
    prepared = _prepared(backend, request, tags, secrets)
    if request.group is None:
        return _send(backend, request, secrets, prepared, None)
    if not request.group.is_open_on(backend):
        prepared.refuse_unsendable()
    try:
        return _send_to(request.group, backend, request, secrets, prepared)
    except SubmissionUncertainError:
        raise
    except SubmissionError:
        # Refused for certain. Asked only now whether the batch has ended: few have.
        if not _has_ended(request.group, backend):
            raise
    return _send_to(request.group, backend, request, secrets, prepared)


def nothing_submitted(error: JobError, backend_name: str, *, but: str = "") -> SubmissionError:
    """Return the error of a submission that failed before anything was sent.

    Args:
        error: Why it failed.
        backend_name: The backend that the job was meant for.
        but: What may have come about instead, as a sentence.
    """
    return SubmissionError(
        f"{error} No job was submitted.{f' {but}' if but else ''}",
        backend_name=backend_name,
        retryable=error.retryable,
        retry_after=error.retry_after,
        status=error.status,
        service_code=error.service_code,
    )


def _send_to(
    group: ExecutionGroup,
    backend: IBMBackend,
    request: JobRequest,
    secrets: Iterable[str],
    prepared: PreparedRun,
) -> NativeSubmission:
    native_mode = _opened(group, backend, secrets)
    submitted = _send(backend, request, secrets, prepared, native_mode)
    return submitted._replace(session_id=native_mode.session_id)


def _opened(group: ExecutionGroup, backend: IBMBackend, secrets: Iterable[str]) -> Session:
    try:
        return group.open_on(backend)
    except CLIENT_ERRORS as error:
        reason = translate_qiskit_error(
            error,
            job_id=None,
            backend_name=backend.name,
            doing=f"Opening a {group.mode}",
            secrets=secrets,
        )
    except _STUMBLED as error:
        reason = JobError(
            redacted(
                f"Opening a {group.mode} failed on {backend.name}: the service's answer cannot be "
                f"read ({type(error).__name__}: {error}). This may pass: try again later.",
                secrets,
            ),
            retryable=True,
        )
    refused = reason.status is not None and reason.status < _SERVER_ERRORS
    nothing_opened = refused or reason.retryable is False
    left_open = (
        f"The service may have opened a {group.mode} all the same, which it closes by itself after "
        "a while."
    )
    raise nothing_submitted(reason, backend.name, but="" if nothing_opened else left_open) from None


def _has_ended(group: ExecutionGroup, backend: IBMBackend) -> bool:
    try:
        return group.forget_if_ended(backend.name)
    except CLIENT_ERRORS:
        return False  # the refusal says more


def _prepared(
    backend: IBMBackend, request: JobRequest, tags: Sequence[str], secrets: Iterable[str]
) -> PreparedRun:
    prepared = PreparedRun(backend)
    primitive = create_primitive(
        request.primitive,
        prepared,
        _options_with_tags(request.options, tags),
        request.implementation,
    )

    def run(pubs: Sequence[Pub]) -> None:
        run_primitive(
            primitive, request.primitive, pubs, shots=request.shots, precision=request.precision
        )

    with watch_post() as post:
        try:
            run(request.pubs)
        except (*CLIENT_ERRORS, *UNREADABLE) as error:
            if post.asked and isinstance(error, _STUMBLED):
                raise _unreadable(error, request, secrets) from None
            if isinstance(error, IBMInputValueError) or not isinstance(error, CLIENT_ERRORS):
                path = _refused_part(request.pubs, type(error), run)
                said = error.message if isinstance(error, IBMInputValueError) else error
                raise InputError(
                    f"{path} refused by the client before anything was sent to "
                    f"{request.backend_name}: {said}",
                    path=path,
                ) from error
            reason = translate_qiskit_error(
                error,
                job_id=None,
                backend_name=backend.name,
                doing=f"Preparing {a_job(request.primitive)}",
                secrets=secrets,
            )
            raise nothing_submitted(reason, backend.name) from None
    return prepared


def _refused_part(
    pubs: Sequence[Pub], refusal: type[Exception], run: Callable[[Sequence[Pub]], None]
) -> str:
    """Return the path of the first PUB that is refused by itself, or that of all together."""
    for index, pub in enumerate(pubs):
        try:
            run([pub])
        except refusal:
            return f"pubs[{index}]"
    return "pubs"


def _send(
    backend: IBMBackend,
    request: JobRequest,
    secrets: Iterable[str],
    prepared: PreparedRun,
    mode: Session | None,
) -> NativeSubmission:
    doing = f"Submitting {a_job(request.primitive)}"
    own_connection(backend._api_client)  # noqa: SLF001 - the client hides it
    with watch_post() as post:
        try:
            native_job = prepared.send(mode)
        except (*CLIENT_ERRORS, *UNREADABLE) as error:
            if post.status is not None and post.status < _CLIENT_ERRORS_BEGIN:
                raise SubmissionUncertainError(
                    redacted(
                        f"{doing} on {request.backend_name}: the service accepted it, and its "
                        f"answer cannot be read ({type(error).__name__}: {error}). Look for the "
                        "job on the service before submitting again; with cache_submit=True a "
                        "rerun does so by itself.",
                        secrets,
                    ),
                    backend_name=request.backend_name,
                ) from None
            if not post.sent and not isinstance(error, CLIENT_ERRORS):
                prepared.refuse_unsendable()
                if post.asked and isinstance(error, _STUMBLED):
                    raise _unreadable(error, request, secrets) from None
            raise translate_qiskit_submission_error(
                error,
                backend_name=request.backend_name,
                doing=doing,
                secrets=secrets,
                sent=post.sent,
            ) from None
    return NativeSubmission(native_job)


def _unreadable(error: Exception, request: JobRequest, secrets: Iterable[str]) -> SubmissionError:
    return SubmissionError(
        redacted(
            f"Submitting {a_job(request.primitive)} failed on {request.backend_name}, no job was "
            "created: what the service says about the backend or the instance cannot be read "
            f"({type(error).__name__}: {error}). This may pass: try again later.",
            secrets,
        ),
        backend_name=request.backend_name,
        retryable=True,
    )


def _options_with_tags(given: Mapping[str, object], tags: Sequence[str]) -> dict[str, object]:
    options = dict(given)
    if tags:
        environment = options.get("environment")
        options["environment"] = {
            **(environment if isinstance(environment, dict) else {}),
            "job_tags": list(tags),
        }
    return options
