"""Facades that look like Qiskit's primitives, and hand everything to Prefect tasks.

A program written for ``SamplerV2`` or ``EstimatorV2`` becomes a flow by two changes: the primitive
is a `QCSCSamplerV2` or `QCSCEstimatorV2`, made from a configuration instead of a backend, and its
calls are awaited. Behind each ``run`` stands a submit task, behind each ``result`` a fetch task;
the facades add nothing but the choice of those tasks and of their options.

For synchronous flows every coroutine method has a twin whose name ends in ``_sync``.
"""

from qcsc_prefect.integrations.qiskit.wrappers.estimator import QCSCEstimatorV2
from qcsc_prefect.integrations.qiskit.wrappers.job import QCSCPrimitiveJob
from qcsc_prefect.integrations.qiskit.wrappers.sampler import QCSCSamplerV2

__all__ = ["QCSCEstimatorV2", "QCSCPrimitiveJob", "QCSCSamplerV2"]

# Pickles and documentation name the public path.
QCSCEstimatorV2.__module__ = __name__
QCSCPrimitiveJob.__module__ = __name__
QCSCSamplerV2.__module__ = __name__
