"""PUBs have one digest exactly if the service would run them alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Gate, Instruction, Parameter, ParameterVector
from qiskit.circuit.library import efficient_su2
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import Pauli, PauliList, SparseObservable, SparsePauliOp

from qcsc_prefect.core.errors import InputError, UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.input_digest import (
    build_qiskit_estimator_input_digest,
    build_qiskit_sampler_input_digest,
    explain_qiskit_estimator_difference,
    explain_qiskit_sampler_difference,
)


def sampler(*pubs: Any, **arguments: Any) -> str:
    return build_qiskit_sampler_input_digest(list(pubs), **arguments)


def estimator(*pubs: Any, **arguments: Any) -> str:
    return build_qiskit_estimator_input_digest(list(pubs), **arguments)


def ansatz(measured: bool = True) -> QuantumCircuit:
    """A circuit whose parameters are met in another order than they are sorted in."""
    circuit = QuantumCircuit(2)
    vector = ParameterVector("v", 12)
    circuit.rx(vector[11], 0)
    circuit.ry(vector[2], 1)
    circuit.rz(Parameter("a"), 0)
    for element in vector:
        circuit.rx(element, 1)
    if measured:
        circuit.measure_all()
    return circuit


def test_all_spellings_of_a_sampler_pub_are_equal() -> None:
    circuit = ansatz()
    values = np.random.default_rng(1).normal(size=(3, 4, 13))
    names = [parameter.name for parameter in circuit.parameters]
    vector = circuit.parameters[1].vector
    expected = sampler((circuit, values, 100))
    spellings: list[Any] = [
        (circuit, values.tolist(), 100),
        [circuit, values, np.int64(100)],
        (circuit, np.asfortranarray(values), 100),
        (circuit, np.repeat(values, 2, axis=0)[::2], 100),
        (circuit, values.astype(">f8"), 100),
        (circuit, BindingsArray({tuple(names): values}), 100),
        (circuit, {tuple(circuit.parameters): values}, 100),
        (circuit, {tuple(names[::-1]): values[..., ::-1]}, 100),
        (circuit, {vector: values[..., 1:], "a": values[..., 0]}, 100),
        (circuit, {"a": values[..., :1], tuple(vector): values[..., 1:]}, 100),
        (circuit, {p: values[..., i] for i, p in reversed(list(enumerate(names)))}, 100),
        (circuit, {p: values[..., i] for i, p in enumerate(circuit.parameters)}, 100),
        SamplerPub.coerce((circuit, values, 100)),
        SamplerPub.coerce((circuit, {p: values[..., i] for i, p in enumerate(names)}, 100)),
    ]
    for spelling in spellings:
        assert sampler(spelling) == expected, spelling
    assert sampler((circuit, values), shots=100) == expected
    assert sampler((circuit, values, None), shots=100) == expected
    assert sampler(SamplerPub.coerce((circuit, values)), shots=100) == expected
    assert sampler((circuit, values, 100), shots=7) == expected
    assert build_qiskit_sampler_input_digest(iter([(circuit, values, 100)])) == expected


def test_a_bare_circuit_is_a_pub() -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    expected = sampler(circuit)
    for pub in ((circuit,), (circuit, None), (circuit, None, None), (circuit, []), (circuit, {})):
        assert sampler(pub) == expected
    assert sampler(SamplerPub.coerce(circuit)) == expected
    assert build_qiskit_sampler_input_digest(circuit) == expected  # type: ignore[arg-type]
    assert sampler((circuit, [[], []])) != expected
    assert sampler(circuit, circuit) != expected
    assert sampler() != expected


def test_exactly_representable_values_are_equal_and_others_differ() -> None:
    circuit = ansatz()
    halves = np.arange(13) / 2
    expected = sampler((circuit, halves))
    assert sampler((circuit, halves.astype(np.float32))) == expected
    assert sampler((circuit, halves.astype(np.float16))) == expected
    assert sampler((circuit, np.broadcast_to(halves, (1, 13))[0])) == expected
    ints = np.arange(13)
    assert sampler((circuit, ints)) == sampler((circuit, ints.astype(float)))
    assert sampler((circuit, ints.tolist())) == sampler((circuit, ints.astype(np.uint8)))
    tenths = np.arange(13) / 10
    assert sampler((circuit, tenths.astype(np.float32))) != sampler((circuit, tenths))


def test_neither_names_nor_uuids_of_parameters_count_but_their_places_do() -> None:
    def build(first: str, second: str) -> tuple[QuantumCircuit, dict[str, float]]:
        circuit = QuantumCircuit(1, 1)
        circuit.rx(Parameter(first), 0)
        circuit.rz(Parameter(second), 0)
        circuit.measure(0, 0)
        return circuit, {first: 1.0, second: 2.0}

    expected = sampler(build("a", "b"))
    assert sampler(build("a", "b")) == expected
    assert sampler(build("x", "y")) == expected
    assert sampler(build("b", "a")) == expected
    circuit, values = build("a", "b")
    assert sampler((circuit, {"a": 2.0, "b": 1.0})) != expected
    assert sampler((circuit, [1.0, 2.0])) == expected
    swapped, _ = build("b", "a")
    assert sampler((swapped, [1.0, 2.0])) != expected
    assert values


def test_names_of_circuits_and_quantum_registers_do_not_count() -> None:
    def build(name: str, qubits: list[QuantumRegister], bits: str = "c") -> QuantumCircuit:
        circuit = QuantumCircuit(*qubits, ClassicalRegister(2, bits), name=name)
        circuit.h(0)
        circuit.cx(0, 1)
        circuit.measure([0, 1], [0, 1])
        return circuit

    class Subclass(QuantumCircuit):
        pass

    expected = sampler(build("a", [QuantumRegister(2, "q")]))
    assert sampler(build("b", [QuantumRegister(2, "other")])) == expected
    assert sampler(build("b", [QuantumRegister(1, "x"), QuantumRegister(1, "y")])) == expected
    assert sampler(build("a", [QuantumRegister(2, "q")], "d")) != expected
    assert sampler(build("a", [QuantumRegister(3, "q")])) != expected
    subclass = Subclass(2)
    subclass.add_register(ClassicalRegister(2, "c"))
    subclass.compose(build("a", [QuantumRegister(2)]), inplace=True)
    assert sampler(subclass) == expected


def test_unnamed_definitions_are_equal_when_the_program_runs_again() -> None:
    def build() -> QuantumCircuit:
        part = QuantumCircuit(1)
        part.h(0)
        circuit = QuantumCircuit(2, 1)
        circuit.append(part.to_gate(), [0])
        circuit.append(part.to_gate().control(1), [0, 1])
        circuit.append(part.to_gate().inverse(), [1])
        circuit.measure(0, 0)
        return circuit

    assert sampler(build()) == sampler(build())


def test_registers_over_the_same_bits_count() -> None:
    def build(*registers: tuple[str, list[int]]) -> QuantumCircuit:
        circuit = QuantumCircuit(2, 2)
        circuit.cregs.clear()
        plain = QuantumCircuit(circuit.qubits, circuit.clbits)
        for name, bits in registers:
            plain.add_register(ClassicalRegister(name=name, bits=[plain.clbits[i] for i in bits]))
        plain.measure([0, 1], [0, 1])
        return plain

    variants = [
        build(),
        build(("a", [0, 1])),
        build(("a", [1, 0])),
        build(("a", [0]), ("b", [1])),
        build(("b", [1]), ("a", [0])),
        build(("a", [0, 1]), ("b", [1])),
        build(("a", [0, 1]), ("b", [0])),
    ]
    assert len({sampler(variant) for variant in variants}) == len(variants)


def test_every_part_of_a_sampler_job_counts() -> None:
    circuit = ansatz()
    values = np.random.default_rng(1).normal(size=(50, 13))
    deep = values.copy()
    deep[31, 7] = np.nextafter(deep[31, 7], 9)
    other = circuit.copy()
    other.metadata = {"series": 2}
    base: dict[str, Any] = {
        "pubs": [(circuit, values, 100)],
        "backend_name": "b",
        "runtime_block_name": "r",
        "shots": 5,
        "options": {"twirling": {"enable_gates": True}, "default_shots": 4},
        "cache_namespace": "n",
        "extra": {"e": 1},
    }
    changes: list[dict[str, Any]] = [
        {},
        {"pubs": [(circuit, values)]},
        {"pubs": [(circuit, values, 101)]},
        {"pubs": [(circuit, deep, 100)]},
        {"pubs": [(circuit, values.reshape(5, 10, 13), 100)]},
        {"pubs": [(circuit, values[:49], 100)]},
        {"pubs": [(circuit, values[::-1], 100)]},
        {"pubs": [(other, values, 100)]},
        {"pubs": [(circuit, values, 100)] * 2},
        {"pubs": []},
        {"backend_name": None},
        {"backend_name": "c"},
        {"runtime_block_name": None},
        {"runtime_block_name": "b"},
        {"options": None},
        {"options": {"twirling": {"enable_gates": False}, "default_shots": 4}},
        {"options": {"twirling": {"enable_gates": None}, "default_shots": 4}},
        {"options": {"twirling": {}, "default_shots": 4}},
        {"options": {"twirling": {"enable_gates": 1}, "default_shots": 4}},
        {"options": {"twirling": {"enable_gates": True}, "default_shots": 4.0}},
        {"options": {"twirling": {"enable_gates": True}, "default_shots": "4"}},
        {"cache_scope": "global"},
        {"cache_namespace": None},
        {"cache_namespace": "m"},
        {"extra": None},
        {"extra": {"e": 2}},
    ]
    digests = [build_qiskit_sampler_input_digest(**{**base, **change}) for change in changes]
    assert len(set(digests)) == len(changes)
    for change in changes[1:]:
        found = explain_qiskit_sampler_difference(base, {**base, **change})
        assert found
    assert explain_qiskit_sampler_difference(base, dict(base)) == []
    (found,) = explain_qiskit_sampler_difference(base, {**base, "pubs": [(circuit, deep, 100)]})
    assert found.path == "pubs[0].parameter_values"
    (found,) = explain_qiskit_sampler_difference(base, {**base, **changes[17]})
    assert found.path == "options.twirling.enable_gates"
    reordered = {"default_shots": np.int64(4), "twirling": {"enable_gates": np.True_}}
    assert sampler(*base["pubs"], **{k: v for k, v in base.items() if k != "pubs"}) == digests[0]
    assert build_qiskit_sampler_input_digest(**{**base, "options": reordered}) == digests[0]


def test_a_sampler_and_an_estimator_never_share_a_digest() -> None:
    circuit = QuantumCircuit(1)
    one, other = sampler(circuit), estimator((circuit, "Z"))
    assert one.startswith("qiskit-sampler-input-")
    assert other.startswith("qiskit-estimator-input-")
    assert one[-64:] != other[-64:]


@pytest.mark.parametrize(
    ("pub", "path"),
    [
        ((ansatz(), [1.0]), "pubs[0].parameter_values"),
        ((ansatz(),), "pubs[0].parameter_values"),
        ((ansatz(), np.ones((2, 13), complex)), "pubs[0].parameter_values"),
        ((ansatz(), [["x"] * 13]), "pubs[0].parameter_values"),
        ((ansatz(), {"nobody": 1.0}), "pubs[0].parameter_values"),
        ((QuantumCircuit(1), None, 0), "pubs[0].shots"),
        ((QuantumCircuit(1), None, True), "pubs[0].shots"),
        ((QuantumCircuit(1), None, 1.5), "pubs[0].shots"),
        ((QuantumCircuit(1), None, 1, 1), "pubs[0]"),
        ("circuit", "pubs[0]"),
        (("circuit",), "pubs[0].circuit"),
        (QuantumCircuit(1, metadata={"hook": object()}), "pubs[0].circuit.metadata.hook"),
    ],
)
def test_a_wrong_sampler_pub_is_refused_with_its_path(pub: Any, path: str) -> None:
    with pytest.raises(InputError) as caught:
        sampler(pub)
    assert caught.value.path == path
    assert path in str(caught.value)


def test_an_instruction_without_a_form_is_refused_with_its_path() -> None:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.append(Instruction("pulse", 1, 0, ["wave"]), [0])
    sampler(circuit)

    class Waveform(Gate):
        def __init__(self) -> None:
            super().__init__("pulse", 1, [])
            self.samples = object()

    circuit.append(Waveform(), [0])
    with pytest.raises(UnsupportedTypeError) as caught:
        sampler(circuit)
    assert caught.value.path == "pubs[0].circuit.data[2].operation.samples"


def test_options_are_read_as_the_client_would_send_them() -> None:
    from qiskit_ibm_runtime.options.utils import Unset

    circuit = QuantumCircuit(1)
    expected = sampler(circuit, options={"twirling": {"enable_gates": True}})
    unset = {"twirling": {"enable_gates": True, "strategy": Unset}, "default_shots": Unset}
    assert sampler(circuit, options=unset) == expected
    assert sampler(circuit, options={}) == sampler(circuit)
    with pytest.raises(TypeError) as caught:
        sampler(circuit, options={"environment": {"callback": print}})
    assert caught.value.path == "options.environment.callback"  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        sampler(circuit, options=[("a", 1)])  # type: ignore[arg-type]


LETTERS = "IXYZ01+-rl"


def test_all_spellings_of_an_observable_are_equal() -> None:
    circuit = QuantumCircuit(3)
    expected = estimator((circuit, {"XXI": 0.5, "IZZ": 1.0}))
    operator = SparsePauliOp(["XXI", "IZZ"], [0.5, 1.0])
    spellings: list[Any] = [
        {"IZZ": 1, "XXI": 0.5},
        {Pauli("IZZ"): 1.0, Pauli("-XXI"): -0.5},
        {"IZZ": np.float32(1), Pauli("XXI"): 0.5 + 0j},
        operator,
        operator[::-1],
        SparsePauliOp(["XXI", "IZZ", "XXI", "YYY"], [0.25, 1.0, 0.25, 0.0]),
        SparsePauliOp(PauliList(["-XXI", "IZZ"]), [-0.5, 1.0]),
        SparseObservable.from_list([("IZZ", 1), ("XXI", 0.5)]),
        SparseObservable.from_list([("IZZ", 1), ("XXI", 0.25), ("XXI", 0.25)]),
        # Terms that are dropped leave nothing behind, also where they alone have projectors.
        {"IZZ": 1, "XXI": 0.5, "+0I": 0.0},
        SparseObservable.from_list([("IZZ", 1), ("0lI", 1), ("XXI", 0.5), ("0lI", -1)]),
        ObservablesArray.coerce(operator),
        ObservablesArray.coerce({"IZZ": 1, "XXI": 0.5}),
    ]
    for spelling in spellings:
        assert estimator((circuit, spelling)) == expected, spelling
        assert estimator(EstimatorPub.coerce((circuit, spelling))) == expected, spelling
    assert estimator((circuit, "ZZI")) == estimator((circuit, Pauli("ZZI")))
    assert estimator((circuit, "ZZI")) == estimator((circuit, {"ZZI": 1}))
    assert estimator((circuit, ["ZZI", "XXX"])) == estimator((circuit, PauliList(["ZZI", "XXX"])))
    array = np.empty(2, dtype=object)
    array[:] = [SparsePauliOp("ZZI"), Pauli("XXX")]
    assert estimator((circuit, ["ZZI", "XXX"])) == estimator((circuit, array))


def test_every_part_of_an_estimator_job_counts() -> None:
    circuit = ansatz(measured=False)
    values = np.zeros((2, 13))
    base: dict[str, Any] = {"pubs": [(circuit, {"XX": 0.5, "ZI": 1.0}, values)]}
    changes: list[dict[str, Any]] = [
        {},
        {"precision": 0.1},
        {"precision": 0.0},
        {"precision": np.nextafter(0.1, 1)},
        *(
            {"pubs": [(circuit, observables, values)]}
            for observables in (
                {"XX": 0.5, "IZ": 1.0},
                {"XX": 0.5, "ZI": 1.0 + 2**-52},
                {"XX": 0.5},
                {"XX": 0.5, "ZI": 1.0, "II": 0.1},
                {"XX": 0.5, "0I": 1.0},
                [{"XX": 0.5, "ZI": 1.0}],
                [{"XX": 0.5, "ZI": 1.0}] * 2,
                [["XX", "ZI"]],
                ["XX", "ZI"],
                ["ZI", "XX"],
                [["XX"], ["ZI"]],
                "0+",
                "1+",
                "0-",
                "0r",
                "0l",
            )
        ),
    ]
    digests = [build_qiskit_estimator_input_digest(**{**base, **change}) for change in changes]
    assert len(set(digests)) == len(changes)
    for change in changes[1:]:
        assert explain_qiskit_estimator_difference(base, {**base, **change})


@pytest.mark.parametrize(
    "observable",
    [
        {"ZZ": 1j},
        {"ZZ": 0.0},
        {},
        "ZQ",
        "ZZZ",
        {"ZZ": "x"},
        {"ZZ": 1, "Z": 1},
        3,
        {3: 1.0},
        [["ZZ"], "ZZ"],
    ],
)
def test_a_wrong_observable_is_refused(observable: Any) -> None:
    with pytest.raises(InputError) as caught:
        estimator((QuantumCircuit(2), observable))
    assert caught.value.path.startswith("pubs[0].observables")


def test_observables_and_values_must_be_broadcastable() -> None:
    circuit = ansatz(measured=False)
    with pytest.raises(InputError, match="broadcast"):
        estimator((circuit, ["ZZ", "XX"], np.zeros((3, 13))))


def test_precision_at_either_level_is_equal() -> None:
    circuit = QuantumCircuit(1)
    expected = estimator((circuit, "Z", None, 0.25))
    assert estimator((circuit, "Z"), precision=0.25) == expected
    assert estimator((circuit, "Z"), precision=np.float32(0.25)) == expected
    assert estimator(EstimatorPub.coerce((circuit, "Z"), 0.25)) == expected
    assert estimator((circuit, "Z", None, 0.25), precision=0.5) == expected
    for wrong in (-1.0, float("nan"), "x", 1j):
        with pytest.raises(InputError):
            estimator((circuit, "Z"), precision=wrong)


labels = st.integers(1, 70).flatmap(
    lambda size: st.lists(
        st.tuples(
            st.text(alphabet=LETTERS, min_size=size, max_size=size),
            st.floats(-4, 4).filter(lambda value: abs(value) > 1e-6),
        ),
        min_size=1,
        max_size=12,
        unique_by=lambda term: term[0],
    )
)


@settings(max_examples=200, deadline=None)
@given(labels, st.randoms(use_true_random=False))
def test_generated_observables_are_read_as_the_client_reads_them(
    terms: list[tuple[str, float]], random: Any
) -> None:
    size = len(terms[0][0])
    circuit = QuantumCircuit(size)
    observable = SparseObservable.from_list(terms)
    expected = estimator((circuit, observable))
    assert estimator((circuit, ObservablesArray.coerce(observable))) == expected
    assert estimator((circuit, dict(terms))) == expected
    random.shuffle(terms)
    assert estimator((circuit, dict(terms))) == expected
    halves = [(label, value / 2) for label, value in terms for _ in range(2)]
    random.shuffle(halves)
    assert estimator((circuit, SparseObservable.from_list(halves))) == expected
    cancelled = "".join(random.choices(LETTERS, k=size))
    if cancelled not in dict(terms):
        halves += [(cancelled, 0.5), (cancelled, -0.5)]
        random.shuffle(halves)
        assert estimator((circuit, SparseObservable.from_list(halves))) == expected
    position = random.randrange(len(terms))
    label, value = terms[position]
    place = random.randrange(size)
    letter = random.choice([other for other in LETTERS if other != label[place]])
    changed = label[:place] + letter + label[place + 1 :]
    if changed not in dict(terms):
        terms[position] = (changed, value)
        assert estimator((circuit, dict(terms))) != expected
    terms[position] = (label, np.nextafter(value, 9))
    assert estimator((circuit, dict(terms))) != expected


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 70), st.integers(1, 3000), st.integers(0, 2**32))
def test_pauli_sums_of_any_size_are_equal_in_any_order(size: int, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    bits = generator.integers(0, 2, (2, count, size)).astype(bool)
    bits[:, :, generator.integers(0, size, size // 2)] = False
    weights = generator.integers(1, 5, count).astype(float)
    operator = SparsePauliOp(PauliList.from_symplectic(*bits), weights)
    circuit = QuantumCircuit(size)
    expected = estimator((circuit, operator))
    order = generator.permutation(count)
    assert estimator((circuit, operator[order])) == expected
    sparse = SparseObservable.from_sparse_pauli_op(operator)
    assert estimator((circuit, sparse)) == expected
    assert estimator((circuit, ObservablesArray.coerce(sparse))) == expected
    weights[generator.integers(count)] += 0.5
    assert estimator((circuit, SparsePauliOp(operator.paulis, weights))) != expected


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_generated_sweeps_are_equal_in_any_layout(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 9))
    shape = data.draw(st.lists(st.integers(0, 5), max_size=3).map(tuple))
    seed = data.draw(st.integers(0, 2**32))
    generator = np.random.default_rng(seed)
    circuit = QuantumCircuit(1, 1)
    parameters = [Parameter(f"p{generator.integers(10**9)}") for _ in range(count)]
    for parameter in parameters:
        circuit.rx(parameter, 0)
    values = generator.normal(size=(*shape, count))
    expected = sampler((circuit, values)) if count > 1 or shape[-1:] != (1,) else None
    if expected is None:
        return
    names = [parameter.name for parameter in circuit.parameters]
    order = generator.permutation(count)
    grouped = {tuple(names[i] for i in order): values[..., order]}
    assert sampler((circuit, grouped)) == expected
    single = {names[i]: values[..., i : i + 1] for i in order}
    assert sampler((circuit, single)) == expected
    assert sampler((circuit, np.asfortranarray(values))) == expected
    if values.size:
        changed = values.copy()
        place = tuple(generator.integers(0, length) for length in changed.shape)
        changed[place] = np.nextafter(changed[place], 9)
        assert sampler((circuit, changed)) != expected


def test_large_sweeps_are_equal_in_any_layout() -> None:
    circuit = efficient_su2(30, reps=3)
    count = circuit.num_parameters
    values = np.random.default_rng(3).normal(size=(4, 700, count))
    expected = sampler((circuit, values))
    assert sampler((circuit, np.asfortranarray(values))) == expected
    assert sampler((circuit, values[..., ::-1].copy()[..., ::-1])) == expected
    names = [parameter.name for parameter in circuit.parameters]
    assert sampler((circuit, {tuple(names[::-1]): values[..., ::-1]})) == expected
    assert sampler((circuit, {name: values[..., i] for i, name in enumerate(names)})) == expected
    narrow = values.astype(np.float32)
    assert sampler((circuit, narrow)) == sampler((circuit, narrow.astype(float)))
    values[3, 650, 100] = np.nextafter(values[3, 650, 100], 9)
    assert sampler((circuit, values)) != expected
