"""The world of groups: several issuing CAs, and a DPS that finds a device's group by them."""

from __future__ import annotations

import dataclasses
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from shared.contracts.messages import Queue
from shared.domain.authorities import AuthorityState
from shared.domain.groups import GroupRecord, RolloverState
from shared.domain.words import CertificateKind, KeyCustody
from shared.ledger.stores import Ledger
from shared.pki import names
from shared.pki.profiles import issuing_profile
from shared.pki.signing_keys import KeyAlgorithm
from shared.workflows.authorities.loading import LoadedAuthority
from shared.workflows.groups.wiring import group_workflows
from tests.pki.hierarchy import certificate_authority, hierarchy
from tests.world import services
from tests.world.world import GROUP, SETTINGS, Authorities, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509

    from shared.pki.issuers import Issuer
    from shared.services import Services
    from shared.workflows.authorities.records import AuthorityDefinition
    from tests.world.conductor import Conductor


@cache
def authority(name: str) -> Issuer:
    return certificate_authority(name, hierarchy().root, KeyAlgorithm.EC_P256, issuing_profile())


@cache
def thumbprint(name: str) -> str:
    return names.sha256_thumbprint(authority(name).certificate)


class IssuingAuthorities(Authorities):
    """Issuing CAs under one root. Making one is a step, and so is each signature.

    Attributes:
        made: names of those that are there.
    """

    def __init__(self, conductor: Conductor) -> None:
        super().__init__(conductor)
        self._steps = conductor
        self.made: set[str] = set()

    async def ensure(self, definition: AuthorityDefinition, *, cause: str) -> None:
        del cause
        async with self._steps.step("make a CA", "vault"):
            self._steps.trace.note("made", definition.name, changed=True)
            self.made.add(definition.name)

    async def get(self, name: str) -> Any:
        kind = CertificateKind.INTERMEDIATE
        return SimpleNamespace(
            name=name,
            kind=kind,
            path_length=0,
            custody=KeyCustody.VAULT,
            certificate="",
            state=AuthorityState.ACTIVE,
        )

    async def load(self, name: str) -> Issuer:
        self._steps.trace.note("made", name)
        assert name in self.made, f"{name} is used before it is made"
        return authority(name)

    async def certificate(self, name: str) -> x509.Certificate:
        return (await self.load(name)).certificate

    async def thumbprints(self, name: str) -> frozenset[str]:
        return frozenset({thumbprint(name)} if name in self.made else ())

    async def loaded(self, name: str) -> LoadedAuthority:
        return LoadedAuthority(
            name=name, issuer=await self.load(name), anchor=hierarchy().root.certificate, anchor_name="dpsCa"
        )

    async def above(self, _name: str) -> str:
        return "dpsCa"

    async def check_definition(self, _definition: AuthorityDefinition) -> None:
        pass

    async def check_proved(self, _name: str) -> None:
        pass


class ProvisioningByGroups(services.Provisioning):
    """A DPS that takes the certificates of those CAs that an enabled group holds."""

    def group_admits(self, certificate: x509.Certificate) -> bool:
        name = names.common_name(certificate.issuer)
        return any(
            names.sha256_thumbprint(authority(name).certificate) == held["info"]["sha256Thumbprint"]
            for held in self.signing()
        )


class GroupWorld(World):
    """One group with CAs of its own."""

    provisioning_kind = ProvisioningByGroups
    authorities_kind = IssuingAuthorities
    authorities: IssuingAuthorities

    def _build(self) -> Services:
        """Wire the app's groups, on CAs whose making is one step."""
        built = super()._build()
        cas: Any = self.authorities
        dps: Any = self.provisioning
        groups = group_workflows(
            Ledger.of(self.storage.table, clock=self.clock),
            requests=built.requests,
            authorities=cas,
            creation=cas,
            possession=cas,
            provisioning=dps,
            resource=None,
            outbox=built.outbox,
            settings=SETTINGS,
            clock=self.clock,
        )
        return dataclasses.replace(built, groups=groups)

    def copy(self, into: Self | None = None) -> Self:
        twin = super().copy(into)
        twin.authorities.made = set(self.authorities.made)
        return twin

    def group(self) -> GroupRecord | None:
        """Give the group as the ledger has it."""
        row = self.storage.table("groups").rows.get(("group", GROUP))
        return row.read(GroupRecord) if row else None

    @property
    def unsettled(self) -> bool:
        record = self.group()
        return super().unsettled or (record is not None and not record.settled)

    def _due(self) -> Iterator[str]:
        yield from super()._due()
        record = self.group()
        if record is not None and not record.settled:
            yield "group_sweep"
        if record is not None and record.rollover is not None and record.rollover.state is RolloverState.ROLLING:
            yield "rollover_sweep"

    async def done(self) -> GroupWorld:
        """Have everything carried out, and forget what was asked for; events stay."""
        await self.drain()
        if self.bugs or self.rejections():
            raise AssertionError(f"not carried out: {self.bugs}, {self.rejections()}")
        for name, lying in self.queues.queues.items():
            lying[:] = lying if name == Queue.PROVISIONING_EVENTS else []
        self.asked.clear()
        return self
