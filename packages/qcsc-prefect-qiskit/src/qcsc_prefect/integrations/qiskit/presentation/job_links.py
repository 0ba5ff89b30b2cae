"""The page that shows a job on the platform that runs it."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

__all__ = ["job_page_url"]

#: Channels of the client whose jobs the public platform shows.
PUBLIC_CHANNELS = frozenset({"ibm_quantum_platform", "ibm_cloud"})

#: Domain of the public service's addresses, whatever their region.
PUBLIC_DOMAIN = "cloud.ibm.com"


def job_page_url(job_id: str, *, channel: str | None, service_url: str | None = None) -> str | None:
    """Return the address of the platform's page that shows a job.

    The public documentation names one page for jobs, the
    `Workloads page <https://quantum.cloud.ibm.com/docs/guides/monitor-job>`_; the address
    returned opens it with the job id in its search field.

    Example:
        >>> job_page_url("d1c0qmyv3z50008ah8x0", channel="ibm_quantum_platform")
        'https://quantum.cloud.ibm.com/workloads?search=d1c0qmyv3z50008ah8x0'
    """
    if channel not in PUBLIC_CHANNELS:
        return None
    if service_url is not None:
        host = urlsplit(service_url).hostname or ""
        if host != PUBLIC_DOMAIN and not host.endswith(f".{PUBLIC_DOMAIN}"):
            return None
    return f"https://quantum.cloud.ibm.com/workloads?search={quote(job_id, safe='')}"
