"""The pool against the emulated service: how often it asks, and what it does when refused."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
from qiskit_ibm_runtime.exceptions import IBMNotAuthorizedError

from qcsc_prefect.core.errors import JobError
from qcsc_prefect.integrations.qiskit.blocks import QiskitRuntimeConfig
from qcsc_prefect.integrations.qiskit.errors import QiskitRuntimeConfigError
from qcsc_prefect.integrations.qiskit.retry import RetryAnswer, classify_qiskit_error
from qcsc_prefect.integrations.qiskit.services.connections import service_pool
from qcsc_prefect.integrations.qiskit.services.connections.owned_service import OwnedRuntimeService
from qcsc_prefect.integrations.qiskit.services.connections.service_pool import (
    ServicePool,
    get_service_pool,
)
from qcsc_prefect.integrations.qiskit.services.ibm.instances import instance_for_backend
from qcsc_prefect.integrations.qiskit.testing import (
    ACCOUNT_NAME,
    EmulatedAccount,
    EmulatedInstance,
    EmulatedService,
)

if TYPE_CHECKING:
    from pathlib import Path

    from qiskit_ibm_runtime import QiskitRuntimeService

BACKEND = "fake_manila"


@pytest.fixture
def pool() -> ServicePool:
    return ServicePool()


def usage(service: QiskitRuntimeService) -> object:
    return service.usage()


async def test_twenty_tasks_make_one_service(
    emulated: EmulatedService, config: QiskitRuntimeConfig, pool: ServicePool
) -> None:
    equal = QiskitRuntimeConfig(**emulated.runtime_config_fields())
    services = await asyncio.gather(
        *(pool.service(config if number % 2 else equal) for number in range(20))
    )
    assert len(set(map(id, services))) == 1
    assert emulated.count("backends") == 1
    assert await pool.service(config) is services[0]


def test_event_loops_of_several_threads_share_one_service(
    emulated: EmulatedService, config: QiskitRuntimeConfig, pool: ServicePool
) -> None:
    emulated.faults.delay(0.1)
    services: list[QiskitRuntimeService] = []
    threads = [
        threading.Thread(target=lambda: services.append(asyncio.run(pool.service(config))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(services) == 4
    assert len(set(map(id, services))) == 1
    assert emulated.count("backends") == 1


def test_the_search_for_instances_is_made_once(
    emulated: EmulatedService,
    pool: ServicePool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("QISKIT_FUNCTIONS_EXPERIMENTAL")
    account = emulated.account_file(tmp_path / "accounts.json")
    config = QiskitRuntimeConfig(account_name=ACCOUNT_NAME, filename=str(account))

    async def many() -> None:
        await asyncio.gather(*(pool.service(config) for _ in range(20)))

    asyncio.run(many())
    asyncio.run(many())
    with_one_service = emulated.count()
    config.get_service()
    assert emulated.count() == 2 * with_one_service


def test_who_leaves_does_not_take_the_service_along(
    emulated: EmulatedService, config: QiskitRuntimeConfig, pool: ServicePool
) -> None:
    emulated.faults.delay(0.3)

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.service(config), 0.05)

    asyncio.run(impatient())  # its loop is closed before the service is made
    assert asyncio.run(pool.service(config)) is asyncio.run(pool.service(config))
    assert emulated.count("backends") == 1


async def test_one_backend_with_its_target_for_all_tasks(
    emulated: EmulatedService, config: QiskitRuntimeConfig, pool: ServicePool
) -> None:
    backends = await asyncio.gather(*(pool.backend(config, BACKEND) for _ in range(20)))
    assert len(set(map(id, backends))) == 1
    assert (emulated.count("configuration"), emulated.count("properties")) == (1, 1)
    emulated.clear_requests()
    assert backends[0].target.num_qubits == 5
    assert await pool.backend(config, BACKEND) is backends[0]
    assert emulated.count() == 0


async def test_a_backend_is_read_again_after_its_lifetime(
    emulated: EmulatedService, config: QiskitRuntimeConfig
) -> None:
    pool = ServicePool(backend_lifetime=0.2)
    first = await pool.backend(config, BACKEND)
    await asyncio.sleep(0.25)
    emulated.clear_requests()
    second = await pool.backend(config, BACKEND)
    assert second is not first
    assert emulated.count("configuration") >= 1
    assert emulated.count("properties") >= 1
    assert emulated.count("token") == 0  # the service stayed


async def test_a_failed_construction_is_not_kept(
    emulated: EmulatedService,
    pool: ServicePool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The client searches for instances only where this variable is not set.
    monkeypatch.delenv("QISKIT_FUNCTIONS_EXPERIMENTAL")
    account = emulated.account_file(tmp_path / "accounts.json")
    config = QiskitRuntimeConfig(account_name=ACCOUNT_NAME, filename=str(account))
    monkeypatch.setenv("QCSC_PREFECT_PATIENCE_SECONDS", "0.1")
    emulated.faults.answer("instances", status=503, times=None)
    failures = await asyncio.gather(
        *(pool.service(config) for _ in range(5)), return_exceptions=True
    )
    for failure in failures:
        assert isinstance(failure, QiskitRuntimeConfigError)
        assert classify_qiskit_error(failure).answer is RetryAnswer.RETRY
        assert emulated.token not in str(failure)
    assert emulated.count("instances") == 2, "asked again once, in the name of all"
    emulated.faults.clear()
    assert await pool.service(config) is await pool.service(config)


@pytest.mark.parametrize("endpoint", ["token", "instances", "plan"])
@pytest.mark.parametrize("damage", ["malformed", "null", "empty"])
async def test_an_answer_that_the_client_stumbles_over_is_no_mistake_in_the_configuration(
    emulated: EmulatedService,
    pool: ServicePool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    endpoint: str,
    damage: str,
) -> None:
    monkeypatch.delenv("QISKIT_FUNCTIONS_EXPERIMENTAL")
    account = emulated.account_file(tmp_path / "accounts.json")
    config = QiskitRuntimeConfig(account_name=ACCOUNT_NAME, filename=str(account))

    def strike(times: int | None) -> None:
        if damage == "null":
            emulated.faults.replace_body(endpoint, None, times=times)
        else:
            name = {"malformed": "malform", "empty": "empty"}[damage]
            getattr(emulated.faults, name)(endpoint, times=times)

    strike(1)
    pool.discard(config, await pool.service(config))
    monkeypatch.setenv("QCSC_PREFECT_PATIENCE_SECONDS", "0.1")
    strike(None)
    with pytest.raises(QiskitRuntimeConfigError, match="This may pass") as caught:
        await pool.service(config)
    emulated.faults.clear()
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert classify_qiskit_error(error).answer is RetryAnswer.RETRY
        assert "Check the block" not in str(error)
    assert emulated.token not in str(caught.value)
    await pool.service(config)


@pytest.mark.parametrize("search", [True, False], ids=["instance search", "named instance"])
async def test_a_wrong_token_is_told_at_once(
    emulated: EmulatedService,
    pool: ServicePool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    search: bool,
) -> None:
    fields = {**emulated.runtime_config_fields(), "token": "no-key-of-anybody"}
    if search:
        monkeypatch.delenv("QISKIT_FUNCTIONS_EXPERIMENTAL")
        file = emulated.account_file(tmp_path / "accounts.json")
        file.write_text(file.read_text().replace(emulated.token, fields["token"]))
        fields = {"account_name": ACCOUNT_NAME, "filename": str(file)}
    config = QiskitRuntimeConfig(**fields)
    for ask in (pool.call(config, usage), pool.backend(config, BACKEND)):
        # The client waits for a minute before it asks for a token again.
        with pytest.raises(QiskitRuntimeConfigError, match="HTTP 400") as caught:
            await asyncio.wait_for(ask, 40)
        assert classify_qiskit_error(caught.value).answer is RetryAnswer.DO_NOT
    assert emulated.count("usage") == 0


@pytest.mark.filterwarnings("ignore:Unable to retrieve IBM Cloud access token")
@pytest.mark.emulated_service(token_lifetime=8.0)
async def test_a_key_that_is_revoked_later_is_told_to_all_at_once(
    emulated: EmulatedService, config: QiskitRuntimeConfig, pool: ServicePool
) -> None:
    # The client takes a token for expired ten seconds before it is: it asks for one each time.
    await pool.call(config, usage)
    emulated.faults.answer("token", status=400, times=None)
    emulated.faults.answer("usage", status=401, times=None)
    calls = [pool.call(config, usage) for _ in range(6)]
    answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 50)
    for answer in answers:
        assert isinstance(answer, QiskitRuntimeConfigError)
        assert classify_qiskit_error(answer).answer is RetryAnswer.DO_NOT


async def test_a_token_that_could_not_be_renewed_early_is_used_until_it_ends(
    emulated: EmulatedService,
    config: QiskitRuntimeConfig,
    pool: ServicePool,
    recwarn: pytest.WarningsRecorder,
) -> None:
    service = await pool.service(config)
    service._active_api_client._session.auth.tm.refresh_time = 0  # four fifths of its life are over
    emulated.clear_requests()
    emulated.faults.answer("token", status=400)
    await pool.call(config, usage)
    assert [record.status for record in emulated.requests] == [400, 200]
    assert not [warning for warning in recwarn if "API Key" in str(warning.message)]


async def test_tokens_keep_configurations_apart(pool: ServicePool) -> None:
    shared = EmulatedInstance()
    accounts = [EmulatedAccount(user_id=name, instances=(shared,)) for name in ("ann", "bob")]
    with (
        EmulatedService(backends=[BACKEND], accounts=accounts) as emulated,
        emulated.client_environment(),
    ):
        config, other = (
            QiskitRuntimeConfig(**{**emulated.runtime_config_fields(), "token": account.token})
            for account in accounts
        )
        assert other.identity() == config.identity()
        assert await pool.service(other) is not await pool.service(config)
        assert not any(account.token in repr(vars(pool)) for account in accounts)


@pytest.mark.parametrize(
    ("field", "value", "other"),
    [
        ("plans_preference", ["open"], ["premium"]),
        ("region", "us-east", "eu-de"),
        ("verify", True, False),
        ("private_endpoint", True, None),
        ("proxies", {"urls": {"https": "http://a:x@host"}}, {"urls": {"https": "http://a:y@host"}}),
    ],
)
def test_whatever_a_service_is_made_from_keeps_configurations_apart(
    pool: ServicePool, field: str, value: object, other: object
) -> None:
    key, same, another = (
        pool.key(QiskitRuntimeConfig(**{"token": "secret", field: given}))
        for given in (value, value, other)
    )
    assert key == same
    assert key != another
    assert "secret" not in repr(key)
    assert "host" not in repr(key)


async def test_the_backend_and_the_mode_of_jobs_do_not_need_another_service(
    config: QiskitRuntimeConfig, pool: ServicePool
) -> None:
    for change in ({"backend_name": "another"}, {"mode": "batch"}, {"primitives": "classic"}):
        assert pool.key(config.model_copy(update=change)) == pool.key(config)


async def test_a_refused_service_is_renewed_once_for_all(
    emulated: EmulatedService, config: QiskitRuntimeConfig, pool: ServicePool
) -> None:
    before = await pool.service(config)
    emulated.clear_requests()
    emulated.revoke_access_tokens()
    answers = await asyncio.gather(*(pool.call(config, usage) for _ in range(20)))
    assert len(answers) == 20
    assert await pool.service(config) is not before
    assert emulated.count("backends") == 1  # one construction
    # After a success the next refusal is worth a renewal again.
    emulated.revoke_access_tokens()
    await pool.call(config, usage)


async def test_wrong_credentials_do_not_make_service_after_service(
    emulated: EmulatedService, config: QiskitRuntimeConfig, pool: ServicePool
) -> None:
    await pool.service(config)
    emulated.clear_requests()
    emulated.faults.answer("usage", status=401, times=None)
    for _ in range(3):
        with pytest.raises(IBMNotAuthorizedError):
            await pool.call(config, usage)
    assert emulated.count("backends") == 1


async def test_a_service_that_could_not_list_its_backends_is_replaced(
    emulated: EmulatedService,
    pool: ServicePool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("QISKIT_FUNCTIONS_EXPERIMENTAL")
    account = emulated.account_file(tmp_path / "accounts.json", instance="auto")
    config = QiskitRuntimeConfig(account_name=ACCOUNT_NAME, filename=str(account))
    emulated.faults.answer("backends", status=403)  # the client swallows it, and never asks again
    backends = await asyncio.gather(*(pool.backend(config, BACKEND) for _ in range(5)))
    assert {backend.name for backend in backends} == {BACKEND}
    assert emulated.count("instances") == 2


async def test_a_wrong_name_is_told_with_the_right_ones(
    emulated: EmulatedService, config: QiskitRuntimeConfig, pool: ServicePool
) -> None:
    await pool.service(config)
    tokens_of_one_service = emulated.count("token")
    for _ in range(3):
        with pytest.raises(QiskitRuntimeConfigError, match=f"'no_such'.*{BACKEND}"):
            await pool.backend(config, "no_such")
    assert emulated.count("token") == 2 * tokens_of_one_service


@pytest.mark.parametrize("endpoint", ["backends", "configuration"])
@pytest.mark.parametrize(
    ("status", "answer"),
    [(403, RetryAnswer.DO_NOT), (429, RetryAnswer.RETRY), (None, RetryAnswer.RETRY)],
)
async def test_a_fault_is_not_taken_for_a_wrong_name(
    emulated: EmulatedService,
    config: QiskitRuntimeConfig,
    pool: ServicePool,
    endpoint: str,
    status: int | None,
    answer: RetryAnswer,
) -> None:
    if status is None:
        emulated.faults.replace_body(endpoint, None, times=None)
    else:
        emulated.faults.answer(endpoint, status=status, times=None)
    with pytest.raises(JobError) as caught:
        await pool.backend(config, BACKEND)
    assert classify_qiskit_error(caught.value).answer is answer
    assert caught.value.status == status
    emulated.faults.clear()
    assert (await pool.backend(config, BACKEND)).name == BACKEND


async def test_a_fault_of_the_calibration_carries_its_facts(
    emulated: EmulatedService, config: QiskitRuntimeConfig, pool: ServicePool
) -> None:
    emulated.faults.answer("properties", status=429, times=None)
    with pytest.raises(JobError) as caught:
        await pool.backend(config, BACKEND)
    assert caught.value.status == 429
    emulated.faults.clear()
    assert (await pool.backend(config, BACKEND)).target.num_qubits == 5


@pytest.fixture
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCSC_PREFECT_ANSWER_SECONDS", "1.5")


async def test_a_request_that_hangs_is_asked_again(
    short_answers: None, emulated: EmulatedService, config: QiskitRuntimeConfig
) -> None:
    pool = ServicePool()
    await pool.service(config)
    emulated.faults.delay(60, "configuration", times=1)
    assert (await asyncio.wait_for(pool.backend(config, BACKEND), 20)).name == BACKEND


async def test_a_service_that_never_says_anything_is_an_error_with_its_facts(
    short_answers: None, emulated: EmulatedService, config: QiskitRuntimeConfig
) -> None:
    pool = ServicePool()
    await pool.service(config)
    emulated.faults.delay(60, "usage")
    emulated.faults.delay(60, "configuration")
    with pytest.raises(JobError, match="timed out") as caught:
        await asyncio.wait_for(pool.backend(config, "no_such"), 60)
    assert caught.value.retryable is True
    emulated.faults.clear()
    with pytest.raises(QiskitRuntimeConfigError, match=f"'no_such'.*{BACKEND}"):
        await pool.backend(config, "no_such")


class SlowConfig(QiskitRuntimeConfig):
    """A block that waits for something else than the service."""

    _block_type_slug = "slow-config"

    def get_service(self) -> QiskitRuntimeService:
        time.sleep(3)
        return super().get_service()


async def test_a_service_that_cannot_be_made_in_time_is_an_error_with_its_facts(
    emulated: EmulatedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_pool, "_pool", ServicePool(making_seconds=0.5))
    config = SlowConfig(backend_name=BACKEND)
    with pytest.raises(JobError, match=r"Finding the service instances failed.*0\.5 s") as caught:
        await instance_for_backend(config, BACKEND)
    assert caught.value.retryable is True


async def test_discarding_only_what_failed(config: QiskitRuntimeConfig, pool: ServicePool) -> None:
    first = await pool.service(config)
    pool.discard(config, first)
    second = await pool.service(config)
    assert second is not first
    pool.discard(config, first)
    assert await pool.service(config) is second
    pool.discard(config)
    assert await pool.service(config) is not second


async def use_threads(pool: ServicePool, config: QiskitRuntimeConfig) -> None:
    await asyncio.gather(*(pool.call(config, usage) for _ in range(4)))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_starts_with_an_empty_pool(config: QiskitRuntimeConfig) -> None:
    parents_pool = get_service_pool()
    parents = asyncio.run(parents_pool.service(config))
    asyncio.run(use_threads(parents_pool, config))  # which the child will not have
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            own = asyncio.run(get_service_pool().service(config))
            asyncio.run(get_service_pool().call(config, usage))
            os._exit(0 if own is not parents and get_service_pool() is not parents_pool else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asyncio.run(parents_pool.service(config)) is parents


class LabService(OwnedRuntimeService):
    """A service that gives backends in a way of its own."""

    def backend(self, *_: object, **__: object) -> object:
        raise LookupError(f"no such bench for {self._account.token}")


class LabConfig(QiskitRuntimeConfig):
    _block_type_slug = "lab-config-of-a-service"

    def get_service(self) -> QiskitRuntimeService:
        service = super().get_service()
        service.__class__ = LabService
        return service


class BenchConfig(QiskitRuntimeConfig):
    _block_type_slug = "bench-config"

    def get_backend(self) -> object:
        raise LookupError(f"no such bench for {self.token.get_secret_value()}")


@pytest.mark.parametrize(
    ("kind", "method"),
    [(LabConfig, "LabService.backend"), (BenchConfig, "BenchConfig.get_backend")],
)
async def test_somebodys_own_way_to_a_backend_fails_as_a_configuration_does(
    emulated: EmulatedService, pool: ServicePool, kind: type[QiskitRuntimeConfig], method: str
) -> None:
    config = kind(**emulated.runtime_config_fields())
    with pytest.raises(QiskitRuntimeConfigError, match=rf"{method}\(\): LookupError") as caught:
        await pool.backend(config, BACKEND)
    assert "no such bench for ********" in str(caught.value)
    assert config.secrets()[0] not in f"{caught.value} {caught.value.__cause__!r}"
