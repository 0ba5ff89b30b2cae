"""Checks that a vendor's service is one with which every job is paid for once.

`check_vendor` submits jobs through a vendor's own `JobService` while the vendor's own `Faults` go
wrong on purpose, counts what was made, and says what was not right. It needs neither Prefect nor
pytest.
"""

from qcsc_prefect.core.conformance.faults import (
    ConformanceReport,
    Faults,
    FaultUnavailableError,
    Finding,
)
from qcsc_prefect.core.conformance.scenarios import check_vendor

__all__ = [
    "ConformanceReport",
    "FaultUnavailableError",
    "Faults",
    "Finding",
    "check_vendor",
]
