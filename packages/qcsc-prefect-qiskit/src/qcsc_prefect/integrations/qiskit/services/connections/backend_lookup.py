"""Looks up a backend of a service, and finds out why there is none where the client hides it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcsc_prefect.core.errors import JobError, QCSCPrefectError
from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.errors.config_failures import own_backend_failure
from qcsc_prefect.integrations.qiskit.errors.translation import translate_qiskit_error
from qcsc_prefect.integrations.qiskit.inputs.nearest_names import did_you_mean

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from qiskit_ibm_runtime import IBMBackend, QiskitRuntimeService

__all__ = ["load_backend", "why_not_found"]


def load_backend(
    service: QiskitRuntimeService,
    name: str,
    lookup: threading.Lock,
    *,
    again: bool,
    own: Callable[[], IBMBackend] | None = None,
    secrets: Sequence[str] = (),
) -> IBMBackend:
    """Return a backend with its calibration; blocks.

    The lock is held meanwhile: a lookup changes the service's active instance, and takes one
    connection. `again` says that the service was asked for this backend before.

    Raises:
        QiskitBackendNotFoundError: If the client says so, which it does for any fault.
        JobError: If the backend could not be read; it carries the facts.
        QiskitRuntimeConfigError: If somebody's own method fails in its own way.
    """
    from qiskit.exceptions import QiskitError
    from qiskit.providers.exceptions import QiskitBackendNotFoundError
    from requests.exceptions import RequestException

    try:
        with lookup:
            backend = service.backend(name) if own is None else own()
            if again:
                # The service keeps the configuration for its life; a new object needs a new one.
                backend.refresh()
            # Loads the calibration; threads that share the object would each load it otherwise.
            backend.target  # noqa: B018
    except (QiskitBackendNotFoundError, QCSCPrefectError):
        raise
    except (QiskitError, RequestException) as error:
        raise translate_qiskit_error(
            error, job_id=None, backend_name=name, doing="Reading the backend"
        ) from None
    except Exception as error:
        method = _own_method(service, own)
        if method is None:
            raise
        failure = own_backend_failure(method, error, secrets)
    else:
        return backend
    raise failure


def _own_method(service: QiskitRuntimeService, own: Callable[[], IBMBackend] | None) -> str | None:
    """Return the name of the method that gives the backend; None where it is the client's."""
    if own is not None:
        return getattr(own, "__qualname__", repr(type(own).__name__))
    lookup = type(service).backend
    return None if lookup.__module__.startswith("qiskit_ibm_runtime.") else lookup.__qualname__


def why_not_found(service: QiskitRuntimeService, name: str, lookup: threading.Lock) -> Exception:
    """Return the error that says why a backend was not found, asking the service once more; blocks.

    The client says "not found" for every fault. Requests that it lets fail openly tell whether
    there is one; if there is none, the name is wrong.
    """
    from qiskit.exceptions import QiskitError
    from requests.exceptions import RequestException

    doing = "Looking up the backend"
    try:
        service.usage()
        with lookup:
            connections = {
                device["name"]: connection
                for connection in tuple(service._api_clients.values())  # noqa: SLF001 - backends() hides faults
                for device in connection.list_backends()
            }
            if name in connections:
                connections[name].backend_configuration(name, refresh=True)
    except (QiskitError, RequestException) as error:
        return translate_qiskit_error(error, job_id=None, backend_name=name, doing=doing)
    except (AttributeError, KeyError, TypeError) as error:
        return JobError(
            f"{doing} failed on {name}: what the service says about it cannot be read "
            f"({type(error).__name__}: {error}). This may pass: try again later.",
            backend_name=name,
            retryable=True,
        )
    if name in connections:
        return JobError(
            f"{doing} failed on {name}: the service lists it now, and the client did not find it a "
            "moment ago. This may pass: try again later.",
            backend_name=name,
            retryable=True,
        )
    listed = ", ".join(sorted(connections)) or "none"
    return QiskitRuntimeConfigError(
        f"Tried to get backend {name!r}: the service answers, but this account and instance have "
        f"no backend of that name.{did_you_mean(name, connections)} They have: "
        f"{listed}. Check backend_name and instance."
    )
