"""Says that a job which is reused was run by the client's other implementation of its primitive.

With ``primitives="auto"`` an input is one job, whichever kind the client's names stand for: whoever
leaves the choice to the client takes either's result, and pays for none again. But options,
defaults and mitigation of the two differ, and one result beside another may show it.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from prefect.context import FlowRunContext

from qcsc_prefect.integrations.qiskit.inputs.primitive_choice import program_of

if TYPE_CHECKING:
    from uuid import UUID

    from qcsc_prefect.core.prefect.task_runs import RunLogger
    from qcsc_prefect.core.reference import JobReference
    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
    from qcsc_prefect.integrations.qiskit.inputs.pubs import PrimitiveName

__all__ = ["tell_of_an_earlier_kind"]

#: Runs of flows in which it was said, and of which primitive; None outside of a flow.
_told: set[tuple[UUID | None, str]] = set()


def tell_of_an_earlier_kind(
    earlier: JobReference,
    primitive: PrimitiveName,
    config: QiskitRuntimeConfig,
    logger: RunLogger,
) -> None:
    """Say once in a flow run that a job which ``"auto"`` reuses is of the other kind."""
    if config.primitives != "auto" or earlier.program_type is None:
        return
    if earlier.program_type == program_of(primitive, config.primitive_implementation(primitive)):
        return
    run = FlowRunContext.get()
    place = (run.flow_run.id if run is not None and run.flow_run is not None else None, primitive)
    if place in _told:
        return
    _told.add(place)
    was, now = ("client-side", "classic")
    if earlier.program_type != program_of(primitive, "client_side"):
        was, now = now, was
    logger.warning(
        "Job %s is reused, and was run by the client's %s %s: since then the client's own name has "
        "become the %s one (qiskit-ibm-runtime %s), which runs new jobs. Other earlier jobs may be "
        "of that kind too; options, defaults and mitigation of the two differ. To have all jobs of "
        "one kind, set primitives='classic' or 'client_side': this runs the input again",
        earlier.job_id,
        was,
        primitive,
        now,
        version("qiskit-ibm-runtime"),
    )
