"""An emulated quantum service on the loopback interface, to test flows with the real client.

`EmulatedService` answers the real, unmodified ``QiskitRuntimeService`` client: it runs what is
posted on a local simulator, counts requests, keeps what was submitted, and breaks on demand. It
listens on 127.0.0.1 only, forwards nothing anywhere, and keeps everything in memory.

.. code-block:: python

    with EmulatedService(backends=["fake_manila"], seed=7) as service, service.client_environment():
        config = QiskitRuntimeConfig(**service.runtime_config_fields())
        service.faults.close("submit", when="after")  # the job is accepted, the answer is lost
        ...  # run the flow
        assert len(service.jobs) == 1

The parts:

- `EmulatedService`: started as a context; where clients find it; its jobs, requests and faults.
- `Faults`: what can go wrong, as verbs, one for each kind of fault.
- `RandomFaults`: how often which of them strikes at random, the same ones for the same seed.
- `EmulatedAccount`, `EmulatedInstance`: who can sign in, and which jobs each of them sees.
- `RemoteEmulator`: the same verbs and records for a service in another process, which
  ``python -m qcsc_prefect.integrations.qiskit.testing`` starts.
- ``plugin``: the pytest fixture ``emulated_service``, for those who name it in ``pytest_plugins``.

The shapes of requests and answers follow the client's source and public documentation, not
recorded traffic of the real service.
"""

from qcsc_prefect.integrations.qiskit.testing.accounts import EmulatedAccount, EmulatedInstance
from qcsc_prefect.integrations.qiskit.testing.control import ServiceDescription
from qcsc_prefect.integrations.qiskit.testing.exchange import Endpoint, RequestRecord
from qcsc_prefect.integrations.qiskit.testing.fault_queue import Faults
from qcsc_prefect.integrations.qiskit.testing.faults import (
    Fault,
    FaultInjector,
    FaultKind,
    RateLimit,
)
from qcsc_prefect.integrations.qiskit.testing.jobs import JobEnd, JobRecord, JobState
from qcsc_prefect.integrations.qiskit.testing.random_faults import RandomFaults
from qcsc_prefect.integrations.qiskit.testing.remote import EmulatorControlError, RemoteEmulator
from qcsc_prefect.integrations.qiskit.testing.service import ACCOUNT_NAME, EmulatedService
from qcsc_prefect.integrations.qiskit.testing.sessions import SessionRecord

__all__ = [
    "ACCOUNT_NAME",
    "EmulatedAccount",
    "EmulatedInstance",
    "EmulatedService",
    "EmulatorControlError",
    "Endpoint",
    "Fault",
    "FaultInjector",
    "FaultKind",
    "Faults",
    "JobEnd",
    "JobRecord",
    "JobState",
    "RandomFaults",
    "RateLimit",
    "RemoteEmulator",
    "RequestRecord",
    "ServiceDescription",
    "SessionRecord",
]
