"""Circuits and operations inside of an operation: definitions, bodies, base gates.

Each is written as the SHA-256 of its own canonical form. So what is written does not grow with the
depth at which it stands, and a circuit that is used many times is read once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qiskit.circuit import QuantumCircuit

from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.inputs.canonical.operations import operation_tree
from qcsc_prefect.integrations.qiskit.inputs.canonical.registry import identity_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qiskit.circuit import Operation

    from qcsc_prefect.core.canonical.writer import CanonicalWriter
    from qcsc_prefect.integrations.qiskit.inputs.canonical.circuits import CircuitScope

__all__ = ["NestedForm"]

#: Stands for the digest of a circuit that is being written.
_OPEN = b""


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
        # An operation may mean something else in another circuit: it can refer to bits by number.
        is_circuit = isinstance(form.part, QuantumCircuit)
        if is_circuit:
            digests[id(form.part)] = form.part, _OPEN
        digest = hashlib.sha256()
        writer.divert(digest.update)
        yield "", form.contents()
        writer.restore()
        known = form.part, digest.digest()
        if is_circuit:
            digests[id(form.part)] = known
    elif known[1] is _OPEN:
        raise InputError("the circuit contains itself")
    writer.write_raw(known[1])


identity_registry.register(
    NestedForm,
    tag="qiskit.nested",
    version=1,
    encode=_encode_nested,
    describe=NestedForm.contents,
)
