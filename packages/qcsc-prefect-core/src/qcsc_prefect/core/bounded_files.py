"""Files that are read: regular ones, and no larger than a limit.

What lies in a storage folder may be anything by the time it is read: a pipe that nobody writes to,
a link to a device without an end, a file of terabytes that takes no room on the disk. Each of them
is refused before a byte is read.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Final

from qcsc_prefect.core.errors import ConfigurationError, DamagedRecordError, RecordError

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path

__all__ = [
    "LIMIT_VARIABLE",
    "file_limit",
    "open_regular_file",
    "read_regular_file",
    "record_limit",
    "structure_limit",
]

#: The environment variable that sets the limit.
LIMIT_VARIABLE: Final = "QCSC_PREFECT_MAX_RECORD_BYTES"

_DEFAULT_LIMIT: Final = 1 << 30
#: What one byte of a structure, say an empty list, may take as an object of Python.
_OBJECT_SIZE: Final = 64


def record_limit() -> int:
    """Bytes that the content of one record may take in memory once it is expanded.

    A gibibyte, or what the environment variable ``QCSC_PREFECT_MAX_RECORD_BYTES`` says. The largest
    job of a quantum service gives a fifth of that.

    Raises:
        ConfigurationError: The variable holds no positive integer.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    if text is None:
        return _DEFAULT_LIMIT
    if re.fullmatch(r"0*[1-9][0-9]{0,17}", text) is None:
        raise ConfigurationError(
            f"The environment variable {LIMIT_VARIABLE} is {text:.40}, and should be a number of "
            "bytes. Correct it, or unset it."
        )
    return int(text)


def structure_limit() -> int:
    """Bytes that a structure may take where each of them can become an object of Python."""
    return max(1, record_limit() // _OBJECT_SIZE)


def file_limit() -> int:
    """Bytes that a file may have which is read: twice the record's, since it may be base64."""
    return 2 * record_limit()


def open_regular_file(path: Path, limit: int) -> BufferedReader:
    """Open a file to read it, if it is a regular one and not too large.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedRecordError: What lies there is no regular file.
        RecordError: The file is too large.
        OSError: It cannot be opened.
    """
    # Without O_NONBLOCK, opening a pipe would wait for somebody who writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DamagedRecordError(f"{path} is no regular file, and is not read.")
        if status.st_size > limit:
            raise RecordError(
                f"{path} has {status.st_size} bytes, and no more than {limit} are read. If it is "
                f"what was written, set a larger {LIMIT_VARIABLE}."
            )
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_regular_file(path: Path, limit: int) -> bytes:
    """Read a file, if it is a regular one and not too large.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedRecordError: What lies there is no regular file.
        RecordError: The file is too large.
        OSError: It cannot be read.

    Example:
        >>> from pathlib import Path
        >>> read_regular_file(Path("/dev/zero"), 100)
        Traceback (most recent call last):
        ...
        qcsc_prefect.core.errors.DamagedRecordError: /dev/zero is no regular file, and is not read.
    """
    with open_regular_file(path, limit) as file:
        # Not to the end: some files of the system have no size, and no end.
        return file.read(os.fstat(file.fileno()).st_size)
