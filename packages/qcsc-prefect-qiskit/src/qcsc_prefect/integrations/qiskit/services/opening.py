"""Opens the job service that a configuration leads to."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from qcsc_prefect.core.threads import run_blocking

if TYPE_CHECKING:
    from qcsc_prefect.core.reference import JobReference
    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.services.job_service import QiskitJobService

__all__ = ["open_job_service", "open_service_of_job"]

LOCAL_CHANNEL = "local"


async def open_job_service(config: QiskitRuntimeConfig, backend_name: str) -> QiskitJobService:
    """Return the service that runs the jobs of a configuration on a backend.

    Args:
        config: The configuration.
        backend_name: The backend.

    Returns:
        The embedded local service for the channel ``local``, else the real one. The same account
        and instance give the same object for the life of the process.

    Raises:
        QiskitRuntimeConfigError: If no service can be made, or it has no such backend.
        JobError: If the service could not be asked.
    """
    if config.channel == LOCAL_CHANNEL:
        return await run_blocking(_local_service, config)
    await _client_imported()
    from qcsc_prefect.integrations.qiskit.services.ibm.instances import instance_for_backend
    from qcsc_prefect.integrations.qiskit.services.ibm.runtime_service import runtime_job_service

    return runtime_job_service(await instance_for_backend(config, backend_name))


async def open_service_of_job(
    config: QiskitRuntimeConfig, reference: JobReference
) -> QiskitJobService:
    """Return the service that has a job.

    Args:
        config: The configuration.
        reference: The job.

    Returns:
        As `open_job_service` does.

    Raises:
        ConfigurationError: If the configuration does not lead to the job's instance.
        JobNotFoundError: If no instance of the account knows the job.
        JobError: If the service could not be asked.
    """
    if config.channel == LOCAL_CHANNEL:
        return await run_blocking(_local_service, config)
    await _client_imported()
    from qcsc_prefect.integrations.qiskit.services.ibm.instances import instance_of_job
    from qcsc_prefect.integrations.qiskit.services.ibm.runtime_service import runtime_job_service

    found = await instance_of_job(config, str(reference.job_id), reference.instance)
    return runtime_job_service(found)


def _local_service(config: QiskitRuntimeConfig) -> QiskitJobService:
    from qcsc_prefect.integrations.qiskit.services.local.job_service import local_job_service

    return local_job_service(config)


async def _client_imported() -> None:
    # Takes seconds the first time, which would stand on the event loop.
    if not _import_client.cache_info().currsize:
        await run_blocking(_import_client)


@functools.cache
def _import_client() -> None:
    import qcsc_prefect.integrations.qiskit.services.ibm.instances
    import qcsc_prefect.integrations.qiskit.services.ibm.runtime_service  # noqa: F401
