"""What a person reads whose options, PUBs or names are refused."""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import re
from datetime import timedelta
from pathlib import Path

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.providers import BackendV2
from qiskit.quantum_info import SparsePauliOp

import qcsc_prefect
from qcsc_prefect.core.errors import (
    ConfigurationError,
    InputError,
    JobFailedError,
    JobNotFoundError,
    JobReferenceError,
)
from qcsc_prefect.core.reference import JobReference
from qcsc_prefect.integrations.qiskit import (
    QiskitRuntimeConfig,
    QiskitRuntimeConfigError,
    fetch_qiskit_job_result_task,
    run_estimator_task,
    run_sampler_task,
    submit_estimator_job_task,
    submit_sampler_job_task,
)
from qcsc_prefect.integrations.qiskit.fetching.arguments import FetchArguments, job_to_fetch
from qcsc_prefect.integrations.qiskit.fetching.fetch import fetch_job
from qcsc_prefect.integrations.qiskit.input_digest import build_qiskit_sampler_input_digest
from qcsc_prefect.integrations.qiskit.inputs.call_arguments import refuse_bad_arguments
from qcsc_prefect.integrations.qiskit.inputs.native_options import options_mapping
from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import has_client_side_primitives
from qcsc_prefect.integrations.qiskit.inputs.pubs import (
    a_job,
    check_precision,
    check_shots,
    coerce_pubs,
)
from qcsc_prefect.integrations.qiskit.services.native_primitives import create_primitive
from qcsc_prefect.integrations.qiskit.services.runtime_config import require_one_config
from qcsc_prefect.integrations.qiskit.submitting.submit import JobArguments, submit_job
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

#: A call that got as far as this configuration would fail over its backend.
ON_NO_MACHINE = QiskitRuntimeConfig(channel="local", backend_name="no-such-backend")

needs_client_side = pytest.mark.skipif(
    not has_client_side_primitives(), reason="the installed client has classic primitives only"
)


def test_no_article_stands_before_a_name_that_it_may_not_fit():
    misfits = [
        f"{file.name}:{text.lineno}: {ast.unparse(text)}"
        for folder in qcsc_prefect.__path__
        for file in Path(folder).rglob("*.py")
        for text in ast.walk(ast.parse(file.read_text()))
        if isinstance(text, ast.JoinedStr)
        for before, value in itertools.pairwise(text.values)
        if isinstance(before, ast.Constant)
        and re.search(r"\ban? $", str(before.value))
        and re.search("__(qual)?name__", ast.unparse(value))
    ]
    assert misfits == []


@pytest.mark.parametrize("name", ["default_shots", "default_precision"])
def test_a_default_that_is_none_is_refused_when_it_is_given(name: str):
    for value in (-3, 0, float("nan")):
        with pytest.raises(InputError, match=f"{name} refused: .* got {value}") as refused:
            options_mapping({name: value})
        assert refused.value.path == f"options.{name}"


@pytest.fixture(scope="module")
def backend() -> BackendV2:
    return QiskitRuntimeConfig(channel="local", backend_name="fake_manila").get_backend()


@pytest.mark.parametrize(
    ("primitive", "options", "path", "advice"),
    [
        ("sampler", {"default_shot": 3}, "options.default_shot", "mean 'default_shots'?"),
        ("sampler", {"shots": 3}, "options.shots", "mean 'default_shots'?"),
        (
            "sampler",
            {"twirling": {"enable_gate": True}},
            "options.twirling.enable_gate",
            "mean 'enable_gates'?",
        ),
        (
            "sampler",
            {"enable_gates": True},
            "options.enable_gates",
            "mean options.twirling.enable_gates?",
        ),
        ("sampler", {"resilience_level": 1}, "options.resilience_level", "the estimator's"),
        ("sampler", {"twirling": 3}, "options.twirling", "expected a mapping of options, not 3"),
        (
            "estimator",
            {"dynamical_decoupling": {"sequence_type": "XY5"}},
            "options.dynamical_decoupling.sequence_type",
            "'XX', 'XpXm' or 'XY4'. It is 'XY5'",
        ),
        ("estimator", {"optimization_level": 1}, "options.optimization_level", "It has: default_"),
        (
            "sampler",
            {"twirling": {"enable": True}},
            "options.twirling.enable",
            "mean 'enable_gates'?",
        ),
    ],
)
def test_a_refused_option_is_named_with_what_was_meant(
    backend: BackendV2, primitive: str, options: dict[str, object], path: str, advice: str
):
    implementations = ["classic", *(["client_side"] if has_client_side_primitives() else [])]
    for implementation in implementations:
        with pytest.raises(InputError) as refused:
            create_primitive(primitive, backend, options, implementation)
        assert refused.value.path == path
        assert advice in str(refused.value)
        assert str(refused.value).startswith(f"{path} refused")
        assert "pydantic" not in str(refused.value)
        assert "validation error" not in str(refused.value)


@needs_client_side
def test_an_option_of_the_other_implementation_is_named_with_how_to_choose_it(backend: BackendV2):
    with pytest.raises(InputError, match=r"primitives='client_side'"):
        create_primitive("sampler", backend, {"twirling": {"group": "pauli"}}, "classic")
    with pytest.raises(InputError, match=r"primitives='classic'"):
        create_primitive("estimator", backend, {"seed_estimator": 1}, "client_side")


def plain(*, parameter: bool = False) -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.rx(Parameter("a") if parameter else 0.1, 0)
    return circuit


@pytest.mark.parametrize(
    ("pub", "path", "words"),
    [
        ((plain(), "ZZ", "XX"), "pubs[0].parameter_values", "observable 'XX'"),
        ((plain(), ("ZZ", "XX")), "pubs[0].observables", "are a list"),
        ((plain(), "ZZZ"), "pubs[0].observables", "'ZZZ' is about 3 qubits, and the circuit has 2"),
        ((plain(), SparsePauliOp("ZZZ")), "pubs[0].observables", "apply_layout(circuit.layout)"),
        ((plain(), ["ZZ", "ZZZ"]), "pubs[0].observables", "'ZZZ' is about 3 qubits"),
        ((plain(), "AB"), "pubs[0].observables", "'AB' is no observable"),
        (plain(), "pubs[0]", "needs observables"),
        ((plain(), "ZZ", [1.0]), "pubs[0].parameter_values", "the circuit has 0 parameters"),
        ((plain(parameter=True), "ZZ", ["x"]), "pubs[0].parameter_values", "1 parameter (a)"),
        ((plain(parameter=True), "ZZ"), "pubs[0].parameter_values", "there are no values"),
        (
            (plain(parameter=True), "ZZ", {"b": 1.0}),
            "pubs[0].parameter_values",
            "1 parameter (a), and there are values of b.",
        ),
        (([plain()], "ZZ"), "pubs[0].circuit", "one circuit"),
        (3, "pubs[0]", "got 3"),
    ],
)
def test_a_refused_pub_is_named_with_the_part_that_is_wrong(pub: object, path: str, words: str):
    with pytest.raises(InputError) as refused:
        coerce_pubs([pub], "estimator")
    assert refused.value.path == path
    assert words in str(refused.value)


@pytest.mark.parametrize("shots", [0, -1, 1.5, "3", True])
def test_shots_that_are_none_are_refused_before_anything_is_sent(shots: object):
    with pytest.raises(InputError, match=r"shots refused: expected a whole number above 0"):
        check_shots(shots)


@pytest.mark.parametrize("precision", [0, -0.1, float("nan"), float("inf"), "small"])
def test_a_precision_that_is_none_is_refused_before_anything_is_sent(precision: object):
    with pytest.raises(InputError, match=r"precision refused: expected a number above 0"):
        check_precision(precision)


def test_a_digest_names_bad_shots_once():
    with pytest.raises(InputError) as refused:
        build_qiskit_sampler_input_digest([plain()], shots=-1)
    assert str(refused.value).count("shots") == 1


def test_a_mistyped_local_backend_is_told_the_names_that_there_are():
    config = QiskitRuntimeConfig(channel="local", backend_name="fake_manilla")
    with pytest.raises(QiskitRuntimeConfigError) as refused:
        config.get_backend()
    message = str(refused.value)
    assert "Did you mean 'fake_manila'?" in message
    assert "aer_simulator" in message
    assert "service" not in message


def test_words_agree_in_number_and_article():
    with pytest.raises(ConfigurationError, match="both were given"):
        require_one_config("name", QiskitRuntimeConfig())
    with pytest.raises(ConfigurationError, match="neither was given"):
        require_one_config(None, None)
    assert a_job("estimator") == "an estimator job"
    assert a_job("sampler") == "a sampler job"


async def test_the_service_is_quoted_once_and_with_its_code(emulated: EmulatedService):
    config = QiskitRuntimeConfig(**emulated.runtime_config_fields(), primitives="classic")

    async def fetch(reference: JobReference) -> None:
        await fetch_job(FetchArguments(reference, None, None, None, None, config))

    with pytest.raises(JobNotFoundError) as unknown:
        await fetch(job_to_fetch({"submitted_at": "2026-01-05T10:00:00Z"}, job_id="d1c0"))
    assert str(unknown.value).count("Check ") == 1
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    emulated.faults.end_jobs("Failed", reason="shots must be positive", code=1003)
    call = JobArguments(
        primitive="sampler",
        pubs=[circuit],
        runtime_block_name=None,
        runtime_config=config,
        shots=None,
        precision=None,
        options=None,
        input_digest=None,
    )
    with pytest.raises(JobFailedError, match=r"shots must be positive.*service code 1003"):
        await fetch((await submit_job(call, None)).reference)


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("max_wait", "60", "a number above 0"),
        ("max_wait", timedelta(minutes=5), "Write 300."),
        ("max_wait", -1, "a number above 0"),
        ("max_wait", 0, "a number above 0"),
        ("max_wait", math.nan, "a number above 0"),
        ("max_wait", math.inf, "None for no limit"),
        ("max_wait", True, "a number above 0"),
        ("artifact_key", True, "a string or None"),
        ("artifact_key", Path("x"), "a string or None"),
        ("artifact_key", 5, "a string or None"),
        ("input_digest", 7, "a string that is not empty"),
        ("input_digest", "", "a string that is not empty"),
        ("input_digest", "\ud800", "cannot be encoded"),
        ("cache_namespace", "a\udfff", "cannot be encoded"),
        ("cancel_job_on_cancellation", "no", "True or False"),
        ("visibility_delay", "2", "from 0 to 86,400"),
        ("visibility_delay", None, "from 0 to 86,400"),
        ("visibility_delay", math.inf, "from 0 to 86,400"),
        ("visibility_delay", 1e12, "from 0 to 86,400"),
        ("visibility_delay", -1, "from 0 to 86,400"),
        ("cache_expiration", 60, "a timedelta above 0"),
        ("cache_expiration", timedelta(seconds=-1), "a timedelta above 0"),
        ("cache_namespace", 5, "a string or None"),
        ("cache_scope", "globall", "'flow' or 'global', got 'globall'. Did you mean 'global'?"),
        ("backend_name", 5, "a string or None"),
        ("trust_input_digest", 1, "True or False"),
        ("cache_submit", "yes", "True or False"),
        ("cache_result", "yes", "True or False"),
        ("job_id", 7, "a string"),
    ],
)
async def test_no_argument_of_a_call_is_found_wrong_after_its_job_is_paid_for(
    name: str, value: object, advice: str
):
    calls = [
        (task.fn, pubs)
        for task, pubs in (
            (run_sampler_task, [QuantumCircuit(1)]),
            (run_estimator_task, [(QuantumCircuit(1), "Z")]),
            (submit_sampler_job_task, [QuantumCircuit(1)]),
            (submit_estimator_job_task, [(QuantumCircuit(1), "Z")]),
            (fetch_qiskit_job_result_task, None),
        )
        if name in inspect.signature(task.fn).parameters
    ]
    assert calls
    for call, pubs in calls:
        known = {} if pubs is not None or name == "job_id" else {"job_id": "no-such-job"}
        with pytest.raises(InputError) as caught:
            await call(pubs=pubs, runtime_config=ON_NO_MACHINE, **known, **{name: value})
        assert (caught.value.path, advice in str(caught.value)) == (name, True), caught.value


def test_every_argument_of_a_task_is_checked_or_left_to_somebody_who_does():
    left = {"pubs", "shots", "precision", "options", "runtime_block_name", "runtime_config"}
    tasks = (run_sampler_task, submit_estimator_job_task, fetch_qiskit_job_result_task)
    for task in tasks:
        for name in set(inspect.signature(task.fn).parameters) - left - {"job_reference"}:
            with pytest.raises(InputError, match=rf"^{name} refused"):
                refuse_bad_arguments(**{name: object()})


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"channel": "local", "token": "key-0123"}, r"Write QiskitRuntimeConfig\(\*\*fields\)"),
        ("kawasaki", "is runtime_block_name"),
        (7, "got int"),
    ],
)
async def test_a_configuration_that_is_none_is_refused(given: object, advice: str):
    with pytest.raises(ConfigurationError, match=advice) as caught:
        await run_sampler_task.fn([QuantumCircuit(1)], runtime_config=given)
    assert "key-0123" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="runtime_block_name refused"):
        await run_sampler_task.fn([QuantumCircuit(1)], given if given == 7 else 8)


def test_a_backend_in_the_place_of_a_configuration_is_named(backend: BackendV2):
    with pytest.raises(ConfigurationError, match="backend_name='fake_manila'"):
        require_one_config(None, backend)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("job_id", "b"),
        ("primitive", "estimator"),
        ("backend_name", "ibm_y"),
        ("shots", 7),
        ("input_digest", "other"),
    ],
)
def test_a_call_that_contradicts_its_reference_is_refused(name: str, value: str):
    known = {"primitive": "sampler", "backend_name": "ibm_x", "shots": 9, "input_digest": "d"}
    reference = JobReference(job_id="a", **known)
    with pytest.raises(ConfigurationError, match=rf"^{name} refused.*{value}.*of job a, says"):
        job_to_fetch(reference.to_dict(), **{name: value})
    same = reference.to_dict()[name]
    assert job_to_fetch(reference.to_dict(), **{name: same}) == reference
    assert job_to_fetch({"job_id": "a"}, **{name: "a" if name == "job_id" else value})


def test_an_id_in_the_place_of_a_reference_is_told_where_it_belongs():
    with pytest.raises(JobReferenceError, match="over as job_id"):
        job_to_fetch("a")
    with pytest.raises(JobReferenceError, match="the job_reference of a handle"):
        job_to_fetch(object())


@pytest.mark.parametrize("values", [(), ({"b": [1.0]},), ({"b": 1.0},)])
def test_a_sampler_pub_without_its_values_is_told_which_are_missing(values: tuple[object, ...]):
    circuit = plain(parameter=True)
    circuit.measure_all()
    for pub in [(circuit, *values)] + ([] if values else [circuit]):
        with pytest.raises(InputError, match=r"1 parameter \(a\), and there are") as refused:
            coerce_pubs([pub], "sampler")
        assert refused.value.path == "pubs[0].parameter_values"
        assert "observable" not in str(refused.value)


def test_values_of_vectors_and_in_groups_are_taken():
    angles = ParameterVector("t", 2)
    circuit = QuantumCircuit(1, 1)
    circuit.rx(angles[0], 0)
    circuit.rz(angles[1] + Parameter("a"), 0)
    for values in (
        [0.1, 0.2, 0.3],
        {angles: [0.2, 0.3], "a": 0.1},
        {("t[0]", "t[1]", "a"): 3 * [1]},
    ):
        coerce_pubs([(circuit, values)], "sampler")


def test_a_value_is_not_said_twice(backend: BackendV2):
    with pytest.raises(InputError, match=r"but is ==7\.$"):
        create_primitive("estimator", backend, {"resilience_level": 7}, "classic")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_service_path_says_which_circuit_is_no_isa_circuit(emulated, config):
    circuit = QuantumCircuit(5, 1)
    circuit.x(0)
    other = circuit.copy()
    other.h(0)
    for one in (circuit, other):
        one.measure(0, 0)
    with pytest.raises(InputError) as refused:
        await run_sampler_task.fn([circuit, other], runtime_config=config)
    assert not emulated.jobs
    assert refused.value.path == "pubs[1]"


def test_a_refused_service_says_where_it_was_looked_for_and_no_password():
    config = QiskitRuntimeConfig(url="https://ann:pass-word@localhost:9/x", token="key-0123")
    with pytest.raises(QiskitRuntimeConfigError, match=r"\(at localhost:9\)") as caught:
        config.get_service()
    assert "pass-word" not in str(caught.value)
    assert "block" not in str(caught.value)
    assert re.search(r"[.!?]['\")]*( Behind.*)? (Check|No usable) ", str(caught.value))


@pytest.mark.parametrize(
    "given",
    [
        {"cache_scope": "global"},
        {"cache_namespace": "a"},
        {"cache_expiration": timedelta(days=1)},
        {"trust_input_digest": True, "input_digest": "d"},
    ],
)
async def test_what_has_no_effect_without_caching_is_said(
    caplog: pytest.LogCaptureFixture, given: dict[str, object]
):
    for cache_submit in (True, False):
        caplog.clear()
        with pytest.raises(ConfigurationError, match="names no backend"):
            await submit_sampler_job_task.fn(
                [QuantumCircuit(1, 1)],
                runtime_config=QiskitRuntimeConfig(channel="local"),
                cache_submit=cache_submit,
                **given,
            )
        assert (f"{next(iter(given))} has no effect" in caplog.text) is not cache_submit
