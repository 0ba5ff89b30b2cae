"""How containers hold what the tasks return: as the plain dict, which comes back as it was.

Containers reach this module through the entry point ``qcsc_prefect`` of the group
``qcsc_prefect.value_types``; see `qcsc_prefect.core.container.value_types`.
"""

from __future__ import annotations

from typing import Any, TypeVar

from qcsc_prefect.core.container.value_types import Part, ValueType
from qcsc_prefect.integrations.qiskit.presentation.representations import (
    JobOutput,
    JobReferenceDict,
)

__all__ = ["VALUE_TYPES"]

DictT = TypeVar("DictT", bound=dict[str, Any])


def _dict_type(kind: type[DictT]) -> ValueType[DictT]:
    return ValueType(
        f"qcsc_prefect/{kind.__name__}",
        kind,
        lambda value: [Part("", dict(value))],
        lambda parts: kind(*parts),
    )


VALUE_TYPES = (_dict_type(JobOutput), _dict_type(JobReferenceDict))
