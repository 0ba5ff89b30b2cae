"""The digest takes what is nested in whatever way, to any depth, and sees each change inside."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import random
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, qpy
from qiskit.circuit import (
    AnnotatedOperation,
    Annotation,
    BoxOp,
    CircuitError,
    ControlFlowOp,
    ControlledGate,
    ControlModifier,
    Delay,
    ForLoopOp,
    Gate,
    IfElseOp,
    Instruction,
    InverseModifier,
    Parameter,
    PowerModifier,
    SwitchCaseOp,
    WhileLoopOp,
    library,
)
from qiskit.circuit.classical import expr, types
from qiskit.quantum_info import SparsePauliOp

from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.input_digest import (
    build_qiskit_estimator_input_digest,
    build_qiskit_sampler_input_digest,
    explain_qiskit_sampler_difference,
)
from qcsc_prefect.integrations.qiskit.inputs.canonical.deep_stack import call_on_deep_stack
from qcsc_prefect.integrations.qiskit.inputs.canonical.parameters import DEEPEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def digest(circuit: QuantumCircuit) -> str:
    return build_qiskit_sampler_input_digest([(circuit, [0.5] * circuit.num_parameters)])


def around(operation: Any, angle: float = 0.0) -> QuantumCircuit:
    circuit = QuantumCircuit(QuantumRegister(2, "q"), ClassicalRegister(2, "c"))
    circuit.rz(angle, 0)
    clbits = range(operation.num_clbits)
    circuit.append(operation, range(operation.num_qubits), clbits, copy=False)
    return circuit


def leaf(angle: float) -> QuantumCircuit:
    return around(library.RXGate(angle))


def defined(body: QuantumCircuit) -> Instruction:
    instruction = Instruction("defined", 2, 2, [])
    instruction.definition = body
    return instruction


def condition(body: QuantumCircuit) -> expr.Expr:
    return expr.less(body.cregs[0], 3)


#: For each operation that holds circuits, one that holds the given circuit.
BODIES: dict[str, Callable[[QuantumCircuit], Instruction]] = {
    "definition": defined,
    "if": lambda body: IfElseOp((body.clbits[0], 1), body),
    "if expression": lambda body: IfElseOp(condition(body), body),
    "else": lambda body: IfElseOp((body.cregs[0], 1), leaf(0.0), body),
    "for": lambda body: ForLoopOp(range(3), None, body),
    "while": lambda body: WhileLoopOp((body.clbits[1], 0), body),
    "switch": lambda body: SwitchCaseOp(body.cregs[0], [(1, leaf(0.0)), (2, body)]),
    "box": BoxOp,
    "parameter": lambda body: Instruction("holds", 2, 2, [body]),
    "list": lambda body: Instruction("holds", 2, 2, [(1, (body, 2))]),
}


def base(operation: Any) -> Gate:
    return ControlledGate("controlled", operation.num_qubits + 1, [], None, 1, base_gate=operation)


#: The same for operations that hold an operation.
OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "inverse": lambda operation: AnnotatedOperation(operation, InverseModifier()),
    "power": lambda operation: AnnotatedOperation(operation, PowerModifier(0.5)),
    "control": lambda operation: AnnotatedOperation(operation, ControlModifier(1)),
    "base gate": base,
}


def test_there_is_a_way_to_nest_for_each_kind_of_control_flow() -> None:
    kinds = {type(build(leaf(0.0))) for build in BODIES.values()}
    waiting, known = [ControlFlowOp], set()
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith("qiskit.") and not kind.__subclasses__():
            known.add(kind)
    without_bodies = {"BreakLoopOp", "ContinueLoopOp"}
    placeholders = {kind.__name__ for kind in known if "Placeholder" in kind.__name__}
    assert {kind.__name__ for kind in known} - without_bodies - placeholders <= {
        kind.__name__ for kind in kinds
    }


@pytest.mark.parametrize("one", BODIES)
@pytest.mark.parametrize("other", [*BODIES, *OPERATIONS])
def test_any_two_ways_to_nest_can_stand_in_one_another(one: str, other: str) -> None:
    def build(angle: float) -> QuantumCircuit:
        if other in OPERATIONS:
            gate = Gate("holder", 1, [])
            gate.definition = QuantumCircuit(1)
            gate.definition.rx(angle, 0)
            return around(BODIES[one](around(OPERATIONS[other](gate))))
        return around(BODIES[one](around(BODIES[other](leaf(angle)))))

    first = digest(build(0.5))
    assert digest(build(0.5)) == first
    assert digest(build(0.25)) != first
    [found] = explain_qiskit_sampler_difference({"pubs": [build(0.5)]}, {"pubs": [build(0.25)]})
    assert found.path.startswith("pubs[0].circuit.data[1].operation.")
    assert found.path.endswith(".params[0]")


def nested(depth: int, angle: float, kinds: list[str]) -> QuantumCircuit:
    circuit = leaf(angle)
    for level in range(depth):
        circuit = around(BODIES[kinds[level % len(kinds)]](circuit), level)
    return circuit


#: Qiskit looks at all that is inside of most of them at each level, which takes time by the square.
DEPTHS = [(10_000, ["definition"]), (60, sorted(BODIES))]
DEPTHS += [(60, [kind]) for kind in BODIES if kind != "definition"]


@pytest.mark.parametrize(("depth", "kinds"), DEPTHS)
def test_circuits_nested_deeper_than_python_calls(depth: int, kinds: list[str]) -> None:
    first = digest(nested(depth, 0.5, kinds))
    assert first != digest(nested(depth, 0.25, kinds))


def test_operations_nested_deeper_than_python_calls() -> None:
    def annotated(power: float) -> QuantumCircuit:
        operation: Any = AnnotatedOperation(library.SGate(), PowerModifier(power))
        for _ in range(400):
            operation = AnnotatedOperation(operation, InverseModifier())
        return around(operation)

    assert digest(annotated(2)) == digest(annotated(2)) != digest(annotated(3))

    def unappended(angle: float, depth: int) -> QuantumCircuit:
        # Qiskit asks the innermost one for the size, by recursion, when one is appended.
        operation: Any = library.RXGate(angle)
        for _ in range(depth):
            operation = AnnotatedOperation(operation, InverseModifier())
        return around(Instruction("holds", 1, 0, [operation]))

    first = digest(unappended(0.5, 10_000))
    assert first == digest(unappended(0.5, 10_000)) != digest(unappended(0.25, 10_000))


def test_a_gate_that_doubles_at_each_level_is_read_once_for_each() -> None:
    def build(angle: float) -> QuantumCircuit:
        circuit = leaf(angle)
        for _ in range(60):
            instruction = defined(circuit)
            circuit = around(instruction)
            circuit.append(instruction, [1, 0], [0, 1], copy=False)
        return circuit

    assert digest(build(0.5)) == digest(build(0.5)) != digest(build(0.25))


def test_what_contains_itself_is_refused_with_its_path() -> None:
    circuit = QuantumCircuit(2, 2)
    circuit.append(defined(circuit), [0, 1], [0, 1], copy=False)
    with pytest.raises(InputError, match="contains itself") as caught:
        digest(circuit)
    place = ".data[0].operation.definition"
    assert caught.value.path == f"pubs[0].circuit{place}{place}"


def test_the_same_object_and_an_equal_one_are_alike() -> None:
    """Whether a circuit is used twice or copied, and whatever stands around it."""
    angle = Parameter("a")
    inner = around(library.RXGate(angle))
    one, other = defined(inner), defined(inner.copy())
    found = set()
    for second in (one, other):
        circuit = around(one)
        circuit.append(second, [0, 1], [0, 1], copy=False)
        found.add(digest(circuit))
    assert len(found) == 1


def test_one_operation_in_two_circuits_refers_to_the_bits_of_each() -> None:
    def build(*, swapped: bool) -> QuantumCircuit:
        bits = ClassicalRegister(2, "c")
        inner = QuantumCircuit(list(bits), QuantumRegister(2))
        order = list(reversed(bits)) if swapped else list(bits)
        outer = QuantumCircuit(order, QuantumRegister(2))
        branch = IfElseOp((bits[0], 1), QuantumCircuit(2, 0))
        inner.append(branch, [0, 1], [])
        outer.append(branch, [0, 1], [])
        outer.append(BoxOp(inner), [0, 1], list(bits))
        return outer

    assert digest(build(swapped=False)) != digest(build(swapped=True))


def evaluated(path: str, circuit: QuantumCircuit) -> object:
    return eval(path.removeprefix("pubs[0]."), {"circuit": circuit})


@pytest.mark.parametrize("one", [name for name in BODIES if name != "else"])
@pytest.mark.parametrize("other", [name for name in BODIES if name != "list"])
def test_the_path_of_an_error_is_what_a_user_would_write(one: str, other: str) -> None:
    bad = object()
    inner = around(Instruction("odd", 2, 2, [1, bad]))
    circuit = around(BODIES[one](around(BODIES[other](inner))))
    with pytest.raises(InputError) as caught:
        digest(circuit)
    assert evaluated(caught.value.path, circuit) is bad
    assert str(caught.value).startswith(caught.value.path)


@pytest.mark.parametrize("depth", range(1, 14))
def test_a_long_path_keeps_its_start_and_its_end(depth: int) -> None:
    circuit = around(Instruction("odd", 2, 2, [1, object()]))
    for _ in range(depth):
        circuit = around(defined(circuit))
    whole = "pubs[0].circuit" + ".data[1].operation.definition" * depth
    whole += ".data[1].operation.params[1]"
    with pytest.raises(InputError) as caught:
        digest(circuit)
    path = caught.value.path
    if len(whole) <= 200:
        assert path == whole
    else:
        start, mark, end = path.partition("...")
        assert mark
        assert len(path) <= 200
        assert whole.startswith(start)
        assert whole.endswith(end)
        assert start.startswith("pubs[0].circuit.data[1].operation")
        assert end.endswith("data[1].operation.params[1]")


@pytest.mark.parametrize("kind", ["unary", "sum"])
def test_an_expression_that_would_end_the_process_is_refused(kind: str) -> None:
    total = angle = Parameter("a")
    for _ in range(DEEPEST + 50):
        total = total.sin() if kind == "unary" else total * angle
    circuit = around(library.Barrier(2))
    circuit.u(0.5, total, angle, 1)
    with pytest.raises(InputError, match="inside of one another") as caught:
        digest(circuit)
    assert caught.value.path == "pubs[0].circuit.data[2].params[1]"


def test_metadata_and_options_nested_as_deeply_as_they_like() -> None:
    def deep(value: object) -> object:
        for level in range(10_000):
            value = {"inside": value} if level % 2 else [level, value]
        return value

    circuits = [QuantumCircuit(1, metadata={"here": deep(value)}) for value in (1, 1, 2)]
    found = [digest(circuit) for circuit in circuits]
    assert found[0] == found[1] != found[2]
    chained = [QuantumCircuit(1, metadata={"here": value}) for value in (1, 1, 2)]
    for level in range(300):
        chained = [QuantumCircuit(1, metadata={level: circuit}) for circuit in chained]
    found = [digest(circuit) for circuit in chained]
    assert found[0] == found[1] != found[2]


class Tagged(Annotation):
    """An annotation with one attribute."""

    namespace = "test"

    def __init__(self, tag: object) -> None:
        self.tag = tag


def value_slot(value: Any) -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.add_var("x", expr.Value(value, types.Float()))
    return circuit


#: Every place of a circuit in which a number can stand.
SLOTS: dict[str, Callable[[Any], QuantumCircuit]] = {
    "angle": lambda x: around(library.RXGate(x)),
    "parameter": lambda x: around(Instruction("opaque", 1, 0, [x])),
    "in a list": lambda x: around(Instruction("opaque", 1, 0, [[x]])),
    "in a mapping": lambda x: around(Instruction("opaque", 1, 0, [{"a": x}])),
    "in an array": lambda x: around(Instruction("opaque", 1, 0, [np.array([x], object)])),
    "delay": lambda x: around(Delay(x, "dt")),
    "delay in ns": lambda x: around(Delay(x, "ns")),
    "box duration": lambda x: around(BoxOp(QuantumCircuit(1), duration=x, unit="dt")),
    "power": lambda x: around(AnnotatedOperation(library.SGate(), PowerModifier(x))),
    "phase": lambda x: QuantumCircuit(1, global_phase=x),
    "loop": lambda x: around(ForLoopOp([x], None, QuantumCircuit(1))),
    "condition": lambda x: around(IfElseOp((ClassicalRegister(2, "c"), x), QuantumCircuit(1))),
    "classical float": value_slot,
    "evolution": lambda x: around(library.PauliEvolutionGate(SparsePauliOp("XX"), x)),
    "expression": lambda x: around(library.RXGate(Parameter("a") + x)),
    "metadata": lambda x: QuantumCircuit(1, metadata={"x": x}),
    "annotation": lambda x: around(BoxOp(QuantumCircuit(1), annotations=[Tagged(x)])),
}
NUMBERS = [0, 2**53 + 1, 2**63, 2**2000, -(2**2000), 1e308, float("inf"), float("nan")]


#: What Qiskit raises when it does not take a number.
REFUSED_BY_QISKIT = (CircuitError, OverflowError, TypeError, ValueError)


def outcome(build: Callable[[], str]) -> str | None:
    """Return a digest, or None where the input is refused at a place that is told."""
    try:
        return build()
    except InputError as error:
        if not error.path:
            raise
        return None


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("slot", SLOTS)
def test_any_number_in_any_slot_has_a_digest_or_is_refused(slot: str) -> None:
    found: dict[str, object] = {}
    for number in NUMBERS:
        try:
            circuit = SLOTS[slot](number)
        except REFUSED_BY_QISKIT:
            continue
        text = outcome(functools.partial(digest, circuit))
        if text is None:
            continue
        assert text not in found, f"{number} is taken for {found[text]}"
        found[text] = number
        assert digest(SLOTS[slot](number)) == text
    assert found or slot in ("in an array", "condition")


@pytest.mark.parametrize("number", NUMBERS)
def test_any_number_among_settings_has_a_digest_or_is_refused(number: Any) -> None:
    circuit = QuantumCircuit(1)
    parametric = QuantumCircuit(1)
    parametric.rx(Parameter("a"), 0)
    for build in (
        lambda: build_qiskit_sampler_input_digest([circuit], shots=number),
        lambda: build_qiskit_sampler_input_digest([(parametric, [number])]),
        lambda: build_qiskit_estimator_input_digest([(circuit, "Z")], precision=number),
        lambda: build_qiskit_estimator_input_digest([(circuit, {"Z": number})]),
        lambda: build_qiskit_sampler_input_digest([circuit], options={"a": [number]}),
    ):
        assert outcome(build) == outcome(build)


def test_the_indices_of_a_loop_are_told_apart_whatever_numbers_they_are() -> None:
    found = set()
    indices: list[Any] = [[0, 1], [0, 2, 3], range(7), range(0, -7, -1), [0, 1, 1], [5], []]
    for each in indices:
        found.add(digest(around(ForLoopOp(each, None, QuantumCircuit(1)))))
    assert len(found) == len(indices)
    assert digest(around(ForLoopOp([0, 2, 4], None, QuantumCircuit(1)))) == digest(
        around(ForLoopOp(range(0, 6, 2), None, QuantumCircuit(1)))
    )


#: What random circuits are made of; each takes a random number and what is inside.
def random_circuit_of(seed: int, changed: int | None = None) -> tuple[QuantumCircuit, int]:
    """Make a nested circuit of a seed; one of its numbers is another one where `changed` says.

    Returns:
        The circuit and how many numbers it has.
    """
    source = random.Random(seed)
    count = 0

    def number() -> float:
        nonlocal count
        value = source.uniform(-3, 3)
        count += 1
        return value if count - 1 != changed else float(np.nextafter(value, 9))

    def body(depth: int) -> QuantumCircuit:
        circuit = QuantumCircuit(QuantumRegister(2, "q"), ClassicalRegister(2, "c"))
        for _ in range(source.randint(1, 3)):
            kind = source.choice(KINDS if depth else FLAT)
            if kind == "u":
                circuit.u(number(), number(), number(), source.randint(0, 1))
            elif kind == "symbolic":
                circuit.rx(PARAMETER * number(), 0)
            elif kind == "unitary":
                matrix = np.diag([1, complex(1, number())])
                circuit.append(library.UnitaryGate(matrix, check_input=False), [0])
            elif kind == "delay":
                circuit.delay(abs(number()), 0, unit="us")
            elif kind == "annotated":
                gate = Gate("inner", 2, [number()])
                gate.definition = QuantumCircuit(2)
                gate.definition.rx(number(), 0)
                circuit.append(AnnotatedOperation(gate, PowerModifier(number())), [0, 1])
            else:
                circuit.append(BODIES[kind](body(depth - 1)), [0, 1], [0, 1], copy=False)
        return circuit

    return body(source.randint(0, 6)), count


PARAMETER = Parameter("a")
FLAT = ["u", "symbolic", "unitary", "delay"]
KINDS = [*FLAT, "annotated", *(name for name in BODIES if name != "list")]


@pytest.mark.parametrize("seed", range(25))
def test_random_nested_circuits_are_equal_exactly_if_they_are_built_alike(seed: int) -> None:
    circuit, count = random_circuit_of(seed)
    first = digest(circuit)
    ways: list[Callable[[QuantumCircuit], QuantumCircuit]] = [
        lambda _: random_circuit_of(seed)[0],
        QuantumCircuit.copy,
        copy.deepcopy,
        lambda each: pickle.loads(pickle.dumps(each)),
    ]
    for way in ways:
        assert digest(way(circuit)) == first
    for changed in random.Random(seed).sample(range(count), min(count, 6)):
        assert digest(random_circuit_of(seed, changed)[0]) != first


def gate_of_levels(source: random.Random, angle: Callable[[int], float]) -> Any:
    """Make a gate of definitions and modifiers in one another; `angle` is asked for each level."""

    def defined_gate(inside: Any | None, level: int) -> Gate:
        gate = Gate("holder", 1 if inside is None else inside.num_qubits, [])
        gate.definition = QuantumCircuit(gate.num_qubits)
        gate.definition.rx(angle(level), 0)
        if inside is not None:
            gate.definition.append(inside, range(inside.num_qubits))
        return gate

    operation: Any = defined_gate(None, 0)
    for level in range(1, source.randint(2, 6)):
        kind = source.choice(["definition", *OPERATIONS])
        if kind in ("definition", "base gate") or operation.num_qubits > 1:
            operation = defined_gate(operation, level)
        else:
            operation = OPERATIONS[kind](operation)
    return operation


#: What QPY can hold: an operation has no circuit for a parameter there.
KEPT_BY_QPY = sorted(BODIES.keys() - {"parameter", "list"})


def levels_of(seed: int, depth: int, changed: int | None = None) -> tuple[QuantumCircuit, int]:
    """Make circuits inside of one another, with a number at each level; one may be another."""
    source = random.Random(seed)
    count = 0

    def angle(_: int) -> float:
        nonlocal count
        value = 0.25 + count / 16
        count += 1
        return value if count - 1 != changed else float(np.nextafter(value, 99))

    circuit = around(gate_of_levels(source, angle), angle(0))
    for _ in range(depth):
        circuit = around(BODIES[source.choice(KEPT_BY_QPY)](circuit), angle(0))
    return circuit, count


def through_qpy(circuit: QuantumCircuit) -> QuantumCircuit:
    written = io.BytesIO()
    qpy.dump(circuit, written)
    written.seek(0)
    [read] = qpy.load(written)
    return read


@pytest.fixture
def deep_recursion() -> Iterator[None]:
    """Qiskit writes and reads what is nested by recursion in Python."""
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    yield
    sys.setrecursionlimit(usual)


@pytest.mark.parametrize(("seed", "depth"), [(seed, 25 * seed) for seed in range(9)])
def test_what_is_nested_is_the_same_job_after_a_way_through_qpy(
    seed: int, depth: int, deep_recursion: None
) -> None:
    circuit, count = levels_of(seed, depth)
    first = digest(circuit)
    assert digest(call_on_deep_stack(lambda: through_qpy(circuit))) == first
    for changed in random.Random(seed).sample(range(count), min(count, 6)):
        assert digest(levels_of(seed, depth, changed)[0]) != first


def test_an_operation_that_qiskit_cannot_make_is_refused_with_its_path() -> None:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.delay(1.5, 0, unit="us")
    read = through_qpy(circuit)
    try:
        _ = read.data[1].operation
    except CircuitError:  # Qiskit 2.6 forgets the unit
        with pytest.raises(InputError, match="cannot make this operation: Integer") as caught:
            digest(read)
        assert caught.value.path == "pubs[0].circuit.data[1].operation"
    else:
        assert digest(read) == digest(circuit)
