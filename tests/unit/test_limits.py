"""Limits of requests: each caller by itself, and what is written down of those who go beyond."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest

from shared.adapters.own_host import OwnHost
from shared.domain.audit_entries import SubjectKind
from shared.domain.callers import ANONYMOUS, Caller, CallerKind
from shared.errors import NotAuthentic, TooManyRequests
from shared.ledger.audit_log import AuditFilters, AuditTable
from shared.settings import Settings
from shared.workflows.intake import limits as module
from shared.workflows.intake.audit import Act, Audit
from shared.workflows.intake.limits import EACH, OF_ALL, Limited, Limits
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeTable
from tests.unit.test_roles import Unasked, digest, functions, settings
from tests.unit.test_settings import GOOD
from triggers import outcomes
from triggers.callers import caller_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

ERP, SCADA = (Caller(kind=CallerKind.KEY, id=name, address="192.0.2.7") for name in ("erp", "scada"))
STRANGER = replace(ANONYMOUS, address="192.0.2.7")
TRY = Act(
    action="revoke_device", kind=SubjectKind.DEVICE, subject="press-1", reason="this needs the role Devices.Revoke"
)


class Scene:
    """Limits over an audit log in memory, and a clock whose minutes pass when the test says so."""

    def __init__(self, *, requests: int = 0, denied: int = 0, public: int = 0) -> None:
        self.now, self.over = NOW, asyncio.Event()
        self.table = AuditTable(FakeTable())
        audit = Audit(log=self.table, clock=self.clock, devices=self.group, authorities=self.group)
        most = {Limited.REQUESTS: requests, Limited.DENIED: denied, Limited.PUBLIC: public}
        self.limits = Limits(most=most, audit=audit, clock=self.clock, pause=self.pause)

    def clock(self) -> datetime:
        return self.now

    async def group(self, _name: str) -> str | None:
        return None

    async def pause(self, seconds: float) -> None:
        assert 0 <= seconds <= 60
        await self.over.wait()

    async def end_the_minute(self) -> None:
        self.now += timedelta(minutes=1)
        self.over.set()
        await asyncio.gather(*self.limits._tasks)  # noqa: SLF001 - they end by themselves, and the test waits for it
        self.over.clear()

    async def knock(self, times: int, by: Caller = STRANGER) -> None:
        for _ in range(times):
            await self.limits.denied(by, TRY)

    async def entries(self) -> list[Any]:
        return list((await self.table.page(AuditFilters(), size=1000, continuation=None))[0])

    async def counted(self) -> list[tuple[str, str, str, str | None]]:
        """Give what is not written down one by one: who, what, and how many."""
        found = [each for each in await self.entries() if each.action == "limit"]
        return [(each.actor.id, each.subject, str(each.outcome), each.reason) for each in found]


# --- requests ---


async def test_who_makes_too_many_requests_is_told_the_limit_and_when_to_come_again() -> None:
    scene = Scene(requests=100)
    for _ in range(100):
        await scene.limits.request(ERP)
    scene.now += timedelta(seconds=17, milliseconds=1)
    with pytest.raises(TooManyRequests) as refused:
        await scene.limits.request(ERP)
    assert str(refused.value) == (
        "the key 'erp' made more than 100 requests in a minute, which is the limit of one caller at one worker "
        "(RATE_LIMIT_REQUESTS); come again in 43 seconds"
    )
    assert refused.value.retry_after == timedelta(seconds=43)
    await scene.limits.request(SCADA)  # at the same address
    await scene.end_the_minute()
    await scene.limits.request(ERP)


async def test_of_refused_requests_one_entry_has_the_number() -> None:
    """It is begun while they are counted. A worker that ends meanwhile leaves it so."""
    scene = Scene(requests=1)
    await scene.limits.request(ERP)
    for _ in range(50):
        with pytest.raises(TooManyRequests):
            await scene.limits.request(ERP)
    said = "requests were refused (429), beyond the 1 that one caller may make in a minute (RATE_LIMIT_REQUESTS)"
    assert await scene.counted() == [("erp", "requests", "begun", f"{said}; they are counted until 12:01:00 UTC")]
    await scene.end_the_minute()
    assert await scene.counted() == [("erp", "requests", "denied", f"50 {said}, until 12:01:00 UTC")]
    assert len(await scene.entries()) == 1


# --- what is denied ---


async def test_denied_tries_are_written_down_one_by_one_and_then_by_their_number() -> None:
    scene = Scene()
    await scene.knock(EACH + 312)
    await scene.knock(1, ERP)
    assert [each.actor.id for each in await scene.entries() if each.action == TRY.action].count("anonymous") == EACH
    await scene.end_the_minute()
    said = f"312 tries were denied, beyond the {EACH} that are listed, until 12:01:00 UTC"
    assert await scene.counted() == [("anonymous", "denied", "denied", said)]
    [mine] = (await scene.table.page(AuditFilters(actor="erp"), size=10, continuation=None))[0]
    assert (mine.action, mine.subject, mine.reason) == (TRY.action, TRY.subject, TRY.reason)
    await scene.knock(1)
    assert len(await scene.entries()) == EACH + 3, "the next minute begins anew"


async def test_coming_from_everywhere_does_not_fill_the_log() -> None:
    scene = Scene()
    for number in range(OF_ALL + 400):
        await scene.knock(1, replace(ANONYMOUS, address=f"198.51.{number // 250}.{number % 250}"))
    await scene.end_the_minute()
    said = f"400 tries were denied to many callers, beyond the {OF_ALL} that are listed, until 12:01:00 UTC"
    assert await scene.counted() == [("anonymous", "denied", "denied", said)]
    assert len(await scene.entries()) == OF_ALL + 1


async def test_who_is_denied_too_often_is_told_so_and_nobody_else_is() -> None:
    scene = Scene(denied=3)
    await scene.knock(3)
    with pytest.raises(TooManyRequests) as refused:
        await scene.knock(1)
    assert str(refused.value) == (
        "more than 3 requests of the address 192.0.2.7 were denied in a minute, which is the limit at one worker "
        "(RATE_LIMIT_DENIED). What is allowed to it is answered; come again in 60 seconds"
    )
    await scene.knock(3, ERP)
    with pytest.raises(TooManyRequests, match=r"^more than 3 requests of the key 'erp' were denied"):
        await scene.knock(1, ERP)
    for by in (ERP, SCADA):
        await scene.limits.request(by)


async def test_a_network_of_the_next_internet_protocol_is_one_caller() -> None:
    """Whoever has one address of it has 2^64."""
    scene = Scene(denied=3)
    for number in range(3):
        await scene.knock(1, replace(ANONYMOUS, address=f"2001:db8::{number}"))
    with pytest.raises(TooManyRequests):
        await scene.knock(1, replace(ANONYMOUS, address="2001:db8::ffff:1"))
    await scene.knock(1, replace(ANONYMOUS, address="2001:db8:0:1::1"))


async def test_what_can_not_be_written_down_is_denied_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(denied=1)

    def down() -> None:
        raise OSError("the table is down")

    scene.table._table.step = down  # type: ignore[attr-defined]  # noqa: SLF001 - the fake's
    await scene.knock(1)
    with pytest.raises(TooManyRequests):
        await scene.knock(1)
    assert "denied tries are not in the audit log: OSError: the table is down" in caplog.text


async def test_so_many_callers_are_counted_and_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory has a bound, whoever comes."""
    monkeypatch.setattr(module, "_WINDOWS", 10)
    scene = Scene(requests=1)
    for number in range(25):
        await scene.limits.request(replace(ERP, id=f"erp-{number}"))
    assert len(scene.limits._windows) == 10  # noqa: SLF001
    with pytest.raises(TooManyRequests):
        await scene.limits.request(replace(ERP, id="erp-24"))


# --- what anybody may ask for ---


def test_an_address_may_ask_so_often_what_anybody_may_ask() -> None:
    scene = Scene(public=2)
    for _ in range(2):
        scene.limits.public("192.0.2.7")
    with pytest.raises(TooManyRequests, match=r"made more than 2 requests in a minute, .* \(RATE_LIMIT_PUBLIC\)"):
        scene.limits.public("192.0.2.7")
    scene.limits.public("192.0.2.8")
    for _ in range(5):
        scene.limits.public(None)
    unlimited = Scene()
    for _ in range(100):
        unlimited.limits.public("192.0.2.7")


# --- function keys ---


async def test_a_flood_of_guesses_keeps_no_key_out_that_has_a_name_or_was_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the app asks its host about keys: guesses are not asked about any more. A gateway is one address."""
    scene, asked = Scene(denied=5), list[str]()
    host = OwnHost("factory.azurewebsites.net", "/", scene.clock)

    async def answer(_self: OwnHost, key: str) -> bool:
        asked.append(key)
        return key in {"the-key", "taken", "new"}

    monkeypatch.setattr(OwnHost, "_asked", answer)
    environment = {
        **GOOD,
        "ENTRA_AUTHENTICATION": "true",
        "KEY_ROLES": f"scada Devices.Revoke {sha256(b'the-key').hexdigest()}",
    }
    services: Any = SimpleNamespace(settings=Settings.from_environment(environment), own_host=host, limits=scene.limits)

    async def come(key: str) -> Caller:
        headers = {"x-functions-key": key, "client-ip": "192.0.2.7"}
        request = func.HttpRequest("GET", "https://host/api/x", headers=headers, params={}, body=b"")
        return await caller_of(services, request)

    first = await come("taken")
    for number in range(5):
        with pytest.raises(NotAuthentic):
            await come(f"guess-{number}")
        await scene.knock(1)
    asked.clear()
    with pytest.raises(TooManyRequests, match=r"function keys that are not in KEY_ROLES are not looked at"):
        await come("guess-5")
    with pytest.raises(TooManyRequests):
        await come("new")
    assert asked == []
    assert (await come("the-key")).id == "scada"
    assert await come("taken") == first
    await scene.end_the_minute()
    second = await come("new")
    assert first.mark != second.mark, "they are counted apart"
    assert {each.id for each in (first, second)} == {"a key without a name"}


# --- over HTTP ---


async def ask(name: str, headers: Mapping[str, str]) -> func.HttpResponse:
    request = func.HttpRequest(
        "POST" if name == "create_revocation" else "GET",
        "https://host/api/x",
        headers={"client-ip": "192.0.2.7", **headers},
        params={},
        route_params={"registrationId": "press-1", "file": "line-1-ca1.crl"},
        body=b'{"registrationId": "press-1"}',
    )
    answer: func.HttpResponse = await functions()[name].get_user_function()(request)
    return answer


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Scene:
    async def kept() -> None:
        pass

    scene = Scene(requests=20, denied=2, public=2)
    keys = [f"{name} {role} {digest(name)}" for name, role in (("erp", "Fleet.Read"), ("scada", "Devices.Revoke"))]
    services = Unasked(settings(*keys), limits=scene.limits)
    monkeypatch.setattr(outcomes, "services", lambda: services)
    monkeypatch.setattr(outcomes, "keep_directory", kept)
    return scene


@pytest.mark.usefixtures("door")
async def test_a_limit_is_answered_with_429_and_a_time() -> None:
    """Denied tries get 403 as often as the limit says, and 429 after that, also with a good key."""
    statuses = [(await ask("get_bundle", {"x-functions-key": "erp"})).status_code for _ in range(3)]
    assert statuses == [403, 403, 429]
    answer = await ask("get_bundle", {"x-functions-key": "erp"})
    assert (answer.headers["Retry-After"], answer.mimetype) == ("60", "application/problem+json")
    assert b"more than 2 requests of the key 'erp' were denied in a minute" in answer.get_body()
    assert (await ask("get_device", {"x-functions-key": "erp"})).status_code == 500, "it is let in, and asks a service"


async def test_what_revokes_is_not_kept_out_by_what_others_fail_at(door: Scene) -> None:
    """They come from the same address, as behind a gateway, and one of them has a key, too."""
    for _ in range(10):
        await ask("create_revocation", {})
        await ask("create_revocation", {"x-functions-key": "erp"})
    assert (await ask("create_revocation", {})).status_code == 429
    assert (await ask("create_revocation", {"x-functions-key": "scada"})).status_code == 500, "it is let in"
    assert {each.actor.id for each in await door.entries()} == {"anonymous", "erp"}


async def test_relying_parties_are_counted_by_their_address_and_whoever_watches_the_worker_is_not(door: Scene) -> None:
    assert [(await ask("get_crl", {})).status_code for _ in range(3)] == [500, 500, 429]
    assert (await ask("get_crl", {"client-ip": "192.0.2.8"})).status_code == 500
    assert [(await ask("health_live", {})).status_code for _ in range(5)] == [200] * 5
    assert await door.entries() == []
