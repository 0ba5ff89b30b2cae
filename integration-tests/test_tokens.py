"""A token that is written into a configuration is nowhere on the disk after runs with it.

The runs succeed, fail at the account, and fail at the job, in a process whose Prefect home, with
the server's database in it, is then searched: every byte of every file, every row, and what stands
compressed or in base64 inside of them. That the search finds what is there is a part of the test.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
import re
import secrets
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from backports import zstd

from .environments import MAIN_JOB, PrefectServer, prefect_environment, run
from .hidden_secrets import found_in, unpacked

FLOWS = """
import asyncio, json, sys
from prefect import flow, task
from qiskit import QuantumCircuit
from qiskit.transpiler import generate_preset_pass_manager
from qcsc_prefect.integrations.qiskit import QCSCSamplerV2, QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.testing import EmulatedAccount, EmulatedService

secrets = json.loads(sys.stdin.read())

def bell():
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit

def attempt(name, **fields):
    # Flows do not share jobs, so that each name is a job of its own.
    config = QiskitRuntimeConfig(**fields)

    @flow(name=name, persist_result=True, log_prints=True)
    async def sample():
        print("Running with", config, repr(config))
        circuit = bell()
        if fields["backend_name"] != "not_there":
            local = QiskitRuntimeConfig(channel="local", backend_name="fake_manila")
            backend = await asyncio.to_thread(local.get_backend)
            circuit = generate_preset_pass_manager(1, backend=backend).run(circuit)
        sampler = QCSCSamplerV2(runtime_config=config)
        return await sampler.run_and_fetch(
            [circuit], shots=50, artifact_key="bell",
            cache_submit=True, cache_result=True, retry_fetch=True,
        )

    try:
        asyncio.run(sample())
    except Exception as error:
        print("ENDED", name, type(error).__name__, error, error.args)
    else:
        print("ENDED", name, "well")

account = EmulatedAccount(token=secrets["token"])
with EmulatedService(accounts=[account], seed=7) as service, service.client_environment():
    fields = service.runtime_config_fields(backend_name="fake_manila")
    assert fields["token"] == secrets["token"]
    attempt("succeeding", **fields)
    service.faults.end_jobs("Failed")
    attempt("failing", **fields)
    attempt("refused", **{**fields, "instance": "not-an-instance"})
    attempt("without-backend", **{**fields, "backend_name": "not_there"})
attempt("local", channel="local", backend_name="fake_manila", token=secrets["token"])

# What the search has to find, to show that it can.

@task(persist_result=True)
def keep():
    return {"secret": secrets["kept"]}

@flow
def leak(parameter: str):
    keep()

leak(secrets["parameter"])
"""
SECRETS = ("token", "kept", "parameter")


def test_the_search_sees_through_encodings(tmp_path: Path):
    value = "a-secret-of-some-length-0123456789"
    for content in (
        value.encode(),
        json.dumps(
            {"result": base64.encodebytes(f"xy {60 * 'z'}{value}".encode()).decode()}
        ).encode(),
        base64.encodebytes(f"{60 * 'z'}{value}".encode()),
        base64.b64encode(b"abc" + lzma.compress(value.encode())),
        b"header" + zstd.compress(value.encode()),
        b"header" + zlib.compress(f"{value} {value}".encode()),
        base64.b64encode(bz2.compress(value.encode())),
        base64.urlsafe_b64encode(b"??>" + value.encode()),
        gzip.compress(value.encode()),
    ):
        assert any(value.encode() in plain for plain in unpacked(content)), content


def test_an_inline_token_is_nowhere_in_prefect_home(prefect_server: PrefectServer):
    values = {name: secrets.token_hex(24) for name in SECRETS}
    done = subprocess.run(
        [sys.executable, "-P", "-c", FLOWS],
        input=json.dumps(values),
        env=prefect_server.environment,
        cwd=prefect_server.home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    ended = dict(re.findall(r"^ENDED (\S+) (\w+)", done.stdout, re.MULTILINE))
    assert ended == {
        "succeeding": "well",
        "failing": "JobFailedError",
        "refused": "QiskitRuntimeConfigError",
        "without-backend": "QiskitRuntimeConfigError",
        "local": "well",
    }, printed
    assert "Running with" in printed
    assert not [name for name, value in values.items() if value in printed]

    # Logs and events reach the database a little later than the end of the process.
    deadline = time.monotonic() + 30
    while (found := set(found_in(prefect_server.home, values))) < {"kept", "parameter"}:
        assert time.monotonic() < deadline, found
        time.sleep(1)
    time.sleep(2)
    assert set(found_in(prefect_server.home, values)) == {"kept", "parameter"}


def test_a_saved_block_loads_by_name_in_another_process_with_another_home(
    prefect_server: PrefectServer, tmp_path: Path
):
    token = secrets.token_hex(24)
    save = f"""
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
fields = dict(channel="local", backend_name="aer_simulator", token="{token}")
QiskitRuntimeConfig(**fields).save("lab", overwrite=True)
"""
    run([sys.executable, "-P", "-c", save], env=prefect_server.environment)
    elsewhere = prefect_environment(tmp_path / "home", PREFECT_API_URL=prefect_server.url)
    load_and_run = f"""
import runpy, sys
from qcsc_prefect.integrations.qiskit import QiskitRuntimeConfig
config = QiskitRuntimeConfig.load("lab")
print("SHOWN", config)
print("LOADED", config.token.get_secret_value())
sys.argv = ["hydrogen.py", "--block", "lab"]
runpy.run_path({str(MAIN_JOB)!r}, run_name="__main__")
"""
    printed = run([sys.executable, "-P", "-c", load_and_run], env=elsewhere).stdout
    assert f"LOADED {token}" in printed
    assert printed.count(token) == 1
    minimum = re.search(r"Minimum of the scan: (-?[0-9.]+) hartree", printed)
    assert minimum is not None, printed
    assert float(minimum[1]) == pytest.approx(-1.8573, abs=0.010)

    # The server keeps the block's secrets encrypted, and the runs left none of them.
    assert found_in(prefect_server.home, {"token": token}) == {}
    assert found_in(tmp_path / "home", {"token": token}) == {}
