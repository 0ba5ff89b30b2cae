"""Says what is wrong with options that the client refuses, and what may have been meant.

The client's own words are those of its validation library: a line for each type that an option
might have had, and none with the name that was meant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from reprlib import repr as shortened
from typing import TYPE_CHECKING, TypeAlias, get_args

from pydantic import BaseModel, ValidationError
from qiskit_ibm_runtime.options import EstimatorOptions, SamplerOptions

from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.errors.sentences import sentence
from qcsc_prefect.integrations.qiskit.inputs.nearest_names import nearest_name
from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import (
    PrimitiveImplementation,
    has_client_side_primitives,
)
from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["refused_options"]

#: Names of options; a group of them has names of its own.
_Names: TypeAlias = "dict[str, _Names | None]"
_Path: TypeAlias = tuple[str, ...]


def refused_options(
    error: Exception,
    options: Mapping[str, object],
    primitive: PrimitiveName,
    implementation: PrimitiveImplementation,
) -> InputError:
    """Return the error that says which options the client refuses, and what to write instead."""
    whose = f"the {implementation.replace('_', '-')} {primitive}"
    known = _names_of(primitive, implementation)
    faults = {
        path: _what_was_meant(path, known, primitive, implementation, whose)
        for path in _unknown(options, known)
    }
    faults |= {
        path: f"expected a mapping of options, not {shortened(value)}."
        for path, value in _no_groups(options, known)
    }
    if isinstance(error, ValidationError) and not faults:
        faults = _bad_values(error, options)
    if not faults:
        return InputError(f"options refused by {whose}: {sentence(str(error))}", path="options")
    paths = {path: ".".join(("options", *path)) for path in faults}
    return InputError(
        " ".join(f"{paths[path]} refused: {fault}" for path, fault in faults.items()),
        path=next(iter(paths.values())),
    )


def _unknown(given: Mapping[str, object], known: _Names, at: _Path = ()) -> Iterator[_Path]:
    for name, value in given.items():
        if name not in known:
            yield (*at, str(name))
        elif (group := known[name]) is not None and isinstance(value, Mapping):
            yield from _unknown(value, group, (*at, name))


def _no_groups(
    given: Mapping[str, object], known: _Names, at: _Path = ()
) -> Iterator[tuple[_Path, object]]:
    for name, value in given.items():
        group = known.get(name)
        if group is None:
            continue
        if isinstance(value, Mapping):
            yield from _no_groups(value, group, (*at, name))
        elif value is not None and not _is_group(value):
            yield (*at, name), value


def _what_was_meant(
    path: _Path,
    known: _Names,
    primitive: PrimitiveName,
    implementation: PrimitiveImplementation,
    whose: str,
) -> str:
    none = f"{whose} of qiskit-ibm-runtime {version('qiskit-ibm-runtime')} has no such option."
    for other in get_args(PrimitiveImplementation):
        if other != implementation and _has(_names_of(primitive, other), path):
            return (
                f"{none} The {other.replace('_', '-')} {primitive} has it: set "
                f"QiskitRuntimeConfig(primitives={other!r}), or leave the option out."
            )
    for other in get_args(PrimitiveName):
        if any(_has(_names_of(other, one), path) for one in get_args(PrimitiveImplementation)):
            return f"{none} It is one of the {other}'s; leave it out."
    siblings = _group(known, path[:-1])
    longer = sorted(name for name in siblings if name.startswith(f"{path[-1]}_"))
    if longer and len(path) > 1:
        return f"{none} Did you mean {longer[0]!r}?"
    same_name = [found for found in _all_paths(known) if found[-1] == path[-1]]
    if same_name:
        return f"{none} Did you mean {'.'.join(('options', *same_name[0]))}?"
    nearest = nearest_name(path[-1], siblings)
    if nearest is not None:
        return f"{none} Did you mean {nearest!r}?"
    return f"{none} It has: {', '.join(sorted(siblings))}."


def _bad_values(error: ValidationError, options: Mapping[str, object]) -> dict[_Path, str]:
    faults: dict[_Path, str] = {}
    for detail in error.errors(include_url=False):
        path = _path_in(options, detail["loc"])
        # Of each type that an option may have there is a complaint; this one says the least.
        if detail["type"] != "is_instance_of":
            words = detail["msg"].removeprefix("Value error, ")
            given = detail["input"]
            already_said = words.rstrip(".").endswith(f"is =={given}")
            # A whole group of options would bury what is said of it.
            left_out = already_said or _is_many(given)
            faults.setdefault(
                path, sentence(words) + ("" if left_out else f" It is {shortened(given)}.")
            )
    return faults


def _is_many(value: object) -> bool:
    return isinstance(value, Mapping) or _is_group(value) or dataclasses.is_dataclass(value)


def _path_in(options: Mapping[str, object], location: Sequence[int | str]) -> _Path:
    """Return what of a location names options; the rest names types that were tried."""
    path: list[str] = []
    value: object = options
    for part in location:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
            path.append(str(part))
    return tuple(path)


def _names_of(primitive: PrimitiveName, implementation: PrimitiveImplementation) -> _Names:
    if implementation == "classic":
        return _names(SamplerOptions() if primitive == "sampler" else EstimatorOptions())
    if not has_client_side_primitives():
        return {}
    from qiskit_ibm_runtime import options_models

    return _names(
        options_models.SamplerOptions()
        if primitive == "sampler"
        else options_models.EstimatorOptions()
    )


def _names(group: object) -> _Names:
    names: Iterable[str]
    if isinstance(group, BaseModel):
        names = type(group).model_fields
    else:
        names = [field.name for field in dataclasses.fields(group)]  # type: ignore[arg-type]
    members = {name: getattr(group, name) for name in names if not name.startswith("_")}
    return {name: _names(value) if _is_group(value) else None for name, value in members.items()}


def _is_group(value: object) -> bool:
    return isinstance(value, BaseModel) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )


def _group(names: _Names, path: _Path) -> _Names:
    for name in path:
        names = names.get(name) or {}
    return names


def _has(names: _Names, path: _Path) -> bool:
    return path[-1] in _group(names, path[:-1])


def _all_paths(names: _Names, at: _Path = ()) -> Iterator[_Path]:
    for name, group in names.items():
        yield (*at, name)
        yield from _all_paths(group or {}, (*at, name))
