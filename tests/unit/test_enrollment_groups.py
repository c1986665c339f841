"""Enrollment groups: what can be set, under which ETag, and what is refused before anything is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.groups import EnrollmentGroupDefinition, EnrollmentGroupRequest
from shared.contracts.parsing import parse
from shared.domain.authorities import AuthorityState
from shared.domain.words import CertificateKind
from shared.errors import Conflict, NotFound, PreconditionFailed, Rejected
from shared.ledger.groups import Groups
from shared.ledger.requests import Requests
from shared.pki import names
from shared.ports.ca_certificates import VerifiedAuthority
from shared.workflows.groups.authorities import GroupAuthorities
from shared.workflows.groups.checks import GroupChecks
from shared.workflows.groups.composing import GroupEntries
from shared.workflows.groups.convergence import GroupConverger
from shared.workflows.groups.requests import EnrollmentGroups
from shared.workflows.intake.outbox import Outbox
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.fakes import FakeProvisioning, FakeQueues, FakeTable, Killed, Trap

if TYPE_CHECKING:
    from cryptography import x509

    from shared.pki.issuers import Issuer


@pytest.fixture(autouse=True, params=[True, False], ids=["certificate", "info"])
def _shown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """DPS shows the certificates of its entries, or info of them alone: sources conflict, and both must do."""
    monkeypatch.setattr(FakeProvisioning, "shows_certificates", request.param)


class FakeResource:
    async def linked_hubs(self) -> tuple[str, ...]:
        return ("hub-1.example", "hub-2.example")

    async def verified(self) -> list[VerifiedAuthority]:
        return [
            VerifiedAuthority("dpsCa", names.thumbprint(hierarchy().root.certificate), None),
            VerifiedAuthority("line-1-ca1", names.thumbprint(hierarchy().issuing.certificate), None),
            VerifiedAuthority("elsewhere", "AB", None),
        ]


class FakeAuthorities:
    """A root, ``dpsCa``, and an issuing CA under it, ``line-1-ca1``."""

    async def ensure(self, _definition: Any, *, cause: str) -> None:
        del cause

    async def check_ledger(self) -> None:
        return

    async def check_definition(self, definition: Any) -> None:
        await self.get(definition.parent)

    async def check_proved(self, name: str) -> None:
        await self.get(name)

    async def get(self, name: str) -> Any:
        if name not in {"dpsCa", "line-1-ca1", "g-ca1"}:
            raise NotFound.because(f"the certificate authority {name!r} does not exist", field="issuer")
        kind = CertificateKind.ROOT if name == "dpsCa" else CertificateKind.INTERMEDIATE
        state = AuthorityState.ACTIVE
        return SimpleNamespace(name=name, kind=kind, path_length=None if name == "dpsCa" else 0, state=state)

    async def load(self, name: str) -> Issuer:
        await self.get(name)
        return hierarchy().root if name == "dpsCa" else hierarchy().issuing

    async def certificate(self, name: str) -> x509.Certificate:
        return (await self.load(name)).certificate


@dataclass
class Scene:
    provisioning: FakeProvisioning = field(default_factory=FakeProvisioning)
    groups: Groups = field(default_factory=lambda: Groups(FakeTable()))
    requests: Requests = field(default_factory=lambda: Requests(FakeTable()))

    async def carry_out(self, action: str, request_id: str = "", **fields: Any) -> None:
        fakes: Any = SimpleNamespace(queues=FakeQueues(), authorities=FakeAuthorities(), resource=FakeResource())
        anything: Any = SimpleNamespace(root_authority="dpsCa", issuing_custody="vault")
        provisioning: Any = self.provisioning
        body = {"requestId": request_id or action, "enrollmentGroup": "g", "action": action, **fields}
        converger = GroupConverger(
            groups=self.groups,
            authorities=fakes.authorities,
            entries=GroupEntries(groups=self.groups, authorities=fakes.authorities, creation=fakes.authorities),
            provisioning=provisioning,
            outbox=Outbox(queues=fakes.queues, clock=lambda: NOW),
            clock=lambda: NOW,
        )
        checks = GroupChecks(
            groups=self.groups,
            authorities=fakes.authorities,
            group_authorities=GroupAuthorities(
                groups=self.groups,
                authorities=fakes.authorities,
                creation=fakes.authorities,
                possession=fakes.authorities,
                resource=fakes.resource,
                settings=anything,
            ),
            provisioning=provisioning,
            resource=fakes.resource,
        )
        await EnrollmentGroups(
            groups=self.groups,
            requests=self.requests,
            checks=checks,
            converger=converger,
            check_ledger=converger.authorities.check_ledger,
            clock=lambda: NOW,
        ).carry_out(parse(EnrollmentGroupRequest, body))

    @property
    def entry(self) -> dict[str, Any]:
        return self.provisioning.groups["g"]


async def test_everything_that_can_be_set_reaches_dps_in_its_own_terms() -> None:
    """Policy, webhook, hubs, twin, reprovisioning and IoT Edge stand in the entry as DPS names them."""
    scene = Scene()
    await scene.carry_out(
        "create",
        allocationPolicy="custom",
        customAllocation={"webhookUrl": "https://f.example/api/choose", "apiVersion": "2021-10-01"},
        iotHubs=["hub-1.example"],
        initialTwin={"tags": {"line": 1}, "properties": {"desired": {"rate": 5}}},
        reprovisionPolicy={"updateHubAssignment": False, "migrateDeviceData": False},
        iotEdge=True,
    )
    entry = {name: value for name, value in scene.entry.items() if name not in {"attestation", "etag"}}
    assert entry == {
        "enrollmentGroupId": "g",
        "provisioningStatus": "enabled",
        "allocationPolicy": "custom",
        "customAllocationDefinition": {"webhookUrl": "https://f.example/api/choose", "apiVersion": "2021-10-01"},
        "iotHubs": ["hub-1.example"],
        "initialTwin": {"tags": {"line": 1}, "properties": {"desired": {"rate": 5}}},
        "reprovisionPolicy": {"updateHubAssignment": False, "migrateDeviceData": False},
        "capabilities": {"iotEdge": True},
    }


async def test_an_update_changes_what_it_names_and_nothing_else() -> None:
    """What is left out stays; a webhook goes with the policy it belongs to."""
    scene = Scene()
    webhook = {"webhookUrl": "https://f.example/api/choose", "apiVersion": "2021-10-01"}
    await scene.carry_out("create", allocationPolicy="custom", customAllocation=webhook, iotHubs=["hub-1.example"])
    await scene.carry_out("update", allocationPolicy="geolatency")
    assert scene.entry["allocationPolicy"] == "geoLatency"
    assert scene.entry["iotHubs"] == ["hub-1.example"]
    assert "customAllocationDefinition" not in scene.entry


async def test_an_update_changes_a_part_and_leaves_the_others() -> None:
    """Each part of the reprovision policy, tags and desired properties are set by themselves."""
    scene = Scene()
    twin = {"tags": {"line": 1}, "properties": {"desired": {"rate": 5}}}
    await scene.carry_out("create", initialTwin=twin, reprovisionPolicy={"migrateDeviceData": False})
    await scene.carry_out(
        "update", initialTwin={"tags": {"hall": 2}}, reprovisionPolicy={"updateHubAssignment": False}, iotEdge=True
    )
    assert scene.entry["initialTwin"] == {"tags": {"hall": 2}, "properties": {"desired": {"rate": 5}}}
    assert scene.entry["reprovisionPolicy"] == {"updateHubAssignment": False, "migrateDeviceData": False}


async def test_dps_gets_a_reprovision_policy_whole() -> None:
    """An entry of others without one gets the part that is named, and the other as DPS takes it."""
    scene = Scene()
    await scene.carry_out("create")
    del scene.entry["reprovisionPolicy"]
    await scene.carry_out("update", reprovisionPolicy={"updateHubAssignment": False})
    assert scene.entry["reprovisionPolicy"] == {"updateHubAssignment": False, "migrateDeviceData": True}


async def test_the_second_of_two_writers_is_refused() -> None:
    """Both read the same entry; the second one's change does not take place, and it is told why."""
    scene = Scene()
    await scene.carry_out("create")
    read = scene.entry["etag"]
    await scene.carry_out("update", "first", iotHubs=["hub-1.example"], ifMatch=read)
    for action, fields in (("update", {"iotHubs": ["hub-2.example"]}), ("disable", {}), ("delete", {})):
        with pytest.raises(PreconditionFailed) as refused:
            await scene.carry_out(action, f"second-{action}", ifMatch=read, **fields)
        assert str(refused.value) == (
            "ifMatch: the enrollment group 'g' was changed since it was read: its ETag is '3', and the request expects "
            "'2'; read it again and decide anew"
        )
    assert scene.entry["iotHubs"] == ["hub-1.example"]
    assert scene.entry["provisioningStatus"] == "enabled"


async def test_an_update_that_was_killed_after_its_change_is_not_taken_for_a_second_writer() -> None:
    """Delivered again, a guarded update finds its own change and ends well."""
    scene = Scene()
    await scene.carry_out("create")
    read = scene.entry["etag"]
    scene.provisioning.step = Trap(1).step
    with pytest.raises(Killed):
        await scene.carry_out("update", "u", iotHubs=["hub-2.example"], ifMatch=read)
    await scene.carry_out("update", "u", iotHubs=["hub-2.example"], ifMatch=read)
    assert scene.entry["iotHubs"] == ["hub-2.example"]
    known = await scene.groups.get("g")
    assert known is not None
    assert known.record.last_request == "u"


async def test_a_hub_that_is_not_linked_is_refused_before_anything_is_made() -> None:
    """Each hub is named, with those that are linked."""
    scene = Scene()
    with pytest.raises(Rejected) as refused:
        await scene.carry_out("create", iotHubs=["hub-1.example", "hub-9.example"])
    assert str(refused.value) == (
        "iotHubs[1]: 'hub-9.example' is not linked to the DPS; linked are hub-1.example, hub-2.example"
    )
    assert await scene.groups.get("g") is None


async def test_a_group_attests_by_reference_to_verified_cas() -> None:
    """The entry names the CAs; one of this app's own issuing CAs signs for the group, otherwise none does."""
    for reference, named, issuer in (
        ("dpsCa", None, ""),
        ("dpsCa", "line-1-ca1", "line-1-ca1"),
        ("line-1-ca1", None, "line-1-ca1"),
    ):
        scene = Scene()
        fields = {"issuer": named} if named else {}
        await scene.carry_out("create", caReferences={"primary": reference}, **fields)
        assert scene.entry["attestation"]["x509"] == {"caReferences": {"primary": reference}}
        known = await scene.groups.get("g")
        assert known is not None
        assert known.record.issuer == issuer
    await scene.carry_out("update", caReferences={"primary": "dpsCa", "secondary": "line-1-ca1"})
    assert scene.entry["attestation"]["x509"]["caReferences"] == {"primary": "dpsCa", "secondary": "line-1-ca1"}


async def test_a_reference_to_what_is_not_verified_is_refused() -> None:
    """DPS would accept no device; so the request is refused with the names that are verified."""
    scene = Scene()
    with pytest.raises(Rejected) as refused:
        await scene.carry_out("create", caReferences={"primary": "dpsCa", "secondary": "other"})
    assert str(refused.value) == (
        "caReferences.secondary: no CA certificate named 'other' is verified in the DPS; verified are dpsCa, "
        "elsewhere, line-1-ca1: upload it there and prove possession of its key"
    )


async def test_a_ca_that_the_references_do_not_reach_does_not_sign() -> None:
    """DPS would refuse its devices; a root does not sign devices at all."""
    for reference, issuer in (("elsewhere", "line-1-ca1"), ("dpsCa", "dpsCa")):
        scene = Scene()
        with pytest.raises(Rejected) as refused:
            await scene.carry_out("create", caReferences={"primary": reference}, issuer=issuer)
        assert str(refused.value).startswith(
            f"issuer: '{issuer}' is to sign for a group that accepts what stands under {reference}, and it is not an issuing "
            "CA of these: its chain is "
        )


async def test_references_do_not_take_the_place_of_a_groups_own_ca() -> None:
    """A group that holds its CA's certificate is rolled; its devices would be cut off otherwise."""
    scene = Scene()
    await scene.carry_out("create")
    with pytest.raises(Conflict, match="that is changed by action 'roll', and caReferences belong to a group created"):
        await scene.carry_out("update", caReferences={"primary": "dpsCa"})
    held = scene.entry["attestation"]["x509"]["signingCertificates"]["primary"]
    assert held["info"]["sha256Thumbprint"] == names.sha256_thumbprint(hierarchy().issuing.certificate)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"allocationPolicy": "custom"},
            "customAllocation, with webhookUrl and apiVersion, belongs to allocationPolicy 'custom' and to no other; give both or neither",
        ),
        (
            {
                "allocationPolicy": "static",
                "customAllocation": {"webhookUrl": "https://f.example/a", "apiVersion": "2021-10-01"},
            },
            "customAllocation, with webhookUrl and apiVersion, belongs to allocationPolicy 'custom' and to no other; give both or neither",
        ),
        (
            {
                "allocationPolicy": "custom",
                "customAllocation": {"webhookUrl": "http://f.example/a", "apiVersion": "2021-10-01"},
            },
            "customAllocation.webhookUrl: must be a URL that begins with 'https'; it is 'http://f.example/a'",
        ),
        (
            {"allocationPolicy": "random"},
            "allocationPolicy: must be 'hashed', 'static', 'geoLatency' or 'custom'; it is 'random'",
        ),
    ],
)
def test_an_unfit_definition_is_refused_in_words(body: dict[str, Any], message: str) -> None:
    """Each rule about the allocation policy is told with the value."""
    with pytest.raises(Rejected) as refused:
        parse(EnrollmentGroupDefinition, body)
    assert str(refused.value) == message
