"""Digests of whole inputs, pinned: the same on every supported Python and Qiskit.

``vectors/inputs.json`` says where its digests come from. After a deliberate change of a form, and
of its version with it, ``QCSC_PREFECT_WRITE_VECTORS=1`` makes this test write them anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import SparseObservable, SparsePauliOp

from qcsc_prefect.integrations.qiskit.cache import (
    qiskit_result_fetch_cache_key,
    qiskit_sampler_submit_cache_key,
)
from qcsc_prefect.integrations.qiskit.input_digest import (
    build_qiskit_estimator_input_digest,
    build_qiskit_sampler_input_digest,
)

VECTORS = Path(__file__).parent / "vectors" / "inputs.json"


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def rotations() -> QuantumCircuit:
    circuit = QuantumCircuit(2, metadata={"series": 3, "tags": ["a", None]})
    circuit.add_register(ClassicalRegister(2, "out"))
    vector, angle = ParameterVector("v", 3), Parameter("a")
    circuit.rx(vector[2], 0)
    circuit.ry(2 * vector[0] + 0.5, 1)
    circuit.rz(angle * vector[1], 0)
    circuit.measure([0, 1], [1, 0])
    return circuit


def unmeasured() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.ry(Parameter("t"), 0)
    circuit.cx(0, 1)
    return circuit


SWEEP = np.arange(24.0).reshape(2, 3, 4) / 7
SPARSE = SparseObservable.from_list([("0+", 0.25), ("XY", -1.5), ("rl", 2.0)])
PAULIS = SparsePauliOp(["ZZ", "XX", "ZZ"], [1.0, 0.5, 0.25])
OPTIONS: dict[str, Any] = {
    "default_shots": 4096,
    "twirling": {"enable_gates": True, "num_randomizations": "auto"},
    "dynamical_decoupling": {"enable": False, "extra_slack_distribution": None},
    "resilience": {"zne": {"noise_factors": [1, 1.5, 2]}},
}

INPUTS: dict[str, Callable[[], str | None]] = {
    "no PUBs": lambda: build_qiskit_sampler_input_digest([]),
    "bell": lambda: build_qiskit_sampler_input_digest([bell()]),
    "bell with shots": lambda: build_qiskit_sampler_input_digest([bell()], shots=1024),
    "two PUBs": lambda: build_qiskit_sampler_input_digest([bell(), (rotations(), SWEEP, 10)]),
    "sweep by name": lambda: build_qiskit_sampler_input_digest(
        [(rotations(), {"a": SWEEP[..., 0], ("v[2]", "v[0]", "v[1]"): SWEEP[..., 1:]})]
    ),
    "everything": lambda: build_qiskit_sampler_input_digest(
        [bell()],
        backend_name="fake_manila",
        runtime_block_name="lab",
        shots=7,
        options=OPTIONS,
        cache_scope="global",
        cache_namespace="night",
        extra={"cooldown": 3, "blob": b"\x00\xff"},
    ),
    "estimator label": lambda: build_qiskit_estimator_input_digest([(bell(), "ZZ")]),
    "estimator sum": lambda: build_qiskit_estimator_input_digest(
        [(unmeasured(), PAULIS, [0.5])], precision=0.01
    ),
    "estimator grid": lambda: build_qiskit_estimator_input_digest(
        [(unmeasured(), [[SPARSE], ["IZ"]], np.linspace(0, 1, 5)[:, None])], options=OPTIONS
    ),
    "submit key": lambda: qiskit_sampler_submit_cache_key(
        None, {"input_digest": "d", "runtime_block_name": "lab"}
    ),
    "result key": lambda: qiskit_result_fetch_cache_key(
        None, {"job_id": "j", "runtime_block_name": "lab"}
    ),
}


def test_the_vectors_name_every_input() -> None:
    if os.environ.get("QCSC_PREFECT_WRITE_VECTORS"):
        origin = json.loads(VECTORS.read_text())["origin"] if VECTORS.exists() else ""
        digests = {name: build() for name, build in INPUTS.items()}
        VECTORS.write_text(json.dumps({"origin": origin, "digests": digests}, indent=2) + "\n")
    assert set(json.loads(VECTORS.read_text())["digests"]) == set(INPUTS)


@pytest.mark.parametrize("name", INPUTS)
def test_digests_are_those_of_the_vectors(name: str) -> None:
    assert INPUTS[name]() == json.loads(VECTORS.read_text())["digests"][name]
