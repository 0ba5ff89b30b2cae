"""What every vendor's tasks need of Prefect: storage, records, locks, the run they stand in.

It needs the extra ``qcsc-prefect-core[prefect]``, and nothing else in core imports it. Importing it
registers the serializer ``qcsc/primitive-result``; numpy, Qiskit and zstd are imported when the
first result is written or read.
"""

from qcsc_prefect.core.prefect.records import (
    StoredResult,
    aread_result_record,
    awrite_result_record,
)
from qcsc_prefect.core.prefect.serializer import SERIALIZER_TYPE, PrimitiveResultSerializer

__all__ = [
    "SERIALIZER_TYPE",
    "PrimitiveResultSerializer",
    "StoredResult",
    "aread_result_record",
    "awrite_result_record",
]
