"""Keys under which a job's reference and its result are kept.

A key says less than a digest: it is made of names and digests that exist already, so building one
costs microseconds. Both keys hold the identity of the configuration, because a job belongs to the
account that paid for it: through another account, instance or service it is another job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from qcsc_prefect.core.digest import digest_value
from qcsc_prefect.core.errors import InputError

__all__ = [
    "ConfigurationIdentity",
    "ConfigurationWithIdentity",
    "build_result_cache_key",
    "build_submit_cache_key",
]

#: What a configuration is known by: a name, or named facts such as channel, URL and instance.
#: Never a secret, nor anything from which one could be found.
ConfigurationIdentity = str | Mapping[str, str | None]


@runtime_checkable
class ConfigurationWithIdentity(Protocol):
    """A configuration that can say which account and service it stands for.

    Attributes:
        backend_name: The backend that it is meant for, or None where that is chosen later.
    """

    backend_name: str | None

    def identity(self) -> Mapping[str, str | None]:
        """Return the facts that tell this account and service from others.

        Returns:
            Names and values. No secret is among them, nor anything from which one could be found.
        """
        ...


def build_submit_cache_key(
    prefix: str,
    *,
    input_digest: str,
    configuration: ConfigurationWithIdentity | ConfigurationIdentity | None,
) -> str:
    """Return the key of a submitted job's reference.

    Args:
        prefix: The start of the key, for example ``acme-anneal``.
        input_digest: The identity of the job's input, of :func:`build_input_digest` or any other
            text that tells inputs apart.
        configuration: The account and service that the job is submitted through: a configuration
            that can say its identity, or that identity. The configuration's backend is a part of
            the key too; where the identity alone is given, name the backend in it.

    Returns:
        ``<prefix>-<64 hexadecimal digits>``.

    Raises:
        InputError: If the digest is no text.

    Example:
        >>> key = build_submit_cache_key("acme", input_digest="d1", configuration="lab-account")
        >>> key == build_submit_cache_key("acme", input_digest="d1", configuration="other")
        False
    """
    if not isinstance(input_digest, str) or not input_digest:
        raise InputError(
            f"input_digest refused: expected a text that is not empty, got {input_digest!r:.100}.",
            path="input_digest",
        )
    identity = _identity(configuration)
    if isinstance(configuration, ConfigurationWithIdentity) and configuration.backend_name:
        # A job runs on one backend; once it has an id, that alone tells its result from others.
        identity = {**configuration.identity(), "backend_name": configuration.backend_name}
    parts = {"input_digest": input_digest, "configuration": identity}
    return f"{prefix}-{digest_value(parts, domain=f'{prefix}/submit')}"


def build_result_cache_key(
    prefix: str,
    *,
    job_id: str,
    configuration: ConfigurationWithIdentity | ConfigurationIdentity | None,
) -> str:
    """Return the key of a job's result.

    Args:
        prefix: The start of the key, for example ``acme-result``.
        job_id: The job, as the service names it.
        configuration: The account and service that the job belongs to, in the same forms.

    Returns:
        ``<prefix>-<64 hexadecimal digits>``.

    Example:
        >>> build_result_cache_key("acme-result", job_id="j1", configuration=None)[:12]
        'acme-result-'
    """
    parts = {"job_id": job_id, "configuration": _identity(configuration)}
    return f"{prefix}-{digest_value(parts, domain=f'{prefix}/result')}"


def _identity(
    configuration: ConfigurationWithIdentity | ConfigurationIdentity | None,
) -> ConfigurationIdentity | None:
    if isinstance(configuration, ConfigurationWithIdentity):
        return configuration.identity()
    return configuration
