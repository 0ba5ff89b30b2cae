"""Real results of local mode, and a connection to the Prefect server that can be broken."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp
from qiskit_ibm_runtime import EstimatorV2, SamplerV2
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from .forwarding import Forwarder

if TYPE_CHECKING:
    from qiskit.primitives import PrimitiveResult

#: Hydrogen at 0.735 angstrom in two qubits, as in the project's first example.
HYDROGEN = SparsePauliOp.from_list(
    [
        ("II", -1.052373245772859),
        ("IZ", 0.39793742484318045),
        ("ZI", -0.39793742484318045),
        ("ZZ", -0.01128010425623538),
        ("XX", 0.18093119978423156),
    ]
)


@pytest.fixture(scope="session")
def backend() -> FakeManilaV2:
    return FakeManilaV2()


@pytest.fixture(scope="session")
def ghz(backend) -> QuantumCircuit:
    circuit = QuantumCircuit(3, name="ghz")
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    circuit.measure_all()
    return transpile(circuit, backend, seed_transpiler=1)


@pytest.fixture(scope="session")
def rotation(backend) -> QuantumCircuit:
    """One qubit turned by an angle, measured into a register of its own name."""
    circuit = QuantumCircuit(1, name="rotation")
    circuit.ry(Parameter("theta"), 0)
    circuit.measure_all()
    return transpile(circuit, backend, seed_transpiler=1)


@pytest.fixture(scope="session")
def energy_pub(backend) -> tuple[QuantumCircuit, SparsePauliOp, np.ndarray]:
    circuit = QuantumCircuit(2, name="ansatz")
    circuit.x(0)
    circuit.ry(Parameter("theta"), 1)
    circuit.cx(1, 0)
    isa = transpile(circuit, backend, seed_transpiler=1)
    return isa, HYDROGEN.apply_layout(isa.layout), np.linspace(-np.pi, np.pi, 9)


@pytest.fixture(scope="session")
def sample(backend):
    def run(pubs, shots: int = 500) -> PrimitiveResult:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return SamplerV2(mode=backend).run(pubs, shots=shots).result()

    return run


@pytest.fixture(scope="session")
def estimate(backend):
    def run(pubs, precision: float = 0.05) -> PrimitiveResult:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return EstimatorV2(mode=backend).run(pubs, precision=precision).result()

    return run


@pytest.fixture(scope="session")
def ghz_result(sample, ghz) -> PrimitiveResult:
    return sample([ghz])


@pytest.fixture(scope="session")
def energy_result(estimate, energy_pub) -> PrimitiveResult:
    return estimate([energy_pub])


@pytest.fixture
def forwarder(prefect_server):
    """The Prefect server, reached over a connection that the test can break."""
    forwarder = Forwarder(PREFECT_API_URL.value())
    with temporary_settings({PREFECT_API_URL: forwarder.url}):
        yield forwarder
    forwarder.close()
