"""The tags of a job: the caller's own, and the limits that the service puts on them."""

from __future__ import annotations

from reprlib import repr as shortened
from typing import TYPE_CHECKING

from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.services.job_service import PROCESS_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["found_with_others", "has_room", "own_tags", "refuse_bad_tags"]

_MAX_TAGS = 8
_MAX_TAG_LENGTH = 86


def own_tags(options: Mapping[str, object]) -> list[str]:
    """Return the tags that a call gives its job in its options.

    Raises:
        InputError: If they are no list of texts.
    """
    environment = options.get("environment") or {}
    tags = environment.get("job_tags") if isinstance(environment, dict) else None
    if tags is None:
        return []
    if not isinstance(tags, (list, tuple)) or not all(isinstance(tag, str) for tag in tags):
        path = "options.environment.job_tags"
        raise InputError(
            f"{path} refused: expected a list of strings, got {shortened(tags)}.", path=path
        )
    return list(tags)


def refuse_bad_tags(tags: list[str]) -> None:
    """Refuse tags that the service does not take.

    Raises:
        InputError: If there are too many, or one is too long.
    """
    path = "options.environment.job_tags"
    if len(tags) > _MAX_TAGS:
        raise InputError(
            f"{path} refused: with those that name the input there are {len(tags)} tags, and the "
            f"service takes {_MAX_TAGS}. Leave {len(tags) - _MAX_TAGS} out.",
            path=path,
        )
    for index, tag in enumerate(tags):
        if len(tag) > _MAX_TAG_LENGTH:
            raise InputError(
                f"{path}[{index}] refused: {len(tag)} characters, and the service takes "
                f"{_MAX_TAG_LENGTH}. Shorten it.",
                path=f"{path}[{index}]",
            )


def has_room(tags: Sequence[str]) -> bool:
    """Whether the service takes one more tag."""
    return len(tags) < _MAX_TAGS


def found_with_others(tags: list[str]) -> list[str]:
    """Add the tag by which one search finds all jobs of this process, where there is room."""
    return [*tags, PROCESS_TAG] if has_room(tags) else tags
