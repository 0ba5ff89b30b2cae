"""What a digest that the caller chose leaves open: the settings of the call, and its PUBs.

A chosen digest names an input, and says nothing of it. So the settings go into keys and tags beside
it; what else goes along with the job is said in core's `engine/identity.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qcsc_prefect.core.digest import digest_value
from qcsc_prefect.core.engine.identity import ChosenInput
from qcsc_prefect.core.errors import InputError
from qcsc_prefect.integrations.qiskit.input_digest import build_input_digest_of
from qcsc_prefect.integrations.qiskit.inputs.native_options import options_mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcsc_prefect.core.canonical.registry import CanonicalRegistry
    from qcsc_prefect.core.engine.identity import Outline
    from qcsc_prefect.core.prefect.task_runs import RunLogger
    from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName, Pub

__all__ = ["chosen_input", "settings_digest"]

#: PUBs that an outline describes; what differs after them is told without a path.
MOST_OUTLINED = 200
_PART_DIGITS = 16


def settings_digest(
    primitive: PrimitiveName,
    pubs: Sequence[Pub],
    *,
    effort: float | None,
    options: Mapping[str, object] | None,
    extra: Mapping[str, str] | None,
) -> str:
    """Return the digest of everything about a call but its PUBs and its place.

    Args:
        primitive: Which primitive.
        pubs: Its native PUBs, which may say their own shots or precision; none where not known.
        effort: Shots or precision of the call.
        options: Its options. In the place of one that cannot be digested stands its type.
        extra: What else decides what the job computes.

    Returns:
        64 hexadecimal digits.
    """
    own = {getattr(pub, "shots" if primitive == "sampler" else "precision") for pub in pubs}
    # A set: the same settings of a longer list of PUBs are the same, its content is not.
    efforts = {effort if each is None else each for each in own or {None}}
    settings = {"efforts": efforts, "options": _digestible(options)[0], "extra": extra}
    return digest_value(settings, domain="qcsc-prefect/settings", registry=_registry())


def chosen_input(
    primitive: PrimitiveName,
    pubs: Sequence[Pub],
    *,
    backend_name: str | None,
    effort: float | None,
    options: Mapping[str, object] | None,
    extra: Mapping[str, str] | None,
    logger: RunLogger,
    is_trusted: bool = False,
) -> ChosenInput:
    """Look at the input that a chosen digest stands for.

    Args:
        primitive: Which primitive.
        pubs: Its native PUBs.
        backend_name: The backend.
        effort: Shots or precision of the call.
        options: Options of the call.
        extra: What else decides what the job computes.
        logger: Where to say what cannot be compared.
        is_trusted: Whether an earlier job is taken whatever it ran.

    Returns:
        What is known of it. An input that cannot be digested is no error: to choose a digest is
        the way out for such a one.
    """
    known, unknown = _digestible(options)
    for path in unknown:
        logger.info(
            "Whether %s is that of an earlier job of this input_digest is not checked", path
        )
    try:
        return ChosenInput(
            build_input_digest_of(
                primitive,
                pubs,
                effort,
                backend_name=backend_name,
                options=known,
                cache_scope="global",
                extra=extra,
            ),
            _outline(primitive, pubs, effort),
            is_trusted,
        )
    except InputError as error:
        logger.warning(
            "Whether an earlier job of this input_digest ran the same PUBs is not checked: %s",
            error,
        )
        return ChosenInput(None, [], is_trusted)


def _outline(primitive: PrimitiveName, pubs: Sequence[Pub], effort: float | None) -> Outline:
    from qcsc_prefect.integrations.qiskit.inputs.canonical.pubs import (
        estimator_pub_forms,
        sampler_pub_forms,
    )

    forms = sampler_pub_forms if primitive == "sampler" else estimator_pub_forms
    return [
        {
            # In this order: writing the circuit numbers the parameters of the values.
            name: digest_value(part, registry=_registry())[:_PART_DIGITS]
            for name, part in vars(form).items()
        }
        for form in forms(pubs[:MOST_OUTLINED], effort)
    ]


def _digestible(options: Mapping[str, object] | None) -> tuple[dict[str, object], list[str]]:
    """Return options that can be digested, and the paths of those that cannot."""
    unknown: list[str] = []

    def known(value: object, path: str) -> object:
        if isinstance(value, Mapping):
            return {name: known(inner, f"{path}.{name}") for name, inner in value.items()}
        try:
            digest_value(value, registry=_registry())
        except InputError:
            unknown.append(path)
            return {"not digested": type(value).__qualname__}
        return value

    given = options_mapping(options) or {}
    tree = {name: known(value, f"options.{name}") for name, value in given.items()}
    return tree, unknown


def _registry() -> CanonicalRegistry:
    # Imported late: the forms that it registers need Qiskit, which is not loaded for keys alone.
    from qcsc_prefect.integrations.qiskit.inputs.canonical import inputs  # noqa: F401
    from qcsc_prefect.integrations.qiskit.inputs.canonical.registry import identity_registry

    return identity_registry
