"""What a digest costs, beside what the client does with the same input anyway.

As pytest-benchmark cases::

    uv run pytest packages/qcsc-prefect-qiskit/benchmarks/test_input_digest_speed.py \
        -n0 --benchmark-only --benchmark-group-by=group

As a table, with ratios; ``--published`` also installs the published ``qcsc-prefect-qiskit`` 0.3.0
into a throw-away environment and prints its times for the same inputs::

    uv run python packages/qcsc-prefect-qiskit/benchmarks/test_input_digest_speed.py

A case and its floor run in turn in one process, and each time is the least of its repetitions:
whatever else runs on the machine can only add to it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # not for the tests that pytest collects beside it, which read logs
    os.environ.setdefault("PREFECT_HOME", tempfile.mkdtemp(prefix="qcsc-bench-"))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")

import numpy as np
import pytest
from qiskit import QuantumCircuit, qpy
from qiskit.circuit.library import efficient_su2
from qiskit.quantum_info import PauliList, SparseObservable, SparsePauliOp

from qcsc_prefect.integrations.qiskit.input_digest import (
    build_qiskit_estimator_input_digest,
    build_qiskit_sampler_input_digest,
)

PUBLISHED = "qcsc-prefect-qiskit==0.3.0"
QUBITS = 127
TERMS = 100_000


@dataclass(frozen=True)
class Case:
    """One input: how it is digested, its floor, and how many times the floor that may take."""

    name: str
    limit: float
    digest: Callable[[], str]
    floor: Callable[[], object]
    repetitions: int = 25


def qpy_bytes(*circuits: QuantumCircuit) -> bytes:
    buffer = io.BytesIO()
    for circuit in circuits:
        qpy.dump(circuit, buffer)
    return buffer.getvalue()


def sha256(*buffers: Any) -> str:
    digest = hashlib.sha256()
    for buffer in buffers:
        digest.update(buffer)
    return digest.hexdigest()


@cache
def ansatz(repetitions: int, *, measured: bool = True) -> QuantumCircuit:
    circuit = efficient_su2(QUBITS, reps=repetitions, entanglement="linear")
    if measured:
        circuit.measure_all()
    return circuit


@cache
def bound(repetitions: int, seed: int) -> QuantumCircuit:
    circuit = ansatz(repetitions)
    values = np.random.default_rng(seed).uniform(-3, 3, circuit.num_parameters)
    return circuit.assign_parameters(values)


@cache
def pauli_sum() -> SparsePauliOp:
    generator = np.random.default_rng(5)
    x, z = generator.integers(0, 2, (2, TERMS, QUBITS)).astype(bool)
    return SparsePauliOp(PauliList.from_symplectic(z, x), generator.normal(size=TERMS))


def sampler(*pubs: Any, **arguments: Any) -> str:
    return build_qiskit_sampler_input_digest(list(pubs), **arguments)


def estimator(*pubs: Any) -> str:
    return build_qiskit_estimator_input_digest(list(pubs))


def circuit_cases() -> list[Case]:
    cases = []
    for repetitions in (5, 20):
        parametric, fixed = ansatz(repetitions), bound(repetitions, 0)
        values = np.random.default_rng(1).uniform(-3, 3, parametric.num_parameters)
        for kind, circuit, pub in (
            ("parametric", parametric, (parametric, values)),
            ("bound", fixed, fixed),
        ):
            cases.append(
                Case(
                    f"circuit, {repetitions} repetitions, {kind}",
                    2,
                    lambda pub=pub: sampler(pub),  # type: ignore[misc]
                    lambda circuit=circuit: qpy_bytes(circuit),  # type: ignore[misc]
                )
            )
    many = [bound(5, seed) for seed in range(20)]
    cases.append(Case("20 bound circuits", 2, lambda: sampler(*many), lambda: qpy_bytes(*many), 9))
    return cases


def array_cases() -> list[Case]:
    circuit = ansatz(5)
    sweep = np.random.default_rng(2).normal(size=(1000, circuit.num_parameters))
    unmeasured = ansatz(5, measured=False)
    values = np.random.default_rng(3).normal(size=circuit.num_parameters)
    operator = pauli_sum()
    packed = np.packbits(np.hstack([operator.paulis.x, operator.paulis.z]), axis=1)
    sparse = SparseObservable.from_sparse_pauli_op(operator)

    def floor() -> object:
        return sha256(packed, operator.coeffs), qpy_bytes(unmeasured)

    return [
        Case(
            "sweep of 1000 x 1524",
            2,
            lambda: sampler((circuit, sweep)),
            lambda: (sha256(sweep), qpy_bytes(circuit)),
        ),
        Case(
            "100,000 terms, SparsePauliOp",
            8,
            lambda: estimator((unmeasured, operator, values)),
            floor,
            9,
        ),
        Case(
            "100,000 terms, SparseObservable",
            8,
            lambda: estimator((unmeasured, sparse, values)),
            floor,
            9,
        ),
    ]


def option_cases() -> list[Case]:
    generator = np.random.default_rng(4)
    scalars: list[object] = [True, None, 3, 0.5, "auto"]
    options = {
        f"section_{i}": {
            f"option_{j}": scalars[int(k)] for j, k in enumerate(generator.integers(0, 5, 20))
        }
        for i in range(100)
    }
    empty = QuantumCircuit(1)
    return [
        Case(
            "options of 2,000 scalars",
            3,
            lambda: sampler(empty, options=options),
            lambda: sha256(json.dumps(options, sort_keys=True).encode()),
        )
    ]


@cache
def cases() -> list[Case]:
    return [*circuit_cases(), *array_cases(), *option_cases()]


NAMES = [
    *(f"circuit, {n} repetitions, {kind}" for n in (5, 20) for kind in ("parametric", "bound")),
    "20 bound circuits",
    "sweep of 1000 x 1524",
    "100,000 terms, SparsePauliOp",
    "100,000 terms, SparseObservable",
    "options of 2,000 scalars",
]


@pytest.mark.parametrize("what", ["digest", "floor"])
@pytest.mark.parametrize("name", NAMES)
def test_speed(benchmark: Any, name: str, what: str) -> None:
    case = next(case for case in cases() if case.name == name)
    benchmark.group = name
    benchmark.pedantic(getattr(case, what), rounds=case.repetitions, warmup_rounds=1)


def least_times(case: Case) -> tuple[float, float]:
    """Return the least times of digest and floor, in seconds."""
    least = [float("inf"), float("inf")]
    for _ in range(case.repetitions):
        for place, run in enumerate((case.digest, case.floor)):
            start = time.perf_counter()
            run()
            least[place] = min(least[place], time.perf_counter() - start)
    return least[0], least[1]


def peak_megabytes(case: Case) -> float:
    """Return the most memory that Python and numpy held above the inputs."""
    tracemalloc.start()
    try:
        case.digest()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def published_times() -> dict[str, float]:
    """Return the published package's least times by case, from an environment of its own."""
    with tempfile.TemporaryDirectory(prefix="qcsc-published-") as folder:
        python = Path(folder) / "bin" / "python"
        subprocess.run(["uv", "venv", "-q", "--python", sys.executable, folder], check=True)
        packages = [PUBLISHED, "fastapi<0.151", "pytest"]
        subprocess.run(
            ["uv", "pip", "install", "-q", "--python", str(python), *packages], check=True
        )
        done = subprocess.run(
            [str(python), __file__, "--json"], check=True, capture_output=True, text=True
        )
    times: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--published", action="store_true", help=f"also time {PUBLISHED}")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.json:
        times = {}
        for case in cases():
            start = time.perf_counter()
            case.digest()
            times[case.name] = time.perf_counter() - start
        print(json.dumps(times))
        return
    published = published_times() if arguments.published else {}
    print("| case | floor, ms | digest, ms | ratio | must be within | peak, MB | 0.3.0, ms |")
    print("|---|---|---|---|---|---|---|")
    for case in cases():
        case.digest(), case.floor()
        digest, floor = least_times(case)
        other = f"{1e3 * published[case.name]:.0f}" if case.name in published else ""
        print(
            f"| {case.name} | {1e3 * floor:.2f} | {1e3 * digest:.2f} | {digest / floor:.2f} "
            f"| {case.limit:g} | {peak_megabytes(case):.1f} | {other} |"
        )


if __name__ == "__main__":
    main()
