"""Refuses circuit metadata that the client cannot send, before anything is sent or stored.

The metadata of a PUB's circuit come back with the result, so they have to reach the service whole.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from qiskit_ibm_runtime import RuntimeEncoder

from qcsc_prefect.core.canonical.paths import child_path, join_path
from qcsc_prefect.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import PrimitiveImplementation
    from qcsc_prefect.integrations.qiskit.inputs.pubs import Pub

__all__ = ["refuse_unsendable_metadata"]

#: Kinds of arrays that the client-side primitives send along.
_ARRAY_KINDS = frozenset("biufc")
#: What the client's encoder raises over values that it cannot write.
_REFUSALS = (TypeError, ValueError, OverflowError, AttributeError, KeyError, RecursionError)


def refuse_unsendable_metadata(
    pubs: Sequence[Pub], implementation: PrimitiveImplementation
) -> None:
    """Refuse metadata that the client would not send, or not send whole.

    Raises:
        InputError: If the metadata of a circuit hold such a value; ``path`` says which.
    """
    for index, pub in enumerate(pubs):
        for key, value in (pub.circuit.metadata or {}).items():
            reason = (
                _why_not_plain(key, value)
                if implementation == "client_side"
                else _why_not_encodable(key, value)
            )
            if reason is not None:
                path = join_path(f"pubs[{index}].circuit.metadata", child_path(key))
                raise InputError(
                    f"{path} cannot be sent with the circuit: {reason}. Leave it out, or write it "
                    "as text, numbers, lists and dicts; what only you need can be kept beside "
                    "the job.",
                    path=path,
                )


class _WholeEncoder(RuntimeEncoder):  # type: ignore[misc]
    def default(self, obj: object) -> object:
        """Return what the client would write; it writes null for a function."""
        written = super().default(obj)
        if written is None:
            raise TypeError(f"the client drops the type {type(obj).__name__}")
        return written


def _why_not_encodable(key: object, value: object) -> str | None:
    try:
        json.dumps({key: value}, cls=_WholeEncoder)
    except RecursionError:
        return "it is nested too deeply, or contains itself"
    except _REFUSALS as error:
        return str(error)
    return None


def _why_not_plain(key: object, value: object) -> str | None:
    try:
        json.dumps(value, default=_stands_for_an_array)
    except RecursionError:
        return "it is nested too deeply, or contains itself"
    except _REFUSALS as error:
        return str(error)
    if not isinstance(key, str) or not _has_text_keys(value):
        return "the client-side primitives take dicts whose keys are texts"
    return None


def _stands_for_an_array(value: object) -> None:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in _ARRAY_KINDS:
        raise TypeError(f"the client-side primitives take no {type(value).__name__} there")


def _has_text_keys(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) and _has_text_keys(value[name]) for name in value)
    return not isinstance(value, (list, tuple)) or all(map(_has_text_keys, value))
