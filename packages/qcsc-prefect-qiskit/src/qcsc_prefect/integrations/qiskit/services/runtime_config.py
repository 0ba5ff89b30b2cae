"""Finds the configuration that a call means: a saved block by its name, or one given inline."""

from __future__ import annotations

from collections.abc import Mapping

from qcsc_prefect.core.errors import ConfigurationError
from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig

__all__ = ["backend_name_of", "require_config", "require_one_config", "resolve_config"]


def backend_name_of(config: QiskitRuntimeConfig, given: str | None) -> str | None:
    """Return the backend of a call: the configuration's, or the one that is named beside it.

    Raises:
        ConfigurationError: If the call's name is blank.

    Example:
        >>> backend_name_of(QiskitRuntimeConfig(), " ibm_x ")
        'ibm_x'
    """
    name = None if given is None else given.strip()
    if name == "":
        raise ConfigurationError("backend_name refused: it is blank. Name a backend, or none.")
    return config.backend_name or name


def require_one_config(runtime_block_name: object, runtime_config: object) -> None:
    """Refuse a call that names no configuration, or two, or one of another type.

    Raises:
        ConfigurationError: If both or neither is given, or what is given is neither a name nor a
            configuration; it is a ``ValueError`` too.
    """
    if (runtime_block_name is None) == (runtime_config is None):
        given = "neither was" if runtime_config is None else "both were"
        raise ConfigurationError(
            f"Exactly one of runtime_block_name and runtime_config is needed; {given} given. "
            "Pass the name of a saved QiskitRuntimeConfig block, or a QiskitRuntimeConfig."
        )
    if not isinstance(runtime_block_name, str | None):
        raise ConfigurationError(
            "runtime_block_name refused: expected the name of a saved QiskitRuntimeConfig block, "
            f"got {type(runtime_block_name).__name__}. Pass a configuration as runtime_config=."
        )
    if runtime_config is not None:
        require_config("runtime_config", runtime_config)


def require_config(argument: str, given: object) -> None:
    """Refuse what is no configuration.

    Raises:
        ConfigurationError: If it is none.
    """
    if not isinstance(given, QiskitRuntimeConfig):
        # Not what it is: a mapping may hold a token.
        raise ConfigurationError(
            f"{argument} refused: expected a QiskitRuntimeConfig, got {type(given).__name__}. "
            f"{_config_to_write(given)}"
        )


def _config_to_write(given: object) -> str:
    from qiskit.providers import BackendV2

    if isinstance(given, Mapping):
        return "Write QiskitRuntimeConfig(**fields)."
    if isinstance(given, BackendV2):
        return f"Name the backend in one: QiskitRuntimeConfig(..., backend_name={given.name!r})."
    if isinstance(given, str):
        return "The name of a saved block is runtime_block_name, or QiskitRuntimeConfig.load's."
    return "Make one, or a subclass of it with a get_service or get_backend of its own."


async def resolve_config(
    runtime_block_name: str | None, runtime_config: QiskitRuntimeConfig | None
) -> QiskitRuntimeConfig:
    """Return the configuration of a call, loading the block where it is named.

    Raises:
        ConfigurationError: If both or neither is given, or one of another type, there is no block
            of that name, or it cannot be used.
    """
    require_one_config(runtime_block_name, runtime_config)
    if runtime_config is not None:
        return runtime_config
    assert runtime_block_name is not None  # noqa: S101 - for the type checker; checked above
    try:
        return await QiskitRuntimeConfig.aload(runtime_block_name)
    except ConfigurationError:
        raise
    except ValueError as error:
        raise ConfigurationError(
            f"No QiskitRuntimeConfig block is saved as {runtime_block_name!r} on the Prefect "
            "server in use. Save one: QiskitRuntimeConfig(...).save(name); in a notebook and in "
            "async code: await QiskitRuntimeConfig(...).asave(name)."
        ) from error
