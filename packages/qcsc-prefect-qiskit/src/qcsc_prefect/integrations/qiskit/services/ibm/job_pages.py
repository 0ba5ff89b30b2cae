"""Finds the platform's page of a job, for jobs of the platform itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcsc_prefect.integrations.qiskit.presentation.job_links import job_page_url
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import get_service_pool

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig

__all__ = ["known_job_url"]


def known_job_url(job_id: str, config: QiskitRuntimeConfig) -> str | None:
    """Return the page of a job, as far as this process knows its service; asks nobody.

    The address of the service may come from the configuration, from the environment or from a saved
    account. The native service knows which it is, once there is one.

    Example:
        >>> from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
        >>> known_job_url("local-1", QiskitRuntimeConfig(channel="local")) is None
        True
    """
    service = get_service_pool().made(config)
    if service is None or config.channel == "local":
        return None
    account = service.active_account() or {}
    return job_page_url(job_id, channel=account.get("channel"), service_url=account.get("url"))
