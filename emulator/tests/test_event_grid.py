"""The Event Grid topic: Microsoft's client sends to it, and it takes and refuses what the real one does."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import requests
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridPublisherClient

from emulator.tests.running import emulator_in_thread
from emulator.tests.test_roles import assignment, write_roles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.tests.running import RunningEmulator

AUDIENCE = "https://eventgrid.azure.net"
SIGNER = "6f1dd4dc-3a2f-4c7c-92bb-8a9f6f4f5ad1"
SEND = "Microsoft.EventGrid/events/send/action"
BATCH = "application/cloudevents-batch+json; charset=utf-8"
EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/factory",
    "type": "Issued",
    "subject": "press-1",
    "data": {"a": 1},
}
TOPIC = "/subscriptions/c1f0c9a8-4f5d-4d3b-8a8e-0a4f2a7d9e10/resourceGroups/local/providers/Microsoft.EventGrid/topics/events"


def publish(
    emulator: RunningEmulator, body: Any, *, kind: str = BATCH, query: str = "?api-version=2018-01-01", **headers: str
) -> requests.Response:
    """Send something, with a good token unless the headers say otherwise."""
    return requests.post(
        str(emulator.endpoints["eventTopicUrl"]) + query,
        data=body if isinstance(body, (str, bytes)) else json.dumps(body),
        headers={"Content-Type": kind, "Authorization": f"Bearer {emulator.token(AUDIENCE)}", **headers},
        verify=emulator.ca_file,
        timeout=20,
    )


def kept(emulator: RunningEmulator, query: str = "") -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = requests.get(f"{emulator.admin_url}/events{query}", timeout=20).json()["events"]
    return events


class Credential:
    """Gives the emulator's token for what the client asks for."""

    def __init__(self, emulator: RunningEmulator, client_id: str | None = None) -> None:
        self._emulator, self._client_id = emulator, client_id

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        audience = scopes[0].removesuffix("/.default")
        issued = self._emulator.context.tokens.issue(audience, client_id=self._client_id)
        return AccessToken(issued.token, int(issued.expires_on.timestamp()))


def client(emulator: RunningEmulator, client_id: str | None = None) -> EventGridPublisherClient:
    """Give Microsoft's client; it trusts what its environment names."""
    return EventGridPublisherClient(str(emulator.endpoints["eventTopicUrl"]), Credential(emulator, client_id))


def test_microsofts_client_sends_a_batch_and_the_admin_port_shows_it(
    fresh_emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event as it was sent, with its extension attributes; of one type where that is asked for."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", fresh_emulator.ca_file)
    with client(fresh_emulator) as sender:
        sender.send([
            CloudEvent(id="1", source="/f", type="Issued", subject="press-1", data={"a": 1}, extensions={"order": "o-1"}),
            CloudEvent(id="2", source="/f", type="Revoked"),
        ])  # fmt: skip
    first, second = kept(fresh_emulator)
    assert first | {"id": "1", "type": "Issued", "subject": "press-1", "data": {"a": 1}, "order": "o-1"} == first
    assert second["type"] == "Revoked"
    assert [each["id"] for each in kept(fresh_emulator, "?type=Revoked")] == ["2"]


def test_one_event_alone_is_taken_in_the_structured_form(fresh_emulator: RunningEmulator) -> None:
    assert publish(fresh_emulator, EVENT, kind="application/cloudevents+json").status_code == 200
    assert kept(fresh_emulator) == [EVENT]


NOT_ONE = "This resource is configured for 'CloudEventV10' schema. "


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ([{**EVENT, "specversion": "0.3"}], BATCH, "The property 'specversion' must be '1.0'."),
        ([EVENT, {**EVENT, "source": ""}], BATCH, "The required property 'source' is missing, or is not a text."),
        ([{**EVENT, "type": 1}], BATCH, "The required property 'type' is missing, or is not a text."),
        (EVENT, BATCH, "Token Expected: StartArray."),
        (["x"], BATCH, 'Token Expected: StartObject, and "x" is there.'),
        (
            [EVENT],
            "application/json",
            "The content type is 'application/json', and application/cloudevents-batch+json or "
            "application/cloudevents+json is expected.",
        ),
        ("[", BATCH, "The request body is not JSON: Expecting value: line 1 column 2 (char 1)."),
    ],
)
def test_what_is_not_a_batch_of_cloudevents_is_refused_whole(
    fresh_emulator: RunningEmulator, body: Any, kind: str, said: str
) -> None:
    """400 in the service's form, and none of the batch is kept."""
    answer = publish(fresh_emulator, body, kind=kind)
    message = NOT_ONE + said
    details = [{"code": "BadRequest", "message": message}]
    assert answer.status_code == 400
    assert answer.json() == {"error": {"code": "BadRequest", "message": message, "details": details}}
    assert kept(fresh_emulator) == []


def test_more_than_a_megabyte_is_refused(fresh_emulator: RunningEmulator) -> None:
    """413, and what fits is taken."""
    large = {**EVENT, "data": "x" * (1024 * 1024 - 200)}
    assert publish(fresh_emulator, [large]).status_code == 200
    assert publish(fresh_emulator, [large, EVENT, EVENT]).status_code == 413


@pytest.mark.parametrize("query", ["", "?api-version=2020-01-01"])
def test_the_documented_api_version_is_required(fresh_emulator: RunningEmulator, query: str) -> None:
    assert publish(fresh_emulator, [EVENT], query=query).status_code == 400


def test_only_a_token_for_event_grid_lets_in(fresh_emulator: RunningEmulator) -> None:
    """401 for another audience, for no token, and for a key, which the deployed topic does not take."""
    other = f"Bearer {fresh_emulator.token('https://vault.azure.net')}"
    assert publish(fresh_emulator, [EVENT], Authorization=other).status_code == 401
    assert publish(fresh_emulator, [EVENT], Authorization="").status_code == 401
    keyed = publish(fresh_emulator, [EVENT], Authorization="", **{"aeg-sas-key": "abc"})
    assert (keyed.status_code, "disableLocalAuth" in keyed.text) == (401, True)


def test_without_the_role_an_identity_may_not_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """401, as the service has it; Event Grid Data Sender lets it."""
    roles = tmp_path / "roles.json"
    write_roles(roles, assignment(SEND, paths=("/dps",)))
    with emulator_in_thread(tmp_path, roles=roles) as emulator, client(emulator, SIGNER) as sender:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", emulator.ca_file)
        with pytest.raises(ClientAuthenticationError) as refused:
            sender.send(EVENT)
        assert refused.value.status_code == 401
        assert f"does not have permission to send data to {TOPIC}." in str(refused.value)
        write_roles(roles, assignment(SEND, paths=("/eventTopic",)))
        sender.send(EVENT)
        assert kept(emulator) == [EVENT]


def test_the_role_can_be_withheld_from_everyone(fresh_emulator: RunningEmulator) -> None:
    """At the admin port, and given back."""
    for withheld, status in ((["event_grid"], 401), ([], 200)):
        requests.put(f"{fresh_emulator.admin_url}/roles", json={"withheld": withheld}, timeout=20)
        assert publish(fresh_emulator, [EVENT]).status_code == status


class _Queue(ThreadingHTTPServer):
    """Stands where a storage queue is."""

    status = 201
    tokens: list[str]
    messages: list[Any]


@contextmanager
def queue() -> Iterator[_Queue]:
    class Put(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            text = ET.fromstring(body).findtext("MessageText") or ""  # noqa: S314 - our own
            server.tokens.append(self.headers["Authorization"])
            server.messages.append((self.path, json.loads(base64.b64decode(text))))
            self.send_response(server.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = _Queue(("127.0.0.1", 0), Put)
    server.tokens, server.messages = [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_queue_that_subscribes_gets_each_event_as_a_message(tmp_path: Path) -> None:
    """In JSON and base64, put by a token for storage. What it refuses is refused to the sender, and nothing is kept."""
    with (
        queue() as taking,
        emulator_in_thread(tmp_path, event_queue=f"http://127.0.0.1:{taking.server_port}/account/events") as emulator,
    ):
        other = {**EVENT, "id": "2"}
        assert publish(emulator, [EVENT, other]).status_code == 200
        assert taking.messages == [("/account/events/messages", EVENT), ("/account/events/messages", other)]
        assert {each.split(" ")[0] for each in taking.tokens} == {"Bearer"}
        taking.status = 403
        refused = publish(emulator, [EVENT])
        assert refused.status_code == 503
        assert refused.json()["error"]["message"].endswith("/account/events: it answers 403.")
        assert kept(emulator) == [EVENT, other]


def test_a_queue_that_can_not_be_reached_is_named(tmp_path: Path) -> None:
    with queue() as taking:
        gone = f"http://127.0.0.1:{taking.server_port}/account/events"
    with emulator_in_thread(tmp_path, event_queue=gone) as emulator:
        answer = publish(emulator, [EVENT])
        assert answer.status_code == 503
        assert answer.json()["error"]["message"].startswith(f"The emulator can't deliver to {gone}: ")
