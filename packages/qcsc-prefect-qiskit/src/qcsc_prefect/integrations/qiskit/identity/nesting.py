"""Circuits and operations inside of an operation: definitions, bodies, base gates.

Each is written as the SHA-256 of its own canonical form. So what is written does not grow with the
depth at which it stands, and a circuit that is used many times is read once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qiskit.circuit import QuantumCircuit

from qcsc_prefect.integrations.qiskit.identity.operations import operation_tree
from qcsc_prefect.integrations.qiskit.identity.registry import identity_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qiskit.circuit import Operation

    from qcsc_prefect.core.canonical import CanonicalWriter
    from qcsc_prefect.integrations.qiskit.identity.circuits import CircuitScope

__all__ = ["NestedForm"]


@dataclass(frozen=True)
class NestedForm:
    """Something inside of an operation, on its way into the canonical encoding.

    Attributes:
        part: The circuit or the operation.
        scope: The circuit in which the operation around it stands.
    """

    part: QuantumCircuit | Operation
    scope: CircuitScope

    def contents(self) -> object:
        """Return the form of the part."""
        if isinstance(self.part, QuantumCircuit):
            return self.scope.inside(self.part)
        return operation_tree(self.part, self.scope)


def _encode_nested(writer: CanonicalWriter, form: NestedForm) -> Iterator[tuple[str, object]]:
    digests = form.scope.digests
    known = digests.get(id(form.part))
    if known is None:
        digest = hashlib.sha256()
        writer.divert(digest.update)
        yield "", form.contents()
        writer.restore()
        known = form.part, digest.digest()
        # An operation may mean something else in another circuit: it can refer to bits by number.
        if isinstance(form.part, QuantumCircuit):
            digests[id(form.part)] = known
    writer.write_raw(known[1])


identity_registry.register(
    NestedForm,
    tag="qiskit.nested",
    version=1,
    encode=_encode_nested,
    describe=NestedForm.contents,
)
