"""All that the installed client's encoder and its options know has a form in the digest."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
import typing
import warnings
from dataclasses import is_dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pytest
import qiskit_ibm_runtime
from pydantic import BaseModel
from qiskit import QuantumCircuit
from qiskit.circuit import BoxOp, CircuitInstruction, Parameter, library
from qiskit.primitives.containers import (
    BitArray,
    DataBin,
    PrimitiveResult,
    PubResult,
    SamplerPubResult,
)
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import Pauli, PauliLindbladMap, PauliList, SparsePauliOp
from qiskit.result import Result
from qiskit.transpiler import CouplingMap
from qiskit_ibm_runtime import RuntimeEncoder, execution_span
from qiskit_ibm_runtime.options import EstimatorOptions, SamplerOptions
from scipy.sparse import csr_matrix

from qcsc_prefect.core.errors import UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.input_digest import (
    build_qiskit_estimator_input_digest,
    build_qiskit_sampler_input_digest,
    explain_qiskit_estimator_difference,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        from qiskit_ibm_runtime.results.noise_learner import (
            LayerError,
            NoiseLearnerResult,
            PauliLindbladError,
        )
    except ImportError:
        from qiskit_ibm_runtime.utils.noise_learner_result import (
            LayerError,
            NoiseLearnerResult,
            PauliLindbladError,
        )


def rotated(angle: float) -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.rz(angle, 0)
    return circuit


def lindblad_error(rate: float) -> Any:
    return PauliLindbladError(PauliList(["XI", "ZZ"]), [rate, 0.5])


def layer_error(rate: float) -> Any:
    return LayerError(rotated(0.5), [0, 1], lindblad_error(rate))


def span(count: float, kind: str) -> Any:
    start, stop = datetime(2026, 1, 1), datetime(2026, 1, 2)
    number = int(count * 8)
    shots = slice(0, number)
    if kind == "SliceSpan":
        return execution_span.SliceSpan(start, stop, {0: ((number,), slice(0, number))})
    if kind == "DoubleSliceSpan":
        return execution_span.DoubleSliceSpan(start, stop, {0: ((9,), slice(0, 9), shots)})
    slices = {0: ((9, 9), True, slice(0, 9), shots)}
    if kind == "TwirledSliceSpan":
        return execution_span.TwirledSliceSpan(start, stop, slices)
    slices_v2 = {0: (*slices[0], 9)}
    return execution_span.TwirledSliceSpanV2(start, stop, slices_v2)


def noise_model(rate: float) -> Any:
    noise = pytest.importorskip("qiskit_aer").noise
    model = noise.NoiseModel()
    model.add_all_qubit_quantum_error(noise.depolarizing_error(rate, 1), ["x"])
    return model


def result(value: float) -> Result:
    data = {"counts": {"0x0": int(value * 8)}}
    return Result.from_dict(
        {"backend_name": "b", "results": [{"shots": 1, "success": True, "data": data}]}
    )


def parameter_view(value: float) -> Any:
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter(f"p{value}"), 0)
    return circuit.parameters


def boxed(value: float) -> CircuitInstruction:
    circuit = QuantumCircuit(2)
    return CircuitInstruction(BoxOp(rotated(value)), circuit.qubits, [])


#: For each name that the encoder asks for, a value that depends on a number.
VALUES: dict[str, Any] = {
    "BindingsArray": lambda x: BindingsArray({("a", "b"): [[x, 1.0]]}),
    "BitArray": lambda x: BitArray(np.array([[int(8 * x)]], np.uint8), 4),
    "CouplingMap": lambda x: CouplingMap([[0, 1], [1, int(8 * x)]]),
    "DataBin": lambda x: DataBin(evs=np.array([x]), shape=(1,)),
    "EstimatorPub": lambda x: EstimatorPub.coerce((QuantumCircuit(1), "Z", None, x)),
    "EstimatorPubResult": lambda x: PubResult(DataBin(evs=x), {"kind": "estimator"}),
    "ExecutionSpans": lambda x: execution_span.ExecutionSpans([span(x, "SliceSpan")]),
    "Instruction": library.RZGate,
    "NoiseLearnerResult": lambda x: NoiseLearnerResult([layer_error(x)], {"x": 1}),
    "NoiseModel": noise_model,
    "ObservablesArray": lambda x: ObservablesArray([{"ZZ": x}]),
    "Parameter": lambda x: Parameter(f"p{x}"),
    "ParameterView": parameter_view,
    "PauliLindbladMap": lambda x: PauliLindbladMap.from_list([("XZ", x)]),
    "PrimitiveResult": lambda x: PrimitiveResult([PubResult(DataBin(evs=x))], {}),
    "PubResult": lambda x: PubResult(DataBin(evs=x)),
    "QuantumCircuit": rotated,
    "Result": result,
    "SamplerPub": lambda x: SamplerPub.coerce((QuantumCircuit(1), None, int(8 * x))),
    "SamplerPubResult": lambda x: SamplerPubResult(DataBin(evs=x)),
    "complex": lambda x: complex(0, x),
    "date": lambda x: datetime(2026, 1, int(8 * x)),
    "int64": lambda x: np.int64(8 * x),
    "ndarray": lambda x: np.array([x]),
    "set": lambda x: {x},
    "spmatrix": lambda x: csr_matrix([[0.0, x]]),
    **{
        name: lambda x, name=name: span(x, name)
        for name in ("DoubleSliceSpan", "SliceSpan", "TwirledSliceSpan", "TwirledSliceSpanV2")
        if hasattr(execution_span, name)
    },
}
#: The same for each attribute by which it knows a value.
PROTOCOLS: dict[str, Any] = {
    "_json": layer_error,
    "settings": lambda x: SparsePauliOp(["XX"], [x]),
    "to_json": None,
}
FURTHER: dict[str, Any] = {
    "PauliLindbladError": lindblad_error,
    "CircuitInstruction": boxed,
    "PauliList": lambda x: PauliList(["XX", "ZZ"][: int(4 * x)]),
    "Pauli": lambda x: Pauli("X" * int(8 * x)),
}
#: Values that are plain, or that stand for others in the annotations of options.
PLAIN = {"Dict", "NoneType", "UnsetType", "bool", "dict", "float", "int", "list", "str", "tuple"}
PLAIN |= {"Any", "Sequence", "List", "Union", "BaseModel"}


def known_to_the_encoder() -> tuple[set[str], set[str]]:
    """Return the types and the attributes that the installed client's encoder asks for."""
    source = textwrap.dedent(inspect.getsource(RuntimeEncoder.default))
    types, attributes = set(), set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id == "isinstance":
            asked = node.args[1]
            for each in asked.elts if isinstance(asked, ast.Tuple) else [asked]:
                types.add(each.attr if isinstance(each, ast.Attribute) else each.id)
        elif node.func.id == "hasattr":
            attributes.add(node.args[1].value)
    return types, attributes


def digest(value: object) -> str:
    options = {"experimental": {"here": value}}
    return build_qiskit_sampler_input_digest([QuantumCircuit(1)], options=options)


def test_there_is_a_value_for_each_type_that_the_encoder_knows() -> None:
    types, attributes = known_to_the_encoder()
    assert len(types) > 20
    assert types <= VALUES.keys()
    assert attributes <= PROTOCOLS.keys()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [*VALUES, "_json", "settings", *FURTHER])
def test_what_the_encoder_writes_has_a_form(name: str) -> None:
    build = {**VALUES, **PROTOCOLS, **FURTHER}[name]
    if name not in ("CircuitInstruction", "Parameter", "ParameterView"):
        assert json.dumps({"here": build(0.5)}, cls=RuntimeEncoder)
    assert digest(build(0.5)) == digest(build(0.5)) != digest(build(0.25))
    circuits = [QuantumCircuit(1, metadata={"here": build(x)}) for x in (0.5, 0.5, 0.25)]
    found = [build_qiskit_sampler_input_digest([circuit]) for circuit in circuits]
    assert found[0] == found[1] != found[2]


def leaves(annotation: object) -> set[type]:
    if typing.get_origin(annotation) is typing.Literal or isinstance(annotation, str):
        return set()
    inside = [leaf for part in typing.get_args(annotation) for leaf in leaves(part)]
    return {*inside, *([annotation] if isinstance(annotation, type) else [])}


def options_types() -> list[type]:
    models: list[type] = [SamplerOptions, EstimatorOptions]
    try:
        from qiskit_ibm_runtime import options_models
    except ImportError:
        return models
    names = ("SamplerOptions", "EstimatorOptions")  # client 0.49 has neither
    return [*models, *(getattr(options_models, n) for n in names if hasattr(options_models, n))]


@pytest.mark.parametrize("options", options_types(), ids=lambda kind: kind.__module__)
def test_every_type_that_options_take_has_a_form(options: type) -> None:
    waiting, seen = [options], set()
    while waiting:
        section = waiting.pop()
        seen.add(section)
        found: set[type] = set()
        for annotation in typing.get_type_hints(section).values():
            found |= leaves(annotation)
        for leaf in found - seen:
            if is_dataclass(leaf) or issubclass(leaf, BaseModel):
                waiting.append(leaf)
            else:
                assert leaf.__name__ in {*PLAIN, *VALUES, *FURTHER, "LayerError"}, (section, leaf)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", options_types(), ids=lambda kind: kind.__module__)
def test_an_options_object_is_what_was_set_in_it(kind: type) -> None:
    circuit = QuantumCircuit(1)
    options = kind()
    assert build_qiskit_sampler_input_digest([circuit], options=options) == (
        build_qiskit_sampler_input_digest([circuit])
    )
    options.default_shots = 100
    options.twirling.enable_gates = True
    equal = {"default_shots": 100, "twirling": {"enable_gates": True}}
    assert build_qiskit_sampler_input_digest([circuit], options=options) == (
        build_qiskit_sampler_input_digest([circuit], options=equal)
    )


def test_learned_noise_is_told_apart() -> None:
    def job(rate: float) -> dict[str, Any]:
        model = [layer_error(rate)]
        options = {"resilience": {"layer_noise_model": model}}
        return {"pubs": [(QuantumCircuit(1), "Z")], "options": options}

    assert build_qiskit_estimator_input_digest(**job(0.5)) == (
        build_qiskit_estimator_input_digest(**job(0.5))
    )
    [found] = explain_qiskit_estimator_difference(job(0.5), job(0.25))
    assert found.path.startswith("options.resilience.layer_noise_model[0]")


def test_what_has_no_form_is_refused_with_a_way_out() -> None:
    with pytest.raises(UnsupportedTypeError, match="input_digest") as caught:
        digest(qiskit_ibm_runtime)
    assert caught.value.path == "options.experimental.here"
