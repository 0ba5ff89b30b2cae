"""Runs programs on a simulator in the place of the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qiskit.utils import optionals

from qcsc_prefect.integrations.qiskit.testing.executor_program import run_executor
from qcsc_prefect.integrations.qiskit.testing.primitive_programs import run_estimator, run_sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qiskit.providers import BackendV2

    from qcsc_prefect.integrations.qiskit.testing.backends import EmulatedBackend
    from qcsc_prefect.integrations.qiskit.testing.programs import Params

PROGRAMS: Mapping[str, Callable[[Params, BackendV2, int | None], str]] = {
    "sampler": run_sampler,
    "estimator": run_estimator,
    "executor": run_executor,
}
"""The programs that the emulated service can run, by their ids."""


@dataclass(frozen=True)
class Simulation:
    """How programs are simulated.

    Attributes:
        seed: The seed of every job: equal jobs give equal samples, whatever else runs. None draws
            new samples for each job.
        noise: Whether the noise recorded with the device is simulated; this needs Qiskit Aer.
    """

    seed: int | None = None
    noise: bool = False

    def run(self, program_id: str, params: Params, backend: EmulatedBackend) -> str:
        """Run one program and return its result as the service would store it.

        Args:
            program_id: One of `PROGRAMS`.
            params: The parameters as they were posted.
            backend: Where the program runs; it runs one at a time.

        Returns:
            The text that the client downloads as the result.

        Raises:
            ProgramFailedError: The parameters cannot be read, or the simulator refused them.
        """
        with backend.lock:
            return PROGRAMS[program_id](params, self._simulator(backend), self.seed)

    def _simulator(self, backend: EmulatedBackend) -> BackendV2:
        if optionals.HAS_AER and not self.noise:
            from qiskit_aer import AerSimulator

            # Its threads spin while they wait: for a small circuit, ten times as long as it takes.
            return AerSimulator(max_parallel_threads=1)
        return backend.device
