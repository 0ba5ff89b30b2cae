"""One native service for each configuration and process, shared by all its tasks.

Making a ``QiskitRuntimeService`` costs five requests on five connections, and a backend two or
three more. Both are made once here, in a thread, however many tasks on however many event loops
ask at the same moment. A backend is made anew after a while, because its calibration changes; a
service is made anew after the account service has refused its credentials.

Service objects cannot be pickled and must not cross a fork: a forked process starts with an empty
pool.
"""

from __future__ import annotations

import functools
import os
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.services.connections.backend_lookup import (
    load_backend,
    why_not_found,
)
from qcsc_prefect.integrations.qiskit.services.connections.client_threads import ClientThreads
from qcsc_prefect.integrations.qiskit.services.connections.made_once import MadeOnce, make_once
from qcsc_prefect.integrations.qiskit.services.connections.wire_limits import WireLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from qiskit_ibm_runtime import IBMBackend, QiskitRuntimeService

__all__ = ["BACKEND_LIFETIME", "MAKING_SECONDS", "ServiceConfig", "ServicePool", "get_service_pool"]

T = TypeVar("T")

#: Seconds for which a backend object is handed out before its configuration and its calibration
#: are read again. Devices are calibrated hourly at the most; three requests in this time are few.
BACKEND_LIFETIME = 300.0

#: Seconds within which a service or backend must be made. Requests have limits of their own; a
#: configuration with a ``get_service`` or ``get_backend`` of its own may wait for something else.
MAKING_SECONDS = 900.0


class ServiceConfig(Protocol):
    """What the pool needs of a configuration; `QiskitRuntimeConfig` is one."""

    def service_fingerprint(self, key: bytes) -> bytes:
        """Return what two configurations have in common if their services would be alike."""

    def get_service(self) -> QiskitRuntimeService:
        """Create the native service; blocks."""

    def own_get_backend(self) -> Callable[[], IBMBackend] | None:
        """Return what makes the backend instead of the service, where there is such a thing."""

    def secrets(self) -> tuple[str, ...]:
        """Return texts that must stand in no message."""


@dataclass(eq=False)
class _PooledService(MadeOnce["QiskitRuntimeService"]):
    """A service with its backends.

    Attributes:
        backends: Backends by name.
        lookup: Held while a backend is looked up, which changes the service's active instance.
        threads: Where the service is called.
        replaces_refused: It was made because the one before was refused by the service, and no
            call has succeeded with it yet.
        replaces_empty: It was made because the one before did not know a backend.
    """

    backends: dict[str, MadeOnce[IBMBackend]] = field(default_factory=dict)
    lookup: threading.Lock = field(default_factory=threading.Lock)
    threads: ClientThreads = field(default_factory=ClientThreads)
    replaces_refused: bool = False
    replaces_empty: bool = False


class ServicePool:
    """Services and backends by configuration.

    Every method may be called from any event loop and any thread. Nothing blocks the loop.

    Args:
        backend_lifetime: Seconds for which a backend object is handed out.
        making_seconds: Seconds within which a service or backend must be made.
    """

    def __init__(
        self,
        *,
        backend_lifetime: float = BACKEND_LIFETIME,
        making_seconds: float = MAKING_SECONDS,
    ) -> None:
        self._backend_lifetime = backend_lifetime
        self._making_seconds = making_seconds
        self._services: dict[Hashable, _PooledService] = {}
        self._lock = threading.Lock()
        # Tells configurations with different credentials apart without keeping any as a key.
        self._fingerprint_key = secrets.token_bytes(32)

    async def service(self, config: ServiceConfig) -> QiskitRuntimeService:
        """Return the service of a configuration, making it if there is none.

        Args:
            config: The configuration.

        Returns:
            The native service, the same object for equal configurations.

        Raises:
            QiskitRuntimeConfigError: If it cannot be made; the next call tries again.
            TimeoutError: If it is not made in time.
        """
        return await self._made(config, self._pooled(config))

    async def backend(self, config: ServiceConfig, name: str) -> IBMBackend:
        """Return a backend of the configuration's service, its target loaded.

        Args:
            config: The configuration.
            name: Name of the backend.

        Returns:
            The native backend, the same object for the length of the pool's backend lifetime.

        Raises:
            QiskitRuntimeConfigError: If the service cannot be made, or has no such backend.
            JobError: If the service could not be asked; it carries the facts.
            TimeoutError: If the service does not answer.
        """
        from qiskit.providers.exceptions import QiskitBackendNotFoundError

        pooled = self._pooled(config)
        try:
            return await self._backend_of(config, pooled, name)
        except QiskitBackendNotFoundError:
            # The client says so for any fault, and a service that could not list its backends
            # when it was made never learns of them.
            again = self._replace(config, pooled, because_empty=True)
        try:
            return await self._backend_of(config, again, name)
        except QiskitBackendNotFoundError:
            why = functools.partial(why_not_found, name=name, lookup=again.lookup)
            error = await self._call(config, again, why, None)
        if not isinstance(error, QiskitRuntimeConfigError):
            # What the client was told while the fault lasted, it may have kept.
            self._forget(self.key(config), again)
        raise error

    def made(self, config: ServiceConfig) -> QiskitRuntimeService | None:
        """Return the service of a configuration where there is one already; waits for nothing."""
        with self._lock:
            pooled = self._services.get(self.key(config))
        if pooled is None or not pooled.made.done() or pooled.made.exception() is not None:
            return None
        return pooled.made.result()

    async def call(
        self,
        config: ServiceConfig,
        function: Callable[[QiskitRuntimeService], T],
        *,
        seconds: float | None = None,
    ) -> T:
        """Call a function with the service in a thread, once more with a new one if refused.

        Only for calls that may be repeated, such as reading; `call_backend` calls once.

        Args:
            config: The configuration.
            function: What to call; it gets the native service and may block.
            seconds: How long to wait for it; None until it ends.

        Returns:
            What the function returned; what it raised is raised here.

        Raises:
            TimeoutError: If it does not end in time.
        """
        from qiskit_ibm_runtime.exceptions import IBMNotAuthorizedError

        pooled = self._pooled(config)
        try:
            answer = await self._call(config, pooled, function, seconds)
        except IBMNotAuthorizedError:
            if pooled.replaces_refused:
                # The one before was refused as well: the credentials are wrong, not outdated.
                raise
            pooled = self._replace(config, pooled, because_refused=True)
            answer = await self._call(config, pooled, function, seconds)
        pooled.replaces_refused = False
        return answer

    async def call_backend(
        self,
        config: ServiceConfig,
        name: str,
        function: Callable[[IBMBackend], T],
    ) -> T:
        """Call a function with a backend in a thread, once, whatever comes of it.

        Args:
            config: The configuration.
            name: Name of the backend.
            function: What to call; it gets the native backend and may block.

        Returns:
            What the function returned; what it raised is raised here.

        Raises:
            QiskitRuntimeConfigError: If the service cannot be made, or has no such backend.
            JobError: If the service could not be asked for the backend.
            TimeoutError: If the backend cannot be made in time.
        """
        backend = await self.backend(config, name)
        return await self._pooled(config).threads.call(function, backend)

    async def _call(
        self,
        config: ServiceConfig,
        pooled: _PooledService,
        function: Callable[[QiskitRuntimeService], T],
        seconds: float | None,
    ) -> T:
        service = await self._made(config, pooled)
        return await pooled.threads.call(function, service, seconds=seconds)

    async def _made(self, config: ServiceConfig, pooled: _PooledService) -> QiskitRuntimeService:
        try:
            return await pooled.wait(self._making_seconds)
        except TimeoutError:
            self._forget(self.key(config), pooled)
        raise TimeoutError(f"no service could be made for {self._making_seconds:g} s")

    def discard(self, config: ServiceConfig, service: QiskitRuntimeService | None = None) -> None:
        """Forget the service of a configuration and its backends; the next call makes new ones.

        Args:
            config: The configuration.
            service: The service that failed. If another one has taken its place in the meantime,
                that one is kept; None forgets whichever there is.
        """
        key = self.key(config)
        with self._lock:
            pooled = self._services.get(key)
            if pooled is None or (service is not None and not _holds(pooled, service)):
                return
            del self._services[key]

    def clear(self) -> None:
        """Forget all services and backends."""
        with self._lock:
            self._services.clear()

    def _pooled(self, config: ServiceConfig) -> _PooledService:
        key = self.key(config)
        with self._lock:
            pooled = self._services.get(key)
            if pooled is not None:
                return pooled
            pooled = self._services[key] = _PooledService()
        self._make_service(config, key, pooled)
        return pooled

    def _replace(
        self,
        config: ServiceConfig,
        failed: _PooledService,
        *,
        because_refused: bool = False,
        because_empty: bool = False,
    ) -> _PooledService:
        """Return a service made after `failed`; of many callers that failed, one makes it."""
        key = self.key(config)
        with self._lock:
            current = self._services.get(key)
            if current is not None and current is not failed:
                return current
            if because_empty and failed.replaces_empty and failed.age < self._backend_lifetime:
                return failed
            current = self._services[key] = _PooledService(
                replaces_refused=because_refused, replaces_empty=because_empty
            )
        self._make_service(config, key, current)
        return current

    def _make_service(self, config: ServiceConfig, key: Hashable, pooled: _PooledService) -> None:
        def make() -> QiskitRuntimeService:
            # Imports the client, which takes seconds; in this thread it may.
            from qcsc_prefect.integrations.qiskit.services.connections.owned_service import (
                own_service,
            )
            from qcsc_prefect.integrations.qiskit.services.connections.wire import wait_out

            def attempt() -> QiskitRuntimeService:
                service = config.get_service()
                own_service(service)  # where a configuration makes its service by itself
                return service

            return wait_out(
                attempt,
                patience=WireLimits.current().patience,
                doing="Opening the service",
            )

        make_once(pooled, make, functools.partial(self._forget, key, pooled))

    def _forget(self, key: Hashable, pooled: _PooledService) -> None:
        with self._lock:
            if self._services.get(key) is pooled:
                del self._services[key]

    async def _backend_of(
        self, config: ServiceConfig, pooled: _PooledService, name: str
    ) -> IBMBackend:
        service = await self._made(config, pooled)
        with self._lock:
            known = pooled.backends.get(name)
            if known is not None and known.age < self._backend_lifetime:
                wanted, load = known, None
            else:
                wanted = pooled.backends[name] = MadeOnce()
                load = functools.partial(
                    load_backend,
                    service,
                    name,
                    pooled.lookup,
                    again=known is not None,
                    own=config.own_get_backend(),
                    secrets=config.secrets(),
                )

        def forget() -> None:
            with self._lock:
                if pooled.backends.get(name) is wanted:
                    del pooled.backends[name]

        if load is not None:
            make_once(wanted, load, forget)
        try:
            return await wanted.wait(self._making_seconds)
        except TimeoutError:
            # Its thread may hang for ever, and holds the lock of all lookups.
            self._forget(self.key(config), pooled)
        raise TimeoutError(f"backend {name} could not be read for {self._making_seconds:g} s")

    def key(self, config: ServiceConfig) -> Hashable:
        """Return what two configurations have in common if they share a service.

        Meaningful in this process only; no token can be found from it.
        """
        return config.service_fingerprint(self._fingerprint_key)


def _holds(pooled: _PooledService, service: QiskitRuntimeService) -> bool:
    made = pooled.made
    return made.done() and made.exception() is None and made.result() is service


_pool_lock = threading.Lock()
_pool: ServicePool | None = None


def get_service_pool() -> ServicePool:
    """Return the pool of this process.

    Example:
        >>> get_service_pool() is get_service_pool()
        True
    """
    global _pool  # noqa: PLW0603 - one for each process is what it is for
    with _pool_lock:
        if _pool is None:
            _pool = ServicePool()
        return _pool


def _start_anew_in_child() -> None:
    # A lock may have been held by a thread that does not exist here, and connections that two
    # processes share would mix up their answers.
    global _pool, _pool_lock  # noqa: PLW0603
    _pool_lock = threading.Lock()
    _pool = None


os.register_at_fork(after_in_child=_start_anew_in_child)
