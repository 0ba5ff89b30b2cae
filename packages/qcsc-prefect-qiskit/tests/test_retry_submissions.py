"""What a failed submission means, as the native primitive's ``run()`` raises it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from qiskit import QuantumCircuit
from qiskit_ibm_runtime import QiskitRuntimeService, SamplerV2
from qiskit_ibm_runtime.api.session import STATUS_FORCELIST, PostForcelistRetry
from qiskit_ibm_runtime.exceptions import IBMError
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException

from qcsc_prefect.core.errors import SubmissionError, SubmissionUncertainError
from qcsc_prefect.integrations.qiskit.retry import translate_qiskit_submission_error
from qcsc_prefect.integrations.qiskit.testing import EmulatedService, FaultInjector


@pytest.fixture(scope="module")
def sampler() -> Iterator[tuple[EmulatedService, SamplerV2]]:
    with EmulatedService(["fake_manila"], seed=7) as emulated, emulated.client_environment():
        fields = emulated.runtime_config_fields()
        backend = QiskitRuntimeService(
            **{name: value for name, value in fields.items() if name != "backend_name"}
        ).backend(fields["backend_name"])
        # The client's own rules, without their pauses of 15 s in total.
        retry = PostForcelistRetry(total=1, backoff_factor=0, status_forcelist=STATUS_FORCELIST)
        backend._api_client._session.mount("http://", HTTPAdapter(max_retries=retry))
        yield emulated, SamplerV2(backend)


#: What the service answers to a submission: status and code, and whether asking again helps.
REFUSALS = [
    (400, 1003, False),
    (400, 1012, True),
    (401, 1200, False),
    (403, 1201, False),
    (403, 1999, True),
    (404, 3250, False),
    (409, 3458, True),
    (425, 0, True),
    (429, 1202, True),
    (429, 4317, False),
    (429, 6053, False),
]


@pytest.mark.parametrize(("status", "code", "retryable"), REFUSALS)
def test_a_refusal(
    sampler: tuple[EmulatedService, SamplerV2], status: int, code: int, retryable: bool
) -> None:
    translated = failed_run(
        *sampler, lambda f: f.answer("submit", status=status, code=code, retry_after=7)
    )
    assert type(translated) is SubmissionError
    assert (translated.status, translated.service_code) == (status, code)
    assert (translated.retryable, translated.retry_after) == (retryable, 7.0)
    assert f"HTTP {status}, code {code}" in str(translated)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 505, 520, 521, 522, 524])
def test_a_status_without_certainty(
    sampler: tuple[EmulatedService, SamplerV2], status: int
) -> None:
    translated = failed_run(*sampler, lambda f: f.answer("submit", status=status, times=None))
    assert type(translated) is SubmissionUncertainError
    assert translated.retryable is None


@pytest.mark.parametrize(
    "lose",
    [
        lambda f: f.close("submit"),
        lambda f: f.close("submit", reset=True),
        lambda f: f.close("submit", when="after"),
        lambda f: f.truncate("submit"),
        lambda f: f.truncate("submit", announced=False),
        lambda f: f.malform("submit"),
        lambda f: f.empty("submit"),
    ],
    ids=["closed", "reset", "closed after", "truncated", "cut", "malformed", "empty"],
)
def test_a_lost_answer(
    sampler: tuple[EmulatedService, SamplerV2], lose: Callable[[FaultInjector], None]
) -> None:
    assert type(failed_run(*sampler, lose)) is SubmissionUncertainError


@pytest.mark.parametrize("endpoint", ["usage", "status"])
@pytest.mark.parametrize(
    ("status", "retryable"), [(403, False), (429, True), (503, True), (505, False)]
)
def test_a_read_before_the_submission(
    sampler: tuple[EmulatedService, SamplerV2], endpoint: str, status: int, retryable: bool
) -> None:
    translated = failed_run(
        *sampler, lambda f: f.answer(endpoint, status=status, code=0, times=None)
    )
    assert type(translated) is SubmissionError
    assert translated.retryable is retryable


def failed_run(
    emulated: EmulatedService, sampler: SamplerV2, break_it: Callable[[FaultInjector], None]
) -> SubmissionError:
    """Submit while the service is broken, and translate what the native primitive raises."""
    circuit = QuantumCircuit(1)
    circuit.measure_all()
    break_it(emulated.faults)
    try:
        with pytest.raises((IBMError, RequestException)) as caught:
            sampler.run([circuit], shots=10)
    finally:
        emulated.faults.clear()
    return translate_qiskit_submission_error(caught.value, backend_name="fake_manila")
