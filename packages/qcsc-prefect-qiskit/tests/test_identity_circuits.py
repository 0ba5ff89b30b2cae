"""Circuits have one digest exactly if the service would run them alike."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import qiskit
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, qpy
from qiskit.circuit import (
    AnnotatedOperation,
    Annotation,
    Clbit,
    ControlModifier,
    Delay,
    Duration,
    Gate,
    Instruction,
    InverseModifier,
    Parameter,
    PowerModifier,
    library,
)
from qiskit.circuit.classical import expr, types
from qiskit.quantum_info import Clifford, SparseObservable, SparsePauliOp
from qiskit.synthesis import LieTrotter, QDrift, SuzukiTrotter
from samplomatic import ChangeBasis, InjectNoise, Twirl

from qcsc_prefect.integrations.qiskit.input_digest import build_qiskit_sampler_input_digest

if TYPE_CHECKING:
    from collections.abc import Callable


VECTORS = Path(__file__).parent / "vectors" / "circuits.json"


def digest(circuit: QuantumCircuit) -> str:
    values = np.linspace(0.1, 0.9, circuit.num_parameters)
    return build_qiskit_sampler_input_digest([(circuit, values)])


def through_qpy(circuit: QuantumCircuit) -> QuantumCircuit:
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    buffer.seek(0)
    return qpy.load(buffer)[0]


def one(operation: Instruction, *, clbits: int = 0) -> QuantumCircuit:
    circuit = QuantumCircuit(operation.num_qubits, max(clbits, operation.num_clbits))
    circuit.append(operation, range(operation.num_qubits), range(operation.num_clbits))
    return circuit


def custom(angle: float | Parameter, name: str = "block") -> Gate:
    inner = QuantumCircuit(2, name=name)
    inner.h(0)
    inner.rz(angle, 1)
    inner.cx(0, 1)
    return inner.to_gate()


def nested(angle: float) -> Gate:
    inner = QuantumCircuit(3, name="outer")
    inner.append(custom(angle), [0, 1])
    inner.append(custom(angle), [1, 2])
    return inner.to_gate()


def branch(value: int = 1, *, gate: str = "x", clbit: int = 0) -> QuantumCircuit:
    circuit = QuantumCircuit(2, 2)
    circuit.measure(0, clbit)
    with circuit.if_test((circuit.clbits[clbit], value)):
        getattr(circuit, gate)(1)
    return circuit


def branch_else(register: str = "c", value: int = 2) -> QuantumCircuit:
    bits = ClassicalRegister(2, register)
    circuit = QuantumCircuit(QuantumRegister(2, "q"), bits)
    circuit.measure([0, 1], bits)
    with circuit.if_test((bits, value)) as otherwise:
        circuit.x(0)
    with otherwise:
        circuit.y(0)
    return circuit


def for_loop(indices: object, *, use: bool = True) -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    with circuit.for_loop(indices) as index:
        circuit.rx(index * 0.5 if use else 0.5, 0)
    return circuit


def while_loop(limit: int = 3) -> QuantumCircuit:
    circuit = QuantumCircuit(1, 3)
    count = circuit.add_var("count", expr.lift(0, types.Uint(8)))
    with circuit.while_loop(expr.less(count, limit)):
        circuit.h(0)
        circuit.measure(0, 0)
        circuit.store(count, expr.bit_or(count, 1))
        with circuit.if_test((circuit.clbits[0], 1)):
            circuit.break_loop()
    return circuit


def switch(case: int = 1) -> QuantumCircuit:
    bits = ClassicalRegister(2, "c")
    circuit = QuantumCircuit(QuantumRegister(1, "q"), bits)
    with circuit.switch(bits) as when:
        with when(0, case):
            circuit.x(0)
        with when(when.DEFAULT):
            circuit.z(0)
    return circuit


def switch_expression(mask: int = 1) -> QuantumCircuit:
    bits = ClassicalRegister(2, "c")
    circuit = QuantumCircuit(QuantumRegister(1, "q"), bits)
    with circuit.switch(expr.bit_and(bits, mask)) as when, when(0):
        circuit.x(0)
    return circuit


def box(annotations: list[Annotation] | None = None, **kwargs: object) -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    with circuit.box(annotations or [], **kwargs):
        circuit.cx(0, 1)
    return circuit


def stretch(offset: int = 3) -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    idle = circuit.add_stretch("idle")
    circuit.delay(idle, 0)
    circuit.delay(expr.add(idle, Duration.dt(offset)), 1)
    return circuit


def variables(name: str = "a", *, width: int = 8, value: int = 5) -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    first = circuit.add_input(name, types.Uint(width))
    second = circuit.add_var("flag", expr.less(first, value))
    with circuit.if_test(expr.logic_not(second)):
        circuit.x(0)
    return circuit


def evolution(
    time: float = 0.5, *, reps: int = 1, terms: object = (("XX", 1.0), ("ZZ", 2.0)), **kw: object
) -> QuantumCircuit:
    operator = SparsePauliOp.from_list(list(terms))
    return one(library.PauliEvolutionGate(operator, time, synthesis=SuzukiTrotter(reps=reps, **kw)))


def symbolic(build: Callable[[Parameter, Parameter], object]) -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    first, second = Parameter("a"), Parameter("b")
    circuit.rx(first, 0)
    circuit.rx(second, 0)
    circuit.rz(build(first, second), 1)
    return circuit


#: A Hadamard gate on one of two qubits.
MATRIX = np.kron(np.eye(2), [[1, 1], [1, -1]]) / 2**0.5

#: Each is unlike every other; the keys say in what.
CORPUS: dict[str, Callable[[], QuantumCircuit]] = {
    "empty": QuantumCircuit,
    "one qubit": lambda: QuantumCircuit(1),
    "one clbit": lambda: QuantumCircuit(0, 1),
    "loose clbit": lambda: QuantumCircuit([Clbit()]),
    "phase": lambda: QuantumCircuit(1, global_phase=0.5),
    "symbolic phase": lambda: QuantumCircuit(1, global_phase=Parameter("a")),
    "metadata": lambda: QuantumCircuit(1, metadata={"run": 1}),
    "x": lambda: one(library.XGate()),
    "labelled x": lambda: one(library.XGate(label="noisy")),
    "custom x": lambda: one(Gate("x", 1, [])),
    "x instruction": lambda: one(Instruction("x", 1, 0, [])),
    "cx": lambda: one(library.CXGate()),
    "open cx": lambda: one(library.CXGate(ctrl_state=0)),
    "mcx": lambda: one(library.MCXGate(5)),
    "open mcx": lambda: one(library.MCXGate(5, ctrl_state=3)),
    "mcphase": lambda: one(library.MCPhaseGate(0.3, 3)),
    "rz": lambda: one(library.RZGate(np.pi / 2)),
    "rz, one bit on": lambda: one(library.RZGate(np.nextafter(np.pi / 2, 4))),
    "rz -0.0": lambda: one(library.RZGate(-0.0)),
    "rz 0.0": lambda: one(library.RZGate(0.0)),
    "barrier": lambda: one(library.Barrier(2)),
    "labelled barrier": lambda: one(library.Barrier(2, label="here")),
    "measure": lambda: one(library.Measure()),
    "reset": lambda: one(library.Reset()),
    "delay dt": lambda: one(Delay(100, "dt")),
    "delay ns": lambda: one(Delay(100, "ns")),
    "delay longer": lambda: one(Delay(101, "dt")),
    "unitary": lambda: one(library.UnitaryGate(MATRIX)),
    "other unitary": lambda: one(library.UnitaryGate(-MATRIX)),
    "controlled unitary": lambda: one(library.UnitaryGate(MATRIX[:2, :2]).control(1)),
    "pauli": lambda: one(library.PauliGate("XYZ")),
    "permutation": lambda: one(library.PermutationGate([2, 0, 1])),
    "diagonal": lambda: one(library.DiagonalGate([1, -1, 1, 1])),
    "initialize": lambda: one(library.Initialize([1, 0, 0, 0])),
    "initialize label": lambda: one(library.Initialize("01")),
    "initialize number": lambda: one(library.Initialize(1, 2)),
    "prepare": lambda: one(library.StatePreparation([0, 1, 0, 0])),
    "qft": lambda: one(library.QFTGate(3)),
    "inverse qft": lambda: one(library.QFTGate(3).inverse()),
    "annotated": lambda: one(
        AnnotatedOperation(library.SGate(), [InverseModifier(), ControlModifier(2, 1)])
    ),
    "annotated power": lambda: one(
        AnnotatedOperation(library.SGate(), [PowerModifier(3), ControlModifier(2, 1)])
    ),
    "clifford": lambda: one(Clifford(QuantumCircuit(2)), clbits=0),
    "linear function": lambda: one(library.LinearFunction([[1, 1], [0, 1]])),
    "and": lambda: one(library.AndGate(3)),
    "and with flags": lambda: one(library.AndGate(3, flags=[1, -1, 0])),
    "ucry": lambda: one(library.UCRYGate([0.1, 0.2])),
    "mcmt": lambda: one(library.MCMTGate(library.ZGate(), 2, 2)),
    "ms": lambda: one(library.MSGate(2, 0.2)),
    "hamiltonian": lambda: one(library.HamiltonianGate(np.diag([1.0, 2.0]), 0.3)),
    "custom": lambda: one(custom(0.1)),
    "custom angle": lambda: one(custom(0.2)),
    "custom name": lambda: one(custom(0.1, "other")),
    "custom controlled": lambda: one(custom(0.1).control(1)),
    "custom open": lambda: one(custom(0.1).control(1, ctrl_state=0)),
    "nested": lambda: one(nested(0.1)),
    "nested angle": lambda: one(nested(0.1000000001)),
    "opaque": lambda: one(Gate("opaque", 2, [0.5])),
    "opaque angle": lambda: one(Gate("opaque", 2, [0.6])),
    "opaque text": lambda: one(Instruction("opaque", 2, 1, ["a"])),
    "branch": branch,
    "branch value": lambda: branch(0),
    "branch gate": lambda: branch(gate="y"),
    "branch bit": lambda: branch(clbit=1),
    "else": branch_else,
    "else register": lambda: branch_else("d"),
    "else value": lambda: branch_else(value=3),
    "for": lambda: for_loop(range(3)),
    "for longer": lambda: for_loop(range(4)),
    "for stepped": lambda: for_loop(range(0, 6, 2)),
    "for listed": lambda: for_loop([0, 1, 5]),
    "for unused": lambda: for_loop(range(3), use=False),
    "while": while_loop,
    "while limit": lambda: while_loop(4),
    "switch": switch,
    "switch case": lambda: switch(2),
    "switch expression": switch_expression,
    "switch mask": lambda: switch_expression(2),
    "box": box,
    "box label": lambda: box(label="b"),
    "box duration": lambda: box(duration=100, unit="dt"),
    "box unit": lambda: box(duration=100, unit="ns"),
    "stretch": stretch,
    "stretch offset": lambda: stretch(4),
    "variables": variables,
    "variable name": lambda: variables("z"),
    "variable width": lambda: variables(width=16),
    "variable value": lambda: variables(value=6),
    "evolution": evolution,
    "evolution time": lambda: evolution(0.6),
    "evolution reps": lambda: evolution(reps=2),
    "evolution order": lambda: evolution(terms=(("ZZ", 2.0), ("XX", 1.0))),
    "evolution coefficient": lambda: evolution(terms=(("XX", 1.0), ("ZZ", 2.5))),
    "evolution order 4": lambda: evolution(order=4),
    "evolution barriers": lambda: evolution(insert_barriers=True),
    "evolution fountain": lambda: evolution(cx_structure="fountain"),
    "evolution trotter": lambda: one(
        library.PauliEvolutionGate(SparsePauliOp(["XX", "ZZ"], [1, 2]), 0.5, synthesis=LieTrotter())
    ),
    "evolution qdrift": lambda: one(
        library.PauliEvolutionGate(SparsePauliOp(["XX", "ZZ"], [1, 2]), 0.5, synthesis=QDrift())
    ),
    "evolution list": lambda: one(
        library.PauliEvolutionGate([SparsePauliOp(["XX"]), SparsePauliOp(["ZZ"])], 0.5)
    ),
    "evolution projector": lambda: one(library.PauliEvolutionGate(SparseObservable("01"), 0.5)),
    "a + b": lambda: symbolic(lambda a, b: a + b),
    "a - b": lambda: symbolic(lambda a, b: a - b),
    "b - a": lambda: symbolic(lambda a, b: b - a),
    "a * b": lambda: symbolic(lambda a, b: a * b),
    "a / b": lambda: symbolic(lambda a, b: a / b),
    "2 * a": lambda: symbolic(lambda a, b: 2 * a),
    "2 * b": lambda: symbolic(lambda a, b: 2 * b),
    "1 - a": lambda: symbolic(lambda a, b: 1 - a),
    "a - 1": lambda: symbolic(lambda a, b: a - 1),
    "a ** 2": lambda: symbolic(lambda a, b: a**2),
    "a ** 3": lambda: symbolic(lambda a, b: a**3),
    "sin a": lambda: symbolic(lambda a, b: a.sin()),
    "cos a": lambda: symbolic(lambda a, b: a.cos()),
    "nested expression": lambda: symbolic(lambda a, b: ((a + b) * (a - b) + 0.1).exp() / 3),
    "just a": lambda: symbolic(lambda a, b: a),
    "just b": lambda: symbolic(lambda a, b: b),
}

#: What QPY cannot carry, whoever reads it; the values say why.
NOT_THROUGH_QPY = {
    "and": "its class takes other arguments than its parameters",
    "and with flags": "its class takes other arguments than its parameters",
    "delay ns": "its unit is lost",
    "ms": "its class takes other arguments than its parameters",
    "evolution qdrift": "its class takes other arguments than its settings",
}

if tuple(int(part) for part in qiskit.__version__.split(".")[:2]) < (2, 4):
    NOT_THROUGH_QPY |= {
        "open mcx": "its control state is lost",
        "mcmt": "its control state is lost",
        "evolution projector": "its operator cannot be written",
    }

#: Copies of these raise in Qiskit itself: the default case loses its identity.
NOT_TO_BE_COPIED = {"switch", "switch case"}

ANNOTATED: dict[str, Callable[[], QuantumCircuit]] = {
    "twirl": lambda: box([Twirl()]),
    "twirl dressing": lambda: box([Twirl(dressing="right")]),
    "twirl decomposition": lambda: box([Twirl(decomposition="rzrx")]),
    "noise": lambda: box([Twirl(), InjectNoise(ref="r0")]),
    "noise reference": lambda: box([Twirl(), InjectNoise(ref="r1")]),
    "noise modifier": lambda: box([Twirl(), InjectNoise(ref="r0", modifier_ref="m")]),
    "order": lambda: box([InjectNoise(ref="r0"), Twirl()]),
    "basis": lambda: box([ChangeBasis(ref="b")]),
}

ALL = {**CORPUS, **{f"annotated {name}": build for name, build in ANNOTATED.items()}}


def test_every_circuit_of_the_corpus_differs_from_every_other() -> None:
    names: dict[str, str] = {}
    for name, build in ALL.items():
        found = digest(build())
        assert found not in names, f"{name} is taken for {names[found]}"
        names[found] = name


@pytest.mark.parametrize("name", ALL)
def test_rebuilt_copied_and_pickled_circuits_are_equal(name: str) -> None:
    circuit = ALL[name]()
    first = digest(circuit)
    assert digest(circuit) == first
    assert digest(ALL[name]()) == first
    assert digest(circuit.copy()) == first
    if name not in NOT_TO_BE_COPIED:
        assert digest(copy.deepcopy(circuit)) == first
        assert digest(pickle.loads(pickle.dumps(circuit))) == first


@pytest.mark.parametrize("name", [name for name in CORPUS if name not in NOT_THROUGH_QPY])
def test_a_circuit_read_back_from_qpy_is_equal(name: str) -> None:
    circuit = CORPUS[name]()
    assert digest(through_qpy(circuit)) == digest(circuit)


#: What Qiskit or samplomatic builds differently in another version, and so sends differently.
NOT_THE_SAME_EVERYWHERE = {
    "controlled unitary": "its definition is synthesized when it is made",
    **dict.fromkeys(
        ("for", "for longer", "for stepped", "for listed"),
        "Qiskit 2.2 takes the loop's variable for a parameter that needs a value",
    ),
    **dict.fromkeys(
        (name for name in ALL if name.startswith("annotated")),
        "newer versions of samplomatic add attributes",
    ),
}


def test_digests_are_those_of_the_vectors() -> None:
    found = {
        name: digest(build()) for name, build in ALL.items() if name not in NOT_THE_SAME_EVERYWHERE
    }
    if os.environ.get("QCSC_WRITE_VECTORS"):
        origin = json.loads(VECTORS.read_text())["origin"] if VECTORS.exists() else ""
        VECTORS.write_text(json.dumps({"origin": origin, "digests": found}, indent=2) + "\n")
    assert found == json.loads(VECTORS.read_text())["digests"]
