"""What every vendor's tasks need of Prefect: records, locks, retries, the run they stand in.

It needs the extra ``qcsc-prefect-core[prefect]``, and nothing else in core imports it. Importing it
registers the serializer ``qcsc/primitive-result``; numpy, Qiskit and zstd are imported when the
first result is written or read.
"""

from qcsc_prefect.core.prefect.cached_results import cached_result
from qcsc_prefect.core.prefect.locks import hold_lock
from qcsc_prefect.core.prefect.records import (
    StoredResult,
    aread_result_record,
    awrite_result_record,
)
from qcsc_prefect.core.prefect.retries import retry_condition
from qcsc_prefect.core.prefect.serializer import SERIALIZER_TYPE, PrimitiveResultSerializer
from qcsc_prefect.core.prefect.task_runs import current_flow_name

__all__ = [
    "SERIALIZER_TYPE",
    "PrimitiveResultSerializer",
    "StoredResult",
    "aread_result_record",
    "awrite_result_record",
    "cached_result",
    "current_flow_name",
    "hold_lock",
    "retry_condition",
]
