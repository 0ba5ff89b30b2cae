"""Keys under which the artifacts of a job appear in the Prefect UI.

Prefect accepts keys of lowercase letters, digits and dashes. A user's key is brought into that
form; a part that says what the artifact shows is added to it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Literal

__all__ = ["MOST_CHARACTERS", "ArtifactKind", "artifact_key_for"]

#: Longest key that is made. Prefect sets no bound; longer ones are unreadable in its UI.
MOST_CHARACTERS = 100

ArtifactKind = Literal["summary", "counts", "counts-plot", "values", "values-plot", "progress"]

_HASH_CHARACTERS = 8
_LONGEST_KIND = len("counts-plot")


def artifact_key_for(artifact_key: str, kind: ArtifactKind) -> str:
    """Return the key of one of a job's artifacts.

    Letters are lowered, accents dropped, and anything between letters and digits becomes one
    dash. Where that loses more than the spelling of a separator, or the key is too long, a few
    digits of its hash are appended, so that two such keys stay two.

    Args:
        artifact_key: What the user gave; any text.
        kind: What the artifact shows.

    Returns:
        A key of 1 to 100 characters that matches ``[a-z0-9-]+``.

    Example:
        >>> artifact_key_for("GHZ_state", "counts")
        'ghz-state-counts'
    """
    plain = unicodedata.normalize("NFKD", artifact_key).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    longest = MOST_CHARACTERS - _LONGEST_KIND - 1
    lost = re.search(r"[^\w\s./:-]", artifact_key, re.ASCII) is not None
    if lost or not base or len(base) > longest:
        digits = hashlib.sha256(artifact_key.encode("utf-8", "surrogatepass")).hexdigest()
        base = base[: longest - _HASH_CHARACTERS - 1].strip("-") or "job"
        base = f"{base}-{digits[:_HASH_CHARACTERS]}"
    return f"{base}-{kind}"
