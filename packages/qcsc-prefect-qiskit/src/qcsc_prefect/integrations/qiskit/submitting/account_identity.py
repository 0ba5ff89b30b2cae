"""Says for cache keys which account a configuration leads to, where it does not say so itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig

__all__ = ["account_identity", "names_instance"]


def account_identity(config: QiskitRuntimeConfig, instance: str | None) -> dict[str, str]:
    """Return what the keys of a job must hold besides the configuration's own identity.

    Two configurations that differ in nothing but their tokens lead to two accounts; so may one
    that names a saved account, after the account was saved anew. The instance that the service
    found for it tells them apart.

    Example:
        >>> from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
        >>> account_identity(QiskitRuntimeConfig(instance="crn:v1:x"), "crn:v1:x")
        {}
        >>> account_identity(QiskitRuntimeConfig(account_name="lab"), "crn:v1:x")
        {'instance': 'crn:v1:x'}
    """
    if instance is None or instance == config.instance:
        return {}
    return {"instance": instance}


def names_instance(config: QiskitRuntimeConfig) -> bool:
    """Whether a configuration itself says which instance it leads to, by its CRN."""
    return config.instance is not None and config.instance.startswith("crn:")
