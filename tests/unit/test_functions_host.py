"""The functions host's configuration: read as the real host reads it, and refused with words."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import azure.functions as func
import pytest
from azure.core.exceptions import HttpResponseError
from azure.functions.http import HttpResponseConverter
from azure_functions_runtime.bindings.datumdef import datum_as_proto

from devstack.functions_host import http_server
from devstack.functions_host.configuration import ConfigurationError, apply_local_settings, read_host_json, resolve
from devstack.functions_host.protocol import Protos
from devstack.functions_host.queue_listener import Pauses
from devstack.functions_host.timer_listener import HostStorage, Schedule, Status, TimerListener

if TYPE_CHECKING:
    from pathlib import Path


def host_json(folder: Path, **queues: object) -> Path:
    path = folder / "host.json"
    path.write_text(json.dumps({"version": "2.0", "extensions": {"queues": queues}}), encoding="utf-8")
    return path


def test_the_defaults_are_those_of_the_real_host(tmp_path: Path) -> None:
    """Without settings: 16 messages at once, half of that as threshold, 5 tries, no retry delay, base64."""
    queues = read_host_json(host_json(tmp_path)).queues
    assert (queues.batch_size, queues.new_batch_threshold, queues.max_dequeue_count) == (16, 8, 5)
    assert (queues.visibility_timeout, queues.max_polling_interval, queues.base64) == (0.0, 60.0, True)


def test_an_app_setting_wins_over_host_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``AzureFunctionsJobHost__...`` overrides a value of host.json, as in Azure."""
    monkeypatch.setenv("AzureFunctionsJobHost__extensions__queues__visibilityTimeout", "00:01:30")
    assert read_host_json(host_json(tmp_path, visibilityTimeout="00:00:05")).queues.visibility_timeout == 90


@pytest.mark.parametrize(
    ("queues", "message"),
    [
        ({"batchSize": 33}, "queues.batchSize is 33; it must be 1 to 32"),
        ({"messageEncoding": "utf8"}, "queues.messageEncoding is 'utf8'; it must be 'base64' or 'none'"),
        ({"visibilityTimeout": "30"}, "'30' is not a duration; write it as hh:mm:ss"),
    ],
)
def test_a_value_that_breaks_its_rule_is_refused(tmp_path: Path, queues: dict[str, object], message: str) -> None:
    """A wrong value of host.json is named with its rule."""
    path = host_json(tmp_path, **queues)
    with pytest.raises(ConfigurationError) as caught:
        read_host_json(path)
    assert str(caught.value) == f"{path}: {message}"


def test_local_settings_do_not_override_what_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over local.settings.json, as with Core Tools."""
    monkeypatch.setenv("ALREADY", "set")
    monkeypatch.delenv("FRESH", raising=False)
    path = tmp_path / "local.settings.json"
    path.write_text(json.dumps({"Values": {"ALREADY": "other", "FRESH": "new"}}), encoding="utf-8")
    apply_local_settings(path)
    assert (resolve("%ALREADY%-%FRESH%")) == "set-new"
    monkeypatch.delenv("FRESH")
    with pytest.raises(ConfigurationError, match="the setting 'FRESH', which a binding names as %FRESH%, is not set"):
        resolve("%FRESH%")


@pytest.mark.parametrize("schedule", ["* * * * *", "0 0 25 * * *", "daily"])
def test_a_schedule_of_other_than_six_fields_is_refused(schedule: str) -> None:
    """NCRONTAB has six fields; five, or nonsense, is refused at the start."""
    with pytest.raises(ConfigurationError, match="is not an NCRONTAB expression of six fields, seconds first"):
        Schedule(schedule, "tick")


@pytest.mark.parametrize(
    ("last", "now", "expected"),
    [
        ("2026-03-01T03:10:00+00:00", "2026-03-02T03:09:00+00:00", False),
        ("2026-03-01T03:10:00+00:00", "2026-03-02T03:11:00+00:00", True),
        (None, "2026-03-01T03:09:00+00:00", False),
        (None, "2026-03-01T03:11:00+00:00", True),
    ],
)
def test_a_timer_is_past_due_when_a_tick_was_missed(last: str | None, now: str, *, expected: bool) -> None:
    """Counted from its last run, or, if it never ran, from the time at which a host first noted it."""
    daily = Schedule("0 10 3 * * *", "sweep")
    noted = datetime.fromisoformat("2026-03-01T00:00:00+00:00")
    status = Status(datetime.fromisoformat(last) if last else None, daily.after(noted), noted)
    assert Status.of_json(status.to_json()) == status
    assert status.is_past_due(daily, datetime.fromisoformat(now)) is expected


def test_missed_ticks_of_what_ticks_more_than_once_a_minute_are_not_made_up_for() -> None:
    """The real host keeps no status of such a timer."""
    now = datetime.fromisoformat("2026-03-01T00:00:00+00:00")
    assert not Schedule("*/30 * * * * *", "often").is_monitored(now)
    assert Schedule("30 * * * * *", "each minute").is_monitored(now)


async def test_an_answer_that_takes_too_long_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets 504 after 230 seconds, here shortened, and the function goes on."""
    assert http_server.ANSWER_SECONDS == 230
    monkeypatch.setattr(http_server, "ANSWER_SECONDS", 0.01)
    worker: Any = SimpleNamespace(invoke=lambda *_: asyncio.Event().wait())
    assert (await http_server._answer(worker, cast("Any", None), cast("Any", None))).status == 504  # noqa: SLF001


def test_an_empty_queue_is_asked_ever_more_rarely_with_jitter() -> None:
    """From 100 ms to the longest pause, each step drawn from 80 to 120 % of the double; a message starts it anew."""
    pauses = Pauses(1.0, chance=iter([0.0, 1.0, 0.5, 0.5, 0.5]).__next__)
    assert pauses.following(found=True) == 0.1
    assert [round(pauses.following(found=False), 3) for _ in range(6)] == [0.18, 0.34, 0.5, 0.9, 1.0, 1.0]
    assert pauses.following(found=True) == 0.1


def test_a_cookie_of_an_answer_is_set_as_the_real_host_sets_it() -> None:
    """Its value is escaped, and what the app says of it stays: ASP.NET Core's ``IResponseCookies.Append``."""
    said = func.HttpResponse(
        headers={"Set-Cookie": 'console="a=b"; Path=/api/console; Max-Age=60; HttpOnly; SameSite=Strict; Secure'}
    )
    datum = HttpResponseConverter.encode(said, expected_type=None)
    response = http_server._response(datum_as_proto(datum, Protos))  # noqa: SLF001
    assert response.cookies.output(header="").split("; ") == [
        " console=a%3Db",
        "HttpOnly",
        "Max-Age=60",
        "Path=/api/console",
        "SameSite=Strict",
        "Secure",
    ]


class DeniedBlob:
    """A blob that the app has no role for."""

    async def upload_blob(self, _content: bytes, *, overwrite: bool) -> None:
        del overwrite
        error = HttpResponseError("AuthorizationPermissionMismatch")
        error.status_code = 403
        raise error


async def test_a_timer_whose_lock_is_denied_ends_its_host() -> None:
    """It does not wait as if another host had the lock: what else fails says so, as in the cloud."""
    storage = HostStorage(cast("Any", SimpleNamespace(get_blob_client=lambda *_: DeniedBlob())), "host")
    timer = TimerListener("tick", {"schedule": "0 * * * * *"}, storage, cast("Any", None))
    with pytest.raises(HttpResponseError, match="AuthorizationPermissionMismatch"):
        await timer.run()
