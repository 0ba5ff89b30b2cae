"""The tree of errors: what each is besides, and that it survives a pickle without its cause."""

from __future__ import annotations

import inspect
import pickle

import pytest

from qcsc_prefect.core import errors

JOB_ERRORS = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, errors.JobError)
]


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.InputError, ValueError),
        (errors.UnsupportedTypeError, TypeError),
        (errors.JobNotFoundError, LookupError),
        (errors.JobWaitTimeoutError, TimeoutError),
        (errors.JobFailedError, RuntimeError),
    ],
)
def test_an_error_is_also_the_builtin_that_fits(error, builtin):
    assert issubclass(error, errors.QCSCPrefectError)
    assert issubclass(error, builtin)


def test_every_error_is_drawn_in_the_tree():
    for name in errors.__all__:
        assert name in str(errors.__doc__)


@pytest.mark.parametrize("error_type", JOB_ERRORS)
def test_a_job_error_keeps_its_facts_and_nothing_else_in_a_pickle(error_type):
    class Client:
        token = "do-not-tell"

        def __reduce__(self):
            raise AssertionError("the client must not be pickled")

    error = error_type("told", job_id="j-1", backend_name="b", retry_after=2.5, status=429)
    error.client = Client()
    error.__cause__ = ValueError("do-not-tell")
    content = pickle.dumps(error)
    assert b"do-not-tell" not in content
    restored = pickle.loads(content)
    assert type(restored) is error_type
    assert (restored.job_id, restored.backend_name) == ("j-1", "b")
    assert (restored.retry_after, restored.status) == (2.5, 429)
    assert restored.retryable == error.retryable
    assert str(restored) == "told"


def test_what_is_known_about_retrying_comes_with_the_error():
    assert errors.JobFailedError("f").retryable is False
    assert errors.ResultUnavailableError("r").retryable is True
    assert errors.SubmissionUncertainError("u").retryable is None
    assert errors.SubmissionError("s", retryable=True).retryable is True
