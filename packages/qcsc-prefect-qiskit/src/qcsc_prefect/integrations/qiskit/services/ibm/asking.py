"""Asks the real service, and turns what goes wrong into errors that carry facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from qiskit.exceptions import QiskitError
from qiskit_ibm_runtime.exceptions import IBMError
from requests.exceptions import RequestException

from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.errors.translation import translate_qiskit_error
from qcsc_prefect.integrations.qiskit.retry import RetryAnswer, classify_qiskit_error
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from qiskit_ibm_runtime import QiskitRuntimeService

    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig

__all__ = ["CLIENT_ERRORS", "UNREADABLE", "ask_service", "secrets_of"]

#: What the native client raises; facts about it stand in the translation.
CLIENT_ERRORS = (IBMError, QiskitError, RequestException)
#: What reading an answer that is not what it should be can raise, besides the client's own errors.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError)

T = TypeVar("T")


async def ask_service(
    config: QiskitRuntimeConfig,
    question: Callable[[QiskitRuntimeService], T],
    *,
    doing: str,
    job_id: str | None = None,
    job_is_done: bool = False,
    seconds: float | None = None,
) -> T:
    """Ask the service of a configuration in a thread, once more with a new one if it is refused.

    `doing` is a phrase that "failed" can follow; `seconds` limit the wait for the answer.

    Raises:
        JobError: If there is none; it carries the facts.
        QiskitRuntimeConfigError: If no service can be made of the configuration, and trying again
            cannot change that.
    """
    try:
        return await get_service_pool().call(config, question, seconds=seconds)
    except QiskitRuntimeConfigError as error:
        if classify_qiskit_error(error).answer is not RetryAnswer.RETRY:
            raise
        failure: Exception = error
    except (*CLIENT_ERRORS, TimeoutError) as error:
        failure = error
    raise translate_qiskit_error(
        failure,
        job_id=job_id,
        job_is_done=job_is_done,
        backend_name=config.backend_name,
        doing=doing,
        secrets=secrets_of(config),
    ) from None


def secrets_of(config: QiskitRuntimeConfig) -> tuple[str, ...]:
    """Return the texts of a configuration that must stand in no message."""
    return config.secrets()
