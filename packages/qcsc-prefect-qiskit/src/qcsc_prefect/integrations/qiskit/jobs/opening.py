"""Opens the job service that a configuration leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.jobs.service import JobService

__all__ = ["open_job_service"]


async def open_job_service(config: QiskitRuntimeConfig) -> JobService:
    """Return the service that runs the jobs of a configuration.

    Args:
        config: The configuration.

    Returns:
        The embedded local service for the channel ``local``, else the real one. The same
        configuration gives the same object for the life of the process.
    """
    # The modules below import Qiskit and its client, which takes seconds the first time.
    from qcsc_prefect.integrations.qiskit.blocking_calls import run_blocking

    return await run_blocking(_open, config)


def _open(config: QiskitRuntimeConfig) -> JobService:
    if config.channel == "local":
        from qcsc_prefect.integrations.qiskit.local.job_service import local_job_service

        return local_job_service()
    from qcsc_prefect.integrations.qiskit.jobs.runtime_service import runtime_job_service

    return runtime_job_service(config)
