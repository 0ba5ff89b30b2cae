"""The handle of a submitted job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from qcsc_prefect.core.reference import parse_job_reference
from qcsc_prefect.integrations.qiskit.inputs.call_arguments import refuse_bad_arguments
from qcsc_prefect.integrations.qiskit.inputs.native_options import options_mapping
from qcsc_prefect.integrations.qiskit.inputs.pubs import known_pubs
from qcsc_prefect.integrations.qiskit.presentation import html_repr, short_repr
from qcsc_prefect.integrations.qiskit.services.ibm.job_pages import known_job_url
from qcsc_prefect.integrations.qiskit.services.runtime_config import require_one_config
from qcsc_prefect.integrations.qiskit.wrappers.fetch_options import fetch_task
from qcsc_prefect.integrations.qiskit.wrappers.synchronous import run_synchronously

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig

__all__ = ["HandleArguments", "QCSCPrimitiveJob"]


class HandleArguments(TypedDict):
    """What every handle of a facade's call has in common; see `QCSCPrimitiveJob`."""

    runtime_block_name: str | None
    runtime_config: QiskitRuntimeConfig | None
    options: Mapping[str, Any] | None
    artifact_key: str | None
    cache_result: bool
    retry_fetch: bool
    max_wait: float | None
    cancel_job_on_cancellation: bool


class QCSCPrimitiveJob:
    """Job-like handle for split native Qiskit submit/fetch execution.

    The handle is returned by `QCSCSamplerV2.run` and `QCSCEstimatorV2.run`. It holds a serializable
    Qiskit Runtime job reference, and fetches the existing job through
    `fetch_qiskit_job_result_task`. It is not a native ``RuntimeJobV2``.

    A handle can be made anew from a reference, in another process or on another machine; then
    ``pubs`` may be None or an empty list, and the metadata say less about them.

    Args:
        job_reference: Serializable reference returned by a submit task.
        runtime_block_name: Name of a saved `QiskitRuntimeConfig` block.
        runtime_config: Inline runtime configuration. Exactly one of the two is needed.
        pubs: Native Qiskit pubs, for the metadata.
        artifact_key: Prefix of the Prefect artifacts; None for no artifacts.
        options: Native Qiskit options of the primitive.
        cache_result: Keep fetched results in Prefect's result storage.
        retry_fetch: Retry transient failures while fetching the existing job.
        max_wait: Longest wait for the job in seconds; None for no limit.
        cancel_job_on_cancellation: Whether cancelling the fetch cancels the job. One that another
            flow with the same Prefect home waits for goes on; who waits elsewhere is not known.

    Raises:
        JobReferenceError: If the reference is wrong; the message names the field.
        InputError: If another argument is refused.
        ConfigurationError: If both or neither configuration is given.

    Example:
        >>> from qcsc_prefect.integrations.qiskit import QCSCPrimitiveJob, QiskitRuntimeConfig
        >>> job = QCSCPrimitiveJob(
        ...     job_reference={"job_id": "local-1", "primitive": "sampler"},
        ...     runtime_block_name=None,
        ...     runtime_config=QiskitRuntimeConfig(channel="local", backend_name="fake_manila"),
        ...     pubs=None,
        ...     artifact_key=None,
        ...     options=None,
        ...     cache_result=True,
        ...     retry_fetch=True,
        ... )
        >>> job.job_id()
        'local-1'
    """

    def __init__(
        self,
        *,
        job_reference: Mapping[str, Any],
        runtime_block_name: str | None,
        runtime_config: QiskitRuntimeConfig | None,
        pubs: Iterable[Any] | None,
        artifact_key: str | None,
        options: Mapping[str, Any] | None,
        cache_result: bool,
        retry_fetch: bool,
        max_wait: float | None = None,
        cancel_job_on_cancellation: bool = False,
    ) -> None:
        require_one_config(runtime_block_name, runtime_config)
        refuse_bad_arguments(
            artifact_key=artifact_key,
            cache_result=cache_result,
            retry_fetch=retry_fetch,
            max_wait=max_wait,
            cancel_job_on_cancellation=cancel_job_on_cancellation,
        )
        self._reference = parse_job_reference(job_reference, require_job_id=False)
        self._runtime_block_name = runtime_block_name
        self._runtime_config = runtime_config
        self._pubs = known_pubs(pubs)
        self._artifact_key = artifact_key
        self._options = options_mapping(options)
        self._cache_result = cache_result
        self._retry_fetch = retry_fetch
        self._max_wait = max_wait
        self._cancel_job_on_cancellation = cancel_job_on_cancellation
        self._output: dict[str, Any] | None = None

    @property
    def job_reference(self) -> dict[str, Any]:
        """A copy of the serializable Qiskit Runtime job reference."""
        return dict(self._reference.to_dict())

    @property
    def primitive(self) -> str | None:
        """Primitive recorded in the job reference."""
        return self._reference.primitive or self._reference.program_type

    @property
    def backend_name(self) -> str | None:
        """Backend name recorded in the job reference."""
        return self._reference.backend_name

    def job_id(self) -> str | None:
        """Return the native Qiskit Runtime job id.

        Returns:
            The job id, or None if the reference does not hold one.
        """
        return self._reference.job_id

    async def output(self) -> dict[str, Any]:
        """Fetch and return the full task output.

        The first call fetches the native job by its id; later calls on the same handle return the
        same output. With ``cache_result`` the output also survives in Prefect's result storage, for
        reruns that fetch the same job.

        Returns:
            What `fetch_qiskit_job_result_task` returned, with ``result`` and ``metadata``.

        Raises:
            JobError: As `fetch_qiskit_job_result_task` does.
        """
        if self._output is None:
            task = fetch_task(retry_fetch=self._retry_fetch)
            self._output = await task(
                self._runtime_block_name,
                job_reference=self._reference.to_dict(),
                pubs=self._pubs,
                artifact_key=self._artifact_key,
                options=self._options,
                runtime_config=self._runtime_config,
                cache_result=self._cache_result,
                max_wait=self._max_wait,
                cancel_job_on_cancellation=self._cancel_job_on_cancellation,
            )
        return self._output

    async def result(self) -> Any:
        """Fetch and return the native Qiskit primitive result.

        Returns:
            The native result, as in ``output()["result"]``.

        Raises:
            JobError: As `output` does.
        """
        return (await self.output())["result"]

    def output_sync(self) -> dict[str, Any]:
        """Fetch the full task output from a synchronous flow; see `output`.

        Returns:
            What `output` returns.
        """
        return run_synchronously(self.output(), instead="output")

    def result_sync(self) -> Any:
        """Fetch the native result from a synchronous flow; see `result`.

        Returns:
            What `result` returns.
        """
        return run_synchronously(self.result(), instead="result")

    def __repr__(self) -> str:
        return short_repr(
            type(self).__name__,
            primitive=self.primitive,
            state=self._known_state(),
            backend_name=self.backend_name,
            job_id=self.job_id(),
        )

    def _repr_html_(self) -> str:
        metadata = {} if self._output is None else self._output["metadata"]
        return html_repr(
            primitive=self.primitive,
            state=self._known_state(),
            backend_name=self.backend_name,
            job_id=self.job_id(),
            job_url=metadata.get("job_url") or self._job_url(),
            facts={"shots": self._reference.shots, "precision": self._reference.precision},
        )

    def _known_state(self) -> str:
        """The state as far as this handle has seen it; a repr asks no service."""
        return "SUBMITTED" if self._output is None else "DONE"

    def _job_url(self) -> str | None:
        job_id = self.job_id()
        if job_id is None or self._runtime_config is None:
            return None
        return known_job_url(job_id, self._runtime_config)
