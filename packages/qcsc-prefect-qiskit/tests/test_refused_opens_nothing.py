"""Whatever the client refuses by itself is refused before a batch or session is opened."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from qiskit import ClassicalRegister, QuantumCircuit

from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    execution_mode,
    submit_estimator_job_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import has_client_side_primitives
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

#: It runs dynamic circuits, so that these are refused for what they are combined with.
BACKEND = "fake_torino"
QUBITS = 133

needs_client_side = pytest.mark.skipif(
    not has_client_side_primitives(), reason="the installed client has classic primitives only"
)


class Refused(NamedTuple):
    """A call that the client refuses.

    Attributes:
        pubs: What is to be run.
        options: The native options.
        effort: Shots or precision of the call.
    """

    pubs: list[object]
    options: Mapping[str, object] = {}
    effort: float | None = None


def circuit(
    *, measured: bool = True, registers: tuple[ClassicalRegister, ...] = ()
) -> QuantumCircuit:
    made = QuantumCircuit(QUBITS)
    made.sx(0)
    if measured:
        made.add_register(register := ClassicalRegister(1, "c"))
        made.measure(0, register[0])
    for register in registers:
        made.add_register(register)
    return made


def dynamic() -> QuantumCircuit:
    made = circuit()
    with made.if_test((made.clbits[0], 1)):
        made.x(0)
    return made


def boxed(*, measured: bool = True) -> QuantumCircuit:
    made = circuit(measured=measured)
    with made.box():
        made.noop(0)
    return made


def with_rzz(*, measured: bool = True) -> QuantumCircuit:
    made = circuit(measured=measured)
    made.rzz(-3.0, 0, 1)
    return made


def not_isa(*, measured: bool = True) -> QuantumCircuit:
    made = circuit(measured=measured)
    made.h(0)
    return made


def observed(
    made: QuantumCircuit | None = None, observable: object = "Z", *more: object
) -> tuple[object, ...]:
    label = "I" * (QUBITS - 1) + observable if isinstance(observable, str) else observable
    return (made or circuit(measured=False), label, *more)


DD = {"dynamical_decoupling": {"enable": True}}
BOTH = {
    ("sampler", "not ISA"): Refused([not_isa()]),
    ("sampler", "not even a number of shots"): Refused([circuit()], effort=-3),
    ("sampler", "decoupling of a dynamic circuit"): Refused([dynamic()], DD),
    ("sampler", "unknown option"): Refused([circuit()], {"no_such": 1}),
    ("sampler", "bad value of an option"): Refused([circuit()], {"twirling": {"strategy": "x"}}),
    ("sampler", "tags"): Refused([circuit()], {"environment": {"job_tags": ["x" * 100]}}),
    ("sampler", "log level"): Refused([circuit()], {"environment": {"log_level": "LOUD"}}),
    ("sampler", "no PUBs"): Refused([]),
    ("estimator", "not ISA"): Refused([observed(not_isa(measured=False))]),
    ("estimator", "precision of the call"): Refused([observed()], effort=-0.1),
    ("estimator", "precision of a PUB"): Refused([observed(None, "Z", None, 0.0)]),
    ("estimator", "unknown option"): Refused([observed()], {"no_such": 1}),
    ("estimator", "width of an observable"): Refused([observed(None, ["ZZ"])]),
    ("estimator", "log level"): Refused([observed()], {"environment": {"log_level": "LOUD"}}),
    ("estimator", "two mitigations"): Refused(
        [observed()], {"resilience": {"pec_mitigation": True, "zne_mitigation": True}}
    ),
    ("estimator", "noise factors"): Refused(
        [observed()],
        {
            "resilience": {
                "zne_mitigation": True,
                "zne": {"noise_factors": [1, 2], "extrapolator": "polynomial_degree_3"},
            }
        },
    ),
}
CLASSIC = {
    ("sampler", "angle of rzz"): Refused([with_rzz()]),
    ("sampler", "empty register"): Refused([circuit(registers=(ClassicalRegister(0, "none"),))]),
    ("sampler", "name of a register"): Refused([circuit(registers=(ClassicalRegister(1, "a b"),))]),
    ("sampler", "keyword"): Refused([circuit(registers=(ClassicalRegister(1, "def"),))]),
    ("sampler", "unsendable option"): Refused([circuit()], {"experimental": {"x": object()}}),
    ("sampler", "image"): Refused([circuit()], {"experimental": {"image": "no tag"}}),
    ("estimator", "angle of rzz"): Refused([observed(with_rzz(measured=False))]),
    ("estimator", "no observables"): Refused([observed(None, [])]),
    ("estimator", "projectors"): Refused([observed(None, "0")]),
    ("estimator", "decoupling of a dynamic circuit"): Refused([observed(dynamic())], DD),
    ("estimator", "unsendable option"): Refused([observed()], {"experimental": {"x": object()}}),
    ("estimator", "image"): Refused([observed()], {"experimental": {"image": "no tag"}}),
    ("estimator", "noise of measurement"): Refused(
        [observed()],
        {
            "resilience": {
                "measure_mitigation": False,
                "measure_noise_learning": {"num_randomizations": 3},
            }
        },
    ),
}
CLIENT_SIDE = {
    ("sampler", "different shots"): Refused([(circuit(), None, 10), (circuit(), None, 20)]),
    ("sampler", "a box"): Refused([boxed()]),
    ("sampler", "twirling of raw measurements"): Refused(
        [circuit()],
        {"execution": {"meas_type": "kerneled"}, "twirling": {"enable_measure": True}},
    ),
    ("estimator", "different precisions"): Refused(
        [observed(None, "Z", None, 0.1), observed(None, "Z", None, 0.2)]
    ),
    ("estimator", "a box"): Refused([observed(boxed(measured=False))]),
    ("estimator", "no noise model"): Refused(
        [observed()], {"resilience": {"pec_mitigation": True}}
    ),
    ("estimator", "mitigated projectors"): Refused(
        [observed(None, "0")], {"resilience": {"measure_mitigation": True}}
    ),
    ("estimator", "decoupling of a dynamic circuit"): Refused([observed(dynamic())], DD),
}


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatedService]:
    with EmulatedService(backends=[BACKEND], seed=5) as service, service.client_environment():
        yield service


@pytest.mark.parametrize(
    ("primitive", "what", "implementation", "refused"),
    [
        *((*key, "classic", refused) for key, refused in (BOTH | CLASSIC).items()),
        *(
            pytest.param(*key, "client_side", refused, marks=needs_client_side)
            for key, refused in (BOTH | CLIENT_SIDE).items()
        ),
    ],
    ids=lambda value: None if isinstance(value, Refused) else str(value),
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
async def test_what_the_client_refuses_opens_nothing(
    prefect_home: Path,
    emulator: EmulatedService,
    primitive: str,
    what: str,
    implementation: str,
    refused: Refused,
):
    config = QiskitRuntimeConfig(
        **emulator.runtime_config_fields(), mode="batch", primitives=implementation
    )
    submit, effort = {
        "sampler": (submit_sampler_job_task, "shots"),
        "estimator": (submit_estimator_job_task, "precision"),
    }[primitive]
    given = {effort: refused.effort, "options": refused.options, "runtime_config": config}
    async with execution_mode(config):
        with pytest.raises(InputError) as caught:
            await submit(refused.pubs, **given)
    assert caught.value.path is not None
    assert emulator.sessions == (), what
    assert emulator.jobs == ()


@pytest.mark.parametrize("faulty", ["qubit", "edge"])
async def test_what_does_not_work_on_the_device_opens_nothing(
    prefect_home: Path, emulated: EmulatedService, faulty: str
):
    config = QiskitRuntimeConfig(**emulated.runtime_config_fields(), mode="session")
    properties = config.get_backend().properties().to_dict()
    broken = {"name": "operational", "value": 0, "unit": "", "date": "2026-01-01T00:00:00Z"}
    if faulty == "qubit":
        properties["qubits"][1].append(broken)
    else:
        for gate in properties["gates"]:
            if gate["qubits"] == [0, 1]:
                gate["parameters"].append(broken)
    emulated.faults.replace_body(
        "properties", json.loads(json.dumps(properties, default=str)), times=None
    )
    made = QuantumCircuit(5)
    made.cx(0, 1)
    made.measure_all()
    async with execution_mode(config):
        with pytest.raises(InputError, match=r"pubs\[0\] refused"):
            await submit_sampler_job_task([made], runtime_config=config)
    assert emulated.sessions == ()
