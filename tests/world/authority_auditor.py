"""Checks at rest: what must be true of CAs, whatever was asked for and whatever broke."""

from __future__ import annotations

import json
from collections import defaultdict
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography import x509

from shared.domain.audit import group_faults
from shared.domain.authorities import OPENED, OVER, AuthorityAction, AuthorityState
from shared.domain.authority_acts import BECOMES
from shared.domain.authority_audit import ObservedAuthority, PublishedNumber, authority_faults
from shared.domain.certificates import CertificateRecord, CertificateState, RevocationRecord
from shared.domain.groups import GroupRecord, GroupState
from shared.domain.words import CertificateKind, KeyCustody
from shared.pki import names
from shared.workflows.authorities.keys import WRAPPING_KEY
from tests.world.authority_world import ELSEWHERE, GROUPS, LINE, PROOFS, ROOT, WRAPPED
from tests.world.groups_auditor import is_left_disabled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.domain.authorities import AuthorityRecord
    from tests.world.authority_world import AuthorityWorld, Message

_OF_CAS = frozenset({CertificateKind.ROOT, CertificateKind.INTERMEDIATE})
_MADE_BY = {
    "create root": ROOT, "create": LINE, "create again": LINE, "create for a group": GROUPS, "roll to it": GROUPS,
    "create wrapped": WRAPPED, "create elsewhere": ELSEWHERE, "ask for the CA": LINE,
}  # fmt: skip
_ACTS = {
    "disable the CA": (AuthorityAction.DISABLE, "line"),
    "enable the CA": (AuthorityAction.ENABLE, "line"),
    "retire the CA": (AuthorityAction.RETIRE, "line"),
    "revoke the CA": (AuthorityAction.REVOKE, "line"),
    "delete the CA": (AuthorityAction.DELETE, "line"),
    "delete the root": (AuthorityAction.DELETE, "root"),
    "revoke the group's CA": (AuthorityAction.REVOKE, "group-ca1"),
    "revoke the root": (AuthorityAction.REVOKE, "root"),
    "renew the CA": (AuthorityAction.RENEW, "line"),
    "renew the root": (AuthorityAction.RENEW, "root"),
}
_THERE = frozenset({GroupState.ENABLED, GroupState.DISABLED})
_FROM_THEN_ON = {
    AuthorityState.RETIRED: {AuthorityState.RETIRED, *OVER},
    AuthorityState.REVOKED: OVER,
    AuthorityState.DELETED: {AuthorityState.DELETED},
}


def waits(message: Message, records: Iterable[AuthorityRecord]) -> bool:
    """Tell whether a message waits for a CA to be enabled, which is disabled."""
    return any(
        record.state is AuthorityState.DISABLED and f"{record.name!r} is disabled" in (message.deferred or "")
        for record in records
    )


async def audit(world: AuthorityWorld) -> list[str]:
    """Give everything that is wrong; nothing if all is well."""
    rows, known = world.rows(), {record.name: record for record in world.known()}
    found = []
    for record in known.values():
        observed = await _observed(world, record, rows)
        found += [f"{record.name}: {fault}" for fault in authority_faults(record, observed)]
        found += _one_certificate(record, rows)
    found += _keys(world, known)
    found += _signatures(world, rows)
    found += _logged(world, rows)
    found += _events(world, known)
    found += _proofs(world, rows)
    found += _lists(world)
    found += _messages(world, known)
    found += _acts(world, known)
    found += _below(known)
    found += _groups(world, known)
    return found


async def _observed(
    world: AuthorityWorld, record: AuthorityRecord, rows: dict[str, CertificateRecord]
) -> ObservedAuthority:
    in_vault = world.vault.keys.get(record.name.lower())
    has_key = record.wrapped_key is not None if record.custody is KeyCustody.WRAPPED else in_vault is not None
    certificate = _certificate(record)
    fits = certificate is None or (await _public_key(world, record)) == certificate.public_key()
    return ObservedAuthority(
        certificate=rows.get(record.serial_number or ""),
        uploads={service.holder: service.shown(record.place or record.name) for service in world.services},
        has_key=has_key,
        key_fits=fits,
        published=_published(world, record.name),
        signs_lists=certificate is not None and names.common_name(certificate.subject) != ELSEWHERE.name,
    )


async def _public_key(world: AuthorityWorld, record: AuthorityRecord) -> object:
    return (await world.worker().keys.open(record)).public_key()


def _certificate(record: AuthorityRecord) -> x509.Certificate | None:
    return x509.load_pem_x509_certificate(record.certificate.encode()) if record.certificate else None


def _published(world: AuthorityWorld, name: str) -> PublishedNumber | None:
    stored = world.blobs.newest(name)
    if stored is None:
        return None
    revoked = [
        row.read(RevocationRecord)
        for (partition, _), row in world.tables["revocations"].rows.items()
        if partition == name
    ]
    return PublishedNumber(
        number=_number(stored.content),
        listed=_listed(stored.content),
        revoked=frozenset(each.serial_number for each in revoked if not each.ended),
    )


def _number(content: bytes) -> int:
    crl = x509.load_der_x509_crl(content)
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def _listed(content: bytes) -> frozenset[str]:
    return frozenset(f"{each.serial_number:040x}" for each in x509.load_der_x509_crl(content))


def _one_certificate(record: AuthorityRecord, rows: dict[str, CertificateRecord]) -> list[str]:
    """A CA has one certificate; besides, those that its owner has given it, which were signed elsewhere."""
    own = [each for each in rows.values() if each.subject == record.name and each.kind in _OF_CAS]
    in_force = {each.serial_number for each in own if each.state is CertificateState.ACTIVE}
    further = (
        x509.load_pem_x509_certificates((record.further_certificates or "").encode())
        if record.further_certificates
        else []
    )
    expected = {record.serial_number, *(names.serial_text(each.serial_number) for each in further)}
    if record.state in OVER:
        expected = set()
    if in_force - expected or (record.state in OPENED and in_force != expected):
        return [f"{record.name}: in force are {sorted(in_force)}, and its row has {sorted(map(str, expected))}"]
    return []


def _keys(world: AuthorityWorld, known: dict[str, AuthorityRecord]) -> list[str]:
    lower = {*(name.lower() for name in known), WRAPPING_KEY}
    return [
        f"the vault has a key {name!r}, and there is no CA of that name" for name in world.vault.keys.keys() - lower
    ]


def _signatures(world: AuthorityWorld, rows: dict[str, CertificateRecord]) -> list[str]:
    found = [f"{serial} was signed {count} times" for serial, count in world.signed.items() if count > 1]
    found += [f"{serial} was signed and is not recorded" for serial in world.signed.keys() - rows.keys()]
    return found


def _logged(world: AuthorityWorld, rows: dict[str, CertificateRecord]) -> list[str]:
    """The log has each certificate that was signed, none that the ledger does not know, and each list."""
    logged = world.log.certificates()
    found = [f"{serial} was signed and not logged" for serial in world.signed.keys() - logged.keys()]
    found += [f"{serial} was logged and is not recorded" for serial in logged.keys() - rows.keys()]
    lists = world.log.lists()
    found += [f"a list of {name} was not logged" for name, content in world.blobs.lists if digest(content) not in lists]
    return found


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _events(world: AuthorityWorld, known: dict[str, AuthorityRecord]) -> list[str]:
    """An event id says one thing; a CA's certificate is told of once in meaning, and by what the ledger has."""
    said: dict[str, str] = {}
    told: dict[str, set[str]] = defaultdict(set)
    found = []
    for event in world.events():
        if not event["type"].endswith(".CertificateIssued"):
            continue
        meaning = json.dumps(event["data"], sort_keys=True)
        if said.setdefault(event["id"], meaning) != meaning:
            found.append(f"event {event['id']} says two things")
        if event["data"]["kind"] != CertificateKind.VERIFICATION:
            told[event["subject"]].add(f"{event['id']} {event['data']['serialNumber']}")
    for name, record in known.items():
        # A further certificate that was signed elsewhere is not told.
        here = {record.serial_number or "", *world.signed} & _serials(record)
        serials = here if record.state in OPENED | OVER else set()
        if record.state is AuthorityState.DELETED and name == ROOT.name and not told[name]:
            continue  # it was deleted before it was opened
        if sorted(each.rpartition(" ")[2] for each in told[name]) != sorted(serials):
            found.append(f"{name} is {record.state} with {sorted(serials)}, and told was {sorted(told[name])}")
    return found + [f"told of {name}, which does not exist" for name in told.keys() - known.keys()]


def _proofs(world: AuthorityWorld, rows: dict[str, CertificateRecord]) -> list[str]:
    """A request for a proof is told as one certificate, and has no other; one that was refused has none."""
    found = []
    told: dict[str, set[str]] = defaultdict(set)
    for event in world.events():
        if event["data"].get("kind") == CertificateKind.VERIFICATION:
            told[event["correlationid"]].add(event["data"]["serialNumber"])
    for message in (each for each in world.messages.values() if each.name in PROOFS):
        code = PROOFS[message.name]
        counting = {each.serial_number for each in rows.values() if each.cause == code and each.pem}
        expected = 0 if message.rejected else 1
        if message.done and (len(counting) != expected or told[code] != counting):
            found.append(f"{message.name} has {sorted(counting)}, and told was {sorted(told[code])}")
        reserved = {each.serial_number for each in rows.values() if each.cause == code and not each.pem}
        if any(rows[each].state is not CertificateState.ABANDONED for each in reserved & world.signed.keys()):
            found.append(f"{message.name} has left {sorted(reserved)}, which may count later")
    return found


def _serials(record: AuthorityRecord) -> set[str]:
    """Give the serial numbers of a CA's certificates that were made here, and of the one that it was opened with."""
    texts = (record.certificate or "", record.further_certificates or "")
    pems = [each for text in texts if text for each in x509.load_pem_x509_certificates(text.encode())]
    return {names.serial_text(each.serial_number) for each in pems}


def _acts(world: AuthorityWorld, known: dict[str, AuthorityRecord]) -> list[str]:
    """An act that was carried out is told, and says one thing; what is final stays so."""
    told = defaultdict[str, set[str]](set)
    for event in world.events():
        if event["type"].endswith(".CertificateAuthorityChanged"):
            told[event["correlationid"]].add(json.dumps([event["id"], event["data"]], sort_keys=True))
    found = [f"{request} is told as {sorted(said)}" for request, said in told.items() if len(said) != 1]
    for message in world.messages.values():
        action, name = _ACTS.get(message.name, (None, ""))
        if action is None or message.rejected or not message.done:
            continue
        if f"{action}-{name}" not in told:
            found.append(f"{message.name} was carried out, and is not told")
        final = {AuthorityState.RETIRED, AuthorityState.REVOKED, AuthorityState.DELETED}
        wanted = BECOMES.get(action)
        if wanted in final and known[name].state not in _FROM_THEN_ON[wanted]:
            found.append(f"{message.name} was carried out, and {name} is {known[name].state}")
    return found


def _below(known: dict[str, AuthorityRecord]) -> list[str]:
    """What is below a revoked CA is revoked, too."""
    return [
        f"{record.parent} is revoked, and {record.name} below it {record.state}"
        for record in known.values()
        if record.parent in known
        and known[record.parent].state is AuthorityState.REVOKED
        and record.state in OPENED - OVER
    ]


def _groups(world: AuthorityWorld, known: dict[str, AuthorityRecord]) -> list[str]:
    """A group signs with a CA that is open, and DPS takes the certificate that the CA has."""
    found = list[str]()
    for row in world.tables["groups"].rows.values():
        record = row.read(GroupRecord)
        entry, authority = world.provisioning.groups.get(record.enrollment_group), known.get(record.issuer)
        if entry is None and record.settled and record.state in _THERE and _may_be_missing(world):
            continue
        if entry is not None and world.killed_late and is_left_disabled(record, entry):
            continue
        certificate = _certificate(authority) if authority else None
        held = {record.issuer: names.sha256_thumbprint(certificate)} if certificate else {}
        found += group_faults(record, entry, held)
        if record.state is GroupState.DELETED:
            continue
        state, over = authority.state if authority else None, authority is not None and authority.state in OVER
        if (over and record.state is not GroupState.DISABLED) or (not over and state not in OPENED):
            found.append(f"the group {record.enrollment_group} is {record.state}, and its CA {record.issuer!r} {state}")
        if not over and record.state is not GroupState.ENABLED and not world.shut:
            found.append(f"the group {record.enrollment_group} is {record.state}, and its CA {state}")
    return found


def _may_be_missing(world: AuthorityWorld) -> bool:
    """Tell whether DPS need not have the group: others have deleted its entry, and it was not made again."""
    put = world.messages.get("put the group")
    return world.taken_out and (put is None or put.rejected is not None or not put.done)


def _lists(world: AuthorityWorld) -> list[str]:
    """Numbers of lists grow (RFC 5280 section 5.2.3), and what was on a list stays on it."""
    before: dict[str, tuple[int, frozenset[str]]] = {}
    found = []
    for name, content in world.blobs.lists:
        number, listed = _number(content), _listed(content)
        last, last_listed = before.get(name, (0, frozenset()))
        if number <= last:
            found.append(f"{name} of number {number} follows {last}")
        if not last_listed <= listed:
            found.append(f"{name} of number {number} lacks {sorted(last_listed - listed)}")
        before[name] = number, listed
    return found


def _messages(world: AuthorityWorld, known: dict[str, AuthorityRecord]) -> list[str]:
    """No message is lost, and a CA that was asked for and not refused is there."""
    found = []
    for message in world.messages.values():
        if not message.done and not waits(message, known.values()):
            found.append(f"{message.name} was not carried out: {message.deferred}")
        made = _MADE_BY.get(message.name)
        if made is None or message.rejected or not message.done:
            continue
        record = known.get(made.name)
        wanted = {AuthorityState.ACTIVE, AuthorityState.AWAITING_CERTIFICATE} if made is ELSEWHERE else OPENED | OVER
        if record is None or record.fingerprint != made.fingerprint or record.state not in wanted:
            found.append(
                f"{message.name} was carried out, and {made.name} is {record.state if record else 'not there'}"
            )
    return found
