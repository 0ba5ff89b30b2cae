"""Native Qiskit Runtime primitives in Prefect tasks.

Three styles, from the most convenient to the most explicit:

- The facades `QCSCSamplerV2` and `QCSCEstimatorV2` (distribution ``qcsc-prefect-wrappers``) look
  like the native primitives and return job-like handles.
- The tasks of `tasks`: submit a job, fetch it by its id, or do both at once.
- `input_digest`, `cache` and `retry` are what the tasks are made of, for tasks of your own.

All of them take a `QiskitRuntimeConfig`, a Prefect block that says through which account and on
which backend jobs run. With ``channel="local"`` they run on this machine and need no account.

Qiskit and its client are imported when the first job needs them, not here.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

# The wrappers live inside this package and come from another distribution.
__path__ = __import__("pkgutil").extend_path(__path__, __name__)

from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.cache import (
    qiskit_estimator_submit_cache_key,
    qiskit_result_fetch_cache_key,
    qiskit_sampler_submit_cache_key,
)
from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.execution_modes import execution_mode
from qcsc_prefect.integrations.qiskit.input_digest import (
    build_qiskit_estimator_input_digest,
    build_qiskit_sampler_input_digest,
    explain_qiskit_estimator_difference,
    explain_qiskit_sampler_difference,
)
from qcsc_prefect.integrations.qiskit.job_reference import QiskitJobReference
from qcsc_prefect.integrations.qiskit.retry import (
    qiskit_retry_delays,
    should_retry_qiskit_fetch_failure,
)
from qcsc_prefect.integrations.qiskit.tasks import (
    fetch_qiskit_job_result_task,
    run_estimator_task,
    run_sampler_task,
    submit_estimator_job_task,
    submit_sampler_job_task,
)

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.wrappers import QCSCEstimatorV2 as QCSCEstimatorV2
    from qcsc_prefect.integrations.qiskit.wrappers import QCSCPrimitiveJob as QCSCPrimitiveJob
    from qcsc_prefect.integrations.qiskit.wrappers import QCSCSamplerV2 as QCSCSamplerV2

__all__ = [
    "QiskitJobReference",
    "QiskitRuntimeConfig",
    "QiskitRuntimeConfigError",
    "build_qiskit_estimator_input_digest",
    "build_qiskit_sampler_input_digest",
    "execution_mode",
    "explain_qiskit_estimator_difference",
    "explain_qiskit_sampler_difference",
    "fetch_qiskit_job_result_task",
    "qiskit_estimator_submit_cache_key",
    "qiskit_result_fetch_cache_key",
    "qiskit_retry_delays",
    "qiskit_sampler_submit_cache_key",
    "run_estimator_task",
    "run_sampler_task",
    "should_retry_qiskit_fetch_failure",
    "submit_estimator_job_task",
    "submit_sampler_job_task",
]

_WRAPPERS = f"{__name__}.wrappers"
_FROM_WRAPPERS = frozenset({"QCSCEstimatorV2", "QCSCPrimitiveJob", "QCSCSamplerV2"})

# Where they are absent nothing may list them: ``import *`` and Prefect's search for blocks read
# every name that is listed.
if find_spec(_WRAPPERS) is not None:
    __all__ += ["QCSCEstimatorV2", "QCSCPrimitiveJob", "QCSCSamplerV2"]


def __getattr__(name: str) -> object:
    """Export the wrappers' names lazily: they come from a distribution that may be absent."""
    if name not in _FROM_WRAPPERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    try:
        wrappers = importlib.import_module(_WRAPPERS)
    except ModuleNotFoundError as error:
        if error.name != _WRAPPERS:
            raise
        raise ImportError(
            f"{name} comes from the distribution qcsc-prefect-wrappers, which is not installed: "
            "pip install 'qcsc-prefect-wrappers>=0.4'",
            name=_WRAPPERS,
        ) from error
    value: object = getattr(wrappers, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
