"""Canonical forms of PUBs, circuits, parameters, observables and options.

``docs/identity.md`` specifies what each form holds and how it is written. This package imports
Qiskit; :mod:`qcsc_prefect.integrations.qiskit.input_digest` imports it on first use.
"""

from __future__ import annotations

from qcsc_prefect.integrations.qiskit.identity.options import options_tree
from qcsc_prefect.integrations.qiskit.identity.pubs import estimator_pub_forms, sampler_pub_forms
from qcsc_prefect.integrations.qiskit.identity.registry import identity_registry

__all__ = ["estimator_pub_forms", "identity_registry", "options_tree", "sampler_pub_forms"]
