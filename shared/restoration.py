"""Takes back what a ledger has forgotten that was put back to an earlier moment, and has it sign again.

Run ``python -m shared.restoration`` when readiness says that the ledger is older than it was. It takes the app's
settings in its environment, and an identity with the rights of the zones issuing and revocation. It prints what it
takes back, a line each, and what can't be known. ``--look`` only says whether the ledger is older: it ends with 1 if it
is, and with 2 if that could not be looked at. ``--accept`` goes on although the ledger is not known to be older, such
as after a vault was lost. It ends with 2 if it was refused, or broke off; then run it again.
``--since TIME`` reads the log from then on, where more is missing than the ledger's epoch tells.

``python -m shared.restoration adopt`` is for a ledger that is lost, with no copy of it: CAs are taken over from the
vault and DPS, groups and devices from DPS and the hubs. ``--files FOLDER`` gives what these do not have: certificates
of CAs and of devices (``.pem``, ``.crt``, ``.cer``), and the last CRLs (``.crl``).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from shared.checks import check_ledger, is_of_ca
from shared.commands import ended, failed, refused, run
from shared.domain.attestations import certificate_of
from shared.errors import LedgerBehind, Rejected
from shared.ledger.audit_log import AuditTable
from shared.ledger.lost_certificates import LostCertificates
from shared.ledger.stores import Ledger
from shared.pki.certificates import UNREADABLE
from shared.pki.readable import load_certificates
from shared.services import build
from shared.workflows.reconciliation.adopting import Adoption
from shared.workflows.reconciliation.found_authorities import Brought, FoundAuthorities
from shared.workflows.reconciliation.hub_identities import HubIdentities
from shared.workflows.reconciliation.restoring import Restoration
from shared.workflows.reconciliation.service_devices import ServiceDevices
from shared.workflows.reconciliation.taking_in import TakingIn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.services import Services
    from shared.settings import Settings

DONE, OLDER = 0, 1
"""Exit statuses beside ``FAILED``, which says that nothing is known, or not all was done. 1 is that of ``--look``."""

_CERTIFICATES, _LISTS = frozenset({".pem", ".crt", ".cer"}), ".crl"


def restoration_of(services: Services, brought: Brought | None = None, since: datetime | None = None) -> Restoration:
    """Wire it.

    Args:
        services: of the app.
        brought: what was brought along to take over a ledger that is lost; ``None`` for an older one.
        since: from when on the log is read; ``None`` for as far as the ledger had come by its epoch.
    """
    table, clock, clients = services.clients.tables.table, services.clock, services.clients
    ledger = Ledger.of(table, clock=clock)
    taking_in = TakingIn(
        certificates=ledger.certificates,
        devices=ledger.devices,
        groups=ledger.groups,
        expiry=ledger.expiry,
        provisioning=clients.provisioning,
        hubs=clients.hubs,
        settings=services.settings,
        clock=clock,
    )
    adoption = None
    if brought is not None:
        adoption = Adoption(
            records=ledger.authorities,
            certificates=ledger.certificates,
            public_keys=ledger.public_keys,
            groups=ledger.groups,
            expiry=ledger.expiry,
            blobs=clients.blobs,
            there=FoundAuthorities(
                keys=services.authorities.keys,
                vault=clients.keys,
                blobs=clients.blobs,
                provisioning=clients.provisioning,
                resource=clients.dps_authorities,
                brought=brought,
                is_of_ca=partial(is_of_ca, epochs=services.epochs, log_key=services.settings.evidence_key),
            ),
            devices=ServiceDevices(
                devices=ledger.devices,
                groups=ledger.groups,
                provisioning=clients.provisioning,
                hubs=clients.hubs,
                identities=HubIdentities(
                    devices=ledger.devices,
                    certificates=ledger.certificates,
                    hubs=clients.hubs,
                    linked=services.linked_hubs,
                    taking_in=taking_in,
                    clock=clock,
                ),
                taking_in=taking_in,
                clock=clock,
            ),
            known_devices=ledger.devices,
            begin=partial(services.epochs.begin, is_lost=True),
            settings=services.settings,
            clock=clock,
        )
    return Restoration(
        authorities=services.authorities,
        records=ledger.authorities,
        certificates=ledger.certificates,
        devices=ledger.devices,
        groups=ledger.groups,
        blobs=clients.blobs,
        lists=services.revocation_lists,
        provisioning=clients.provisioning,
        hubs=clients.hubs,
        converger=replace(services.converger, check_ledger=_entered),
        authority_converger=services.authority_workflows.converger,
        log=services.evidence.reader,
        lost=LostCertificates.of(table),
        audit=AuditTable(table("audit")),
        epochs=services.epochs,
        send_again=services.device_orders.send_again,
        clock=clock,
        taking_in=taking_in,
        adoption=adoption,
        since=since,
    )


async def _entered() -> None:
    """Let the ledger say what is opened and what is shut: all that it lacked is entered when it is asked."""


async def restore(
    settings: Settings,
    *,
    look: bool,
    accept: bool,
    brought: Brought | None = None,
    since: datetime | None = None,
) -> int:
    """Look whether the ledger is older than it was, and take back what it has forgotten; give the exit status."""
    services = build(settings)
    try:
        return await carried_out(services, look=look, accept=accept, brought=brought, since=since)
    finally:
        await services.close()


async def carried_out(
    services: Services, *, look: bool, accept: bool, brought: Brought | None, since: datetime | None = None
) -> int:
    """Do the same with the app's services."""
    try:
        unfinished = await services.epochs.unfinished()
        if unfinished is not None:  # what half a ledger lacks is in the archive, and not at the services
            return refused(unfinished)
        fault = await _fault(services)
    except Exception as error:  # noqa: BLE001 - whatever it is, it does not say that the ledger is older
        return failed("whether the ledger is older could not be looked at", error)
    is_due = not look and (fault is not None or accept)
    return await ended(_taken_back(services, fault, brought, since, is_due=is_due))


async def _taken_back(
    services: Services, fault: str | None, brought: Brought | None, since: datetime | None, *, is_due: bool
) -> int:
    """Take back what the ledger has forgotten, if that is due."""
    if is_due and brought is None:
        await _check_not_lost(services)
    _say(fault or "the ledger is not older than it was, as far as vault and CRLs tell")
    if not is_due:
        return OLDER if fault else DONE
    if services.evidence.reader is not None:
        await services.evidence.reader.sequencer.read()  # nothing is signed by another log of the same name
    async for line in restoration_of(services, brought, since).run():
        _say(line)
    return DONE


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()  # whoever breaks it off knows how far it came


async def _check_not_lost(services: Services) -> None:
    """Refuse to take anything back into a ledger that has nothing: what it knew is at the services.

    Raises:
        Rejected: it is empty, or is being taken over from the services.
    """
    begun = await services.epochs.restoration()
    if begun is not None and begun.record.is_lost and not begun.record.accepted:
        raise Rejected.because(begun.record.shown)
    if not [each async for each in services.authorities.list()]:
        raise Rejected.because(
            "the ledger is empty, so nothing can be taken back into it. Restore a copy with python -m shared.backup "
            "restore first. If there is none, take over what the services have: python -m shared.restoration adopt "
            "(docs/recover.md)"
        )


async def _fault(services: Services) -> str | None:
    """Tell why the ledger is not the present one, or what is still to follow; ``None`` if nothing says so."""
    try:
        await check_ledger(services.epochs, services.authorities, services.clients, services.settings.evidence_key)
    except LedgerBehind as behind:
        return str(behind)
    ahead = await services.revocation_lists.ahead()
    if ahead is not None:
        return ahead
    begun = await services.epochs.restoration()
    return begun.record.shown if begun is not None else None


def read_folder(folder: Path | None, *, lists_are_lost: bool) -> Brought:
    """Read what was brought along.

    Raises:
        ValueError: a file is neither a certificate nor a CRL, or the folder does not exist.
    """
    if folder is None:
        return Brought(lists_are_lost=lists_are_lost)
    if not folder.is_dir():
        raise ValueError(f"the folder {str(folder)!r} does not exist")
    files = sorted(each for each in folder.iterdir() if each.is_file())
    certificates = [one for each in files if each.suffix in _CERTIFICATES for one in _certificates_in(each)]
    lists = [_list_in(each) for each in files if each.suffix == _LISTS]
    return Brought(certificates=tuple(certificates), lists=tuple(lists), lists_are_lost=lists_are_lost)


def _certificates_in(file: Path) -> Iterator[x509.Certificate]:
    content = file.read_bytes()
    try:
        if b"-----BEGIN" in content:
            yield from load_certificates(content)
            return
        found = certificate_of(content)
    except UNREADABLE:
        found = None
    if found is None:
        raise ValueError(f"{str(file)!r} is not a certificate in PEM or DER")
    yield found


def _list_in(file: Path) -> bytes:
    content = file.read_bytes()
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_crl(content).public_bytes(Encoding.DER)
        x509.load_der_x509_crl(content)
    except ValueError:
        raise ValueError(f"{str(file)!r} is not a CRL in PEM or DER") from None
    return content


def _moment(text: str) -> datetime:
    """Read a time; UTC if it does not say of where."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def main() -> int:
    """Take back what the ledger of the deployment that the environment names has forgotten."""
    parser = argparse.ArgumentParser(prog="python -m shared.restoration", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["adopt"], help="take over from the services what they have")
    parser.add_argument("--look", action="store_true", help="only say whether the ledger is older; then end with 1")
    parser.add_argument("--accept", action="store_true", help="go on although the ledger is not known to be older")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="certificates and CRLs to adopt with")
    parser.add_argument("--lists-are-lost", action="store_true", help="adopt CAs though their last CRL is nowhere")
    parser.add_argument("--since", type=_moment, metavar="TIME", help="read the log from then on, as 2026-05-01T12:00")
    options = parser.parse_args()
    if options.what is None and (options.files or options.lists_are_lost):
        parser.error("--files and --lists-are-lost belong to adopt")
    try:
        brought = read_folder(options.files, lists_are_lost=options.lists_are_lost) if options.what else None
    except (OSError, ValueError) as error:
        return refused(error)
    wanted = {"look": options.look, "accept": options.accept, "brought": brought, "since": options.since}
    return run(partial(restore, **wanted))


if __name__ == "__main__":
    sys.exit(main())
