"""Refuses circuits whose simulation does not fit into the memory of this machine.

Aer notices it as well, once the job runs; the sampler then fails over the shape of an empty array.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qiskit.utils import optionals

from qcsc_prefect.core.errors import InputError

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.providers import BackendV2

    from qcsc_prefect.integrations.qiskit.inputs.pubs import Pub
    from qcsc_prefect.integrations.qiskit.services.job_service import JobRequest

__all__ = ["refuse_what_does_not_fit"]

_BYTES_OF_AN_AMPLITUDE = 16
#: Where Aer's own count of bytes ends.
_MOST = 2**63
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
#: What acts on qubits that a simulation can leave out all the same.
_IDLE = frozenset({"barrier", "delay"})


def refuse_what_does_not_fit(request: JobRequest, backend: BackendV2) -> None:
    """Refuse circuits that need more memory than there is; blocks.

    Raises:
        InputError: If a circuit needs more; ``path`` says which, the message how much it needs.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # The client-side estimator measures every qubit, and turns it by angles.
    measures_all = (request.primitive, request.implementation) == ("estimator", "client_side")
    for index, pub in enumerate(request.pubs):
        qubits = pub.circuit.num_qubits if measures_all else _qubits_in_use(pub.circuit)
        needed = _BYTES_OF_AN_AMPLITUDE * 2**qubits
        if needed > memory and not measures_all:
            needed = _asked_of_aer(pub, backend)
        if needed > memory:
            path = f"pubs[{index}].circuit"
            raise InputError(
                f"{path} refused: to simulate it on {request.backend_name} takes "
                f"{_in_units(needed)} of memory, 16 bytes for each amplitude of "
                f"{_named(needed, qubits)} qubits, and this machine has {_in_units(memory)}. Use "
                f"fewer qubits{_way_out(request, measures_all=measures_all)}.",
                path=path,
            )


def _qubits_in_use(circuit: QuantumCircuit) -> int:
    in_use = {
        qubit for part in circuit.data if part.operation.name not in _IDLE for qubit in part.qubits
    }
    return len(in_use)


def _way_out(request: JobRequest, *, measures_all: bool) -> str:
    if measures_all:
        return ", or primitives='classic', which measure those that the observables need"
    if request.backend_name == "aer_simulator":
        return ", or Clifford gates alone, which need no state vector"
    return ""  # the noise of a device is more than Clifford gates


def _asked_of_aer(pub: Pub, backend: BackendV2) -> int:
    """Return how many bytes the simulation takes, by Aer's own account.

    It knows what of a circuit reaches no measurement, and which circuits need no state vector.
    Allowed next to no memory, it refuses at once what would take long.
    """
    if not optionals.HAS_AER:
        return 0  # another simulator, which says how wide a circuit may be
    outcome = backend.run(_bound(pub), shots=1, max_memory_mb=1).result()
    mebibytes = [int(one.metadata.get("required_memory_mb", 0)) for one in outcome.results]
    return max(mebibytes, default=0) * 1024**2


def _bound(pub: Pub) -> QuantumCircuit:
    """Return the circuit at one point of its sweep, measured."""
    circuit: QuantumCircuit = pub.circuit
    if circuit.num_parameters:
        circuit = circuit.assign_parameters([0.1] * circuit.num_parameters)
    if not circuit.clbits:
        circuit = circuit.measure_active(inplace=False)
    return circuit


def _named(needed: int, qubits: int) -> int:
    exact = (needed // _BYTES_OF_AN_AMPLITUDE).bit_length() - 1
    return exact if needed < _MOST else qubits


def _in_units(size: int) -> str:
    if size >= _MOST:
        return "more than 8 EiB"
    power = (size.bit_length() - 1) // 10
    return f"{size / 1024**power:,.4g} {_UNITS[power]}"
