"""The program ``executor``: a quantum program in, its raw arrays out.

The client's newer primitives prepare and post-process on the user's side and submit this program.
It needs Qiskit Aer, and a client that has the program.
"""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from qiskit.exceptions import QiskitError

from qcsc_prefect.integrations.qiskit.testing.programs import (
    BAD_INPUT,
    EXECUTION_FAILED,
    ProgramFailedError,
)

if TYPE_CHECKING:
    from qiskit.providers import BackendV2
    from qiskit_ibm_runtime.quantum_program import QuantumProgram

    from qcsc_prefect.integrations.qiskit.testing.exchange import JSONValue
    from qcsc_prefect.integrations.qiskit.testing.programs import Params

_WIDEST_STATE_VECTOR = 24

_UNREADABLE = (TypeError, ValueError, LookupError, OSError, zlib.error, QiskitError)


def run_executor(params: Params, simulator: BackendV2, seed: int | None) -> str:
    """Run a quantum program.

    Args:
        params: The parameters as they were posted.
        simulator: What runs the circuits.
        seed: The seed, unless the job's own options name one.

    Returns:
        The encoded result, in the schema version of the parameters.

    Raises:
        ProgramFailedError: The parameters cannot be read, the simulator refused them, or what is
            needed is not installed.
    """
    try:
        from ibm_quantum_schemas.common import (  # type: ignore[import-untyped]
            CompressedTensorModel,
        )
        from qiskit_ibm_runtime.fake_provider.executor.run_quantum_program import (
            run_quantum_program,
        )
        from qiskit_ibm_runtime.options_models.simulator import SimulatorOptions
        from qiskit_ibm_runtime.quantum_program.params_converters import (
            QUANTUM_PROGRAM_PARAMS_CONVERTERS,
        )
        from samplomatic.quantum_program import SamplexItem

        try:
            from qiskit_ibm_runtime.decoders.executor.decoder import AVAILABLE_DECODERS
        except ImportError:  # before client 0.51
            from qiskit_ibm_runtime.decoders.quantum_program.decoder import AVAILABLE_DECODERS
    except ImportError as error:
        raise ProgramFailedError(
            EXECUTION_FAILED, f"The emulator cannot run executor programs here: {error}"
        ) from error
    try:
        version = params["schema_version"]
        converter = QUANTUM_PROGRAM_PARAMS_CONVERTERS[version]
        _, result_model = AVAILABLE_DECODERS[version]
        program, _ = converter.decoder(converter.model.model_validate_json(json.dumps(params)))
        for item in program.items:
            if isinstance(item, SamplexItem):
                item.samplex.finalize()
    except _UNREADABLE as error:
        raise ProgramFailedError(BAD_INPUT, f"The parameters cannot be read: {error}") from error
    requested_seed = _requested_seed(program)
    started = datetime.now(UTC)
    try:
        items = run_quantum_program(
            _simulator_for(program, simulator),
            program,
            SimulatorOptions(seed_simulator=seed if requested_seed is None else requested_seed),
        )
        result = result_model(
            data=[
                {
                    "results": {
                        name: CompressedTensorModel.from_numpy(item[name]) for name in item
                    },
                    "metadata": {},
                }
                for item in items
            ],
            metadata={"chunk_timing": [_chunk(program, started)]},
            **_passed_through(params),
        )
    except (ImportError, TypeError, ValueError, QiskitError) as error:
        raise ProgramFailedError(EXECUTION_FAILED, str(error)) from error
    return str(result.model_dump_json())


def _chunk(program: QuantumProgram, started: datetime) -> dict[str, object]:
    """Return when the items were run; here all of them in one chunk."""
    parts = [
        {
            "idx_item": index,
            "size": item.size(),
            "permutation": list(range(len(item.shape))),
            "element_range": (0, item.size(), 1),
        }
        for index, item in enumerate(program.items)
    ]
    return {"start": started, "stop": datetime.now(UTC), "parts": parts}


def _requested_seed(program: QuantumProgram) -> int | None:
    """Return the seed among the primitive's options, which travel with what is handed back."""
    found: object = program.passthrough_data
    for name in ("post_processor", "options", "simulator", "seed_simulator"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int) else None


def _simulator_for(program: QuantumProgram, simulator: BackendV2) -> BackendV2:
    """Return a simulator that can hold the program's circuits.

    The client-side estimator measures every qubit of the device. Most of them stand alone, which
    costs nothing as a product of matrices and is out of reach as a state vector.
    """
    from qiskit_aer import AerSimulator

    widest = max((item.circuit.num_qubits for item in program.items), default=0)
    if widest <= _WIDEST_STATE_VECTOR or not isinstance(simulator, AerSimulator):
        return simulator
    return AerSimulator(method="matrix_product_state")


def _passed_through(params: Params) -> dict[str, JSONValue]:
    # The service hands both back without looking at them, so they need not be decoded.
    posted = params["quantum_program"]
    if not isinstance(posted, dict):
        return {}
    return {name: posted.get(name) for name in ("passthrough_data", "semantic_role")}
