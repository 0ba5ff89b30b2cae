"""Checks the fields of a configuration, and says which name or value may have been meant.

What is said here stands in pydantic's ``ValidationError``, which names the field beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from pydantic_core import PydanticCustomError

from qcsc_prefect.integrations.qiskit.nearest_names import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import ValidationError

__all__ = ["named_choice", "reasons_of", "refuse_misspelt", "stripped"]

#: What Prefect writes beside the fields of a block.
_NO_FIELDS = frozenset({"block_type_slug"})
#: A longer text may be a token in the wrong place.
_LONGEST_NAME = 25


def stripped(text: str) -> str:
    """Return a text without spaces around it; a blank one is refused."""
    if not (bare := text.strip()):
        raise _refusal("it is blank; leave it out, or say what it is")
    return bare


def named_choice(value: object, annotation: object) -> object:
    """Return the value of a field that takes certain names; another name is refused.

    Args:
        value: What was given.
        annotation: Type of the field, such as ``Literal["a", "b"] | None``.
    """
    if not isinstance(value, str):
        return value
    name = stripped(value)
    if name == "ibm_quantum":
        raise _refusal(
            "the channel 'ibm_quantum' was switched off by IBM; write 'ibm_quantum_platform', "
            "with an API key and an instance of the new platform"
        )
    choices = [choice for choice in _choices(annotation) if isinstance(choice, str)]
    if name not in choices:
        shown = repr(name) if len(name) <= _LONGEST_NAME else "the value"
        raise _refusal(
            f"{shown} is none of {', '.join(map(repr, choices))}.{did_you_mean(name, choices)}"
        )
    return name


def refuse_misspelt(given: Mapping[str, object], fields: Iterable[str]) -> None:
    """Refuse a name that is no field and looks like one, which a block would pass over.

    Args:
        given: Names and values.
        fields: Names of the fields.
    """
    known = sorted(fields)
    for name in given:
        meant = did_you_mean(name, known)
        if meant and not name.startswith("_") and name not in {*known, *_NO_FIELDS}:
            raise _refusal(f"there is no field {name!r}.{meant}")


def reasons_of(error: ValidationError) -> str:
    """Return what was wrong with which field, without a value: it may be a token."""
    reasons = error.errors(include_input=False, include_context=False, include_url=False)
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, reason["loc"])), reason["msg"].rstrip("."))))
        for reason in reasons
    )


def _choices(annotation: object) -> list[object]:
    found: list[object] = []
    for part in get_args(annotation):
        found += _choices(part) or [part]
    return found


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{reason}", {"reason": reason})
