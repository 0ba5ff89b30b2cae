"""How outputs of tasks are stored: core's records and archives, and the client's own types.

Importing this package registers the serializer ``qcsc/primitive-result`` with Prefect. Numpy,
Qiskit and zstd are imported when the first result is written or read.
"""

from qcsc_prefect.core.container.archive import describe_result, load_result, save_result
from qcsc_prefect.core.prefect import (
    SERIALIZER_TYPE,
    PrimitiveResultSerializer,
    StoredResult,
    aread_result_record,
    awrite_result_record,
)

__all__ = [
    "SERIALIZER_TYPE",
    "PrimitiveResultSerializer",
    "StoredResult",
    "aread_result_record",
    "awrite_result_record",
    "describe_result",
    "load_result",
    "save_result",
]
