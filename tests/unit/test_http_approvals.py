"""Two persons over HTTP: one sends a call that waits, the other says yes, and the audit log has both."""

from __future__ import annotations

import json
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.domain.approvals import ApprovalAct
from shared.ledger.audit_log import AuditFilters, AuditTable
from shared.rules.zones import Zone
from shared.settings import Settings
from shared.workflows.intake.audit import Audit
from tests.pki.foreign import authority
from tests.unit.authorities import AuthorityScene
from tests.unit.fakes import FakeTable
from tests.unit.limiting import unlimited
from tests.unit.test_settings import GOOD
from triggers import outcomes
from triggers.registration import app_of

if TYPE_CHECKING:
    from collections.abc import Mapping

OPS, SECURITY = "key-of-ops", "key-of-security"
ROLES = {
    "ops": ("CertificateAuthorities.Manage,Approvals.Give,Fleet.Read", OPS),
    "security": ("Approvals.Give", SECURITY),
}
KEY = ec.generate_private_key(ec.SECP256R1())
TOP = authority("top", key=KEY, signed_by=KEY)
PEM = (KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + TOP.public_bytes(Encoding.PEM)).decode()


class Plant:
    """A deployment in which the import of a CA needs a second person."""

    def __init__(self) -> None:
        self.scene = AuthorityScene()
        self.scene.wanted[ApprovalAct.IMPORT_AUTHORITY] = 0
        self.log = AuditTable(FakeTable())
        keys = "; ".join(f"{name} {roles} {sha256(key.encode()).hexdigest()}" for name, (roles, key) in ROLES.items())
        self.settings = Settings.from_environment({**GOOD, "KEY_ROLES": keys})
        self.functions = {str(each.get_function_name()): each for each in app_of(Zone.ALL).get_functions()}

    def services(self) -> Any:
        worker = self.scene.worker()
        audit = Audit(
            log=self.log,
            clock=self.scene.clock,
            devices=self._nothing,
            authorities=self._nothing,
            approvals=worker.approvals.group_of,
        )
        return SimpleNamespace(
            settings=self.settings,
            clock=self.scene.clock,
            audit=audit,
            limits=unlimited(audit, self.scene.clock),
            approvals=worker.approvals,
            authority_workflows=SimpleNamespace(installation=worker.installation),
            authorities=worker.authorities,
        )

    async def _nothing(self, _name: str) -> str | None:
        return None

    async def ask(
        self, function: str, key: str, body: Any = None, *, headers: Mapping[str, str] | None = None, **route: str
    ) -> tuple[int, dict[str, Any], str | None]:
        request = func.HttpRequest(
            "GET" if function.startswith(("get", "list")) else "POST",
            "https://host/api/x",
            headers={"x-functions-key": key, **(headers or {})},
            params={},
            route_params=route,
            body=b"" if body is None else json.dumps(body).encode(),
        )
        answer = await self.functions[function].get_user_function()(request)
        return answer.status_code, json.loads(answer.get_body()), answer.headers.get("Location")

    async def written_down(self) -> list[tuple[str, str, str]]:
        found, _ = await self.log.page(AuditFilters(), size=100, continuation=None)
        return sorted((each.actor.id, each.action, each.outcome.value) for each in found)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    async def kept() -> None:
        pass

    made = Plant()
    monkeypatch.setattr(outcomes, "services", made.services)
    monkeypatch.setattr(outcomes, "keep_directory", kept)
    return made


async def test_an_import_is_done_when_the_same_caller_sends_it_again_after_the_yes(plant: Plant) -> None:
    """A first answer of 202 says where to look; nothing was imported, and the audit log does not say that it was."""
    status, waits, location = await plant.ask("import_certificate_authority", OPS, {"pem": PEM}, name="corporate")
    assert (status, waits["status"], location) == (202, "awaitingApproval", waits["location"])
    assert waits["location"] == f"/api/approvals/{waits['approvalId']}"
    assert await plant.written_down() == [("ops", "import", "refused")]
    identifier = waits["approvalId"]

    status, refusal, _ = await plant.ask("approve_act", OPS, id=identifier)
    assert status == 403
    assert refusal["detail"] == "whoever asked for it can't approve it; somebody else with this role can"
    status, decided, _ = await plant.ask("approve_act", SECURITY, {"comment": "seen the fingerprint"}, id=identifier)
    assert (status, decided["state"], decided["comment"]) == (200, "approved", "seen the fingerprint")
    assert (decided["askedBy"]["id"], decided["decidedBy"]["id"]) == ("ops", "security")
    assert decided["request"] is None

    status, made, _ = await plant.ask("import_certificate_authority", OPS, {"pem": PEM}, name="corporate")
    assert (status, made["name"]) == (201, "corporate")
    assert await plant.written_down() == [
        ("ops", "approve", "refused"),
        ("ops", "import", "done"),
        ("ops", "import", "refused"),
        ("security", "approve", "done"),
    ]
    status, page, _ = await plant.ask("list_approvals", OPS)
    assert [(each["act"], each["state"]) for each in page["items"]] == [("importAuthority", "approved")]


async def test_a_refusal_says_why_and_reaches_who_asked(plant: Plant) -> None:
    _, waits, _ = await plant.ask("import_certificate_authority", OPS, {"pem": PEM}, name="corporate")
    identifier = waits["approvalId"]
    status, refusal, _ = await plant.ask("refuse_act", SECURITY, {}, id=identifier)
    assert (status, refusal["errors"]) == (
        400,
        [{"field": "comment", "message": "is required: who asked is to know why"}],
    )
    status, _, _ = await plant.ask("refuse_act", SECURITY, {"comment": "not ours"}, id=identifier)
    assert status == 200
    status, refusal, _ = await plant.ask("import_certificate_authority", OPS, {"pem": PEM}, name="corporate")
    assert (status, refusal["detail"].rpartition(": ")[2]) == (409, "not ours")
    status, refusal, _ = await plant.ask("approve_act", SECURITY, id=identifier)
    assert status == 409
    status, again, _ = await plant.ask(
        "import_certificate_authority", OPS, {"pem": PEM}, headers={"Idempotency-Key": "try-2"}, name="corporate"
    )
    assert (status, again["approvalId"] != identifier) == (202, True)


@pytest.mark.parametrize("identifier", ["0" * 32, "x"])
async def test_an_approval_that_does_not_exist_is_not_found(plant: Plant, identifier: str) -> None:
    for name in ("get_approval", "approve_act"):
        status, refusal, _ = await plant.ask(name, OPS, id=identifier)
        assert (status, refusal["detail"]) == (404, f"id: the approval {identifier!r} does not exist")
