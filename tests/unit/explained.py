"""A device whose every part can be looked at, and spoilt: the group stands in DPS, and its CAs in the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shared.domain.attestations import x509_attestation
from shared.domain.authorities import ProofOfPossession
from shared.domain.words import CertificateKind
from shared.ledger.authorities import Authorities
from shared.ledger.directory import Directory
from shared.ledger.rejections import Rejections
from shared.pki import names
from shared.workflows.devices.explaining import Explaining
from shared.workflows.devices.looking import Looking
from shared.workflows.groups.previews import Previews
from tests.pki.hierarchy import NOW, Hierarchy, hierarchy
from tests.records import authority_record
from tests.unit.devices import ISSUER, DeviceScene
from tests.unit.fakes import FakeTable

ROOT, ISSUING = hierarchy().root.certificate, hierarchy().issuing.certificate


@dataclass
class ExplainedScene(DeviceScene):
    """A deployment with the enrollment group ``line``, also in DPS.

    Attributes:
        pki: the CAs that sign.
    """

    pki: Hierarchy = field(default_factory=hierarchy)
    rejection_rows: FakeTable = field(default_factory=FakeTable)
    issuers: Authorities = field(default_factory=lambda: Authorities(FakeTable()))

    async def set_up(self) -> ExplainedScene:
        """Make the group and its CAs."""
        await super().set_up()
        await self.enter_group()
        for name, certificate, parent, proof in (
            ("dpsCa", self.pki.root.certificate, None, ProofOfPossession.VERIFIED),
            (ISSUER, self.pki.issuing.certificate, "dpsCa", None),
        ):
            await self.issuers.try_insert(
                authority_record(
                    name,
                    NOW,
                    kind=CertificateKind.INTERMEDIATE if parent else CertificateKind.ROOT,
                    parent=parent,
                    certificate=names.pem(certificate),
                    thumbprint=names.thumbprint(certificate),
                    proof_of_possession=proof,
                )
            )
        return self

    async def enter_group(self, certificate: Any = None, *, group: str = "line", status: str = "enabled") -> None:
        """Write the group in DPS, whatever was there."""
        self.provisioning.groups.pop(group, None)
        await self.provisioning.put_group(
            {
                "enrollmentGroupId": group,
                "attestation": x509_attestation(certificate or self.pki.issuing.certificate),
                "provisioningStatus": status,
            },
            etag=None,
        )

    @property
    def rejections(self) -> Rejections:
        return Rejections(self.rejection_rows)

    @property
    def explaining(self) -> Explaining:
        authorities: Any = self.issuers
        previews = Previews(provisioning=self.provisioning, resource=None, authorities=authorities, clock=self.clock)
        return Explaining(
            directory=Directory(self.directory_rows),
            certificates=self.certificates,
            authorities=self.issuers,
            clock=self.clock,
            looking=Looking(
                devices=self.devices,
                certificates=self.certificates,
                groups=self.groups,
                authorities=self.issuers,
                requests=self.requests,
                rejections=self.rejections,
                hub_doors=self.converger.hub_doors,
                provisioning=self.provisioning,
                previews=previews,
                settings=self.settings,
                clock=self.clock,
            ),
        )

    async def explained(self, device: str = "press") -> dict[str, Any]:
        """Explain a device."""
        return (await self.explaining.of_device(device)).shown()


async def in_service(**fields: Any) -> ExplainedScene:
    """Give a scene with the device ``press`` in its hub."""
    scene = await ExplainedScene().set_up()
    await scene.order(**fields)
    return scene


def codes(explained: dict[str, Any]) -> list[str]:
    """Give the codes of all causes, that of the cause first."""
    return [explained["cause"]["code"], *(each["code"] for each in explained["further"])]
