"""What a task needs to run paid remote jobs well, whoever's jobs they are.

The package knows no vendor and requires msgspec and nothing else: what stores values of numpy,
Qiskit and dateutil is loaded when a result holds one. What the package holds, in the order in which
a job meets it:

- **Identity**: `build_input_digest` names an input by what it is, `explain_difference` says where
  two inputs part, `build_submit_cache_key` and `build_result_cache_key` make cache keys of it, and
  `CanonicalRegistry` lets other packages say how their types are to be read.
- **References**: `JobReference` is what is kept of a submitted job; `parse_job_reference` checks
  one where it comes in.
- **Retrying**: `advise_retry` answers from the facts that an error carries, by `RetryRules` that
  each vendor's package states for its own client.
- **Metadata**: `JobMetadata` describes a finished job.
- **Results**: `save_result` and `load_result` keep an output in one file that is read without
  executing anything.
- **The engine**, `qcsc_prefect.core.engine`, which is imported by itself: it submits a job once,
  finds it again, and waits for it.
- **Errors**: one tree, drawn in `qcsc_prefect.core.errors`.
"""

from qcsc_prefect.core.cache_keys import (
    ConfigurationIdentity,
    ConfigurationWithIdentity,
    build_result_cache_key,
    build_submit_cache_key,
)
from qcsc_prefect.core.canonical.registry import CanonicalRegistry, default_registry
from qcsc_prefect.core.canonical.writer import SCHEMA_VERSION, CanonicalWriter, canonical_bytes
from qcsc_prefect.core.container.archive import describe_result, load_result, save_result
from qcsc_prefect.core.container.format import decode_container, encode_container
from qcsc_prefect.core.container.value_types import Buffer, Part, ValueType, register_value_type
from qcsc_prefect.core.difference import Difference, explain_difference
from qcsc_prefect.core.digest import build_input_digest, digest_value, input_identity
from qcsc_prefect.core.error_facts import ErrorFacts
from qcsc_prefect.core.errors import (
    ConfigurationError,
    DamagedRecordError,
    FormatVersionError,
    InputError,
    JobCancelledError,
    JobError,
    JobFailedError,
    JobNotFoundError,
    JobReferenceError,
    JobTimeLimitError,
    JobWaitTimeoutError,
    QCSCPrefectError,
    RecordError,
    ResultUnavailableError,
    StorageUnreadableError,
    SubmissionError,
    SubmissionUncertainError,
    UnsupportedTypeError,
)
from qcsc_prefect.core.metadata import JobMetadata, PubMetadata
from qcsc_prefect.core.reference import (
    REFERENCE_SCHEMA_VERSION,
    JobReference,
    parse_job_reference,
)
from qcsc_prefect.core.retry import COMMON_RULES, RetryAdvice, RetryAnswer, RetryRules, advise_retry

__all__ = [
    "COMMON_RULES",
    "REFERENCE_SCHEMA_VERSION",
    "SCHEMA_VERSION",
    "Buffer",
    "CanonicalRegistry",
    "CanonicalWriter",
    "ConfigurationError",
    "ConfigurationIdentity",
    "ConfigurationWithIdentity",
    "DamagedRecordError",
    "Difference",
    "ErrorFacts",
    "FormatVersionError",
    "InputError",
    "JobCancelledError",
    "JobError",
    "JobFailedError",
    "JobMetadata",
    "JobNotFoundError",
    "JobReference",
    "JobReferenceError",
    "JobTimeLimitError",
    "JobWaitTimeoutError",
    "Part",
    "PubMetadata",
    "QCSCPrefectError",
    "RecordError",
    "ResultUnavailableError",
    "RetryAdvice",
    "RetryAnswer",
    "RetryRules",
    "StorageUnreadableError",
    "SubmissionError",
    "SubmissionUncertainError",
    "UnsupportedTypeError",
    "ValueType",
    "advise_retry",
    "build_input_digest",
    "build_result_cache_key",
    "build_submit_cache_key",
    "canonical_bytes",
    "decode_container",
    "default_registry",
    "describe_result",
    "digest_value",
    "encode_container",
    "explain_difference",
    "input_identity",
    "load_result",
    "parse_job_reference",
    "register_value_type",
    "save_result",
]
