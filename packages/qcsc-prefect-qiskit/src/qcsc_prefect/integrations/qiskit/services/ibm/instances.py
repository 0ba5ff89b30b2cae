"""Finds the one service instance that a job belongs to.

Jobs belong to an instance and are seen through it only. A configuration need not name one: then
the native service has several, and which of them its next request goes to depends on what was
asked before, by any task of the process. So the instance is found first, and everything about its
jobs goes through a service that has this instance alone.

The CRN of an instance also says which account it is. That tells two accounts apart whose
configurations are alike but for their tokens, and no token is needed for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcsc_prefect.core.errors import ConfigurationError, JobError, JobNotFoundError
from qcsc_prefect.integrations.qiskit.errors.translation import translate_qiskit_error
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool
from qcsc_prefect.integrations.qiskit.services.ibm.asking import ask_service, secrets_of
from qcsc_prefect.integrations.qiskit.services.ibm.listing import read_job
from qcsc_prefect.integrations.qiskit.submitting.account_identity import names_instance

if TYPE_CHECKING:
    from qiskit_ibm_runtime import QiskitRuntimeService

    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig

__all__ = ["ConfiguredInstance", "instance_for_backend", "instance_of_job"]


@dataclass(frozen=True)
class ConfiguredInstance:
    """An instance, and a configuration whose service has no other one.

    Attributes:
        crn: The instance.
        config: The configuration.
    """

    crn: str
    config: QiskitRuntimeConfig


async def instance_for_backend(
    config: QiskitRuntimeConfig, backend_name: str
) -> ConfiguredInstance:
    """Find the instance through which the jobs on a backend go.

    Raises:
        QiskitRuntimeConfigError: If no service can be made, or it has no such backend.
        JobError: If the service could not be asked.
    """
    known = await _known_instances(config)
    if len(known) == 1:
        return ConfiguredInstance(known[0], config)
    try:
        backend = await get_service_pool().backend(config, backend_name)
    except TimeoutError as error:
        raise translate_qiskit_error(
            error,
            job_id=None,
            backend_name=backend_name,
            doing="Finding the service instance",
            secrets=secrets_of(config),
        ) from None
    return _alone(config, str(backend._instance))  # noqa: SLF001 - public on jobs only


async def instance_of_job(
    config: QiskitRuntimeConfig, job_id: str, recorded: str | None
) -> ConfiguredInstance:
    """Find the instance that has a job.

    Raises:
        ConfigurationError: If the reference names an instance that this configuration does not
            lead to.
        JobNotFoundError: If no instance of the account knows the job.
        JobError: If the service could not be asked.
    """
    known = await _known_instances(config)
    if recorded is not None and recorded not in known:
        raise ConfigurationError(
            f"Job {job_id} belongs to the service instance {recorded}, and this configuration "
            f"leads to {', '.join(known)} only. Use the account and instance with which the job "
            "was submitted."
        )
    if len(known) == 1:
        return ConfiguredInstance(known[0], config)
    if recorded is not None:
        return _alone(config, recorded)
    unanswered: list[JobError] = []
    for crn in known:
        candidate = _alone(config, crn)
        try:
            await ask_service(
                candidate.config,
                lambda service, crn=crn: read_job(service._api_clients[crn], job_id),  # type: ignore[misc]  # noqa: SLF001
                doing="Looking for the instance of the job",
                job_id=job_id,
            )
        except JobNotFoundError:
            continue
        except JobError as error:
            unanswered.append(error)
        else:
            return candidate
    if unanswered:
        raise unanswered[0]
    raise JobNotFoundError(
        f"None of the {len(known)} service instances of this account knows job {job_id}. Check the "
        "job id, and that the account is the one that submitted the job.",
        job_id=job_id,
    )


async def _known_instances(config: QiskitRuntimeConfig) -> list[str]:
    if config.instance is not None and names_instance(config):
        return [config.instance]
    return await ask_service(config, _instances_of, doing="Finding the service instances")


def _instances_of(service: QiskitRuntimeService) -> list[str]:
    # One connection for each instance that the configuration leads to.
    return list(service._api_clients)  # noqa: SLF001 - what instances() lists goes further


def _alone(config: QiskitRuntimeConfig, crn: str) -> ConfiguredInstance:
    return ConfiguredInstance(crn, config.model_copy(update={"instance": crn}))
