"""Archives: one file, whole or absent, that opens without Prefect and without the client."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from qiskit.primitives import BitArray, DataBin, PrimitiveResult, SamplerPubResult
from qiskit_ibm_runtime.execution_span import ExecutionSpans, SliceSpan
from qiskit_ibm_runtime.results import EstimatorPubResult

import qcsc_prefect.core
from qcsc_prefect.core.container.format import decode_container, encode_container
from qcsc_prefect.core.errors import (
    ConfigurationError,
    DamagedRecordError,
    RecordError,
    UnsupportedTypeError,
)
from qcsc_prefect.integrations.qiskit.results import describe_result, load_result, save_result


def output(shots: int = 1000) -> dict[str, object]:
    from datetime import UTC, datetime

    bits = np.random.default_rng(2).integers(0, 256, (shots, 2), dtype=np.uint8)
    span = SliceSpan(datetime.now(UTC), datetime.now(UTC), {0: ((shots,), slice(0, shots))})
    pub_results = [
        SamplerPubResult(DataBin(meas=BitArray(bits, 16)), {"circuit_metadata": {}}),
        EstimatorPubResult(DataBin(evs=np.array([0.5])), {}),
    ]
    metadata = {"execution": {"execution_spans": ExecutionSpans([span])}}
    return {
        "job_id": "j1",
        "result": PrimitiveResult(pub_results, metadata),
        "metadata": {"input_digest": "d", "job_reference": {"job_id": "j1"}},
    }


@pytest.mark.parametrize("codec", ["none", "zlib", "zstd"])
def test_an_archive_comes_back(tmp_path, codec):
    saved = output()
    path = tmp_path / "new folder" / "result.qcsc"
    save_result(path, saved, codec=codec)
    assert encode_container(load_result(path)).to_bytes() == encode_container(saved).to_bytes()
    facts = describe_result(path)
    assert {"saved", "python", "qcsc-prefect-core", "qiskit", "qiskit-ibm-runtime"} <= set(facts)
    assert [p.name for p in path.parent.iterdir()] == ["result.qcsc"]


def test_a_refused_archive_leaves_the_old_one(tmp_path):
    path = tmp_path / "result.qcsc"
    save_result(path, {"v": 1})
    with pytest.raises(UnsupportedTypeError, match="v is of type "):
        save_result(path, {"v": object()})
    with pytest.raises(ConfigurationError, match="lzma"):
        save_result(path, {"v": 2}, codec="lzma")
    assert load_result(path) == {"v": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.qcsc"]


def test_what_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "result.qcsc"
    with pytest.raises(FileNotFoundError):
        load_result(path)
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(DamagedRecordError):
        load_result(path)
    save_result(path, output())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedRecordError):
        describe_result(path)
    path.write_bytes(encode_container([1, 2]).to_bytes())
    with pytest.raises(RecordError, match="no saved output"):
        load_result(path)


def test_threads_that_save_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "result.qcsc"
    threads = [
        threading.Thread(target=save_result, args=(path, {"n": n, "x": np.full(300_000, n)}))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loaded = load_result(path)
    assert (loaded["x"] == loaded["n"]).all()
    assert len(list(tmp_path.iterdir())) == 1


def _environment(tmp_path: Path, packages: list[str]) -> Path:
    """A folder to import from that holds these installed packages, core and nothing else."""
    site = tmp_path / "site"
    (site / "qcsc_prefect").mkdir(parents=True)
    (site / "qcsc_prefect" / "core").symlink_to(Path(qcsc_prefect.core.__path__[0]))
    for name in packages:
        spec = importlib.util.find_spec(name)
        source = Path(
            spec.submodule_search_locations[0] if spec.submodule_search_locations else spec.origin
        )
        (site / source.name).symlink_to(source)
        for extra in source.parent.glob(f"{name}.libs"):
            (site / extra.name).symlink_to(extra)
    return site


def _run_in(site: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-S", "-c", textwrap.dedent(code)],
        env={"PYTHONPATH": str(site), "PATH": os.environ["PATH"], "HOME": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


QISKIT_ALONE = [
    "msgspec",
    "numpy",
    "qiskit",
    "rustworkx",
    "scipy",
    "dill",
    "stevedore",
    "typing_extensions",
]


def test_an_archive_opens_with_core_numpy_and_qiskit_alone(tmp_path):
    saved = output()
    path = tmp_path / "result.qcsc"
    save_result(path, saved)
    site = _environment(tmp_path, QISKIT_ALONE)
    printed = _run_in(
        site,
        f"""
        import importlib.util, warnings
        for absent in ("prefect", "qiskit_ibm_runtime", "backports", "dateutil", "pydantic"):
            assert importlib.util.find_spec(absent) is None, absent
        from qcsc_prefect.core.container.archive import load_result
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            output = load_result({str(path)!r})
        from qiskit.primitives import PubResult, PrimitiveResult
        assert type(output["result"]) is PrimitiveResult
        assert type(output["result"][1]) is PubResult
        print(output["result"][0].data.meas.array.sum(), output["result"][1].data.evs[0])
        print(output["result"].metadata["execution"]["execution_spans"])
        print([str(warning.message) for warning in caught])
        """,
    )
    numbers, spans, warning = printed.splitlines()
    assert numbers == f"{saved['result'][0].data.meas.array.sum()} 0.5"
    assert "qiskit_ibm_runtime/ExecutionSpans" in spans
    assert "Install qiskit_ibm_runtime" in warning


def test_a_container_opens_with_core_alone(tmp_path):
    stored = encode_container({"x": np.arange(3, dtype="<i4"), "n": (1, 2)}).to_bytes()
    site = _environment(tmp_path, ["msgspec"])
    printed = _run_in(
        site,
        f"""
        from qcsc_prefect.core.container.format import decode_container, encode_container
        value = decode_container(bytes.fromhex({stored.hex()!r}), missing_types="keep")
        assert value["n"] == (1, 2)
        assert value["x"].type_name == "numpy/ndarray"
        print(encode_container(value).to_bytes().hex())
        """,
    )
    # What core alone cannot rebuild, it can still pass on.
    passed_on = decode_container(bytes.fromhex(printed.strip()))
    assert passed_on["x"].tolist() == [0, 1, 2]


def test_zstd_that_is_not_installed_is_named(tmp_path):
    path = tmp_path / "result.qcsc"
    save_result(path, {"x": 1}, codec="zstd")
    site = _environment(tmp_path, ["msgspec"])
    printed = _run_in(
        site,
        f"""
        from qcsc_prefect.core.container.archive import load_result, save_result
        for attempt in (lambda: load_result({str(path)!r}),
                        lambda: save_result({str(path)!r}, {{}}, codec="zstd")):
            try:
                attempt()
            except ValueError as error:
                print(type(error).__name__, error)
        """,
    )
    assert printed.count("backports.zstd") == 2
    assert printed.startswith("RecordError")


def test_importing_core_imports_no_heavy_module(tmp_path):
    site = _environment(tmp_path, ["msgspec"])
    _run_in(
        site,
        """
        import sys
        import qcsc_prefect.core.container.archive
        heavy = {"numpy", "qiskit", "zstandard", "backports", "prefect", "dateutil", "zoneinfo"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        """,
    )


def test_the_format_is_the_one_that_msgspec_made():
    # A container's tree is plain MessagePack, which any language reads.
    stored = encode_container([1, "a"], codec="none").to_bytes()
    head_size = int.from_bytes(stored[12:16], "little")
    assert msgspec.msgpack.decode(stored[56 + head_size :]) == ["l", 1, "a"]
