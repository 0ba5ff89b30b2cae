"""Checks the fields of a configuration, and shows none of what they hold.

What a validation library says of a bad field holds its value; here that may be a token.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from pydantic import Secret
from pydantic_core import PydanticCustomError

from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.inputs.nearest_names import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydantic import ValidationError

__all__ = [
    "is_length_of_time",
    "named_choice",
    "reasons_of",
    "refuse_bad_fields",
    "stripped",
    "without_unknown_fields",
]

logger = logging.getLogger(__name__)

#: A longer text may be a token in the wrong place.
_LONGEST_NAME = 25
#: What others call the fields.
_OTHER_NAMES = {"api_key": "token", "apikey": "token", "crn": "instance", "name": "account_name"}
#: Written into stored fields by Prefect itself.
_PREFECTS = frozenset({"block_type_slug"})
#: Fields whose values are secrets: the types that they may have, in Python and in words.
_SECRETS: dict[str, tuple[tuple[type, ...], str]] = {
    "token": ((str,), "a string"),
    "proxies": ((Mapping,), "a mapping such as {'urls': {'https': 'http://host:port'}}"),
}


def refuse_bad_fields(given: Mapping[str, object], known: Collection[str]) -> None:
    """Refuse fields that a configuration does not have, and secrets that are of no use.

    Raises:
        QiskitRuntimeConfigError: If there is one; it is a ``ValueError`` too. The message holds
            names and types, and never a value.

    Example:
        >>> refuse_bad_fields({"mdoe": "batch"}, ["mode", "token"])
        Traceback (most recent call last):
        ...
        qcsc_prefect.integrations.qiskit.errors.QiskitRuntimeConfigError: A QiskitRuntimeConfig \
has no field 'mdoe'. Did you mean 'mode'?
    """
    for name in _unknown(given, known):
        meant = _OTHER_NAMES.get(name)
        advice = f" Did you mean {meant!r}?" if meant in known else did_you_mean(name, known)
        raise QiskitRuntimeConfigError(
            f"A QiskitRuntimeConfig has no field {name!r}.{advice or _list_of(known)}"
        )
    for name, (types, words) in _SECRETS.items():
        value = given.get(name)
        inner = value.get_secret_value() if isinstance(value, Secret) else value
        if inner is not None and not isinstance(inner, types):
            raise QiskitRuntimeConfigError(
                f"{name} refused: expected {words}, got {type(inner).__name__}."
            )


def without_unknown_fields(
    stored: Mapping[str, object], known: Collection[str]
) -> dict[str, object]:
    """Leave out the stored fields of another version, with a line in the log.

    Example:
        >>> without_unknown_fields({"mode": "job", "block_type_slug": "x"}, ["mode"])
        {'mode': 'job', 'block_type_slug': 'x'}
    """
    unknown = _unknown(stored, known)
    if unknown:
        logger.warning(
            "Fields that a QiskitRuntimeConfig of this version does not have are passed over: %s",
            ", ".join(unknown),
        )
    return {name: value for name, value in stored.items() if name not in unknown}


def stripped(text: str) -> str:
    """Return a text without spaces around it; a blank one is refused."""
    if not (bare := text.strip()):
        raise _refusal("it is blank; leave it out, or say what it is")
    return bare


def named_choice(value: object, annotation: object) -> object:
    """Return the value of a field that takes certain names; another name is refused."""
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


def is_length_of_time(value: int | str) -> bool:
    """Say whether a batch or session can be open for as long as this.

    Example:
        >>> is_length_of_time("2h 30m"), is_length_of_time("two hours"), is_length_of_time(0)
        (True, False, False)
    """
    if isinstance(value, int):
        return value > 0
    parts = re.fullmatch(r"\s*((\d+)[dhms]\s*)+", value)
    return parts is not None and re.search("[1-9]", value) is not None


def _unknown(given: Mapping[str, object], known: Collection[str]) -> list[str]:
    return [
        name
        for name in given
        if name not in known and name not in _PREFECTS and not name.startswith("_")
    ]


def _list_of(known: Collection[str]) -> str:
    return f" It has: {', '.join(sorted(known))}."


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
