"""A service that does not answer is left alone for a while, and holds up nothing but its own calls."""

from __future__ import annotations

import asyncio
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from shared.adapters.breakers import Breaker, ServiceSilent
from shared.adapters.iot_hub import IotHubRegistries
from shared.adapters.sdk_errors import is_outage, service_of
from shared.ports.hubs import HubIdentity


class Clock:
    """Seconds, as the test sets them."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("the DPS", "dps", clock=clock)


def fail(breaker: Breaker, clock: Clock, error: Exception, *, after: float) -> None:
    def call() -> None:
        with breaker.watching():
            clock.now += after
            raise error

    with pytest.raises(type(error)):
        call()


def succeed(breaker: Breaker) -> None:
    with breaker.watching():
        pass


def test_after_three_unanswered_calls_the_next_is_refused_at_once(breaker: Breaker, clock: Clock) -> None:
    """Its refusal says which service it is and when it is asked again, and counts as an outage: the message waits."""
    for _ in range(3):
        fail(breaker, clock, TimeoutError(), after=10)
    clock.now += 2
    with pytest.raises(ServiceSilent, match="the DPS has not answered 3 calls in a row; it is asked again in 3 s") as e:
        succeed(breaker)
    assert is_outage(e.value)
    assert service_of(e.value) == "the DPS"


def test_an_answer_in_between_begins_the_count_again(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        fail(breaker, clock, TimeoutError(), after=10)
        fail(breaker, clock, TimeoutError(), after=10)
        succeed(breaker)


def test_a_service_that_answers_others_meanwhile_is_not_silent(breaker: Breaker, clock: Clock) -> None:
    """A worker that is itself slow misses the time limits of many calls side by side; some are answered all the same."""
    late = [breaker.watching() for _ in range(5)]
    for call in late:
        call.__enter__()
    clock.now += 10
    succeed(breaker)
    for call in late:
        assert not call.__exit__(TimeoutError, TimeoutError(), None)
    succeed(breaker)


def test_a_refusal_by_the_service_is_an_answer(breaker: Breaker, clock: Clock) -> None:
    """However long it took."""
    refused: Any = SimpleNamespace(status_code=503, reason="busy", headers={}, text=lambda **_: "", content_type="")
    for _ in range(5):
        fail(breaker, clock, TimeoutError(), after=10)
        fail(breaker, clock, HttpResponseError("busy", response=refused), after=10)


def test_a_call_that_fails_at_once_is_not_counted(breaker: Breaker, clock: Clock) -> None:
    """A service that restarts refuses connections for a second; the SDK's own repetitions bear that."""
    for _ in range(10):
        fail(breaker, clock, ConnectionRefusedError(), after=0.1)
    succeed(breaker)


def test_one_call_at_a_time_tries_whether_the_service_answers_again(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        fail(breaker, clock, TimeoutError(), after=10)
    clock.now += 5
    with breaker.watching(), pytest.raises(ServiceSilent):
        succeed(breaker)
    succeed(breaker)
    succeed(breaker)


def test_a_try_that_is_not_answered_either_begins_the_pause_again(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        fail(breaker, clock, TimeoutError(), after=10)
    clock.now += 5
    fail(breaker, clock, TimeoutError(), after=10)
    clock.now += 4
    with pytest.raises(ServiceSilent, match="4 calls in a row; it is asked again in 1 s"):
        succeed(breaker)


# --- threads of hubs ---


class Registry:
    """A hub's registry that answers when it is let."""

    def __init__(self, *, answers: bool) -> None:
        self.let = Event()
        if answers:
            self.let.set()

    def get_device(self, device_id: str) -> Any:
        assert self.let.wait(30)
        return SimpleNamespace(device_id=device_id, authentication=None, status="enabled", connection_state="",
                               etag="1", status_reason=None)  # fmt: skip

    def delete_device(self, device_id: str, etag: str) -> None:
        """It is gone."""


async def test_a_hub_that_hangs_holds_up_neither_other_hubs_nor_what_shuts_its_own_devices_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twenty calls wait for it, more than it has threads."""
    registries = {"a.test": Registry(answers=False), "b.test": Registry(answers=True)}

    def opened(address: str, _credential: object) -> Any:
        registry: Any = registries[address]
        config = SimpleNamespace(hooks=[], connection=SimpleNamespace(timeout=100))
        config.retry_policy = SimpleNamespace(policy=SimpleNamespace(read=3))
        registry.protocol = SimpleNamespace(config=config)
        return registry

    monkeypatch.setattr("shared.adapters.iot_hub.IoTHubRegistryManager.from_token_credential", opened)
    credential: Any = object()
    hubs = IotHubRegistries({}, credential)
    try:
        hanging = [asyncio.create_task(hubs.get("a.test", f"press-{n}")) for n in range(20)]
        seen = HubIdentity("press-1", enabled=False, thumbprints=frozenset(), connected=False, authentication="none")
        assert await hubs.delete_unchanged("a.test", seen)
        assert await hubs.get("b.test", "press-1") is not None
        assert not any(each.done() for each in hanging)
    finally:
        registries["a.test"].let.set()
    assert len(await asyncio.gather(*hanging)) == 20
    hubs.close()


def test_a_hub_is_not_waited_for_100_seconds_four_times() -> None:
    """What azure-iot-hub would do by itself; the registry's own settings are looked at, as msrest reads them."""
    credential: Any = SimpleNamespace(get_token=lambda *_: SimpleNamespace(token="a-token", expires_on=4_000_000_000))
    hub = IotHubRegistries({}, credential)._hub("a.test")  # noqa: SLF001
    config = hub.registry.protocol.config
    assert config.connection()["timeout"] == (5, 10)
    assert config.retry_policy().read == 1
    hub.close()
