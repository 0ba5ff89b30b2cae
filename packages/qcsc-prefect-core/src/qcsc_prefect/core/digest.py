"""SHA-256 digests of canonical forms.

:func:`digest_value` gives a bare digest, :func:`build_input_digest` the identity of a job's input
as a vendor's tasks use it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from qcsc_prefect.core.canonical.paths import show_path
from qcsc_prefect.core.canonical.writer import SCHEMA_VERSION, CanonicalWriter
from qcsc_prefect.core.errors import InputError

if TYPE_CHECKING:
    from qcsc_prefect.core.canonical.registry import CanonicalRegistry

__all__ = ["build_input_digest", "digest_value", "input_identity"]

_MAGIC = b"qcsc-prefect/canonical"
_PREFIX = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def digest_value(
    value: object, *, domain: str = "", registry: CanonicalRegistry | None = None
) -> str:
    """Return the SHA-256 digest of a value's canonical form.

    Args:
        value: See :meth:`~qcsc_prefect.core.CanonicalWriter.write`.
        domain: What the digest is for. The same value has another digest in another domain.
        registry: The types that have a form beyond the built-in ones.

    Returns:
        64 hexadecimal digits.

    Raises:
        UnsupportedTypeError: If the value, or one inside it, has no canonical form; the message
            and `path` name it.
        InputError: If a value contains itself.

    Example:
        >>> digest_value([1, 2.0]) == digest_value((1, 2.0))
        True
    """
    digest = hashlib.sha256()
    writer = CanonicalWriter(digest.update, registry)
    writer.write_header(_MAGIC, SCHEMA_VERSION)
    writer.write(domain)
    try:
        writer.write(value)
    except InputError as error:
        show_path(error)
        raise
    writer.flush()
    return digest.hexdigest()


def input_identity(
    inputs: Mapping[str, object],
    *,
    cache_scope: str = "flow",
    flow_name: str | None = None,
    cache_namespace: str | None = None,
    extra: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Return what :func:`build_input_digest` digests, as one mapping.

    Two identities can be handed to :func:`~qcsc_prefect.core.explain_difference` to learn why
    their digests differ.

    Args:
        inputs: See :func:`build_input_digest`, as the other arguments.
        cache_scope: See there.
        flow_name: See there.
        cache_namespace: See there.
        extra: See there.

    Returns:
        The inputs and what scopes them, by name.

    Raises:
        InputError: If `cache_scope` is neither ``flow`` nor ``global``, or an input has one of the
            names that the scope takes.
    """
    if not isinstance(inputs, Mapping):
        raise InputError(
            f"the inputs are a mapping of names to values, not {type(inputs).__name__}",
            path="inputs",
        )
    if cache_scope not in ("flow", "global"):
        raise InputError(
            f"cache_scope must be 'flow' or 'global', not {cache_scope!r}", path="cache_scope"
        )
    scope: Literal["flow", "global"] = "flow" if cache_scope == "flow" else "global"
    scoped: dict[str, object] = {
        "cache_scope": scope,
        "flow_name": flow_name if scope == "flow" else None,
        "cache_namespace": cache_namespace,
        "extra": extra,
    }
    taken = scoped.keys() & inputs.keys()
    if taken:
        raise InputError(
            f"the input names {sorted(taken)} are taken; give these inputs other names",
            path="inputs",
        )
    return {**inputs, **scoped}


def build_input_digest(
    prefix: str,
    inputs: Mapping[str, object],
    *,
    cache_scope: str = "flow",
    flow_name: str | None = None,
    cache_namespace: str | None = None,
    extra: Mapping[str, object] | None = None,
    registry: CanonicalRegistry | None = None,
) -> str:
    """Return the identity of one job's input.

    Args:
        prefix: What the digest names, for example ``acme-anneal-input``: lower-case words joined
            by dashes. It is a part of what is digested.
        inputs: Everything that could change what the job returns, by name.
        cache_scope: ``flow``: equal inputs of different flows have different digests. ``global``:
            they have the same.
        flow_name: The running flow's name, or None outside of a flow.
        cache_namespace: A further name that keeps equal inputs apart.
        extra: Further values that keep equal inputs apart.
        registry: The types that have a form beyond the built-in ones.

    Returns:
        ``<prefix>-<64 hexadecimal digits>``.

    Raises:
        UnsupportedTypeError: If a value has no canonical form; the message and `path` name it.
        InputError: If the prefix or the scope is not as described.

    Example:
        >>> digest = build_input_digest("acme-anneal-input", {"couplings": [[0, 1, -1.0]]})
        >>> digest.rpartition("-")[0]
        'acme-anneal-input'
    """
    if _PREFIX.fullmatch(prefix) is None:
        raise InputError(
            f"a prefix is lower-case words joined by dashes, not {prefix!r}", path="prefix"
        )
    identity = input_identity(
        inputs,
        cache_scope=cache_scope,
        flow_name=flow_name,
        cache_namespace=cache_namespace,
        extra=extra,
    )
    return f"{prefix}-{digest_value(identity, domain=prefix, registry=registry)}"
