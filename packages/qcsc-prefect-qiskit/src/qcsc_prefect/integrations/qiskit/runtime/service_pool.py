"""One native service for each configuration and process, shared by all its tasks.

Making a ``QiskitRuntimeService`` costs five requests on five connections, and a backend two or
three more. Both are made once here, in a thread, however many tasks on however many event loops
ask at the same moment. A backend is made anew after a while, because its calibration changes; a
service is made anew after the account service has refused its credentials.

Service objects cannot be pickled and must not cross a fork: a forked process starts with an empty
pool.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hmac
import os
import secrets
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from qcsc_prefect.integrations.qiskit.blocking_calls import run_blocking
from qcsc_prefect.integrations.qiskit.error_translation import translate_qiskit_error
from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from pydantic import SecretStr
    from qiskit_ibm_runtime import IBMBackend, QiskitRuntimeService

__all__ = ["BACKEND_LIFETIME", "ServiceConfig", "ServicePool", "get_service_pool"]

T = TypeVar("T")

#: Seconds for which a backend object is handed out before its configuration and its calibration
#: are read again. Devices are calibrated hourly at the most; three requests in this time are few.
BACKEND_LIFETIME = 300.0


class ServiceConfig(Protocol):
    """What the pool needs of a configuration; `QiskitRuntimeConfig` is one."""

    @property
    def token(self) -> SecretStr | None:
        """API key of the account, where the configuration holds one."""

    def identity(self) -> Mapping[str, str | None]:
        """Say which account and service the configuration leads to, without the token."""

    def get_service(self) -> QiskitRuntimeService:
        """Create the native service; blocks."""


@dataclass(eq=False)
class _MadeOnce(Generic[T]):
    """Something that is being made in a thread, or has been made."""

    made: Future[T] = field(default_factory=Future)
    made_at: float = 0.0

    def __post_init__(self) -> None:
        # A future that runs cannot be cancelled: one impatient task must not fail the others.
        self.made.set_running_or_notify_cancel()

    async def wait(self) -> T:
        return await asyncio.wrap_future(self.made)

    @property
    def age(self) -> float:
        return time.monotonic() - self.made_at if self.made.done() else 0.0


@dataclass(eq=False)
class _PooledService(_MadeOnce["QiskitRuntimeService"]):
    """A service with its backends.

    Attributes:
        backends: Backends by name.
        lookup: Held while a backend is looked up, which changes the service's active instance.
        replaces_refused: It was made because the one before was refused by the service, and no
            call has succeeded with it yet.
        replaces_empty: It was made because the one before did not know a backend.
    """

    backends: dict[str, _MadeOnce[IBMBackend]] = field(default_factory=dict)
    lookup: threading.Lock = field(default_factory=threading.Lock)
    replaces_refused: bool = False
    replaces_empty: bool = False


class ServicePool:
    """Services and backends by configuration.

    Every method may be called from any event loop and any thread. Nothing blocks the loop.

    Args:
        backend_lifetime: Seconds for which a backend object is handed out.
    """

    def __init__(self, *, backend_lifetime: float = BACKEND_LIFETIME) -> None:
        self._backend_lifetime = backend_lifetime
        self._services: dict[Hashable, _PooledService] = {}
        self._lock = threading.Lock()
        # Tells configurations with different tokens apart without keeping any token as a key.
        self._fingerprint_key = secrets.token_bytes(32)

    async def service(self, config: ServiceConfig) -> QiskitRuntimeService:
        """Return the service of a configuration, making it if there is none.

        Args:
            config: The configuration.

        Returns:
            The native service, the same object for equal configurations.

        Raises:
            QiskitRuntimeConfigError: If it cannot be made; the next call tries again.
        """
        return await self._pooled(config).wait()

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
        """
        from qiskit.providers.exceptions import QiskitBackendNotFoundError

        pooled = self._pooled(config)
        try:
            return await self._backend_of(pooled, name)
        except QiskitBackendNotFoundError:
            # The client says so for any fault, and a service that could not list its backends
            # when it was made never learns of them.
            again = self._replace(config, pooled, because_empty=True)
        try:
            return await self._backend_of(again, name)
        except QiskitBackendNotFoundError:
            service = await again.wait()
            raise await run_blocking(_why_not_found, service, name) from None

    async def call(self, config: ServiceConfig, function: Callable[[QiskitRuntimeService], T]) -> T:
        """Call a function with the service in a thread, once more with a new one if refused.

        Only for calls that may be repeated, such as reading: one that submits must decide by
        itself what an authorization failure means.

        Args:
            config: The configuration.
            function: What to call; it gets the native service and may block.

        Returns:
            What the function returned; what it raised is raised here.
        """
        from qiskit_ibm_runtime.exceptions import IBMNotAuthorizedError

        pooled = self._pooled(config)
        try:
            answer = await run_blocking(function, await pooled.wait())
        except IBMNotAuthorizedError:
            if pooled.replaces_refused:
                # The one before was refused as well: the credentials are wrong, not outdated.
                raise
            pooled = self._replace(config, pooled, because_refused=True)
            answer = await run_blocking(function, await pooled.wait())
        pooled.replaces_refused = False
        return answer

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
        def forget() -> None:
            with self._lock:
                if self._services.get(key) is pooled:
                    del self._services[key]

        _make(pooled, config.get_service, forget)

    async def _backend_of(self, pooled: _PooledService, name: str) -> IBMBackend:
        service = await pooled.wait()
        with self._lock:
            known = pooled.backends.get(name)
            if known is not None and known.age < self._backend_lifetime:
                wanted, load = known, None
            else:
                wanted = pooled.backends[name] = _MadeOnce()
                load = functools.partial(
                    _load_backend, service, name, pooled.lookup, again=known is not None
                )

        def forget() -> None:
            with self._lock:
                if pooled.backends.get(name) is wanted:
                    del pooled.backends[name]

        if load is not None:
            _make(wanted, load, forget)
        return await wanted.wait()

    def key(self, config: ServiceConfig) -> Hashable:
        """Return what two configurations have in common if they share a service.

        Meaningful in this process only; no token can be found from it.
        """
        token = config.token.get_secret_value() if config.token else ""
        fingerprint = hmac.digest(self._fingerprint_key, token.encode(), "sha256")
        return (tuple(sorted(config.identity().items())), fingerprint)


def _make(product: _MadeOnce[T], make: Callable[[], T], forget: Callable[[], None]) -> None:
    """Make a product in a thread of its own.

    The thread belongs to no event loop: tasks of several loops may wait for the product, and the
    one that began may be cancelled, with its loop, before it is made.
    """

    def settle() -> None:
        try:
            made = make()
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to those who wait
            forget()
            product.made.set_exception(error)
        else:
            product.made_at = time.monotonic()
            product.made.set_result(made)

    in_context = functools.partial(contextvars.copy_context().run, settle)
    threading.Thread(target=in_context, name="qcsc-prefect-service-pool", daemon=True).start()


def _holds(pooled: _PooledService, service: QiskitRuntimeService) -> bool:
    made = pooled.made
    return made.done() and made.exception() is None and made.result() is service


def _load_backend(
    service: QiskitRuntimeService, name: str, lookup: threading.Lock, *, again: bool
) -> IBMBackend:
    from qiskit.exceptions import QiskitError
    from qiskit.providers.exceptions import QiskitBackendNotFoundError
    from requests.exceptions import RequestException

    try:
        with lookup:
            backend = service.backend(name)
        if again:
            # The service keeps the configuration for its life; a new object needs a new one.
            backend.refresh()
        # Loads the calibration; threads that share the object would each load it otherwise.
        backend.target  # noqa: B018
    except QiskitBackendNotFoundError:
        raise
    except (QiskitError, RequestException) as error:
        raise translate_qiskit_error(
            error, job_id=None, backend_name=name, doing="Reading the backend"
        ) from None
    return backend


def _why_not_found(service: QiskitRuntimeService, name: str) -> Exception:
    """Return the error that says why a backend was not found, asking the service once more.

    The client says "not found" for every fault. A request that it lets fail openly tells whether
    there is one; if there is none, the name is wrong.
    """
    from qiskit.exceptions import QiskitError
    from requests.exceptions import RequestException

    try:
        service.usage()
        known = sorted(backend.name for backend in service.backends())
    except (QiskitError, RequestException) as error:
        return translate_qiskit_error(
            error, job_id=None, backend_name=name, doing="Looking up the backend"
        )
    listed = ", ".join(known) or "none"
    return QiskitRuntimeConfigError(
        f"Tried to get backend {name!r}: the service answers, but this account and instance have "
        f"no backend of that name. They have: {listed}. Check backend_name and instance."
    )


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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_in_child)
