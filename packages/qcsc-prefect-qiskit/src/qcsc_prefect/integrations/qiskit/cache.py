"""Cache keys of the tasks that submit jobs and fetch their results.

A key function never raises: where there is nothing to key on it returns None, and the task runs
without a cache.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prefect.utilities.annotations import BaseAnnotation

from qcsc_prefect.core.cache_keys import (
    ConfigurationWithIdentity,
    build_result_cache_key,
    build_submit_cache_key,
)
from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.input_digest import build_input_digest_of
from qcsc_prefect.integrations.qiskit.inputs.chosen_digest import chosen_input, settings_digest
from qcsc_prefect.integrations.qiskit.inputs.pubs import coerce_pubs

if TYPE_CHECKING:
    from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName

__all__ = [
    "configuration_identity",
    "qiskit_estimator_submit_cache_key",
    "qiskit_result_fetch_cache_key",
    "qiskit_sampler_submit_cache_key",
    "submit_key",
]

_logger = logging.getLogger(__name__)

SAMPLER_PREFIX = "qiskit-sampler"
ESTIMATOR_PREFIX = "qiskit-estimator"
RESULT_PREFIX = "qiskit-result"


def configuration_identity(
    *,
    runtime_block_name: str | None = None,
    runtime_config: ConfigurationWithIdentity | None = None,
) -> dict[str, str | None]:
    """Return which account and service a call goes through, as far as its arguments tell.

    Args:
        runtime_block_name: The name of a saved configuration.
        runtime_config: A configuration that can say what it stands for.

    Returns:
        The block's name as ``runtime_block_name``, and the configuration's own facts, each with
        the prefix ``config.``. No secret is among them: a configuration's `identity` holds none.

    Example:
        >>> configuration_identity(runtime_block_name="lab")
        {'runtime_block_name': 'lab'}
    """
    identity: dict[str, str | None] = {"runtime_block_name": runtime_block_name}
    if runtime_config is not None:
        facts = runtime_config.identity()
        identity.update({f"config.{name}": value for name, value in facts.items()})
    return identity


def qiskit_sampler_submit_cache_key(_context: Any, parameters: Mapping[str, Any]) -> str | None:
    """Return the cache key of a sampler submission, for a task's ``cache_key_fn``.

    Args:
        _context: Prefect's context of the task run; not used.
        parameters: The task's parameters. The input is known by ``input_digest`` if it is given;
            else by a digest of ``pubs``, ``shots``, ``options`` and ``backend_name``. Always a part
            of the key: ``shots``, ``options``, ``runtime_block_name``, ``runtime_config``, and
            where given ``configuration_identity``, facts that the caller has looked up already.
            With an ``input_digest`` the content of ``pubs`` is a part of it too, unless they cannot
            be digested or ``trust_input_digest`` is set.

    Returns:
        ``qiskit-sampler-<64 hexadecimal digits>``, or None where the parameters cannot be keyed.
    """
    return _submit_key("sampler", parameters)


def qiskit_estimator_submit_cache_key(_context: Any, parameters: Mapping[str, Any]) -> str | None:
    """Return the cache key of an estimator submission, for a task's ``cache_key_fn``.

    Args:
        _context: Prefect's context of the task run; not used.
        parameters: As for :func:`qiskit_sampler_submit_cache_key`, with ``precision`` in the
            place of ``shots``.

    Returns:
        ``qiskit-estimator-<64 hexadecimal digits>``, or None where the parameters cannot be keyed.
    """
    return _submit_key("estimator", parameters)


def qiskit_result_fetch_cache_key(_context: Any, parameters: Mapping[str, Any]) -> str | None:
    """Return the cache key of a job's result, for a task's ``cache_key_fn``.

    Args:
        _context: Prefect's context of the task run; not used.
        parameters: The task's parameters. The job is ``job_id``, or that of ``job_reference``; the
            account is known by ``runtime_block_name``, ``runtime_config`` and, where given,
            ``configuration_identity``.

    Returns:
        ``qiskit-result-<64 hexadecimal digits>``, or None where no job id is given.
    """
    try:
        plain = _plain(parameters)
        job_id = plain.get("job_id")
        reference = plain.get("job_reference")
        if job_id is None and isinstance(reference, Mapping):
            job_id = reference.get("job_id")
        if not isinstance(job_id, str) or not job_id:
            return None
        return build_result_cache_key(
            RESULT_PREFIX, job_id=job_id, configuration=_configuration(plain)
        )
    except Exception:
        _logger.warning("A job's result has no cache key and is not cached", exc_info=True)
        return None


def submit_key(
    primitive: PrimitiveName,
    input_digest: str,
    settings: str,
    *,
    configuration: Mapping[str, str | None],
    backend_name: str | None,
    content: str | None = None,
) -> str:
    """Return the key of a submission whose input has a digest.

    Args:
        primitive: Which primitive.
        input_digest: The digest, computed or chosen by the caller.
        settings: Digest of shots or precision and options, which a chosen digest need not hold.
        configuration: The account and service.
        backend_name: A job runs on one backend, also where the digest was made without its name.
        content: Digest of what runs, where jobs of one chosen digest are to have keys of their own.

    Returns:
        ``qiskit-sampler-<64 hexadecimal digits>``, or the same for an estimator.
    """
    named = {"settings": settings, "backend_name": backend_name, "content": content}
    return build_submit_cache_key(
        SAMPLER_PREFIX if primitive == "sampler" else ESTIMATOR_PREFIX,
        input_digest=input_digest,
        configuration={**configuration, **named},
    )


def _submit_key(primitive: PrimitiveName, parameters: Mapping[str, Any]) -> str | None:
    try:
        plain = _plain(parameters)
        pubs = plain.get("pubs")
        if isinstance(pubs, Iterator):
            # Reading an iterator here would leave the task with nothing to submit.
            return None
        digest = plain.get("input_digest")
        if digest is None and pubs is None:
            return None
        if digest is not None and (not isinstance(digest, str) or not digest):
            return None
        effort = plain.get("shots" if primitive == "sampler" else "precision")
        config = plain.get("runtime_config")
        extra = config.input_identity() if isinstance(config, QiskitRuntimeConfig) else None
        options = plain.get("options")
        coerced = [] if pubs is None else coerce_pubs(pubs, primitive)
        content = None
        if digest is None:
            names = ("runtime_block_name", "options", "cache_scope", "cache_namespace")
            known = {name: plain[name] for name in names if name in plain}
            digest = build_input_digest_of(
                primitive, coerced, effort, backend_name=_backend_name(plain), extra=extra, **known
            )
        elif coerced and not plain.get("trust_input_digest"):
            # Prefect takes what lies under a key without a look at it.
            content = chosen_input(
                primitive,
                coerced,
                backend_name=_backend_name(plain),
                effort=effort,
                options=options,
                extra=extra,
                logger=_logger,
            ).content_digest
        return submit_key(
            primitive,
            digest,
            settings_digest(primitive, coerced, effort=effort, options=options, extra=extra),
            configuration=_configuration(plain),
            backend_name=_backend_name(plain),
            content=content,
        )
    except Exception:
        _logger.warning("A submission has no cache key and is not cached", exc_info=True)
        return None


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters without Prefect's annotations around them."""
    plain = dict(parameters)
    for name, value in plain.items():
        inner = value
        while isinstance(inner, BaseAnnotation):
            inner = inner.unwrap()
        plain[name] = inner
    return plain


def _backend_name(plain: Mapping[str, Any]) -> str | None:
    named: str | None = plain.get("backend_name")
    config: ConfigurationWithIdentity | None = plain.get("runtime_config")
    return config.backend_name if named is None and config is not None else named


def _configuration(plain: Mapping[str, Any]) -> dict[str, str | None]:
    identity = configuration_identity(
        runtime_block_name=plain.get("runtime_block_name"),
        runtime_config=plain.get("runtime_config"),
    )
    given = plain.get("configuration_identity")
    if isinstance(given, str):
        return {**identity, "given": given}
    if isinstance(given, Mapping):
        return {**identity, **{f"given.{name}": value for name, value in given.items()}}
    return identity
