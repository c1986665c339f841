"""Every operation with every role: who has the one that it needs gets in, everybody else is told its name alone."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import asynccontextmanager
from functools import cache
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest

from shared.contracts.answers import Accepted
from shared.domain.callers import Role
from shared.errors import NotFound
from shared.rules.zones import Zone
from shared.settings import Settings
from tests.pki.hierarchy import NOW
from tests.unit.limiting import unlimited
from tests.unit.test_settings import GOOD
from triggers import outcomes
from triggers.http.endpoints import published
from triggers.registration import app_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

NEEDED: Mapping[Role, frozenset[str]] = {
    Role.ORDERS_WRITE: frozenset(
        {
            *("create_device_order", "cancel_device_order", "close_device_order", "retry_device_order"),
            *("create_certificate", "renew_device"),
        }
    ),
    Role.BUNDLES_READ: frozenset({"get_bundle", "get_order_bundles", "confirm_bundle"}),
    Role.DEVICES_REVOKE: frozenset(
        {
            *("revoke_device", "reinstate_device", "delete_device", "create_revocation"),
            *("disable_device", "enable_device", "delete_identity", "disable_enrollment"),
        }
    ),
    Role.GROUPS_MANAGE: frozenset(
        {
            *("put_enrollment_group", "delete_enrollment_group", "disable_enrollment_group", "enable_enrollment_group"),
            *("roll_enrollment_group", "renew_enrollment_group", "put_enrollment", "delete_enrollment"),
            *("mend_finding", "adopt_finding", "close_finding", "create_reconciliation"),
        }
    ),
    Role.AUTHORITIES_MANAGE: frozenset(
        {
            *("create_certificate_authority", "create_verification_certificate", "install_certificate"),
            "import_certificate_authority",
            *("disable_certificate_authority", "enable_certificate_authority", "retire_certificate_authority"),
            *("revoke_certificate_authority", "delete_certificate_authority", "import_crl"),
            *("renew_certificate_authority", "cross_sign_certificate_authority"),
            *("renew_log_key", "retire_log_key"),
        }
    ),
    Role.APPROVALS_GIVE: frozenset({"approve_act", "refuse_act"}),
    Role.AUDIT_READ: frozenset(
        {"list_audit_entries", "get_log_checkpoint", "get_log_key", "get_log_handover", "get_log_tile"}
    ),
    Role.FLEET_READ: frozenset(
        {
            *("health_ready", "openapi", "asyncapi", "list_schemas", "get_schema"),
            *("list_certificate_authorities", "get_certificate_authority", "get_signing_request"),
            *("get_certificate", "check_certificate", "list_certificates"),
            *("list_enrollment_groups", "get_enrollment_group", "list_rollover_devices", "list_missed_renewals"),
            *("list_approvals", "get_approval"),
            *("list_findings", "get_finding", "list_reconciliations", "get_reconciliation"),
            *("list_registrations", "check_enrollment", "get_enrollment"),
            *("list_device_orders", "get_device_order", "get_order_results_csv", "get_order_results_json"),
            *(
                "list_devices",
                "count_devices",
                "get_device",
                "get_explanation",
                "create_explanation",
                "get_identity",
                "get_request",
                "list_requests",
            ),
            *("list_rejections", "get_rejection", "replay_rejection", "replay_rejections", "close_rejection"),
        }
    ),
}
"""The operations by the role that each needs."""

FURTHER = {"replay_rejections": ",".join(Role)}
"""What needs the roles of that for which messages ask as well."""

ANONYMOUS = {"health_live", "get_crl", "get_ca_certificate", "post_ocsp", "get_ocsp"}
ROUTE = {
    "registrationId": "press-1",
    "id": "line-1",
    "orderId": "order-1",
    "requestId": "r-1",
    "name": "line-1-ca1",
    "serialNumber": "7f",
    "number": "1",
    "schema": "DeviceRevoked.json",
}


class Beyond(RuntimeError):
    """The operation asks a service: nothing kept the caller out."""


class Audit:
    """Lets every act be carried out, and takes note of none."""

    @asynccontextmanager
    async def carried_out(self, _act: object) -> AsyncIterator[None]:
        yield

    async def denied(self, _act: object) -> None:
        pass


class Unasked:
    """Services that are not to be asked."""

    def __init__(self, settings: Settings, **there: Any) -> None:
        self.settings, self.audit = settings, Audit()
        self.limits = unlimited(self.audit, lambda: NOW)
        vars(self).update(there)

    def __getattr__(self, name: str) -> Any:
        raise Beyond(name)


@cache
def functions() -> Mapping[str, Any]:
    return {str(each.get_function_name()): each for each in app_of(Zone.ALL).get_functions()}


def settings(*entries: str, **more: str) -> Settings:
    return Settings.from_environment({**GOOD, "KEY_ROLES": "; ".join(entries), **more})


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def holding(monkeypatch: pytest.MonkeyPatch, roles: str, **there: Any) -> None:
    """Have the key ``the-key`` hold these roles."""
    services = Unasked(settings(f"name {roles} {digest('the-key')}"), **there)
    monkeypatch.setattr(outcomes, "services", lambda: services)


async def ask(
    name: str,
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    body: Any = None,
    route: Mapping[str, str] = ROUTE,
) -> tuple[int, dict[str, Any]]:
    method = next((each.method for each in published if each.name == name), "GET")
    request = func.HttpRequest(
        method,
        "https://host/api/x",
        headers={"x-functions-key": "the-key"} if headers is None else headers,
        params=params or {},
        route_params=route,
        body=b"" if body is None else json.dumps(body).encode(),
    )
    answer = await functions()[name].get_user_function()(request)
    content = answer.get_body()
    return answer.status_code, json.loads(content) if content.startswith(b"{") else {}


@pytest.fixture(autouse=True)
def _no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    async def kept() -> None:
        pass

    monkeypatch.setattr(outcomes, "keep_directory", kept)


def test_every_operation_says_which_role_it_needs() -> None:
    """A new one is written down here, or is for everybody."""
    said = {role: {each.name for each in published if each.role is role} for role in Role}
    assert {role: set(said[role]) for role in NEEDED} == {role: set(names) for role, names in NEEDED.items()}
    assert {each.name for each in published if each.role is None} == ANONYMOUS
    assert all(each.anonymous is (each.role is None) for each in published)


def test_every_operation_that_changes_something_is_written_down() -> None:
    """At once, as an act of its own, or as a request when it is carried out. The others only look."""
    looking = {"check_certificate", "check_enrollment", "create_explanation"}
    handing_out = {"get_bundle", "get_order_bundles"}
    at_once = {each.name: each.act for each in published if each.act}
    queued = {
        each.name
        for each in published
        if any(answer.content == (Accepted,) for answer in each.answers) and not each.act
    }
    changing = {each.name for each in published if each.method != "GET" and each.role} - looking | handing_out
    assert set(at_once) | queued == changing
    assert {name: at_once[name] for name in ("get_bundle", "delete_identity", "close_rejection", "mend_finding")} == {
        "get_bundle": "handOutBundle",
        "delete_identity": "deleteIdentity",
        "close_rejection": "close",
        "mend_finding": "mend",
    }


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", sorted(set().union(*NEEDED.values())))
async def test_an_operation_is_for_whoever_has_its_role(monkeypatch: pytest.MonkeyPatch, name: str, role: Role) -> None:
    """All others read its name, and nothing of what there is; no service is asked for them."""
    needed = next(each for each, names in NEEDED.items() if name in names)
    holding(monkeypatch, FURTHER[name] if name in FURTHER and role is needed else role)
    status, answer = await ask(name)
    if role is needed:
        assert status not in {401, 403}
    else:
        assert (status, answer["detail"]) == (403, f"this needs the role {needed}")
        assert set(answer) == {"type", "title", "status", "detail", "errors"}


@pytest.mark.parametrize("name", sorted(set().union(*NEEDED.values())))
async def test_a_key_without_a_name_may_read_and_nothing_else(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    holding(monkeypatch, Role.DEVICES_REVOKE)
    status, answer = await ask(name, headers={"x-functions-key": "another-key"})
    if name in NEEDED[Role.FLEET_READ] - {"replay_rejections"}:
        assert status not in {401, 403}
    else:
        assert (status, answer["detail"].startswith("this needs the role ")) == (403, True)


@pytest.mark.parametrize("name", sorted(set().union(*NEEDED.values())))
async def test_nothing_is_done_for_somebody_unknown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without a key, or with the word of a user that nobody has checked."""
    holding(monkeypatch, ",".join(Role))
    assert await ask(name, headers={}) == (
        401,
        {
            "type": "about:blank",
            "title": "Unauthorized",
            "status": 401,
            "detail": "who asks is not known: send a function key in the header x-functions-key",
            "errors": [
                {
                    "field": "",
                    "message": "who asks is not known: send a function key in the header x-functions-key",
                }
            ],
        },
    )
    claims = b64encode(json.dumps({"auth_typ": "aad", "claims": []}).encode()).decode()
    status, answer = await ask(name, headers={"x-ms-client-principal": claims, "x-functions-key": "the-key"})
    assert (status, answer["detail"][:57]) == (400, "a request that says who its user is (X-MS-CLIENT-PRINCIPA")


# --- roles of single groups ---


class Ledger:
    """Devices, orders, CAs and certificates, by what they belong to."""

    async def group_of(self, registration_id: str) -> str | None:
        # An approval is found by an id like any other; here it is that of its group.
        known = {"press-1": "line-1", "press-2": "line-2", "line-1": "line-1", "line-2": "line-2"}
        return known.get(registration_id)

    async def order(self, order_id: str) -> Any:
        return self._found({"order-1": "line-1", "order-2": "line-2"}, order_id)

    async def get(self, name: str) -> Any:
        return self._found({"line-1-ca1": "line-1", "line-2-ca1": "line-2", "dpsCa": None}, name)

    async def describe(self, name: str, _kind: object = None) -> Any:
        if name == "r-1":
            return SimpleNamespace(about="/api/devices/press-1")
        if name == "r-2":
            return SimpleNamespace(about="/api/enrollment-groups/line-2")
        return self._found({f"{7:040x}": "line-1", f"{8:040x}": "line-2"}, name)

    async def describe_finding(self, name: str) -> Any:
        return self._found({"line-1": "line-1", "line-2": "line-2"}, name)

    def _found(self, known: Mapping[str, str | None], name: str) -> Any:
        if name not in known:
            raise NotFound.because(f"{name} does not exist")
        return SimpleNamespace(enrollment_group=known[name])


LEDGER: Any = {
    name: Ledger()
    for name in (
        "devices",
        "order_answers",
        "authorities",
        "certificate_requests",
        "following",
        "reconciler",
        "approvals",
    )
}
MINE: Any = {**ROUTE, "serialNumber": "7"}
ANOTHERS: Any = {
    "registrationId": "press-2",
    "id": "line-2",
    "orderId": "order-2",
    "requestId": "r-2",
    "name": "line-2-ca1",
    "serialNumber": "8",
}
UNKNOWN: Any = {
    "registrationId": "press-3",
    "id": "line-3",
    "orderId": "order-3",
    "requestId": "r-3",
    "name": "line-3-ca1",
    "serialNumber": "9",
}
BODIES: Mapping[str, Any] = {
    "create_device_order": {"enrollmentGroup": "line-{}"},
    "check_certificate": {"enrollmentGroup": "line-{}"},
    "create_certificate": {"kind": "device", "issuer": "line-{}-ca1", "name": "press-{}"},
    "create_revocation": {"registrationId": "press-{}"},
    "create_reconciliation": {"enrollmentGroup": "line-{}"},
}
LISTS = {
    "list_approvals": "group",
    "list_findings": "enrollmentGroup",
    "list_audit_entries": "group",
    "list_devices": "enrollmentGroup",
    "count_devices": "enrollmentGroup",
    "list_certificates": "enrollmentGroup",
    "list_device_orders": "group",
}
WHOLE = {
    *("list_reconciliations", "get_reconciliation"),
    *(
        "list_certificate_authorities",
        "create_certificate_authority",
        "import_crl",
        "cross_sign_certificate_authority",
        "list_enrollment_groups",
    ),
    *(
        "list_requests",
        "create_explanation",
        "list_rejections",
        "get_rejection",
        "replay_rejection",
        "replay_rejections",
        "close_rejection",
    ),
    *("get_log_checkpoint", "get_log_key", "get_log_handover", "get_log_tile", "renew_log_key", "retire_log_key"),
}
"""What is about all groups."""

OF_NO_GROUP = {"health_ready", "openapi", "asyncapi", "list_schemas", "get_schema"}
LIMITED = sorted(set().union(*NEEDED.values()) - set(LISTS) - WHOLE - OF_NO_GROUP)


def needed_for(name: str) -> Role:
    return next(role for role, names in NEEDED.items() if name in names)


def body_for(name: str, number: int) -> Any:
    return {key: value.format(number) for key, value in BODIES[name].items()} if name in BODIES else None


def beyond(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the key hold the role of an operation for the group ``line-1``."""
    holding(monkeypatch, f"{needed_for(name)}:line-1", **LEDGER)


@pytest.mark.parametrize("name", LIMITED)
async def test_a_role_of_one_group_is_for_what_belongs_to_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The ledger says what does. What is another group's is refused like what does not exist."""
    beyond(monkeypatch, name)
    status, _ = await ask(name, route=MINE, body=body_for(name, 1))
    assert status not in {401, 403}
    refused = (403, f"this needs the role {needed_for(name)}")
    for number, route in ((2, ANOTHERS), (3, UNKNOWN)):
        status, answer = await ask(name, route=route, body=body_for(name, number))
        assert (status, answer["detail"]) == refused


@pytest.mark.parametrize("name", sorted(WHOLE))
async def test_what_is_about_all_groups_needs_the_role_for_all(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    beyond(monkeypatch, name)
    status, answer = await ask(name)
    assert (status, answer["detail"]) == (403, f"this needs the role {needed_for(name)} for all enrollment groups")


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_is_limited_to_the_group_of_the_role(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without its group it is about all; the refusal says which parameter makes it smaller."""
    beyond(monkeypatch, name)
    status, answer = await ask(name)
    assert (status, answer["detail"]) == (
        403,
        f"this needs the role {needed_for(name)} for all enrollment groups, or {LISTS[name]}= with a group that it is "
        "given for",
    )
    status, answer = await ask(name, params={LISTS[name]: "line-2"})
    assert (status, answer["detail"]) == (403, f"this needs the role {needed_for(name)}")
    status, _ = await ask(name, params={LISTS[name]: "LINE-1"})
    assert status not in {401, 403}


@pytest.mark.parametrize("name", sorted(OF_NO_GROUP))
async def test_what_says_nothing_of_a_group_is_for_everybody_who_reads(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    holding(monkeypatch, "Fleet.Read:line-1")
    status, _ = await ask(name)
    assert status not in {401, 403}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("create_revocation", {"enrollmentGroup": "line-1"}),
        ("create_revocation", {"serialNumber": "00:07"}),
        ("create_certificate", {"kind": "device", "issuer": "line-1-ca1", "name": "press-9"}),
    ],
)
async def test_a_body_says_what_it_is_about(monkeypatch: pytest.MonkeyPatch, name: str, body: Any) -> None:
    beyond(monkeypatch, name)
    status, _ = await ask(name, body=body)
    assert status not in {401, 403}


@pytest.mark.parametrize(
    ("name", "body", "params"),
    [
        ("create_revocation", {"enrollmentGroup": "line-2"}, {}),
        ("create_revocation", {"serialNumber": "8"}, {}),
        ("create_revocation", {"registrationId": "press-2", "enrollmentGroup": "line-1"}, {}),
        ("create_revocation", {}, {}),
        ("create_revocation", [], {}),
        ("create_certificate", {"kind": "device", "issuer": "line-1-ca1", "name": "press-2"}, {}),
        ("create_certificate", {"kind": "device", "issuer": "dpsCa", "name": "press-1"}, {}),
        ("create_certificate", {"kind": "device", "issuer": "line-1-ca1"}, {}),
        ("create_device_order", {"enrollmentGroup": "line-1"}, {"enrollmentGroup": "line-2"}),
        ("create_device_order", {"enrollmentGroup": ["line-1"]}, {}),
    ],
)
async def test_a_body_that_is_about_something_else_too_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, body: Any, params: Any
) -> None:
    """What names two things is judged by the one that counts, and what names none is about no group."""
    beyond(monkeypatch, name)
    status, answer = await ask(name, body=body, params=params)
    assert (status, answer["detail"]) == (403, f"this needs the role {needed_for(name)}")


# --- what needs a second role ---


@pytest.mark.parametrize("kind", ["root", "intermediate", "verification"])
async def test_a_certificate_that_is_not_a_device_s_needs_the_role_for_cas(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    holding(monkeypatch, Role.ORDERS_WRITE)
    body = {"kind": kind, "name": "plant", "issuer": "dpsCa", "requestId": "r-1", "verificationCode": "A" * 40}
    given = body if kind == "verification" else {key: body[key] for key in ("kind", "name", "requestId")}
    status, answer = await ask("create_certificate", body=given)
    assert (status, answer["detail"]) == (403, "this needs the role CertificateAuthorities.Manage")


async def test_to_cancel_an_order_with_its_devices_needs_the_role_that_revokes(monkeypatch: pytest.MonkeyPatch) -> None:
    holding(monkeypatch, Role.ORDERS_WRITE, **LEDGER)
    status, answer = await ask("cancel_device_order", body={"issued": "revoke"})
    assert (status, answer["detail"]) == (403, "this needs the role Devices.Revoke")
    status, _ = await ask("cancel_device_order", body={"issued": "keep"})
    assert status not in {401, 403}
    holding(monkeypatch, "Orders.Write,Devices.Revoke:line-1", **LEDGER)
    status, _ = await ask("cancel_device_order", body={"issued": "revoke"})
    assert status not in {401, 403}


@pytest.mark.parametrize(
    ("queue", "role"),
    [
        ("certificate-requests", Role.AUTHORITIES_MANAGE),
        ("enrollment-group-requests", Role.GROUPS_MANAGE),
        ("device-orders", Role.ORDERS_WRITE),
        ("device-registrations", Role.ORDERS_WRITE),
        ("renewal-requests", Role.ORDERS_WRITE),
        ("revocation-requests", Role.DEVICES_REVOKE),
    ],
)
@pytest.mark.parametrize("name", ["replay_rejection", "close_rejection", "replay_rejections"])
async def test_a_message_is_put_back_by_whoever_may_do_what_it_asks_for(
    monkeypatch: pytest.MonkeyPatch, name: str, queue: str, role: Role
) -> None:
    class Rejections:
        async def describe(self, _identifier: str) -> SimpleNamespace:
            return SimpleNamespace(queue=queue)

    body = {"queue": queue, "comment": "done by hand"}
    given = {key: body[key] for key in body if (key == "queue") is (name == "replay_rejections")}
    holding(monkeypatch, Role.FLEET_READ, rejected_messages=Rejections())
    status, answer = await ask(name, body=given)
    assert (status, answer["detail"]) == (403, f"this needs the role {role}")
    holding(monkeypatch, f"Fleet.Read,{role}:line-1", rejected_messages=Rejections())
    status, answer = await ask(name, body=given)
    assert (status, answer["detail"]) == (403, f"this needs the role {role} for all enrollment groups")
    holding(monkeypatch, f"Fleet.Read,{role}", rejected_messages=Rejections())
    status, _ = await ask(name, body=given)
    assert status not in {401, 403}
