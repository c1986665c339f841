"""Checks that ledger, log, DPS, hubs and lists agree about every CA, group and device, and changes none of them.

Run ``python -m shared.audit`` with the app's settings in its environment and an identity that may read what the app
reads (see the README's table of roles). It prints what is wrong, a line each, and ends with 1 then. It ends with 2 if a
service does not answer: what it has printed is true, and there may be more. What is on its way is wrong for as long as
it takes: look again. A CA that nobody has asked for its list yet gets its first one. How many certificates a
restoration has named as lost is told in a line of its own, and is not wrong.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from shared.adapters.sdk_errors import is_outage, role_missing, service_of
from shared.commands import FAILED, run
from shared.domain.attestations import AttestationKind, attestation_of
from shared.domain.audit import Observed, faults, group_faults
from shared.domain.authorities import AuthorityState
from shared.domain.authority_audit import ObservedAuthority, PublishedNumber, UploadedCertificate, authority_faults
from shared.domain.certificates import CertificateState
from shared.domain.groups import GroupState
from shared.ledger.lost_certificates import LostCertificates
from shared.ledger.stores import Ledger
from shared.pki.list_checks import listed_serial_numbers, read_list
from shared.pki.names import serial_text, sha256_thumbprint
from shared.pki.readable import load_certificates
from shared.services import build
from shared.workflows.authorities.records import certificates_of
from shared.workflows.evidence.comparing import LogAudit
from shared.workflows.many import pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.domain.authorities import AuthorityRecord
    from shared.domain.certificates import CertificateRecord
    from shared.domain.devices import DeviceRecord
    from shared.domain.groups import GroupRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.pki.issuers import Issuer
    from shared.ports.ca_certificates import UploadedAuthority
    from shared.ports.hubs import HubIdentity
    from shared.services import Services
    from shared.settings import Settings

_PAGE = 500


class Remark(str):
    """A line that is not a fault."""

    __slots__ = ()


@dataclass(slots=True)
class Auditor:
    """Reads every CA, group and device, and what the services have of it."""

    services: Services
    certificates: Certificates
    devices: Devices
    groups: Groups
    lost: LostCertificates
    lists: dict[str, frozenset[str]] = field(default_factory=dict)

    async def run(self) -> AsyncIterator[str]:
        """Give everything that is wrong, CA by CA, group by group, and device by device; and remarks."""
        for authority in [each async for each in self.services.authorities.list()]:
            for fault in await self._faults_of(authority):
                yield f"{authority.name}: {fault}"
        for group in [each async for each in self.groups.list()]:
            entry = await self.services.clients.provisioning.get_group(group.enrollment_group)
            for fault in group_faults(group, entry, await self._thumbprints(group)):
                yield fault
        async for fault in self._log_faults():
            yield fault
        async for page in pages(partial(self.devices.page, enrollment_group=None), size=_PAGE):
            for record in page:
                for fault in faults(record, await self._observe(record), self.services.clock()):
                    yield f"{record.registration_id}: {fault}"

    async def _log_faults(self) -> AsyncIterator[str]:
        """Give what is wrong with the log, and where it and the ledger do not say the same."""
        reader = self.services.evidence.reader
        if reader is None:
            return
        log = LogAudit(storage=reader.storage, checkpoints=reader.checkpoints)
        async for fault in log.of_itself():
            yield fault
        elsewhere = set[str]()
        async for each in self.services.authorities.list():
            further = certificates_of(each.further_certificates)
            own = certificates_of(each.certificate) if each.wanted is None or each.external_issuer else ()
            elsewhere |= {serial_text(certificate.serial_number) for certificate in (*own, *further)}
        async for fault in log.of_ledger(self.certificates.every(), elsewhere, await self.lost.all()):
            yield fault
        told = log.lost_told()
        if told is not None:
            yield Remark(told)

    async def _faults_of(self, record: AuthorityRecord) -> list[str]:
        """Give what is wrong with a CA. One that can't be loaded can't sign: its key is gone, or is another one."""
        if record.certificate is None or record.state is AuthorityState.DELETED:
            return list(authority_faults(record, ObservedAuthority(await self._row(record))))
        try:
            issuer = await self.services.authorities.load(record.name)
        except Exception as error:  # noqa: BLE001 - whatever its vault says is what is wrong
            return [f"it can't sign: {error}"]
        observed = ObservedAuthority(
            certificate=await self._row(record),
            uploads={
                each.holder: _shown(await each.get(record.place or record.name))
                for each in self.services.clients.ca_certificates
            },
            published=await self._published(record, issuer) if issuer.may_sign_crls else None,
            signs_lists=issuer.may_sign_crls,
            groups=tuple([each.enrollment_group async for each in self.groups.list() if _lets_in(each, record)]),
        )
        return list(authority_faults(record, observed))

    async def _row(self, record: AuthorityRecord) -> CertificateRecord | None:
        row = await self.certificates.get(record.serial_number or "none")
        return row.record if row else None

    async def _published(self, record: AuthorityRecord, issuer: Issuer) -> PublishedNumber:
        _, content = await self.services.revocation_lists.read(record.name)
        revoked = [each async for each in self.certificates.revoked_by(record.name)]
        now = self.services.clock()
        over = {each.serial_number for each in revoked if each.not_after < now}  # RFC 5280 section 3.3
        return PublishedNumber(
            number=read_list(content, issuer).number,
            listed=frozenset(map(serial_text, listed_serial_numbers(content, issuer))) - over,
            revoked=frozenset(each.serial_number for each in revoked) - over,
        )

    async def _thumbprints(self, group: GroupRecord) -> dict[str, str]:
        names = group.authorities if group.state is not GroupState.DELETED else frozenset()
        records = [await self.services.authorities.get(name) for name in names]
        return {
            each.name: sha256_thumbprint(load_certificates(each.certificate.encode())[0])
            for each in records
            if each.certificate
        }

    async def _observe(self, record: DeviceRecord) -> Observed:
        found = await self.devices.certificates_of(record.registration_id)
        listed = [await self._listed(issuer, found) for issuer in sorted({each.issuer for each in found})]
        entry, otherwise = await self._entry(record.registration_id)
        return Observed(
            certificates={each.serial_number: each for each in found},
            thumbprints={
                each.serial_number: sha256_thumbprint(load_certificates(each.pem.encode())[0])
                for each in found
                if each.pem
            },
            entry=entry,
            entry_otherwise=otherwise,
            identity=await self._identity(record),
            listed=frozenset().union(*listed),
            elsewhere=await self._elsewhere(record) if record.shut_out else {},
        )

    async def _elsewhere(self, record: DeviceRecord) -> dict[str, bool]:
        doors = self.services.converger.hub_doors
        places = sorted(await doors.others(record))
        found = [(hub, device_id, await doors.hubs.get(hub, device_id)) for hub, device_id in places]
        return {f"{device_id!r} in {hub}": each.enabled for hub, device_id, each in found if each is not None}

    async def _entry(self, registration_id: str) -> tuple[frozenset[str] | None, str | None]:
        """Give the certificates that a device's own entry lets in, and what else it lets in, in words."""
        entry = await self.services.clients.provisioning.get_enrollment(registration_id)
        if entry is None:
            return None, None
        if entry.get("provisioningStatus") == "disabled":
            return frozenset(), None
        present = attestation_of(entry)
        is_own = present.kind is AttestationKind.CLIENT_CERTIFICATES
        return frozenset(each.thumbprint for each in present.held), None if is_own else present.words

    async def _identity(self, record: DeviceRecord) -> HubIdentity | None:
        if not (record.assigned_hub and record.device_id):
            return None
        return await self.services.clients.hubs.get(record.assigned_hub, record.device_id)

    async def _listed(self, name: str, found: list[CertificateRecord]) -> frozenset[str]:
        """Read a CA's list, once. A CA that may not sign lists has none: its revocations are told by OCSP."""
        issuer = await self.services.authorities.load(name)
        if not issuer.may_sign_crls:
            return frozenset(each.serial_number for each in found if each.state is CertificateState.REVOKED)
        if name not in self.lists:
            _, content = await self.services.revocation_lists.read(name)
            self.lists[name] = frozenset(map(serial_text, listed_serial_numbers(content, issuer)))
        return self.lists[name]


def _lets_in(group: GroupRecord, authority: AuthorityRecord) -> bool:
    return group.state is GroupState.ENABLED and authority.name in {group.issuer, group.previous_issuer}


def _shown(uploaded: UploadedAuthority | None) -> UploadedCertificate | None:
    return UploadedCertificate(uploaded.thumbprint, uploaded.verified) if uploaded else None


async def audit(settings: Settings) -> AsyncIterator[str]:
    """Audit the deployment that the settings name.

    Returns:
        Everything that is wrong, a line each, as it is found; and remarks.
    """
    services = build(settings)
    ledger = Ledger.of(services.clients.tables.table, clock=services.clock)
    try:
        lost = LostCertificates.of(services.clients.tables.table)
        auditor = Auditor(services, ledger.certificates, ledger.devices, ledger.groups, lost)
        async for fault in auditor.run():
            yield fault
    finally:
        await services.close()


async def report(found: AsyncIterator[str]) -> int:
    """Print what is wrong, and give the exit status: 1 if anything is, 2 if a service does not answer."""
    status = 0
    try:
        async for line in found:
            sys.stdout.write(f"{line}\n")
            if not isinstance(line, Remark):
                status = 1
    except Exception as error:
        if not is_outage(error):
            raise
        mend = "does not let this identity in: give it the roles that read"
        why = mend if role_missing(error) else "does not answer: wait until GET /api/health/ready is ok"
        sys.stderr.write(f"the audit is not complete, since {service_of(error)} {why}, and run it again\n")
        return FAILED
    if status == 0:
        sys.stdout.write("ledger, log, DPS, hubs and lists agree\n")
    return status


def main() -> int:
    """Audit the deployment that the environment names."""
    return run(lambda settings: report(audit(settings)), what="the audit is not complete: run it again")


if __name__ == "__main__":
    sys.exit(main())
