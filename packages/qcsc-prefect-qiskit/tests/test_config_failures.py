"""What a configuration says when it leads to no service, or to no backend, whatever went wrong."""

from __future__ import annotations

import pickle
import traceback
from typing import TYPE_CHECKING

import pytest
from qiskit_ibm_runtime.fake_provider.local_service import QiskitRuntimeLocalService

from qcsc_prefect.core.error_facts import iter_error_chain
from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.errors.translation import redacted
from qcsc_prefect.integrations.qiskit.testing import EmulatedService

if TYPE_CHECKING:
    from pathlib import Path

BACKEND = "fake_manila"
TOKEN = "kQ3-not-a-key-of-anybody_7"


def everything_in(error: BaseException) -> str:
    """All that a pickle, a log or a debugger can take from an error and from what is behind it."""
    said = []
    for link in iter_error_chain(error):
        said += [str(link), repr(link), repr(vars(link))]
        for holder in (link, *vars(link).values()):
            request = getattr(holder, "request", None)
            said += [repr(vars(request))] if request is not None else []
    return " ".join(said) + repr(pickle.dumps(error))


class LabConfig(QiskitRuntimeConfig):
    """A block of somebody whose own library hands out the service."""

    _block_type_name = "Lab Config"
    _block_type_slug = "lab-config"

    def get_service(self) -> QiskitRuntimeLocalService:
        return LabService()


class LabService(QiskitRuntimeLocalService):
    failure: Exception = RuntimeError("the lab is closed")

    def backend(self, *_: object, **__: object) -> object:
        raise self.failure


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("closed"),
        LookupError("closed"),
        KeyError("closed"),
        OSError("closed"),
        AttributeError("closed"),
        ArithmeticError("closed"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_whatever_a_backend_fails_with_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(LabService, "failure", failure)
    with pytest.raises(QiskitRuntimeConfigError, match=rf"{BACKEND}.*closed'?\. Check") as caught:
        LabConfig(backend_name=BACKEND).get_backend()
    assert caught.value.__cause__ is failure


def test_a_token_in_an_error_of_a_backend_is_nowhere_in_what_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behind = ValueError(f"refused {TOKEN}")
    failure = LookupError("closed")
    failure.__cause__ = behind
    monkeypatch.setattr(LabService, "failure", failure)
    with pytest.raises(QiskitRuntimeConfigError) as caught:
        LabConfig(backend_name=BACKEND, token=TOKEN).get_backend()
    assert str(caught.value.__cause__) == "LookupError: closed"
    assert TOKEN not in everything_in(caught.value)


def test_whatever_a_service_fails_with_is_a_configuration_error(tmp_path: Path) -> None:
    file = tmp_path / "accounts.json"
    file.write_text("[" * 100_000)
    for name in (str(file), str(tmp_path)):
        config = QiskitRuntimeConfig(filename=name, account_name="lab", backend_name=BACKEND)
        for ask in (config.get_service, config.get_backend):
            with pytest.raises(QiskitRuntimeConfigError, match="from: filename, name") as caught:
                ask()
            assert isinstance(caught.value.__cause__, RecursionError | OSError)


def test_a_refused_token_is_nowhere_in_what_is_raised(emulated: EmulatedService) -> None:
    config = QiskitRuntimeConfig(**{**emulated.runtime_config_fields(), "token": TOKEN})
    with pytest.raises(QiskitRuntimeConfigError, match="HTTP 400") as caught:
        config.get_service()
    assert caught.value.__cause__ is not None
    assert TOKEN not in everything_in(caught.value)


def test_the_error_is_what_it_was_and_what_it_is() -> None:
    error = QiskitRuntimeConfigError("x", retryable=True)
    assert isinstance(error, RuntimeError)
    assert isinstance(error, ValueError)
    assert pickle.loads(pickle.dumps(error)).retryable is True


def test_what_is_too_short_for_a_secret_takes_no_word_apart(emulated: EmulatedService) -> None:
    assert redacted("the service answered", ["e", "service"]) == "the service answered"
    assert redacted("the services answered", ["services"]) == "the ******** answered"
    config = QiskitRuntimeConfig(**{**emulated.runtime_config_fields(), "token": "e"})
    with pytest.raises(QiskitRuntimeConfigError, match="The client answered"):
        config.get_service()


def test_the_password_of_a_proxy_is_a_secret() -> None:
    proxies = {"username_ntlm": "ann", "password_ntlm": "correct horse", "urls": {}}
    config = QiskitRuntimeConfig(token=TOKEN, proxies=proxies)
    assert config.secrets() == (TOKEN, "correct horse")
    with pytest.raises(QiskitRuntimeConfigError) as caught:
        QiskitRuntimeConfig(
            token=TOKEN,
            proxies={"password_ntlm": "correct horse"},
            backend_name=BACKEND,
        ).get_service()
    assert "correct horse" not in everything_in(caught.value)


SECRET = "key-0123456789"


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        ({"mdoe": "session"}, "no field 'mdoe'. Did you mean 'mode'?"),
        ({"primitive": "classic"}, "Did you mean 'primitives'?"),
        ({"backend": "ibm_x"}, "Did you mean 'backend_name'?"),
        ({"api_key": SECRET}, "Did you mean 'token'?"),
        ({"crn": SECRET}, "Did you mean 'instance'?"),
        ({"zzz": SECRET}, "It has: account_name"),
        ({"token": {"apikey": SECRET}}, "token refused: expected a string, got dict."),
        ({"token": [SECRET]}, "token refused: expected a string, got list."),
        ({"token": SECRET.encode()}, "token refused: expected a string, got bytes."),
        ({"proxies": f"http://u:{SECRET}@h"}, "proxies refused: expected a mapping such as"),
    ],
)
def test_no_refused_field_of_a_configuration_is_shown(fields: dict[str, object], advice: str):
    with pytest.raises(QiskitRuntimeConfigError) as caught:
        QiskitRuntimeConfig(**fields)
    assert advice in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value)) + repr(pickle.dumps(caught.value))
    assert SECRET not in shown


@pytest.mark.parametrize("fields", [{"proxies": {1: SECRET}}, {"url": [SECRET]}])
def test_pydantic_shows_no_value_of_a_configuration(fields: dict[str, object]):
    with pytest.raises(ValueError, match="QiskitRuntimeConfig") as caught:
        QiskitRuntimeConfig(token=SECRET, **fields)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_stored_fields_of_another_version_are_passed_over(caplog: pytest.LogCaptureFixture):
    stored = QiskitRuntimeConfig(mode="batch").model_dump() | {"later": SECRET}
    config = QiskitRuntimeConfig.model_validate(stored)
    assert config.mode == "batch"
    assert SECRET not in config.model_dump_json() + caplog.text
    assert "passed over: later" in caplog.text


@pytest.mark.parametrize("max_time", [0, -5, "bogus", "0m", "2h x", "two hours"])
@pytest.mark.parametrize("mode", ["job", "session"])
def test_a_length_of_time_is_checked_in_every_mode(max_time: object, mode: str):
    with pytest.raises(ValueError, match="is no length of time"):
        QiskitRuntimeConfig(mode=mode, max_time=max_time)
