"""Value types of the Qiskit Runtime client: what its results hold beyond the Qiskit SDK's types.

Containers reach this module through the entry points ``qiskit_ibm_runtime`` and ``samplomatic``
of the group ``qcsc_prefect.value_types``, when they meet one of these types; see
`qcsc_prefect.core.container.value_types`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

from qiskit_ibm_runtime.execution_span import (
    DoubleSliceSpan,
    ExecutionSpan,
    ExecutionSpans,
    SliceSpan,
    TwirledSliceSpan,
    TwirledSliceSpanV2,
)

from qcsc_prefect.core.container.value_types import Part, ValueType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qiskit.primitives.containers import PubResult

__all__ = ["VALUE_TYPES"]

T = TypeVar("T")


def _spans_parts(spans: ExecutionSpans) -> Iterator[Part]:
    for index, span in enumerate(spans):
        yield Part(f"[{index}]", span)


def _build_spans(parts: Sequence[object]) -> ExecutionSpans:
    return ExecutionSpans(parts)


def _span_type(span_type: type[ExecutionSpan]) -> ValueType[ExecutionSpan]:
    def parts(span: ExecutionSpan) -> Iterator[Part]:
        yield Part(".start", span.start)
        yield Part(".stop", span.stop)
        yield Part(".data_slices", data_slices(span))

    def build(stored: Sequence[object]) -> ExecutionSpan:
        start, stop, data_slices = stored
        return span_type(start, stop, data_slices)

    return ValueType(f"qiskit_ibm_runtime/{span_type.__name__}", span_type, parts, build)


def data_slices(span: ExecutionSpan) -> dict[int, tuple[object, ...]]:
    """Return the slices of a span by PUB, as its constructor takes them."""
    # The slices are an argument of the constructor without an accessor; the client's own
    # encoder takes them from the same attributes.
    slices: dict[int, tuple[object, ...]] = span._data_slices  # noqa: SLF001
    if isinstance(span, TwirledSliceSpanV2):
        shots = span._pub_shots  # noqa: SLF001
        return {index: (*slices[index], shots[index]) for index in slices}
    return slices


def _dataclass_type(dataclass: type[T]) -> ValueType[T]:
    """A value type that stores a dataclass field by field, with the fields' names.

    A field that a newer client adds keeps its default when an older record is read.
    """

    def parts(value: T) -> Iterator[Part]:
        names = [field.name for field in dataclasses.fields(dataclass)]  # type: ignore[arg-type]
        yield Part("", names)
        for name in names:
            yield Part(f".{name}", getattr(value, name))

    def build(stored: Sequence[object]) -> T:
        names, *values = stored
        if not isinstance(names, list):
            raise TypeError("a dataclass is made of names and values")
        return dataclass(**dict(zip(names, values, strict=True)))

    return ValueType(f"qiskit_ibm_runtime/{dataclass.__name__}", dataclass, parts, build)


def _pub_result_parts(result: PubResult) -> Iterator[Part]:
    # The parts are those of qiskit/PubResult, which it is read as where the client is absent.
    yield Part(".metadata", result.metadata)
    yield Part(".data", result.data)


def _estimator_pub_result_type() -> ValueType[Any]:
    try:
        from qiskit_ibm_runtime.results import EstimatorPubResult
    except ImportError:  # before client 0.48
        from qiskit_ibm_runtime.utils.estimator_pub_result import EstimatorPubResult

    def build(parts: Sequence[object]) -> PubResult:
        metadata, data = parts
        return EstimatorPubResult(data, metadata)

    return ValueType(
        "qiskit_ibm_runtime/EstimatorPubResult",
        EstimatorPubResult,
        _pub_result_parts,
        build,
        reads_as=("qiskit/PubResult",),
    )


def _executor_types() -> Iterator[ValueType[Any]]:
    """What the client-side primitives put into a result's metadata, and their raw results."""
    try:
        from qiskit_ibm_runtime.results import (
            ChunkPart,
            ChunkSpan,
            ItemMetadata,
            Metadata,
            QuantumProgramItemResult,
            QuantumProgramResult,
            SchedulerTiming,
            StretchValues,
        )
    except ImportError:  # before client 0.48
        return
    for dataclass in (ChunkPart, ChunkSpan, SchedulerTiming, StretchValues, ItemMetadata, Metadata):
        yield _dataclass_type(dataclass)
    yield from _quantum_program_types(QuantumProgramResult, QuantumProgramItemResult)


def _quantum_program_types(
    result_type: type[Any], item_type: type[Any]
) -> Iterator[ValueType[Any]]:
    def item_parts(item: Any) -> Iterator[Part]:
        yield Part(".metadata", item.metadata)
        yield Part("", dict(item))

    def build_item(parts: Sequence[object]) -> object:
        metadata, arrays = parts
        return item_type(arrays, metadata)

    def result_parts(result: Any) -> Iterator[Part]:
        yield Part(".metadata", result.metadata)
        yield Part(".passthrough_data", result.passthrough_data)
        yield Part("", result._semantic_role)  # noqa: SLF001 - set by the client's decoder only
        for index, item in enumerate(result):
            yield Part(f"[{index}]", item)

    def build_result(parts: Sequence[object]) -> object:
        metadata, passthrough_data, semantic_role, *items = parts
        result = result_type(items, metadata, passthrough_data)
        result._semantic_role = semantic_role  # noqa: SLF001
        return result

    yield ValueType(
        "qiskit_ibm_runtime/QuantumProgramItemResult", item_type, item_parts, build_item
    )
    yield ValueType(
        "qiskit_ibm_runtime/QuantumProgramResult", result_type, result_parts, build_result
    )


VALUE_TYPES = (
    ValueType("qiskit_ibm_runtime/ExecutionSpans", ExecutionSpans, _spans_parts, _build_spans),
    _span_type(SliceSpan),
    _span_type(DoubleSliceSpan),
    _span_type(TwirledSliceSpan),
    _span_type(TwirledSliceSpanV2),
    _estimator_pub_result_type(),
    *_executor_types(),
)
