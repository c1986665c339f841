"""The entries of DPS: how one is changed (under the ETag it was read with), what can be set, and what is checked."""

from __future__ import annotations

import re
from base64 import b64decode
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.adapters.dps_service import reference_attestation, x509_attestation
from shared.errors import Conflict, Deferred, NotFound, PreconditionFailed, Reason, Rejected
from shared.pki import names
from shared.pki.certificates import UNREADABLE
from shared.pki.readable import load_certificate, load_certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography import x509

    from shared.contracts.groups import EntrySettings
    from shared.domain.groups import CaReferences
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.ports.provisioning import ProvisioningService

_CN = re.compile(r"(?:^|,)\s*CN=([^,]+)", re.IGNORECASE)

RETRY = timedelta(seconds=2)
"""So long one waits for another writer."""

type Entry = dict[str, Any]
"""An entry in the service's own JSON."""


async def read_entry(provisioning: ProvisioningService, group_id: str) -> Entry:
    """Read a group's entry.

    Raises:
        NotFound: DPS does not have it.
    """
    entry = await provisioning.get_group(group_id)
    if entry is None:
        raise NotFound.because(
            f"the enrollment group {group_id!r} is gone from the DPS; create it anew", field="enrollmentGroup"
        )
    return entry


async def change_entry(
    provisioning: ProvisioningService,
    group_id: str,
    change: Callable[[Entry], Entry],
    *,
    if_match: str | None = None,
) -> None:
    """Change a group's entry. One that would stay as it is is not written, so that its ETag stays as well.

    Args:
        provisioning: the DPS.
        group_id: the group.
        change: gives the new entry for the present one.
        if_match: the ETag that the entry is expected to have; ``None`` for any.

    Raises:
        NotFound: DPS does not have it.
        PreconditionFailed: it has another ETag than is expected.
        Deferred: somebody else changed it meanwhile; the next try looks at what they made of it.
    """
    entry = await read_entry(provisioning, group_id)
    changed = change(entry)
    if changed == entry:
        return  # also what an earlier attempt did, which has changed the ETag
    check_etag(f"the enrollment group {group_id!r}", entry["etag"], if_match)
    try:
        await provisioning.put_group(changed, etag=entry["etag"])
    except PreconditionFailed as error:
        raise busy(group_id) from error


def check_etag(what: str, present: str, expected: str | None) -> None:
    """Compare an entry's ETag with those that its writer expects.

    Args:
        what: names the entry, for messages.
        present: its ETag.
        expected: a list of ETags, or ``*``, as in ``If-Match``; ``None`` for any.

    Raises:
        PreconditionFailed: it has none of these.
    """
    if expected is None or _is_among(present, expected):
        return
    raise PreconditionFailed.because(
        f"{what} was changed since it was read: its ETag is {present.strip('"')!r}, and the request expects "
        f"{expected.strip('"')!r}; read it again and decide anew",
        field="ifMatch",
    )


def check_conditions(what: str, present: str | None, expected: str | None, unwanted: str | None = None) -> None:
    """Compare an entry's ETag, ``None`` without an entry, with what its writer expects it to be, and not to be.

    Raises:
        PreconditionFailed: it is otherwise (RFC 9110 section 13.1).
    """
    if present is None and expected is not None:
        raise PreconditionFailed.because(
            f"{what} does not exist, and the request expects {expected.strip('"')!r}: leave it out to create one",
            field="ifMatch",
        )
    if present is not None and unwanted is not None and _is_among(present, unwanted):
        raise PreconditionFailed.because(
            f"{what} exists, with ETag {present.strip('"')!r}, and the request does not want {unwanted.strip('"')!r}",
            field="ifNoneMatch",
        )
    if present is not None:
        check_etag(what, present, expected)


def _is_among(etag: str, tags: str) -> bool:
    """Look for an ETag in a list; a weak one matches none (RFC 9110 section 13.1.1)."""
    return tags.strip() == "*" or etag.strip('"') in {tag.strip().strip('"') for tag in tags.split(",")}


def busy(group_id: str) -> Deferred:
    """Tell that another writer was faster."""
    return Deferred(f"the enrollment group {group_id!r} is being changed by someone else", retry_after=RETRY)


# --- what can be set ---


_PLACES = {
    "allocationPolicy": "allocationPolicy",
    "customAllocation": "customAllocationDefinition",
    "iotHubs": "iotHubs",
    "initialTwin.tags": "initialTwin.tags",
    "initialTwin.properties.desired": "initialTwin.properties.desired",
    "reprovisionPolicy.updateHubAssignment": "reprovisionPolicy.updateHubAssignment",
    "reprovisionPolicy.migrateDeviceData": "reprovisionPolicy.migrateDeviceData",
    "iotEdge": "capabilities.iotEdge",
}
"""Where in an entry DPS has what a request sets, each by its path."""

_ABSENT: dict[str, Entry] = {"reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": True}}
"""What DPS takes a part for that an entry does not have, where it wants that part whole."""


def values_of(settings: EntrySettings) -> dict[str, Any]:
    """Give what a request sets, by its place in an entry; ``None`` for what is to be taken out of it."""
    body = settings.model_dump(mode="json", by_alias=True)
    found = {place: value for path, place in _PLACES.items() if (value := _at(body, path)) is not None}
    if "allocationPolicy" in found:
        found.setdefault("customAllocationDefinition", None)  # a webhook goes with the policy it belongs to
    return found


def _at(body: Any, path: str) -> Any:
    for name in path.split("."):
        body = body.get(name) if body is not None else None
    return body


def with_values(entry: Entry, values: Mapping[str, Any]) -> Entry:
    """Put values into an entry, each at its place; everything else stays."""
    changed = deepcopy(entry)
    for path, value in values.items():
        *above, last = path.split(".")
        part = changed
        for name in above:
            part[name] = part.get(name) or dict(_ABSENT.get(name, {}))
            part = part[name]
        if value is None:
            part.pop(last, None)
        else:
            part[last] = value
    return changed


async def check_hubs(resource: DpsCaCertificates | None, settings: EntrySettings) -> None:
    """See that a request's hubs are linked to the DPS, where its management API can be asked.

    Raises:
        Rejected: for each one that is not.
    """
    if resource is None or settings.iot_hubs is None:
        return
    linked = await resource.linked_hubs()
    known = {hub.lower() for hub in linked}
    reasons = [
        Reason(f"iotHubs[{index}]", f"{hub!r} is not linked to the DPS; linked are {', '.join(sorted(linked))}")
        for index, hub in enumerate(settings.iot_hubs)
        if hub.lower() not in known
    ]
    if reasons:
        raise Rejected(*reasons)


async def check_references(resource: DpsCaCertificates | None, references: CaReferences | None) -> None:
    """See that what a request refers to is verified in the DPS, where its management API can be asked.

    Raises:
        Rejected: for each reference that is not.
    """
    if resource is None or references is None:
        return
    verified = {authority.name for authority in await resource.verified()}
    given = {"primary": references.primary, "secondary": references.secondary}
    reasons = [
        Reason(
            f"caReferences.{place}",
            f"no CA certificate named {name!r} is verified in the DPS; verified are "
            f"{', '.join(sorted(verified)) or 'none'}: upload it there and prove possession of its key",
        )
        for place, name in given.items()
        if name is not None and name not in verified
    ]
    if reasons:
        raise Rejected(*reasons)


# --- which certificates an entry accepts ---


@dataclass(frozen=True, slots=True)
class HeldCertificate:
    """A certificate of an entry: DPS may show it, or say of it no more than ``info``.

    Attributes:
        thumbprint: SHA-256, upper-case hexadecimal.
        certificate: as DPS gives it; ``None`` where it does not.
        name: its CN, or else its subject, as DPS gives it.
    """

    thumbprint: str
    certificate: x509.Certificate | None
    name: str

    @classmethod
    def of(cls, held: Entry) -> HeldCertificate:
        """Read what DPS gives: ``info``, ``certificate``, or both."""
        info, certificate = held.get("info") or {}, certificate_of(held.get("certificate"))
        thumbprint = str(info.get("sha256Thumbprint") or "").upper()
        if not thumbprint and certificate is not None:
            thumbprint = names.sha256_thumbprint(certificate)
        subject = str(info.get("subjectName") or "")
        common_name = _CN.search(subject)
        return cls(thumbprint, certificate, common_name[1].strip() if common_name else subject)


def held_certificates(entry: Entry) -> dict[str, HeldCertificate]:
    """Give the certificates that an entry holds, by the SHA-256 thumbprint."""
    x509_part = entry["attestation"]["x509"]
    held = {**(x509_part.get("signingCertificates") or {}), **(x509_part.get("clientCertificates") or {})}
    found = [HeldCertificate.of(each) for each in held.values() if each]
    return {each.thumbprint: each for each in found}


def certificate_of(text: str | bytes | None) -> x509.Certificate | None:
    """Read a certificate as DPS gives it: PEM, or DER, or either in base64; ``None`` if it is not one of these."""
    raw = text.encode() if isinstance(text, str) else text or b""
    with suppress(*UNREADABLE):
        if b"-----BEGIN" not in raw and not raw.startswith(b"\x30"):
            raw = b64decode(raw, validate=True)
        return load_certificates(raw)[0] if b"-----BEGIN" in raw else load_certificate(raw)
    return None


def references(entry: Entry) -> dict[str, str]:
    """Give the names of the CA certificates by which a group attests; none if it holds the certificates itself."""
    held = entry["attestation"]["x509"].get("caReferences") or {}
    return {place: name for place, name in held.items() if name}


def with_references(entry: Entry, wanted: CaReferences) -> Entry:
    """Let a group attest by other CA certificates of the DPS.

    Raises:
        Conflict: it holds its issuing CA's certificate itself.
    """
    if not references(entry):
        raise Conflict.because(
            f"the enrollment group {entry['enrollmentGroupId']!r} holds the certificate of its issuing CA; that is "
            "changed by action 'roll', and caReferences belong to a group created with them",
            field="caReferences",
        )
    attestation = reference_attestation(wanted.primary, wanted.secondary)
    if references(entry) == attestation["x509"]["caReferences"]:
        return entry
    return {**entry, "attestation": attestation}


def signers(entry: Entry) -> tuple[str | None, str | None]:
    """Give the SHA-256 thumbprints of a group's primary and secondary signing certificates."""
    certificates = entry["attestation"]["x509"].get("signingCertificates") or {}
    primary, secondary = (
        HeldCertificate.of(held).thumbprint if (held := certificates.get(place)) else None
        for place in ("primary", "secondary")
    )
    return primary, secondary


def same_attestation(present: Entry, wanted: Entry) -> bool:
    """Tell whether an entry as DPS gives it accepts what a new body asks for."""
    certificates = wanted["attestation"]["x509"].get("signingCertificates") or {}
    thumbprints = [
        names.sha256_thumbprint(load_certificates(held["certificate"].encode())[0]) for held in certificates.values()
    ]
    return references(present) == references(wanted) and [each for each in signers(present) if each] == thumbprints


def check_alone(entry: Entry, certificate: x509.Certificate | None) -> None:
    """See that a group accepts one CA, and no other.

    Raises:
        Conflict: it accepts others.
    """
    if references(entry):
        raise Conflict.because(
            f"the enrollment group {entry['enrollmentGroupId']!r} attests by caReferences; change them with action "
            "'update'",
            field="action",
        )
    present = signers(entry)
    if certificate is None or present != (names.sha256_thumbprint(certificate), None):
        raise _foreign(entry, present)


def with_next(entry: Entry, source: x509.Certificate, target: x509.Certificate) -> Entry:
    """Let a group accept the next CA beside the present one.

    Raises:
        Conflict: it accepts others than these, which may have devices.
    """
    present, wanted = signers(entry), (names.sha256_thumbprint(source), names.sha256_thumbprint(target))
    if present == wanted:
        return entry
    if present != (wanted[0], None):
        raise _foreign(entry, present)
    return {**entry, "attestation": x509_attestation(source, target)}


def without_previous(entry: Entry, source: x509.Certificate, target: x509.Certificate) -> Entry:
    """Let a group accept the CA that took over alone: it becomes primary, and the secondary place is free again.

    Raises:
        Conflict: it accepts others than these, which may have devices.
    """
    present, both = signers(entry), (names.sha256_thumbprint(source), names.sha256_thumbprint(target))
    if present == (both[1], None):
        return entry
    if present != both:
        raise _foreign(entry, present)
    return {**entry, "attestation": x509_attestation(target)}


def _foreign(entry: Entry, present: tuple[str | None, str | None]) -> Rejected:
    primary, secondary = (thumbprint or "none" for thumbprint in present)
    return Conflict.because(
        f"in the DPS the enrollment group {entry['enrollmentGroupId']!r} has other signing certificates than this app "
        f"put there (SHA-256 of the primary {primary}, of the secondary {secondary}); replacing them could cut devices "
        "off: put them right in the DPS first",
        field="action",
    )
