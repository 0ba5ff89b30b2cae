"""Results in files of their own: `save_result` and `load_result`.

An archive is a container (see `container`) whose value is the output of a fetch task: the native
result with its metadata, the job reference, the input digest. It opens wherever this package,
numpy and Qiskit are installed; Prefect and the client that made the result are not needed, and
values of types that only the client has come back as a `StoredValue` then. For that reason an
archive is compressed with zlib, which every Python has, unless asked otherwise.

Both functions may be called from any thread. In a coroutine, hand them to one:
``await asyncio.to_thread(save_result, path, output)``.
"""

from __future__ import annotations

import platform
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qcsc_prefect.core.atomic_files import write_chunks_atomically
from qcsc_prefect.core.bounded_files import file_limit, read_regular_file
from qcsc_prefect.core.container.format import encode_container, read_about, read_container
from qcsc_prefect.core.errors import RecordError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from qcsc_prefect.core.container.format import Codec

__all__ = ["describe_result", "load_result", "save_result"]

_DESCRIBED_PACKAGES: Final = (
    "qcsc-prefect-core",
    "qcsc-prefect-qiskit",
    "qiskit",
    "qiskit-ibm-runtime",
    "qiskit-aer",
    "numpy",
    "prefect",
)


def save_result(
    path: str | os.PathLike[str], output: Mapping[str, object], *, codec: Codec = "zlib"
) -> None:
    """Save the output of a fetch task, or any other dict of results, as one file.

    The file appears whole or not at all, and is on the disk when this returns. It also records
    the time and the versions of Python and of the packages that made it.

    Args:
        path: Where to, for example ``ghz.qcsc``; an existing file is replaced. Missing folders
            are made.
        output: What a fetch task or ``QCSCPrimitiveJob.output()`` returned. Any dict of plain
            values, numpy arrays and Qiskit's result types will do.
        codec: ``zlib`` opens everywhere. ``zstd`` is faster for results with few distinct
            outcomes, and needs the package backports.zstd wherever the file is opened. ``none``
            leaves the arrays as they are.

    Raises:
        UnsupportedTypeError: The output holds a value that has no place in an archive; the
            message and the attribute ``path`` say where.
        ConfigurationError: The codec does not exist or is not installed.
        OSError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "ghz.qcsc"
        >>> save_result(path, {"job_id": "c1", "shots": 4096})
        >>> load_result(path)
        {'job_id': 'c1', 'shots': 4096}
    """
    container = encode_container(dict(output), codec=codec, about=_producer())
    write_chunks_atomically(Path(path), container.chunks, durable=True)


def load_result(path: str | os.PathLike[str]) -> dict[str, object]:
    """Load what `save_result` saved. Nothing in the file is executed.

    Args:
        path: The file.

    Returns:
        The output as it was saved: types, arrays, order of keys. Values of types whose package is
        not installed come back as a `StoredValue`, or as the Qiskit type that they extend, and
        one warning names the packages.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedRecordError: The file is not what was written, or no archive at all.
        FormatVersionError: A newer release wrote it.
        RecordError: The file's codec is not installed, or its content would take more memory than
            the environment variable ``QCSC_PREFECT_MAX_RECORD_BYTES`` allows.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "energy.qcsc"
        >>> save_result(path, {"energy": -1.8573, "angles": (0.1, 0.2)})
        >>> load_result(path)["angles"]
        (0.1, 0.2)
    """
    decoded = read_container(read_regular_file(Path(path), file_limit()), missing_types="keep")
    if not isinstance(decoded.value, dict):
        raise RecordError(
            f"{path} holds a value of type {type(decoded.value).__name__} and no saved output; "
            "read it with qcsc_prefect.core.container.format."
        )
    if decoded.missing_types:
        packages = sorted({name.partition("/")[0] for name in decoded.missing_types})
        warnings.warn(
            f"{path} holds values of types that are not installed here: "
            f"{', '.join(decoded.missing_types)}. They came back as plain StoredValue, or as the "
            f"types that they extend. Install {', '.join(packages)} to read them in full.",
            stacklevel=2,
        )
    return decoded.value


def describe_result(path: str | os.PathLike[str]) -> dict[str, str]:
    """Tell what wrote an archive, without rebuilding its content.

    Args:
        path: The file.

    Returns:
        The time (``saved``, ISO 8601, UTC), and the versions of ``python`` and of each package
        that was installed and took part.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedRecordError: The file is not what was written, or no archive at all.
        FormatVersionError: A newer release wrote it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "run.qcsc"
        >>> save_result(path, {"job_id": "c1"})
        >>> 'saved' in describe_result(path)
        True
    """
    return read_about(read_regular_file(Path(path), file_limit()))


def _producer() -> dict[str, str]:
    # Costs as much as all of core to import, and is needed once an archive.
    from importlib.metadata import PackageNotFoundError, version

    facts = {
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
    }
    for package in _DESCRIBED_PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts
