"""An emulated quantum service on the loopback interface, to test flows with the real client."""

from .accounts import EmulatedAccount, EmulatedInstance
from .exchange import Endpoint, RequestRecord
from .faults import Fault, FaultKind, Faults
from .jobs import JobRecord, JobState
from .service import ACCOUNT_NAME, EmulatedService

__all__ = [
    "ACCOUNT_NAME",
    "EmulatedAccount",
    "EmulatedInstance",
    "EmulatedService",
    "Endpoint",
    "Fault",
    "FaultKind",
    "Faults",
    "JobRecord",
    "JobState",
    "RequestRecord",
]
