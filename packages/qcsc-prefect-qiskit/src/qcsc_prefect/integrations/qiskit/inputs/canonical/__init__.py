"""Canonical forms of PUBs, circuits, parameters, observables and options.

``docs/identity.md`` specifies what each form holds and how it is written. The modules of this
package import Qiskit; this file does not, and
:mod:`qcsc_prefect.integrations.qiskit.input_digest` imports them on first use.
"""
