"""The Prefect serializer ``qcsc/primitive-result``.

Importing this module registers the serializer under its name. It is cheap to import: numpy,
Qiskit and zstd are loaded when the first result is written or read.
"""

from __future__ import annotations

from typing import Any, Literal

from prefect.logging import get_logger
from prefect.serializers import Serializer

from qcsc_prefect.core.errors import InputError, RecordError

__all__ = ["SERIALIZER_TYPE", "PrimitiveResultSerializer"]

SERIALIZER_TYPE = "qcsc/primitive-result"

_logger = get_logger("qcsc.results")


class PrimitiveResultSerializer(Serializer):
    """Stores results of primitives as a container of raw arrays, without pickle.

    Any task or flow can use it by name, ``result_serializer="qcsc/primitive-result"``, once this
    package is imported. It takes what a fetch task returns, and any other nesting of plain
    values, numpy arrays and Qiskit's result types; what comes back is what went in. The format is
    specified in ``docs/result-format.md``.

    Reading through this serializer runs nothing that the stored bytes name. Note that Prefect
    chooses the serializer that a *record* names: whoever can write to the storage can put a
    record there that names ``pickle``, and Prefect's own reading then runs it.
    `aread_result_record` refuses such records.

    Example:
        >>> serializer = PrimitiveResultSerializer()
        >>> serializer.loads(serializer.dumps({"shots": 4096, "job_id": "c1"}))
        {'shots': 4096, 'job_id': 'c1'}
    """

    type: Literal["qcsc/primitive-result"] = "qcsc/primitive-result"

    def dumps(self, obj: Any) -> bytes:
        """Write a value.

        Args:
            obj: The value.

        Returns:
            The container as base64 text, which is what fits into Prefect's record.

        Raises:
            UnsupportedTypeError: The value, or one inside it, has no place in a container. Prefect
                then leaves the task completed and its result unstored, with a warning that does
                not tell the path, so it is logged here as well.
        """
        from qcsc_prefect.core.prefect.encoding import encode_output

        try:
            return b"".join(encode_output(obj))
        except InputError as exc:
            _logger.error("The result is not stored: %s", exc)  # noqa: TRY400 - Prefect logs the traceback
            raise

    def loads(self, blob: bytes) -> Any:
        """Read a value that `dumps` wrote.

        Args:
            blob: The base64 text.

        Returns:
            The value.

        Raises:
            DamagedRecordError: These are not the bytes that were written. Prefect takes this, and
                any other error, for a missing record and runs the task again without a word, so
                a warning is logged here.
            FormatVersionError: A newer release wrote them.
            RecordError: A type in the record is not installed here.
        """
        from qcsc_prefect.core.prefect.encoding import decode_output

        try:
            return decode_output(blob).value
        except RecordError as exc:
            _logger.warning("A stored result is not used: %s", exc)
            raise
