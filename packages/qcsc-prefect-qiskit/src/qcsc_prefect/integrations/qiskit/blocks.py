"""The Prefect block that says through which account and on which backend jobs run."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from prefect.blocks.core import Block
from prefect.types import SecretDict  # noqa: TC002 - a field's type is read at run time
from pydantic import (
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.errors.config_failures import config_failure
from qcsc_prefect.integrations.qiskit.inputs.nearest_names import did_you_mean
from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import (
    PrimitiveImplementation,
    RequestedPrimitives,
    choose_primitives,
)
from qcsc_prefect.integrations.qiskit.services.config_fields import (
    is_length_of_time,
    named_choice,
    reasons_of,
    refuse_bad_fields,
    stripped,
    without_unknown_fields,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.schemas.objects import BlockDocument
    from qiskit.providers import BackendV2
    from qiskit_ibm_runtime import QiskitRuntimeService

    from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName

__all__ = ["QiskitRuntimeConfig"]


class QiskitRuntimeConfig(Block):
    """Configuration needed to create native Qiskit Runtime objects.

    The block stores only what is needed to construct native ``qiskit_ibm_runtime`` objects. It does
    not reimplement the client. Every field that is left out keeps the client's own default: without
    ``token`` the client looks for a saved account file and for its environment variables.

    ``channel="local"`` needs no account: jobs run on this machine, on the fake backend (or
    ``aer_simulator``, with the ``aer`` extra) that ``backend_name`` names.

    ``mode="batch"`` and ``mode="session"`` put the jobs of each flow run into one batch or session,
    which is closed when the run ends; see `qcsc_prefect.integrations.qiskit.execution_modes`. They
    do nothing on the channel ``local``.

    A subclass may have a ``get_service`` or ``get_backend`` of its own, for example to choose the
    least busy device: the tasks call them, in a thread. On the channel ``local`` they call
    ``get_backend``, in every process that runs the job.

    Example:
        >>> config = QiskitRuntimeConfig(channel="local", backend_name="fake_manila")
        >>> config.get_backend().num_qubits
        5
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # it may be a token

    _block_type_name = "Qiskit Runtime Config"
    _block_type_slug = "qiskit-runtime-config"

    backend_name: str | None = Field(
        default=None, description="Backend on which jobs run, for example ibm_kawasaki."
    )
    channel: Literal["local", "ibm_quantum_platform", "ibm_cloud"] | None = Field(
        default=None, description="Channel of the client; 'local' runs on this machine."
    )
    instance: str | None = Field(default=None, description="Service instance: its CRN or name.")
    token: SecretStr | None = Field(default=None, description="API key of the account.")
    url: str | None = Field(default=None, description="URL of the service, if not the default.")
    account_name: str | None = Field(default=None, description="Name of a saved account.")
    filename: str | None = Field(default=None, description="File that holds saved accounts.")
    proxies: SecretDict | None = Field(
        default=None, description="Proxy settings in the client's own form."
    )
    verify: bool | None = Field(
        default=None, description="Whether the server's TLS certificate is verified."
    )
    private_endpoint: bool | None = Field(
        default=None, description="Whether to connect through a private endpoint."
    )
    region: str | None = Field(default=None, description="Preferred region of instances.")
    plans_preference: list[str] | None = Field(
        default=None, description="Plans in the order in which instances are preferred."
    )
    primitives: RequestedPrimitives = Field(
        default="auto",
        description="The client's 'classic' SamplerV2 and EstimatorV2, or its 'client_side' ones; "
        "'auto' takes what these names of the installed client stand for.",
    )
    mode: Literal["job", "batch", "session"] = Field(
        default="job",
        description="Execution mode: jobs by themselves, or those of a flow run in one batch or "
        "session.",
    )
    max_time: int | str | None = Field(
        default=None,
        description="Longest time that a batch or session stays open, in seconds or as '2h 30m'.",
    )

    def __init__(self, **fields: Any) -> None:
        refuse_bad_fields(fields, type(self).model_fields)
        super().__init__(**fields)

    @classmethod
    def model_validate(cls, obj: Any, **how: Any) -> Self:
        """Make a configuration of stored fields, as Prefect does of a saved block.

        Fields that this version does not have are passed over with a warning.

        Args:
            obj: The fields.
            **how: As for any model of pydantic.

        Returns:
            The configuration.
        """
        if isinstance(obj, Mapping):
            obj = without_unknown_fields(obj, cls.model_fields)
        return super().model_validate(obj, **how)

    @field_validator(
        "backend_name", "instance", "url", "account_name", "filename", "region", mode="before"
    )
    @classmethod
    def _named(cls, value: object) -> object:
        return stripped(value) if isinstance(value, str) else value

    @field_validator("token", mode="before")
    @classmethod
    def _spelt(cls, value: object) -> object:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        return SecretStr(stripped(text)) if isinstance(text, str) else value

    @field_validator("plans_preference")
    @classmethod
    def _plans(cls, value: list[str] | None) -> list[str] | None:
        return None if value is None else [stripped(plan) for plan in value]

    @field_validator("max_time")
    @classmethod
    def _length_of_time(cls, value: int | str | None) -> int | str | None:
        if value is None or is_length_of_time(value):
            return value
        raise ValueError(
            f"{value!r} is no length of time; write seconds, such as 7200, or a text such as "
            "'2h 30m'"
        )

    @field_validator("channel", "primitives", "mode", mode="before")
    @classmethod
    def _chosen(cls, value: object, info: ValidationInfo) -> object:
        return named_choice(value, cls.model_fields[str(info.field_name)].annotation)

    @classmethod
    def _load_from_block_document(
        cls,
        block_document: BlockDocument,
        validate: bool = True,  # noqa: FBT001, FBT002 - Prefect's own signature
    ) -> Self:
        # What Prefect says of a block that is refused names neither the field nor the way out.
        try:
            return super()._load_from_block_document(block_document, validate=validate)
        except RuntimeError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            reasons = reasons_of(error.__cause__)
        raise QiskitRuntimeConfigError(
            f"The QiskitRuntimeConfig block {block_document.name!r} cannot be used: {reasons}. "
            "Mend it in the Prefect UI, or save it anew: "
            "QiskitRuntimeConfig(...).save(name, overwrite=True), in a notebook and in async code "
            "await ...asave(name, overwrite=True)."
        )

    def get_service(self) -> QiskitRuntimeService:
        """Create a native ``QiskitRuntimeService`` from the configured fields.

        The call sends several requests and waits for them; in async code run it in a thread.

        Returns:
            A native ``qiskit_ibm_runtime.QiskitRuntimeService``; for the channel ``local`` the
            client's own local service.

        Raises:
            QiskitRuntimeConfigError: If the service cannot be created.
        """
        given = self._service_arguments()
        try:
            return self._made_service(given)
        except Exception as error:  # noqa: BLE001 - the client lets out errors of any kind
            described = ", ".join(sorted(given)) or "nothing (saved account or environment)"
            # Its name and port alone: what stands before them in a URL may be a password.
            host = urlsplit(self.url).netloc.rpartition("@")[2] if self.url else ""
            described += f" (at {host})" if host else ""
            failure = config_failure(
                f"Tried to create a QiskitRuntimeService from: {described}.", error, self.secrets()
            )
        raise failure

    def service_fingerprint(self, key: bytes) -> bytes:
        """Return what two configurations have in common if their services would be alike.

        It covers all that `get_service` hands to the client: a preferred plan or region decides
        which instance is billed, a proxy who reads along.

        Args:
            key: A secret of the caller's, of up to 64 bytes; without it neither the token nor a
                proxy's password can be looked for in the fingerprint.

        Returns:
            32 bytes.

        Example:
            >>> config = QiskitRuntimeConfig(plans_preference=["open"], backend_name="ibm_x")
            >>> same, other = (
            ...     config.model_copy(update=change)
            ...     for change in ({"backend_name": "ibm_y"}, {"plans_preference": ["premium"]})
            ... )
            >>> config.service_fingerprint(b"key") == same.service_fingerprint(b"key")
            True
            >>> config.service_fingerprint(b"key") == other.service_fingerprint(b"key")
            False
        """
        # A class of somebody's own may make other services and backends of the same fields.
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        arguments = json.dumps([kind, self._service_arguments()], sort_keys=True, default=repr)
        # Keyed BLAKE2 keeps the interpreter, which HMAC lets go: among busy threads the event loop
        # would wait for it again with each of the ten fingerprints of a job.
        return hashlib.blake2b(arguments.encode(), key=key, digest_size=32).digest()

    def get_backend(self) -> BackendV2:
        """Return the configured backend from the native Qiskit service.

        Returns:
            The native backend that ``service.backend(backend_name)`` returns.

        Raises:
            QiskitRuntimeConfigError: If the service or the backend cannot be created, or the block
                names no backend.
        """
        return self.get_backend_from(self.get_service())

    def own_get_backend(self) -> Callable[[], BackendV2] | None:
        """Return `get_backend` where a subclass has its own, so that the tasks call it.

        Returns:
            The method, or None where it is this class's.

        Example:
            >>> QiskitRuntimeConfig().own_get_backend() is None
            True
        """
        is_own = type(self).get_backend is not QiskitRuntimeConfig.get_backend
        return self.get_backend if is_own else None

    def get_backend_from(self, service: QiskitRuntimeService) -> BackendV2:
        """Return the configured backend from a service that exists already.

        Args:
            service: What `get_service` returned.

        Returns:
            The native backend.

        Raises:
            QiskitRuntimeConfigError: If the block names no backend, or the service does not give
                it.
        """
        if self.backend_name is None:
            raise QiskitRuntimeConfigError(
                "Tried to get the backend, but the QiskitRuntimeConfig names none. Set "
                "backend_name, for example "
                "QiskitRuntimeConfig(channel='local', backend_name='fake_manila')."
            )
        if self.channel == "local":
            # The client makes every fake backend to find one, and some warn about themselves.
            warnings.filterwarnings("ignore", module="qiskit_ibm_runtime.fake_provider.backends")
        try:
            return service.backend(self.backend_name)
        except Exception as error:  # noqa: BLE001 - the client lets out errors of any kind
            failure = self._no_backend(error, service)
        raise failure

    def primitive_implementation(self, primitive: PrimitiveName) -> PrimitiveImplementation:
        """Return which of the client's implementations of a primitive this configuration uses.

        Args:
            primitive: ``"sampler"`` or ``"estimator"``.

        Returns:
            ``"classic"`` or ``"client_side"``; see
            `qcsc_prefect.integrations.qiskit.inputs.primitive_choice`.

        Raises:
            QiskitRuntimeConfigError: If the installed client does not have those asked for.
        """
        return choose_primitives(self.primitives, primitive, channel=self.channel)

    def input_identity(self) -> dict[str, str] | None:
        """Say what of this configuration decides what a job computes.

        It goes into input digests. A choice of primitives that is spelt out does: the two
        implementations differ in their options and defaults, so their results may differ.
        ``"auto"`` does not: whoever leaves the choice to the client takes either's result, and a
        newer client must not pay again for what was computed before it. The execution mode never
        does: it decides when a job runs, not what.

        Returns:
            Names and values for ``extra`` of the digest functions; None where there are none.
        """
        return None if self.primitives == "auto" else {"primitives": self.primitives}

    def identity(self) -> dict[str, str | None]:
        """Say which account and service this configuration leads to.

        The identity goes into cache keys, so that a job of one account is never handed to another.
        It holds no token, nor anything from which one could be found. Preferred plans and regions
        are not part of it: the tasks' keys hold the CRN of the instance that they lead to.

        Returns:
            Names and values, ready for a digest.
        """
        return {
            "channel": self.channel,
            "url": self.url,
            "instance": self.instance,
            "account_name": self.account_name,
            "filename": self.filename,
        }

    def secrets(self) -> tuple[str, ...]:
        """Return the texts of this configuration that must stand in no message: handle with care.

        Returns:
            The token, and what a proxy is told to let somebody through, as far as they are set.

        Example:
            >>> QiskitRuntimeConfig(token="abcdefghij").secrets()
            ('abcdefghij',)
        """
        proxies = self.proxies.get_secret_value() if self.proxies else {}
        password = proxies.get("password_ntlm")
        token = self.token.get_secret_value() if self.token else None
        return tuple(secret for secret in (token, password) if secret)

    def _service_arguments(self) -> dict[str, object]:
        """Return the arguments of the native service, credentials among them."""
        arguments = {
            "channel": self.channel,
            "token": self.token.get_secret_value() if self.token else None,
            "url": self.url,
            "filename": self.filename,
            "name": self.account_name,
            "instance": self.instance,
            "proxies": self.proxies.get_secret_value() if self.proxies else None,
            "verify": self.verify,
            "private_endpoint": self.private_endpoint,
            "region": self.region,
            "plans_preference": self.plans_preference,
        }
        return {name: value for name, value in arguments.items() if value is not None}

    def _made_service(self, given: Mapping[str, object]) -> QiskitRuntimeService:
        if self.channel == "local":
            from qiskit_ibm_runtime import QiskitRuntimeService

            return QiskitRuntimeService(**given)
        from qcsc_prefect.integrations.qiskit.services.connections.owned_service import (
            OwnedRuntimeService,
            own_service,
        )

        service = OwnedRuntimeService(**given)
        own_service(service)
        return service

    def _no_backend(
        self, error: Exception, service: QiskitRuntimeService
    ) -> QiskitRuntimeConfigError:
        from qiskit.providers.exceptions import QiskitBackendNotFoundError

        if self.channel == "local" and isinstance(error, ImportError):
            failure = QiskitRuntimeConfigError(
                f"Backend {self.backend_name!r} needs qiskit-aer: "
                "pip install 'qcsc-prefect-qiskit[aer]>=0.4'."
            )
            failure.__cause__ = error
            return failure
        if self.channel == "local" and isinstance(error, QiskitBackendNotFoundError):
            names = {backend.name for backend in service.backends()} | {"aer_simulator"}
            return QiskitRuntimeConfigError(
                f"Tried to get backend {self.backend_name!r} on this machine (channel 'local'): "
                f"there is none of that name.{did_you_mean(str(self.backend_name), names)} "
                f"There are: {', '.join(sorted(names))}."
            )
        tried = f"Tried to get backend {self.backend_name!r} from the service."
        return config_failure(tried, error, self.secrets())
