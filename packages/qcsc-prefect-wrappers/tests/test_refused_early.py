"""What a facade refuses as soon as it is given, before anything runs."""

from __future__ import annotations

import pytest

from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit import QCSCEstimatorV2, QCSCSamplerV2, QiskitRuntimeConfig

LOCAL = QiskitRuntimeConfig(channel="local", backend_name="fake_manila")


@pytest.mark.parametrize(
    ("facade", "option", "value"),
    [
        (QCSCSamplerV2, "default_shots", -3),
        (QCSCSamplerV2, "default_shots", 0),
        (QCSCEstimatorV2, "default_precision", -0.1),
        (QCSCEstimatorV2, "default_precision", float("nan")),
    ],
)
def test_an_effort_that_is_none_is_refused_when_it_is_given(
    facade: type, option: str, value: float
):
    with pytest.raises(InputError, match=f"{option} refused: .* got {value}") as refused:
        facade(runtime_config=LOCAL, options={option: value})
    assert refused.value.path == f"options.{option}"
