"""JSON that says under which key it was written, with a hash over both.

A record that is damaged, or that was written under another key and lies in this one's place, is
told from the one that was written here. The seal is a field beside the others, so that whoever
reads the record for its content need not know of it. It is no signature: whoever can write to the
storage can make one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from qcsc_prefect.core.errors import DamagedRecordError

__all__ = ["sealed", "unsealed", "unsealed_json"]

_SEAL = "seal"


def sealed(key: str, content: Mapping[str, object]) -> dict[str, object]:
    """Return content with its seal.

    Example:
        >>> record = sealed("k", {"job_id": "c1"})
        >>> unsealed_json("k", json.dumps(record))
        {'job_id': 'c1'}
        >>> unsealed_json("k", json.dumps(record).replace("c1", "c2"))
        Traceback (most recent call last):
        ...
        qcsc_prefect.core.errors.DamagedRecordError: its content is not what was written
    """
    return {**content, _SEAL: {"key": key, "sha256": _digest(key, content)}}


def unsealed_json(key: str, text: str | bytes) -> dict[str, object]:
    """Return the content of sealed JSON.

    Raises:
        DamagedRecordError: It is not what was written under this key.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedRecordError(f"it is no JSON ({error})") from error
    return unsealed(key, record)


def unsealed(key: str, record: object) -> dict[str, object]:
    """Return the content of a sealed record.

    Args:
        key: Where it was read.
        record: What was read.

    Raises:
        DamagedRecordError: It is not what was written under this key.
    """
    content = dict(record) if isinstance(record, Mapping) else {}
    seal = content.pop(_SEAL, None)
    if not isinstance(seal, Mapping):
        raise DamagedRecordError("it has no seal")
    if seal.get("key") != key:
        raise DamagedRecordError(f"it was written as {seal.get('key')!r:.100}")
    if seal.get("sha256") != _digest(key, content):
        raise DamagedRecordError("its content is not what was written")
    return content


def _digest(key: str, content: Mapping[str, object]) -> str:
    canonical = json.dumps([key, content], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
