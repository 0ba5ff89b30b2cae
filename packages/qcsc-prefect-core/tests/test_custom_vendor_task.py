"""A vendor of one's own, on core alone: the programs of docs/custom-vendor.md in real flows."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import subprocess
import sys
import time
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from prefect import flow

from qcsc_prefect.core.errors import (
    JobFailedError,
    JobNotFoundError,
    JobReferenceError,
    SubmissionError,
    UnsupportedTypeError,
)

if TYPE_CHECKING:
    from conftest import StartedServer

DOCS = Path(__file__).resolve().parents[3] / "docs"
EXAMPLES = DOCS / "examples"
PROGRAM = EXAMPLES / "custom_vendor.py"
COUPLINGS = {"a b": 1.0, "b c": 1.0, "a c": 1.0}
MOST_LINES = 150


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import custom_vendor

    return custom_vendor


@pytest.fixture
def acme(vendor: ModuleType) -> Iterator[object]:
    from acme_server import AcmeServer

    with AcmeServer() as running:
        yield running


def program_in(page: Path, *, title: str = "") -> str:
    """The blocks of a page that make up one program, without its docstring."""
    fence = rf'```python title="{title}"\n' if title else r"```python\n"
    blocks = re.findall(fence + r"(.*?)```", page.read_text(), re.S)
    return ast.unparse(ast.parse("\n".join(blocks)))


@pytest.mark.parametrize("name", ["custom_vendor.py", "check_custom_vendor.py"])
def test_the_page_shows_the_programs(name: str):
    program = ast.parse((EXAMPLES / name).read_text())
    shown = program_in(DOCS / "custom-vendor.md", title="" if name == PROGRAM.name else name)
    del program.body[0]  # the docstring; the page is one
    assert shown == ast.unparse(program)


def test_the_program_takes_nothing_of_ours_but_core():
    imported = [
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(PROGRAM.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    ours = {name for name in imported if name.startswith(("qcsc_prefect", "qiskit"))}
    assert ours
    assert all(name.startswith("qcsc_prefect.core") for name in ours)


def test_a_new_vendor_costs_at_most_150_lines():
    """Lines that hold code: imports are counted; docstrings, comments and empty lines are not."""
    tree = ast.parse(PROGRAM.read_text())
    documented = [
        node.body[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node) is not None
    ]
    docstrings = {line for node in documented for line in range(node.lineno, node.end_lineno + 1)}
    with PROGRAM.open("rb") as file:
        code = {
            line
            for token in tokenize.tokenize(file.readline)
            if token.type in {tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING}
            for line in range(token.start[0], token.end[0] + 1)
        }
    assert 100 < len(code - docstrings) <= MOST_LINES


async def test_a_job_is_paid_for_once_and_fetched_again(
    vendor: ModuleType, acme, prefect_home: Path, caplog: pytest.LogCaptureFixture
):
    first = await vendor.anneal(COUPLINGS, acme.url)
    assert "Retry 1/3" in caplog.text  # the vendor was busy once, and the fetch was repeated
    # Three spins that all want to differ cannot: one coupling stays unsatisfied.
    assert first["energy"] == -1.0

    again = await vendor.anneal(dict(reversed(COUPLINGS.items())), acme.url)
    assert again == first
    assert list(acme.jobs) == [first["job_id"]]

    changed = await vendor.anneal({**COUPLINGS, "a b": 2.0}, acme.url)
    assert changed["job_id"] != first["job_id"]
    assert len(acme.jobs) == 2


async def test_a_result_that_is_stored_is_not_asked_for_again(
    vendor: ModuleType, acme, prefect_home: Path
):
    first = await vendor.anneal(COUPLINGS, acme.url)
    acme.faults["result"] = ["break"] * 9
    assert await vendor.anneal(COUPLINGS, acme.url) == first
    assert len(acme.faults["result"]) == 9


async def test_flows_of_other_names_do_not_share_jobs(vendor: ModuleType, acme, prefect_home: Path):
    await vendor.anneal(COUPLINGS, acme.url)
    await vendor.anneal.with_options(name="another-anneal")(COUPLINGS, acme.url)
    assert len(acme.jobs) == 2


@pytest.mark.parametrize("fault", ["drop", "cut", "time out"])
async def test_a_lost_answer_is_no_second_job(
    vendor: ModuleType, acme, prefect_home: Path, fault: str
):
    acme.faults["submit"] = [fault]
    found = await vendor.anneal(COUPLINGS, acme.url)
    assert list(acme.jobs) == [found["job_id"]]


async def test_a_flow_that_is_killed_after_acceptance_pays_once(
    vendor: ModuleType, acme, prefect_home: Path, started_server: StartedServer
):
    acme.faults["submit"] = ["hang"]
    code = (
        "import asyncio, custom_vendor\n"
        f"asyncio.run(custom_vendor.anneal({COUPLINGS!r}, {acme.url!r}))"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=EXAMPLES,
        env={
            **os.environ,
            "PREFECT_HOME": str(prefect_home),
            "PREFECT_API_URL": started_server.url,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not acme.jobs:
            assert killed.poll() is None
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    finally:
        killed.kill()
        killed.wait()
    found = await vendor.anneal(COUPLINGS, acme.url)
    assert list(acme.jobs) == [found["job_id"]]


async def test_a_refusal_costs_nothing_and_is_not_repeated(
    vendor: ModuleType, acme, prefect_home: Path
):
    acme.faults["submit"] = ["refuse"]
    with pytest.raises(SubmissionError) as refused:
        await vendor.anneal(COUPLINGS, acme.url)
    assert (refused.value.status, refused.value.service_code) == (400, "ACME-BAD")
    assert acme.jobs == {}


async def test_what_cannot_pass_is_not_repeated(
    vendor: ModuleType, acme, prefect_home: Path, caplog: pytest.LogCaptureFixture
):
    @flow
    async def fetch(job_reference: dict[str, object]) -> object:
        return await vendor.fetch_anneal(job_reference, acme.url)

    with pytest.raises(JobNotFoundError):
        await fetch({"job_id": "acme-7"})
    with pytest.raises(JobReferenceError) as wrong:
        await fetch({"job_id": 7})
    assert wrong.value.path == "job_id"
    acme.next_end = "cracked"
    with pytest.raises(JobFailedError, match="cracked"):
        await vendor.anneal(COUPLINGS, acme.url)
    assert "Finished in state Failed" in caplog.text
    assert "Retry 1/3" not in caplog.text


def test_an_input_without_an_identity_is_refused_with_its_path(vendor: ModuleType):
    with pytest.raises(UnsupportedTypeError) as refused:
        vendor.anneal_identity({"a b": object()}, "http://acme")
    assert refused.value.path == "couplings['a b']"


async def test_nothing_is_stored_as_pickle(vendor: ModuleType, acme, prefect_home: Path):
    job_id = (await vendor.anneal(COUPLINGS, acme.url))["job_id"]
    records = [json.loads(file.read_bytes()) for file in (prefect_home / "storage").iterdir()]
    kinds = {record["metadata"]["serializer"]["type"] for record in records}
    assert kinds == {"json", "qcsc/primitive-result"}
    [kept] = [record for record in records if f'"{job_id}"' in record["result"]]
    reference = json.loads(kept["result"])
    assert (reference["backend_name"], reference["vendor"]) == ("acme-1", {"couplings": 3})
