"""Under which names a submission is remembered, and the tags under which its job is found.

A digest names an input. Where the caller chose it, it says nothing of the input: then the digest of
what runs, the *content digest*, goes along with the job, in its reference and in a tag; and an
*outline*, digests of the parts of each PUB, tells in which parts an earlier job differs.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from qcsc_prefect.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

__all__ = [
    "DEFAULT_VISIBILITY_DELAY",
    "ChosenInput",
    "Outline",
    "SubmissionIdentity",
    "content_tag",
    "content_tags",
    "first_differences",
    "input_tag_of",
    "job_tag",
]

#: Seconds after which a service's search is taken to show a new job for certain.
DEFAULT_VISIBILITY_DELAY: Final = 30.0

#: Digests of a PUB's parts by the names of the parts, for each PUB.
Outline: TypeAlias = "list[dict[str, str]]"

_MOST_NAMED = 5
_INPUT_TAG = re.compile(r"qcsc-prefect-[0-9a-f]{64}")
_CONTENT_TAG = re.compile(r"qcsc-content-([0-9a-f]{64})")


@dataclass(frozen=True)
class ChosenInput:
    """What is known of the input behind a chosen digest.

    Attributes:
        content_digest: The package's own digest of what runs, without scope and namespace; None
            where the input cannot be digested.
        outline: Digests of the parts of the PUBs.
        is_trusted: Whether an earlier job is taken whatever it ran.
    """

    content_digest: str | None
    outline: Outline
    is_trusted: bool = False

    @property
    def required_tag(self) -> str | None:
        """The tag that a job must carry, if it carries one of its kind; None where any will do."""
        return None if self.is_trusted else content_tag(self.content_digest)

    def is_other(self, content_digest: str | None) -> bool:
        """Whether a job is known to have run another input than this one."""
        return (
            not self.is_trusted
            and None not in (self.content_digest, content_digest)
            and self.content_digest != content_digest
        )


@dataclass(frozen=True)
class SubmissionIdentity:
    """Under which names a submission is remembered.

    Attributes:
        key: Key of its record; of `build_submit_cache_key`.
        tag: Tag under which the service lists the job; of `job_tag`.
        input_digest: Digest of the input.
        lifetime: How old a job may be to be taken for this submission; None for any age.
        visibility_delay: Seconds after which the service's search shows a new job for certain.
        chosen: What stands behind the digest, where the caller chose it.
        content_prefix: What the package's own digests of such inputs begin with, before the last
            dash; only where callers may choose digests.
    """

    key: str
    tag: str
    input_digest: str
    lifetime: timedelta | None = None
    visibility_delay: float = DEFAULT_VISIBILITY_DELAY
    chosen: ChosenInput | None = None
    content_prefix: str = "input"

    def __post_init__(self) -> None:
        """Refuse names under which nothing, or everything, would be found.

        Raises:
            InputError: If a name is empty or no text, or the visibility delay no number of seconds.
        """
        for name in ("key", "tag", "input_digest"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise InputError(f"{name} refused: expected a text, got {value!r:.100}.", path=name)
        delay: object = self.visibility_delay
        if not isinstance(delay, (int, float)) or not 0 <= delay < math.inf:
            raise InputError(
                f"visibility_delay refused: expected seconds, got {delay!r:.100}.",
                path="visibility_delay",
            )

    @property
    def content_digest(self) -> str | None:
        """The package's own digest of what runs, where the caller chose the input's digest."""
        return None if self.chosen is None else self.chosen.content_digest

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of a job of this submission, besides those that the caller gives it."""
        content = content_tag(self.content_digest)
        return (self.tag,) if content is None else (content, self.tag)

    def content_digest_of(self, tags: Iterable[str] | None) -> str | None:
        """Return the content digest that a job's tags tell, or None where they tell none."""
        for tag in content_tags(tags):
            return f"{self.content_prefix}-{tag[-64:]}"
        return None


def job_tag(primitive: str, settings: str, input_digest: str) -> str:
    """Return the tag under which the service lists the jobs of an input.

    Args:
        primitive: Which kind of program runs.
        settings: Digest of how it is run, which a chosen digest need not hold; an empty text where
            the input's digest holds everything.
        input_digest: Digest of the input.

    Returns:
        77 characters.

    Example:
        >>> len(job_tag("anneal", "", "acme-anneal-input-" + 64 * "0"))
        77
    """
    named = f"{primitive} {settings} {input_digest}"
    return f"qcsc-prefect-{hashlib.sha256(named.encode()).hexdigest()}"


def content_tag(content_digest: str | None) -> str | None:
    """Return the tag under which the service shows what a job ran.

    Example:
        >>> content_tag("qiskit-sampler-input-" + 64 * "0")[:17]
        'qcsc-content-0000'
    """
    return None if content_digest is None else f"qcsc-content-{content_digest[-64:]}"


def content_tags(tags: Iterable[str] | None) -> list[str]:
    """Return those of a job's tags that say what it ran."""
    return [tag for tag in tags or () if _CONTENT_TAG.fullmatch(tag)]


def input_tag_of(tags: Iterable[str] | None) -> str | None:
    """Return that of a job's tags which names its input, or None where it carries none."""
    found = [tag for tag in tags or () if _INPUT_TAG.fullmatch(tag)]
    return found[-1] if found else None


def first_differences(one: Outline, other: Outline) -> list[str]:
    """Return the first paths at which the PUBs of two outlines differ."""
    found = [
        f"pubs[{index}].{name}"
        for index, (left, right) in enumerate(zip(one, other, strict=False))
        for name in left
        if left[name] != right.get(name)
    ]
    found += [f"pubs[{index}]" for index in range(*sorted((len(one), len(other))))]
    return found[:_MOST_NAMED]
