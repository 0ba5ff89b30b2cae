"""Checks a table of retry rules when it is defined, so that a rule which never matches is noticed.

Rules name types as text, so that a rule costs no import. What has been imported already is compared
with the name; what has not is taken on trust.
"""

from __future__ import annotations

import builtins
import logging
import sys
from typing import TYPE_CHECKING

from qcsc_prefect.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import Enum
    from typing import Any

__all__ = ["check_answers", "check_keys", "check_readers", "check_type_names"]

_log = logging.getLogger(__name__)
_MISSING = object()
_LEAST_STATUS, _LARGEST_STATUS = 100, 599


def check_answers(answers: Mapping[Any, object], answer_type: type[Enum], where: str) -> None:
    """Refuse a table that maps to something else than answers.

    Raises:
        ConfigurationError: If a value is no answer.
    """
    for key, answer in answers.items():
        if not isinstance(answer, answer_type):
            raise ConfigurationError(
                f"{where}[{key!r}] is {answer!r}: write a member of {answer_type.__name__}."
            )


def check_keys(statuses: Mapping[Any, object], service_codes: Mapping[Any, object]) -> None:
    """Refuse statuses and codes that no answer of a service can have.

    Raises:
        ConfigurationError: If a status is no number from 100 to 599, or a code neither a whole
            number nor a text.
    """
    for status in statuses:
        if not _is_whole(status) or not _LEAST_STATUS <= status <= _LARGEST_STATUS:
            raise ConfigurationError(
                f"statuses[{status!r}] never matches: write a number from {_LEAST_STATUS} to "
                f"{_LARGEST_STATUS}."
            )
    for code in service_codes:
        if not _is_whole(code) and not (isinstance(code, str) and code):
            raise ConfigurationError(
                f"service_codes[{code!r}] never matches: write a whole number or a text."
            )


def check_readers(readers: Mapping[str, object]) -> None:
    """Refuse readers that cannot be called.

    Raises:
        ConfigurationError: If there is one.
    """
    for name, reader in readers.items():
        if not callable(reader):
            raise ConfigurationError(
                f"readers[{name!r}] is {reader!r}: write a function of the error that returns "
                "ErrorFacts."
            )


def _is_whole(key: object) -> bool:
    return isinstance(key, int) and not isinstance(key, bool)


def check_type_names(names: Mapping[str, object], where: str) -> None:
    """Refuse names of exception types that can never match, as far as that can be told.

    Raises:
        ConfigurationError: If a name is no such name, or stands for something that is no exception
            type, or for a type that is called otherwise where it is defined.
    """
    for name in names:
        fault = _fault_of(name)
        if fault:
            raise ConfigurationError(f"{where}[{name!r}] never matches: {fault}.")


def _fault_of(name: object) -> str | None:
    if not isinstance(name, str):
        return "write the type as text, 'module.Name', as error_type_names gives it"
    parts = name.replace(".<locals>", "").split(".")
    # A module loaded from a file may have any name; a class has an identifier.
    if not all(parts) or any(map(str.isspace, name)) or not parts[-1].isidentifier():
        return "write 'module.Name', as error_type_names gives it"
    if len(parts) == 1:
        place = "builtins" if hasattr(builtins, name) else "module"
        return f"the module is missing, write '{place}.{name}'"
    if "<locals>" in name:
        return None
    module, found = _imported(parts)
    if module is None:
        return None
    if found is _MISSING:
        if parts[0] in sys.stdlib_module_names and parts[0] != "__main__":
            return f"the module {module} has no such name"
        if not hasattr(sys.modules[module], "__path__"):
            # Perhaps that of another release of the client, or defined further down.
            _log.info("A rule for %s: the imported module %s has no such name", name, module)
        return None
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        return "it is no exception type"
    own = f"{found.__module__}.{found.__qualname__}"
    return None if own == name else f"the type calls itself {own!r}"


def _imported(parts: list[str]) -> tuple[str | None, object]:
    """Return the innermost imported module of a dotted name, and what the rest names in it."""
    for length in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:length]))
        if module is None:
            continue
        found: object = module
        for part in parts[length:]:
            # Not getattr: that may import what a package loads on demand.
            found = vars(found).get(part, _MISSING) if hasattr(found, "__dict__") else _MISSING
        return ".".join(parts[:length]), found
    return None, _MISSING
