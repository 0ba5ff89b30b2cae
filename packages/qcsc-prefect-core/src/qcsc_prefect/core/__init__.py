"""Core."""

from qcsc_prefect.core.cache_keys import (
    ConfigurationIdentity,
    ConfigurationWithIdentity,
    build_result_cache_key,
    build_submit_cache_key,
)
from qcsc_prefect.core.canonical import SCHEMA_VERSION, CanonicalWriter, canonical_bytes
from qcsc_prefect.core.canonical_registry import CanonicalRegistry, default_registry
from qcsc_prefect.core.difference import Difference, explain_difference
from qcsc_prefect.core.digest import build_input_digest, digest_value, input_identity

__all__ = [
    "SCHEMA_VERSION",
    "CanonicalRegistry",
    "CanonicalWriter",
    "ConfigurationIdentity",
    "ConfigurationWithIdentity",
    "Difference",
    "build_input_digest",
    "build_result_cache_key",
    "build_submit_cache_key",
    "canonical_bytes",
    "default_registry",
    "digest_value",
    "explain_difference",
    "input_identity",
]
