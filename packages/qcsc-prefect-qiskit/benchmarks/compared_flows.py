"""The program that `compare_alternatives.py` runs for each contender, in a process of its own.

    python compared_flows.py STYLE BACKEND COUNT

``bare`` uses the native client, one service and a thread for each job; ``facade`` the facades with
every flag, which the published package has under the same names. Prints the seconds that so many
different jobs took at once, and the longest stall of the event loop, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from qiskit import QuantumCircuit


def circuits(count: int) -> list[QuantumCircuit]:
    """Return so many different ISA circuits."""
    made = []
    for index in range(count):
        circuit = QuantumCircuit(5, 2)
        circuit.rz(0.1 * index, 0)
        circuit.sx(0)
        circuit.measure([0, 1], [0, 1])
        made.append(circuit)
    return made


def bare(backend_name: str, count: int) -> dict[str, float]:
    """Run the jobs with the native client."""
    from qiskit_ibm_runtime import QiskitRuntimeService, SamplerV2

    started = time.perf_counter()
    service = QiskitRuntimeService()
    backend = service.backend(backend_name)
    backend.target  # noqa: B018 - loads what each thread would load again

    def run(circuit: QuantumCircuit) -> None:
        SamplerV2(mode=backend).run([circuit], shots=100).result()

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, circuits(count)))
    return {"seconds": time.perf_counter() - started}


async def facade(backend_name: str, count: int) -> dict[str, float]:
    """Run the jobs with the facades, in one flow."""
    import qiskit_ibm_runtime  # noqa: F401 - imported late otherwise, in the time that is measured
    from prefect import flow

    from qcsc_prefect.integrations.qiskit import QCSCSamplerV2, QiskitRuntimeConfig

    @flow(name="nothing")
    async def nothing() -> None:
        """Opens the connection to the Prefect server."""

    @flow(name="compared")
    async def compared() -> None:
        # As the bare client's; the older release knows no others, and no such field.
        has_choice = "primitives" in QiskitRuntimeConfig.model_fields
        choice = {"primitives": "classic"} if has_choice else {}
        config = QiskitRuntimeConfig(backend_name=backend_name, **choice)
        sampler = QCSCSamplerV2(runtime_config=config)

        async def run(circuit: QuantumCircuit) -> None:
            job = await sampler.run(
                [circuit], shots=100, cache_submit=True, cache_result=True, retry_fetch=True
            )
            await job.result()

        await asyncio.gather(*[run(circuit) for circuit in circuits(count)])

    await nothing()
    started = time.perf_counter()
    stall = 0.0

    async def watch() -> None:
        nonlocal stall
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            stall = max(stall, time.perf_counter() - before - 0.01)

    watcher = asyncio.create_task(watch())
    await compared()
    watcher.cancel()
    return {"seconds": time.perf_counter() - started, "stall": stall}


def main() -> None:
    style, backend_name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if style == "bare":
        measured = bare(backend_name, count)
    else:
        measured = asyncio.run(facade(backend_name, count))
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
