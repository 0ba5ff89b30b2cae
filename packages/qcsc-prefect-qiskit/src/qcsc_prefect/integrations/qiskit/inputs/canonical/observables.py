"""Observables: sums of Pauli strings and projectors with real coefficients.

The order of the terms does not count. Each term becomes a row of bits, the rows are sorted, and
rows and coefficients are written as two arrays. Terms are merged and small ones dropped by the
rule of :class:`~qiskit.primitives.containers.observables_array.ObservablesArray`, since that is
what the client sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
from qiskit.primitives.containers.object_array import object_array
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.quantum_info import Pauli, PauliList, SparseObservable, SparsePauliOp
from scipy.sparse import csr_array

from qcsc_prefect.core.canonical.paths import join_path
from qcsc_prefect.core.errors import InputError, UnsupportedTypeError
from qcsc_prefect.integrations.qiskit.inputs.canonical.registry import identity_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qcsc_prefect.core.canonical.writer import CanonicalWriter

__all__ = ["Observables", "TermTable", "observables_form", "term_table"]

#: Letters, a byte each, that are packed into bits at a time: as many terms as that holds.
BLOCK_LETTERS = 1 << 18

#: Coefficients up to this magnitude count as zero: `SparseObservable.simplify`'s default.
ZERO_TOLERANCE = 1e-8


Coefficients = npt.NDArray[np.complex128] | npt.NDArray[np.float64]

#: The bits of each letter of a label, as in `SparseObservable.BitTerm`: Z is 1, X is 2, and 4 and 8
#: are the projectors onto the negative and the positive eigenstate.
_PLANE_BITS = (2, 1, 4, 8)
_LETTERS = {"I": 0, "Z": 1, "X": 2, "Y": 3, "1": 5, "0": 9, "-": 6, "+": 10, "l": 7, "r": 11}


@dataclass(frozen=True)
class TermTable:
    """An observable in canonical order.

    Attributes:
        num_qubits: Qubits that it acts on.
        planes: 2 for Pauli strings (X bits, Z bits), 4 where there are projectors (then the bits
            of negative and of positive projectors follow).
        rows: The bits of each term, uint8, in ascending order.
        coefficients: One float64 for each row.
    """

    num_qubits: int
    planes: int
    rows: npt.NDArray[np.uint8]
    coefficients: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Observables:
    """The observables of a PUB.

    Attributes:
        shape: The shape of their array.
        tables: The observables, in C order.
    """

    shape: tuple[int, ...]
    tables: tuple[TermTable, ...]


def observables_form(observables: object, num_qubits: int) -> Observables:
    """Take observables in any form that an estimator PUB accepts.

    Raises:
        InputError: If one of them is not Hermitian, is zero, or does not fit the circuit.
        UnsupportedTypeError: If one of them is not an observable.
    """
    simplified = False
    if isinstance(observables, ObservablesArray):
        simplified = True
        items = observables.sparse_observables_array()
    else:
        try:
            items = object_array(observables, copy=False, list_types=(PauliList,))
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"not an array of observables: {error}") from error
    tables = []
    for index, item in np.ndenumerate(items):
        place = "".join(f"[{i}]" for i in index)
        try:
            table = term_table(item, simplified=simplified)
            _require_size(table, num_qubits)
        except InputError as error:
            error.path = join_path(place, error.path)
            raise
        tables.append(table)
    return Observables(items.shape, tuple(tables))


def term_table(observable: object, *, simplified: bool = False) -> TermTable:
    """Bring one observable into canonical order.

    Args:
        observable: A label, Pauli, mapping from labels or Paulis to coefficients, SparsePauliOp
            or SparseObservable.
        simplified: Whether this is the observable as the client holds and sends it, in which
            nothing is merged or dropped any more.

    Raises:
        InputError: If the observable is not Hermitian, or zero.
        UnsupportedTypeError: If it is not an observable.
    """
    num_qubits, rows, coefficients = _packed_terms(observable)
    order, distinct = _row_order(rows)
    rows, coefficients = rows.take(order, axis=0), coefficients[order]
    if not simplified:
        if not distinct:
            rows, coefficients = _merged(rows, coefficients)
        rows, coefficients = _without_zeros(rows, coefficients)
    width = -(-num_qubits // 8)
    # The terms with projectors may be among those that were dropped.
    planes = 4 if rows[:, 2 * width :].any() else 2
    rows = np.ascontiguousarray(rows[:, : planes * width])
    real = np.real_if_close(coefficients)
    if np.iscomplexobj(real):
        raise InputError("an observable must have real coefficients")
    if len(rows) == 0:
        raise InputError("an observable is zero")
    return TermTable(num_qubits, planes, rows, real.astype(np.float64, copy=False))


def _require_size(table: TermTable, num_qubits: int) -> None:
    if table.num_qubits != num_qubits:
        raise InputError(
            f"an observable on {table.num_qubits} qubits does not fit a circuit on {num_qubits}"
        )


def _packed_terms(
    observable: object,
) -> tuple[int, npt.NDArray[np.uint8], Coefficients]:
    """Return qubits, the bits of each term in four planes (or two), and the coefficients."""
    if isinstance(observable, SparsePauliOp):
        if observable.coeffs.dtype == object:
            raise UnsupportedTypeError("an observable's coefficients must be numbers")
        paulis = observable.paulis
        planes = (_pack_rows(paulis.x), _pack_rows(paulis.z))
        return observable.num_qubits, np.hstack(planes), _real_if_exact(observable.coeffs)
    if isinstance(observable, Mapping) and _is_uniform(observable):
        return _pack_labels(cast("Mapping[str, float]", observable))
    if isinstance(observable, (str, Pauli, Mapping)):
        observable = _sparse_observable(observable)
    if isinstance(observable, SparseObservable):
        return _pack_sparse_observable(observable)
    raise UnsupportedTypeError(
        f"a value of type {type(observable).__module__}.{type(observable).__qualname__} "
        "is not an observable"
    )


def _sparse_observable(observable: str | Pauli | Mapping[str | Pauli, float]) -> SparseObservable:
    try:
        return ObservablesArray.coerce_observable(observable)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"not an observable: {error}") from error


def _is_uniform(observable: Mapping[object, object]) -> bool:
    lengths = {len(label) if isinstance(label, str) else -1 for label in observable}
    return len(lengths) == 1 and lengths.pop() > 0


def _pack_labels(
    observable: Mapping[str, float],
) -> tuple[int, npt.NDArray[np.uint8], Coefficients]:
    labels = list(observable)
    num_qubits = len(labels[0])
    codes = np.full(128, 255, np.uint8)
    for letter, code in _LETTERS.items():
        codes[ord(letter)] = code
    rows = _Rows(len(labels), num_qubits)
    for terms in rows.blocks():
        part = labels[terms]
        text = "".join(part)
        if not text.isascii():
            raise InputError("a label holds a character that is not ASCII")
        letters = codes[np.frombuffer(text.encode(), np.uint8)].reshape(len(part), num_qubits)
        if letters.max() == codes.max():
            raise InputError(f"a label holds letters other than {''.join(_LETTERS)}")
        block = rows.empty_block(len(part))
        block[:, :num_qubits] = letters[:, ::-1]
        rows.put(terms, block)
    try:
        coefficients = np.asarray(list(observable.values()), dtype=np.complex128)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"an observable's coefficients must be numbers: {error}") from error
    return num_qubits, rows.packed, _real_if_exact(coefficients)


def _pack_sparse_observable(
    observable: SparseObservable,
) -> tuple[int, npt.NDArray[np.uint8], Coefficients]:
    rows = _Rows(observable.num_terms, observable.num_qubits)
    for terms in rows.blocks():
        # A part of an observable hands out its arrays several times faster than the whole does
        # parts of them.
        part = observable[terms]
        block = rows.empty_block(part.num_terms)
        columns = np.asarray(part.indices).view(np.int32)
        row_ends = np.asarray(part.boundaries).astype(np.int32)
        letters = csr_array((np.asarray(part.bit_terms), columns, row_ends), shape=block.shape)
        rows.put(terms, letters.toarray(out=block))
    return observable.num_qubits, rows.packed, _real_if_exact(np.asarray(observable.coeffs))


def _real_if_exact(coefficients: npt.NDArray[np.complex128]) -> Coefficients:
    return coefficients if coefficients.imag.any() else np.ascontiguousarray(coefficients.real)


class _Rows:
    """The packed bits of an observable's terms, filled in block by block.

    The planes of the projectors are added when the first projector turns up.
    """

    def __init__(self, num_terms: int, num_qubits: int) -> None:
        self._width = -(-num_qubits // 8)
        self.packed = np.zeros((num_terms, 2 * self._width), np.uint8)

    def blocks(self) -> Iterator[slice]:
        """Return the terms in parts that are small enough to be packed at a time."""
        return _blocks(len(self.packed), 8 * self._width)

    def empty_block(self, num_terms: int) -> npt.NDArray[np.uint8]:
        """Return room for the letters of some terms, a byte for each qubit and some to spare."""
        return np.zeros((num_terms, 8 * self._width), np.uint8)

    def put(self, terms: slice, letters: npt.NDArray[np.uint8]) -> None:
        """Pack the letters of some terms."""
        width = self._width
        if self.packed.shape[1] == 2 * width and letters.size and letters.max() > _LETTERS["Y"]:
            self.packed = np.hstack([self.packed, np.zeros_like(self.packed)])
        flat = letters.reshape(-1)
        for plane in range(self.packed.shape[1] // width if width else 0):
            bits = np.packbits(flat & _PLANE_BITS[plane], bitorder="little")
            self.packed[terms, plane * width : (plane + 1) * width] = bits.reshape(-1, width)


def _pack_rows(bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Pack each row into bytes, qubit 0 in the lowest bit of the first."""
    count, num_qubits = bits.shape
    width = -(-num_qubits // 8)
    packed = np.empty((count, width), np.uint8)
    # Rows that end on a byte are packed as one long row, several times faster than one by one.
    for terms in _blocks(count, 8 * width):
        part = bits[terms]
        padded = np.zeros((len(part), 8 * width), bool)
        padded[:, :num_qubits] = part
        bits_of_part = np.packbits(padded.reshape(-1), bitorder="little")
        packed[terms] = bits_of_part.reshape(-1, width)
    return packed


def _blocks(count: int, letters: int) -> Iterator[slice]:
    """Cut a number of terms, each of some letters, into blocks of `BLOCK_LETTERS` at most."""
    step = max(1, BLOCK_LETTERS // max(1, letters))
    return (slice(start, start + step) for start in range(0, count, step))


def _row_order(rows: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], bool]:
    """Return the order that sorts rows bytewise, equal rows in the order given.

    Returns:
        The order, and whether the rows are known to be distinct.
    """
    count, width = rows.shape
    if count < 2 or width == 0:  # noqa: PLR2004 - one row is in order
        return np.arange(count), count < 2  # noqa: PLR2004
    head = _words(rows[:, :8])[:, 0]
    order = np.argsort(head)
    ordered = head[order]
    if not (ordered[1:] == ordered[:-1]).any():
        return order, True
    words = _words(rows)
    return np.lexsort(words.T[::-1]), False


def _words(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return rows as numbers of eight bytes that sort as the bytes do."""
    count, width = rows.shape
    words = -(-width // 8)
    padded = np.zeros((count, 8 * words), np.uint8)
    padded[:, :width] = rows
    return padded.view(">u8").astype(np.uint64)


def _merged(
    rows: npt.NDArray[np.uint8], coefficients: Coefficients
) -> tuple[npt.NDArray[np.uint8], Coefficients]:
    """Add up equal rows, one by one in the order given, as the client does."""
    starts = np.ones(len(rows), bool)
    starts[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    if starts.all():
        return rows, coefficients
    sums = np.zeros_like(coefficients, shape=int(starts.sum()))
    np.add.at(sums, np.cumsum(starts) - 1, coefficients)
    return rows[starts], cast("Coefficients", sums)


def _without_zeros(
    rows: npt.NDArray[np.uint8], coefficients: Coefficients
) -> tuple[npt.NDArray[np.uint8], Coefficients]:
    kept = np.abs(coefficients) > ZERO_TOLERANCE
    return (rows, coefficients) if kept.all() else (rows[kept], coefficients[kept])


def _encode_observables(
    _: CanonicalWriter, observables: Observables
) -> Iterator[tuple[str, object]]:
    yield "", observables.shape
    for table in observables.tables:
        yield "", (table.num_qubits, table.planes, table.rows, table.coefficients)


def _describe_observables(observables: Observables) -> object:
    described = np.empty(len(observables.tables), dtype=object)
    described[:] = [_describe_table(table) for table in observables.tables]
    return described.reshape(observables.shape).tolist()


def _describe_table(table: TermTable) -> dict[str, object]:
    bits = [
        np.unpackbits(plane, axis=1, bitorder="little")[:, : table.num_qubits]
        for plane in np.split(table.rows, table.planes, axis=1)
    ]
    weights = _PLANE_BITS[: table.planes]
    codes = sum(plane * weight for plane, weight in zip(bits, weights, strict=True))
    letters = {code: letter for letter, code in _LETTERS.items()}
    labels = ["".join(letters[int(code)] for code in row[::-1]) for row in np.asarray(codes)]
    return {
        "num_qubits": table.num_qubits,
        "terms": list(zip(labels, table.coefficients.tolist(), strict=True)),
    }


identity_registry.register(
    Observables,
    tag="qiskit.observables",
    version=1,
    encode=_encode_observables,
    describe=_describe_observables,
)
