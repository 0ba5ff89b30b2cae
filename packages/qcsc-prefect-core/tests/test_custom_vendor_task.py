"""A vendor of one's own, on core alone: the program of docs/custom-vendor.md in real flows."""

from __future__ import annotations

import ast
import importlib.util
import json
import pickle
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from prefect import flow

from qcsc_prefect.core import RetryAnswer, advise_retry
from qcsc_prefect.core.errors import (
    JobReferenceError,
    SubmissionUncertainError,
    UnsupportedTypeError,
)

DOCS = Path(__file__).resolve().parents[3] / "docs"
PROGRAM = DOCS / "examples" / "custom_vendor.py"
COUPLINGS = {"a b": 1.0, "b c": 1.0, "a c": 1.0}


@pytest.fixture(scope="module")
def vendor() -> ModuleType:
    spec = importlib.util.spec_from_file_location("custom_vendor", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def jobs_of(account: Path) -> dict[str, dict]:
    return {file.stem: json.loads(file.read_text()) for file in account.glob("*.json")}


def test_the_page_shows_the_program():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "custom-vendor.md").read_text(), re.S)
    program = ast.parse(PROGRAM.read_text())
    del program.body[0]  # the docstring; the page is one
    assert ast.unparse(ast.parse("\n".join(blocks))) == ast.unparse(program)


def test_the_program_takes_nothing_of_ours_but_core():
    imported = [
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(PROGRAM.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    ours = {name for name in imported if name.startswith(("qcsc_prefect", "qiskit"))}
    assert ours == {"qcsc_prefect.core"}


def test_a_job_is_paid_for_once_and_fetched_again(
    vendor: ModuleType, prefect_home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    account = tmp_path / "acme"
    first = vendor.anneal(COUPLINGS, account)
    assert "Retry 1/3" in caplog.text
    # Three spins that all want to differ cannot: one coupling stays unsatisfied.
    assert first["energy"] == -1.0
    (job,) = jobs_of(account).values()
    assert job["fetched"] == 2  # the vendor was busy once, and the fetch was repeated

    again = vendor.anneal(dict(reversed(COUPLINGS.items())), account)
    assert again == first
    assert jobs_of(account).keys() == {first["job_id"]}

    changed = vendor.anneal({**COUPLINGS, "a b": 2.0}, account)
    assert changed["job_id"] != first["job_id"]
    other_account = tmp_path / "other"
    vendor.anneal(COUPLINGS, other_account)
    assert len(jobs_of(account)) == 2
    assert len(jobs_of(other_account)) == 1


def test_flows_of_other_names_do_not_share_jobs(
    vendor: ModuleType, prefect_home: Path, tmp_path: Path
):
    account = tmp_path / "acme"
    vendor.anneal(COUPLINGS, account)
    vendor.anneal.with_options(name="another-anneal")(COUPLINGS, account)
    assert len(jobs_of(account)) == 2


def test_what_cannot_pass_is_not_repeated(
    vendor: ModuleType,
    prefect_home: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    @flow
    def fetch(job_reference: dict[str, object]) -> object:
        return vendor.fetch_anneal(job_reference, tmp_path / "acme")

    with pytest.raises(vendor.AcmeError) as missing:
        fetch({"job_id": "acme-7"})
    assert missing.value.service_code == "ACME-404"
    with pytest.raises(JobReferenceError) as wrong:
        fetch({"job_id": 7})
    assert wrong.value.path == "job_id"
    assert "Finished in state Failed" in caplog.text
    assert "Retry 1/3" not in caplog.text


def test_an_input_without_an_identity_is_refused_with_its_path(vendor: ModuleType):
    with pytest.raises(UnsupportedTypeError) as refused:
        vendor.anneal_digest({"a b": object()})
    assert refused.value.path == "couplings['a b']"


def test_the_reference_is_kept_as_json(vendor: ModuleType, prefect_home: Path, tmp_path: Path):
    job_id = vendor.anneal(COUPLINGS, tmp_path / "acme")["job_id"]
    records = [json.loads(file.read_bytes()) for file in (prefect_home / "storage").iterdir()]
    [kept] = [record for record in records if job_id in record["result"]]
    assert kept["metadata"]["serializer"]["type"] == "json"
    reference = json.loads(kept["result"])
    assert (reference["job_id"], reference["vendor"]) == (job_id, {"couplings": 3})


def test_the_error_of_the_client_survives_the_way_to_another_process(vendor: ModuleType):
    error = vendor.AcmeError("come back later", service_code="ACME-BUSY", status=409)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == ("come back later", vars(error))


@pytest.mark.parametrize(
    ("status", "answer"), [(504, RetryAnswer.LOOK_FIRST), (400, RetryAnswer.DO_NOT)]
)
def test_after_a_lost_answer_somebody_looks_first(
    vendor: ModuleType,
    prefect_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    answer: RetryAnswer,
):
    class BehindAGateway(vendor.AcmeClient):
        def submit(self, couplings: dict[str, float]) -> str:
            super().submit(couplings)
            raise vendor.AcmeError("no answer", service_code="", status=status)

    monkeypatch.setattr(vendor, "AcmeClient", BehindAGateway)
    with pytest.raises((SubmissionUncertainError, vendor.AcmeError)) as caught:
        vendor.anneal(COUPLINGS, tmp_path / "acme")
    assert advise_retry(caught.value, vendor.ACME_RULES).answer is answer
