"""Which Python types have a place in a container, and who writes and rebuilds them.

A `ValueType` takes one type apart into `Part` s (other values, or a `Buffer` of raw bytes) and
builds it again from them. It is known in a container by a stable name such as
``numpy/ndarray``, never by a module path, and its Python type is never named by a record.

Value types come from *providers*: a provider is a module with a tuple ``VALUE_TYPES``, and
stands for every type of one top-level Python package. It is imported the first time a value of
that package is written or read, so this module imports nothing. The providers for the standard
library, numpy, python-dateutil and the Qiskit SDK come with this package. Another package adds
its own with an entry point::

    [project.entry-points."qcsc_prefect.value_types"]
    imaginary_client = "imaginary_prefect.value_types"

or at run time with `register_value_type`. A record can therefore only ever reach code that an
installed package has declared for this purpose.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from qcsc_prefect.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

T = TypeVar("T")

__all__ = ["Buffer", "Part", "ValueType", "register_value_type"]

ENTRY_POINT_GROUP: Final = "qcsc_prefect.value_types"

_OWN_PROVIDERS: Final = {
    "builtins": "qcsc_prefect.core.container.python_types",
    "dateutil": "qcsc_prefect.core.container.dateutil_types",
    "numpy": "qcsc_prefect.core.container.numpy_types",
    "qiskit": "qcsc_prefect.core.container.qiskit_types",
}

# Types of the standard library are written by one provider, wherever they are defined.
_STANDARD_LIBRARY: Final = frozenset(
    {"collections", "datetime", "decimal", "fractions", "uuid", "zoneinfo"}
)


class Part(NamedTuple):
    """One piece of a value that is taken apart.

    Attributes:
        path: What follows the value's own path to name this piece in a message, for example
            ``.metadata`` or ``[3]``.
        value: The piece: any value that has a place in a container, or a `Buffer`.
    """

    path: str
    value: object


@dataclass(frozen=True, slots=True)
class Buffer:
    """Raw bytes that are stored outside the structure, compressed, and without being copied.

    Attributes:
        data: A C-contiguous view of unsigned bytes (``memoryview`` of format ``B``).
    """

    data: memoryview


@dataclass(frozen=True, slots=True)
class ValueType(Generic[T]):
    """How one Python type is written into a container and rebuilt from it.

    Attributes:
        name: The stable name in the container, ``<provider>/<type>``, for example
            ``qiskit/BitArray``.
        python_type: The type; a subclass of it is another type.
        take_apart: Gives the value's parts, in a fixed order; raises a TypeError or ValueError that
            says why where this value cannot be stored. An empty path stands for a part
            that a user would not look for.
        build: Makes the value from its parts, which arrive in the same order; a part that was a
            `Buffer` arrives as a `StoredBuffer`. Raises an error of any kind where they make no
            such value, which the reader reports as a damaged record.
        reads_as: Names of other value types with the same parts, in order of preference, that a
            reader may fall back to where this one's package is not installed.
    """

    name: str
    python_type: type[T]
    take_apart: Callable[[T], Iterable[Part]]
    build: Callable[[Sequence[object]], T]
    reads_as: tuple[str, ...] = ()


class _Registry:
    def __init__(self) -> None:
        self.by_type: dict[type, ValueType[Any]] = {}
        self.by_name: dict[str, ValueType[Any]] = {}
        self.asked: dict[str, bool] = {}
        self.entry_points: dict[str, str] | None = None

    def add(self, value_type: ValueType[Any]) -> None:
        known = self.by_name.get(value_type.name)
        if known is not None and known is not value_type:
            raise ConfigurationError(
                f"The value type {value_type.name!r} is registered twice, "
                f"for {known.python_type!r} and for {value_type.python_type!r}."
            )
        self.by_name[value_type.name] = value_type
        self.by_type[value_type.python_type] = value_type

    def ask(self, package: str) -> bool:
        """Load the provider of a package once; False where there is none that can be used."""
        if package not in self.asked:
            module_name = _OWN_PROVIDERS.get(package) or self._declared().get(package)
            if module_name is None:
                return False
            self.asked[package] = self._load(module_name, package)
        return self.asked[package]

    def _declared(self) -> dict[str, str]:
        if self.entry_points is None:
            from importlib.metadata import entry_points

            found = entry_points(group=ENTRY_POINT_GROUP)
            self.entry_points = {entry.name: entry.value for entry in found}
        return self.entry_points

    def _load(self, module_name: str, package: str) -> bool:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as exc:
            # Only the package itself may be absent; any other missing module is a broken install.
            if exc.name is not None and exc.name.partition(".")[0] == package:
                return False
            raise
        for value_type in module.VALUE_TYPES:
            self.add(value_type)
        return True


_registry = _Registry()


def register_value_type(value_type: ValueType[Any]) -> None:
    """Make a type known to every container that this process writes or reads.

    Args:
        value_type: How the type is written and rebuilt.

    Raises:
        ConfigurationError: The name already belongs to another value type.

    Example:
        >>> from qcsc_prefect.core.container.format import decode_container, encode_container
        >>> class Celsius:
        ...     def __init__(self, degrees: float) -> None:
        ...         self.degrees = degrees
        >>> register_value_type(
        ...     ValueType(
        ...         name="imaginary/Celsius",
        ...         python_type=Celsius,
        ...         take_apart=lambda value: [Part(".degrees", value.degrees)],
        ...         build=lambda parts: Celsius(*parts),
        ...     )
        ... )
        >>> decode_container(encode_container(Celsius(0.015)).to_bytes()).degrees
        0.015
    """
    _registry.add(value_type)


def value_type_of(python_type: type) -> ValueType[Any] | None:
    """The value type of exactly this Python type, or None."""
    known = _registry.by_type.get(python_type)
    if known is None:
        package = python_type.__module__.partition(".")[0]
        if _registry.ask("builtins" if package in _STANDARD_LIBRARY else package):
            known = _registry.by_type.get(python_type)
    return known


def value_type_named(name: str) -> ValueType[Any] | None:
    """The value type of this name, or None where no installed package declares it."""
    known = _registry.by_name.get(name)
    if known is None and _registry.ask(name.partition("/")[0]):
        known = _registry.by_name.get(name)
    return known
