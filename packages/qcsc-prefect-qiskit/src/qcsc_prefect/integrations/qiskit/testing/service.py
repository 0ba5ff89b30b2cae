"""The emulated service as one object: started, pointed at, looked into, broken on purpose."""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit.testing.accounts import AccessTokens, EmulatedAccount
from qcsc_prefect.integrations.qiskit.testing.backends import emulated_backends
from qcsc_prefect.integrations.qiskit.testing.control import Control, ServiceDescription
from qcsc_prefect.integrations.qiskit.testing.dispatcher import Dispatcher, RequestLog
from qcsc_prefect.integrations.qiskit.testing.endpoints import Endpoints, offered_backends
from qcsc_prefect.integrations.qiskit.testing.exchange import endpoint_named
from qcsc_prefect.integrations.qiskit.testing.fault_queue import Faults
from qcsc_prefect.integrations.qiskit.testing.job_endpoints import JobEndpoints
from qcsc_prefect.integrations.qiskit.testing.job_store import JobStore
from qcsc_prefect.integrations.qiskit.testing.jobs import Schedule
from qcsc_prefect.integrations.qiskit.testing.random_faults import drawn_by
from qcsc_prefect.integrations.qiskit.testing.runner import Simulation
from qcsc_prefect.integrations.qiskit.testing.server import EmulatorServer
from qcsc_prefect.integrations.qiskit.testing.sessions import SessionStore
from qcsc_prefect.integrations.qiskit.testing.tls import EMULATED_DOMAIN, TLSEnd

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from qcsc_prefect.integrations.qiskit.testing.exchange import Endpoint, RequestRecord
    from qcsc_prefect.integrations.qiskit.testing.jobs import JobRecord
    from qcsc_prefect.integrations.qiskit.testing.random_faults import RandomFaults
    from qcsc_prefect.integrations.qiskit.testing.sessions import SessionRecord

ACCOUNT_NAME = "emulated"
"""The name of the account in the files that `EmulatedService.account_file` writes."""


class EmulatedService:
    """The quantum service on the loopback interface, for the real, unmodified client.

    It runs what is posted on a local simulator and answers in the service's own encoding. It
    listens on 127.0.0.1 only, forwards nothing, and keeps everything in memory.

    Args:
        backends: Names of the client package's recorded devices, such as ``fake_manila``; or a
            mapping from the names that clients shall see to such names.
        accounts: Who can sign in; by default one new account with one instance.
        seed: With a seed, equal jobs give equal samples; None draws new samples for each job.
        random_faults: Faults that strike at random from the start until they are cleared; which
            ones, the seed decides.
        noise: Whether the recorded noise of the devices is simulated (needs Qiskit Aer).
        queued_seconds: How long each job is queued; ``math.inf`` until `release_jobs` is called.
        running_seconds: How long each job runs at least.
        workers: How many threads simulate.
        token_lifetime: How long an access token is good, in seconds.
        port: The port to listen on; 0 takes a free one.

    Raises:
        ConfigurationError: A backend is not known, an account has no instance, or there are random
            faults without a seed.

    Example:
        >>> from qcsc_prefect.integrations.qiskit.testing import EmulatedService
        >>> with EmulatedService(backends=["fake_manila"], seed=7) as service:
        ...     fields = service.runtime_config_fields(backend_name="fake_manila")
        >>> sorted(fields)
        ['backend_name', 'channel', 'instance', 'token', 'url']
    """

    def __init__(
        self,
        backends: Sequence[str] | Mapping[str, str] = ("fake_manila",),
        *,
        accounts: Sequence[EmulatedAccount] | None = None,
        seed: int | None = None,
        random_faults: RandomFaults | None = None,
        noise: bool = False,
        queued_seconds: float = 0.0,
        running_seconds: float = 0.0,
        workers: int = 2,
        token_lifetime: float = 3600.0,
        port: int = 0,
    ) -> None:
        self.accounts = tuple(accounts) if accounts is not None else (EmulatedAccount(),)
        self.faults = Faults(drawn_by(random_faults, seed))
        self._backends = emulated_backends(backends)
        _check_accounts(self.accounts, self._backends)
        self._port = port
        self._log = RequestLog()
        self._tls = TLSEnd()
        self._tokens = AccessTokens(self.accounts, token_lifetime)
        self._store = JobStore(
            Simulation(seed, noise), Schedule(queued_seconds, running_seconds), workers
        )
        self._sessions = SessionStore()
        job_endpoints = JobEndpoints(
            self._store,
            lambda caller: offered_backends(caller.instance, self._backends),
            self.faults,
            self._sessions,
        )
        endpoints = Endpoints(self.accounts, self._tokens, self._backends, job_endpoints)
        self._dispatcher = Dispatcher(endpoints, self.faults, self._log)
        self._server: EmulatorServer | None = None

    def start(self) -> Self:
        """Start to listen; entering the object as a context does the same.

        Raises:
            ConfigurationError: It was started before; a closed one cannot be started again.
        """
        if self._server is not None:
            raise ConfigurationError("The emulated service was started before.")
        control = Control(
            lambda: self.description,
            self.faults,
            self._store,
            self._log,
            self.revoke_access_tokens,
        )
        self._server = EmulatorServer(
            self._port,
            self._dispatcher,
            control,
            self._tls,
            lambda: self._store.clock_ahead,
        )
        threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="emulated-service",
            daemon=True,
        ).start()
        return self

    def close(self) -> None:
        """Stop listening and running jobs; what was noted stays readable."""
        self.faults.clear()
        self._store.close()
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EmulatedService of {', '.join(self._backends)}>"

    @property
    def root_url(self) -> str:
        """The address of the server, which is also that of the proxy and the token service."""
        if self._server is None:
            raise ConfigurationError("The emulated service has not been started.")
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def url(self) -> str:
        """The URL for the client's ``url``, to be used with `environment`."""
        # The client leaves a URL as it is only if this word stands in it.
        return f"{self.root_url}/experimental/api/v1"

    @property
    def token(self) -> str:
        """The API key of the first account."""
        return self.accounts[0].token

    @property
    def instance(self) -> str:
        """The CRN of the first instance of the first account."""
        return self.accounts[0].instances[0].crn

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which the client finds `url`.

        ``no_proxy`` is among them, since a proxy of the machine's own could not reach the service.
        """
        past_proxies = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        return {
            "IAM_URL": self.root_url,
            "QISKIT_FUNCTIONS_EXPERIMENTAL": "1",
            "no_proxy": f"{past_proxies},127.0.0.1" if past_proxies else "127.0.0.1",
        }

    @property
    def account_environment(self) -> dict[str, str]:
        """`environment`, and the variables in which the client looks for its account.

        With them ``QiskitRuntimeService()`` and ``QiskitRuntimeConfig(backend_name=...)`` lead
        here, in the name of the first account.
        """
        return self.environment | {
            "QISKIT_IBM_CHANNEL": "ibm_quantum_platform",
            "QISKIT_IBM_TOKEN": self.token,
            "QISKIT_IBM_URL": self.url,
            "QISKIT_IBM_INSTANCE": self.instance,
        }

    @contextmanager
    def client_environment(self) -> Iterator[None]:
        """Set `environment` in this process for the length of a with statement."""
        changed = self.environment
        before = {name: os.environ.get(name) for name in changed}
        os.environ.update(changed)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    @property
    def description(self) -> ServiceDescription:
        """What another process must know to point a client at this service."""
        return ServiceDescription(
            root_url=self.root_url,
            url=self.url,
            environment=self.environment,
            token=self.token,
            instance=self.instance,
            backends=list(self._backends),
        )

    def runtime_config_fields(
        self,
        *,
        backend_name: str | None = None,
        account: EmulatedAccount | None = None,
        instance: str | None = None,
    ) -> dict[str, str]:
        """Return the fields of a ``QiskitRuntimeConfig`` that reaches this service.

        The variables of `environment` must be set where the client runs. Without
        ``backend_name`` the fields are arguments of ``QiskitRuntimeService`` as well.

        Args:
            backend_name: The backend; by default the first one.
            account: The account; by default the first one.
            instance: The CRN of one of its instances; by default its first one.
        """
        account = account or self.accounts[0]
        return {
            "channel": "ibm_quantum_platform",
            "token": account.token,
            "url": self.url,
            "instance": instance or account.instances[0].crn,
            "backend_name": backend_name or next(iter(self._backends)),
        }

    def account_file(
        self,
        path: Path | str,
        *,
        account: EmulatedAccount | None = None,
        instance: str | None = None,
    ) -> Path:
        """Write a saved account with which the client reaches this service as if by a proxy.

        No environment variable is needed: the client asks for made-up hosts, through this
        service as its proxy, and finds its instances as it would on the real service. The
        account is called `ACCOUNT_NAME`.

        Args:
            path: The file to write; it is replaced.
            account: The account; by default the first one.
            instance: The CRN of one of its instances, by default its first one; ``"auto"`` lets
                the client choose.
        """
        account = account or self.accounts[0]
        saved = {
            "channel": "ibm_quantum_platform",
            "url": f"http://{EMULATED_DOMAIN}",
            "token": account.token,
            "instance": instance or account.instances[0].crn,
            "proxies": {"urls": {"http": self.root_url, "https": self.root_url}},
            "verify": False,
            "private_endpoint": False,
        }
        path = Path(path)
        path.write_text(json.dumps({ACCOUNT_NAME: saved}, indent=2), encoding="utf-8")
        return path

    def certificate_file(self, path: Path | str) -> Path:
        """Write the certificate with which TLS for the service's own hosts ends here.

        With ``HTTPS_PROXY`` set to `root_url` and ``REQUESTS_CA_BUNDLE`` to this file, a client
        that was told nothing but a token and an instance reaches this service.

        Args:
            path: The file to write; it is replaced.
        """
        path = Path(path)
        path.write_bytes(self._tls.certificate)
        return path

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The requests that arrived, the oldest first."""
        return self._log.records

    def count(self, endpoint: Endpoint | str | None = None) -> int:
        """Return how many requests arrived at one endpoint, or at all of them."""
        wanted = None if endpoint is None else endpoint_named(endpoint)
        return sum(record.endpoint == wanted or wanted is None for record in self.requests)

    def clear_requests(self) -> None:
        """Forget the requests that arrived, to count anew."""
        self._log.clear()

    @property
    def jobs(self) -> tuple[JobRecord, ...]:
        """The jobs that were created, the oldest first, each as it is now."""
        return tuple(job.record() for job in self._store.all())

    @property
    def sessions(self) -> tuple[SessionRecord, ...]:
        """The sessions and batches that were opened, the oldest first, each as it is now."""
        return self._sessions.records

    def restore_jobs(self, jobs: Iterable[JobRecord]) -> None:
        """Take jobs that another emulated service had, as its `jobs` showed them.

        Each keeps its id, tags and age, and is simulated again unless it failed.

        Args:
            jobs: The jobs; an account of this service should have their instances.

        Raises:
            ConfigurationError: There is a job with such an id already, or no such backend.
        """
        for job in jobs:
            backend = self._backends.get(job.backend)
            if backend is None:
                raise ConfigurationError(
                    f"Job {job.id} ran on {job.backend!r}, which this emulated service has not."
                )
            self._store.restore(job, backend)

    def set_schedule(self, *, queued_seconds: float = 0.0, running_seconds: float = 0.0) -> None:
        """Set how long jobs that are submitted from now on are queued and run."""
        self._store.schedule = Schedule(queued_seconds, running_seconds)

    def set_clock(self, *, ahead_seconds: float) -> None:
        """Let the service's clock, by which it dates jobs from now on, be ahead of this machine's.

        Args:
            ahead_seconds: How far; negative for a clock that is behind.
        """
        self._store.clock_ahead = timedelta(seconds=ahead_seconds)

    def release_jobs(self, job_id: str | None = None) -> None:
        """Let one job, or all there are, end as soon as they have been simulated."""
        self._store.release(job_id)

    @property
    def access_tokens(self) -> tuple[str, ...]:
        """Every access token given out so far: look for them where no credential may stand."""
        return self._tokens.issued

    def revoke_access_tokens(self) -> None:
        """Answer 401 to every access token given out so far; new ones can be had."""
        self._tokens.revoke_all()


def _check_accounts(accounts: Sequence[EmulatedAccount], backends: Mapping[str, object]) -> None:
    if not accounts:
        raise ConfigurationError("An emulated service needs at least one account.")
    for account in accounts:
        if not account.instances:
            raise ConfigurationError(f"The account {account.user_id!r} has no instance.")
        for instance in account.instances:
            missing = [name for name in instance.backends or () if name not in backends]
            if missing:
                raise ConfigurationError(
                    f"The instance {instance.name!r} offers {', '.join(missing)}, "
                    f"which the emulated service does not have."
                )
