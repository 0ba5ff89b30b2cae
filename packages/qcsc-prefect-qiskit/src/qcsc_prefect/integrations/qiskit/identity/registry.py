"""The registry of the types whose canonical form this package defines."""

from __future__ import annotations

from qcsc_prefect.core.canonical_registry import CanonicalRegistry

__all__ = ["identity_registry"]

#: The types of a PUB; their tags start with ``qiskit.``.
identity_registry = CanonicalRegistry()
