"""Which types beyond the built-in ones have a canonical form, and how each is written.

Core knows the types of the standard library and, where numpy is loaded, its arrays and scalars.
Another package adds its own types here, so that core imports none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from qcsc_prefect.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qcsc_prefect.core.canonical.writer import CanonicalWriter

__all__ = ["CanonicalRegistry", "RegisteredType", "default_registry"]

T = TypeVar("T")


@dataclass(frozen=True)
class RegisteredType(Generic[T]):
    """How values of one type are written.

    Attributes:
        tag: The name of the form, unique in its registry; a part of the encoding.
        version: The version of the form; a part of the encoding.
        encode: Writes the value's contents, or yields them one after another with the step that
            leads to each: an attribute such as ``hertz``, or an empty text. Contents that are
            yielded may be nested to any depth. What is written must be self-delimiting, which
            holds for any number of values that those before them determine.
        describe: Returns the same contents as a tree of dicts, lists and plain values, so that a
            report of differences can look inside; None where the value has no inside worth a path.
    """

    tag: str
    version: int
    encode: Callable[[CanonicalWriter, T], Iterable[tuple[str, object]] | None]
    describe: Callable[[T], object] | None = None


class CanonicalRegistry:
    """The types that have a canonical form beyond the built-in ones.

    A type that is not registered itself takes the form of the nearest registered class in its
    method resolution order.

    Example:
        >>> from qcsc_prefect.core import CanonicalRegistry, canonical_bytes
        >>> class Detuning:
        ...     def __init__(self, hertz: float) -> None:
        ...         self.hertz = hertz
        >>> registry = CanonicalRegistry()
        >>> registry.register(
        ...     Detuning, tag="acme.detuning", version=1,
        ...     encode=lambda writer, value: [("hertz", value.hertz)],
        ... )
        >>> canonical_bytes(Detuning(1.0), registry=registry).startswith(b"x")
        True
    """

    def __init__(self) -> None:
        self._types: dict[type, RegisteredType[object]] = {}
        self._resolved: dict[type, RegisteredType[object] | None] = {}

    def register(
        self,
        value_type: type[T],
        *,
        tag: str,
        version: int,
        encode: Callable[[CanonicalWriter, T], Iterable[tuple[str, object]] | None],
        describe: Callable[[T], object] | None = None,
    ) -> None:
        """Give a type its canonical form.

        Args:
            value_type: The type. Its subclasses take the same form unless registered themselves.
            tag: The name of the form. Choose one that starts with the vendor's or package's name.
            version: The form's version, 1 or more; raise it whenever the written bytes change.
            encode: See :class:`RegisteredType`.
            describe: See :class:`RegisteredType`.

        Raises:
            ConfigurationError: If the type is registered already, or another type has the tag.
        """
        if value_type in self._types:
            raise ConfigurationError(
                f"A canonical form for {value_type.__qualname__} refused: it has one already. Make "
                "another registry, or leave it as it is."
            )
        if any(entry.tag == tag for entry in self._types.values()):
            raise ConfigurationError(
                f"The tag {tag!r} for {value_type.__qualname__} refused: it belongs to another "
                "type. Choose another tag."
            )
        entry = RegisteredType(tag=tag, version=version, encode=encode, describe=describe)
        self._types[value_type] = entry  # type: ignore[assignment]
        self._resolved.clear()

    def find(self, value_type: type) -> RegisteredType[object] | None:
        """Return the form of a type.

        Args:
            value_type: The type of a value.

        Returns:
            What was registered for the type or the nearest of its bases; None where nothing was.
        """
        try:
            return self._resolved[value_type]
        except KeyError:
            bases = (self._types.get(base) for base in value_type.__mro__)
            found = next((entry for entry in bases if entry is not None), None)
            self._resolved[value_type] = found
            return found


#: The registry that is used where none is given.
default_registry = CanonicalRegistry()
