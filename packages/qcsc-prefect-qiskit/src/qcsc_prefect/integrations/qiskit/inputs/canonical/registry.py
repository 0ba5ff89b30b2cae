"""The registry of the types whose canonical form this package defines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcsc_prefect.core.canonical.registry import CanonicalRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcsc_prefect.core.canonical.registry import RegisteredType

__all__ = ["IdentityRegistry", "identity_registry"]


class IdentityRegistry(CanonicalRegistry):
    """A registry that knows types also by what they can do, as the client's encoder does.

    Attributes:
        stand_in: Returns the registered type whose form a type takes that is not registered, or
            None.
    """

    stand_in: Callable[[type], type | None] | None = None

    def find(self, value_type: type) -> RegisteredType[object] | None:
        """Return the form of a type, its own or that of the type that stands for it."""
        found = super().find(value_type)
        if found is None and self.stand_in is not None:
            stand_in = self.stand_in(value_type)
            found = None if stand_in is None else super().find(stand_in)
        return found


#: The types of a PUB, and of what options and metadata hold; their tags start with ``qiskit.``.
identity_registry = IdentityRegistry()
