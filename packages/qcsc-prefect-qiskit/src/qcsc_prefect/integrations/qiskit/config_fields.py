"""Checks the fields of a configuration, and shows none of what they hold.

What a validation library says of a bad field holds its value; here that may be a token.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Secret

from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.nearest_names import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["is_length_of_time", "refuse_bad_fields", "without_unknown_fields"]

logger = logging.getLogger(__name__)

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

    Args:
        given: Names and values.
        known: The names that there are.

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

    Args:
        stored: Names and values.
        known: The names that there are.

    Returns:
        The others.

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
