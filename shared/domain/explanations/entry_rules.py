"""Causes that DPS shows in a device's individual enrollment."""

from __future__ import annotations

from shared.domain.attestations import attestation_of
from shared.domain.explanations.parts import Call, Remedy, Seen, Unseen
from shared.pki import names


def _entry_status(seen: Seen) -> str | None:
    entry = seen.own_entry
    return str(entry.get("provisioningStatus") or "enabled") if entry is not None else None


def entry_open(seen: Seen) -> str | None:
    """DPS lets a device in that is shut out."""
    issued = any(each.issued for each in seen.device.held)
    if not (seen.device.shut_out and seen.settled and issued) or isinstance(seen.entry, Unseen):
        return None
    if _entry_status(seen) == "disabled":
        return None
    how = "its individual enrollment is enabled" if seen.entry else "its disabled individual enrollment is gone"
    return f"it is to be shut out, and DPS would let it in: {how}"


def shut_again(seen: Seen) -> Remedy:
    """Have the revocation brought about again."""
    reason = seen.device.revoked.value if seen.device.revoked else "unspecified"
    return Remedy(
        "Revoke it again: the app shuts every door anew, whoever has opened it.",
        Call("POST", f"{seen.path}/revoke", {"reason": reason}),
    )


def entry_disabled_by_operator(seen: Seen) -> str | None:
    """Somebody has disabled the individual enrollment over this app."""
    if not seen.device.entry_disabled or seen.device.shut_out or _entry_status(seen) != "disabled":
        return None
    return "an operator has disabled its individual enrollment: DPS refuses it, and its hub still lets it in"


def enable_entry(seen: Seen) -> Remedy:
    """Enable the individual enrollment."""
    return Remedy(
        "Enable its individual enrollment, if it is to register.",
        _put_entry(seen, {"provisioningStatus": "enabled"}),
    )


def entry_disabled(seen: Seen) -> str | None:
    """Somebody has disabled the individual enrollment elsewhere."""
    if not seen.to_be_open or seen.device.entry_disabled or _entry_status(seen) != "disabled":
        return None
    return "its individual enrollment in DPS is disabled, and this app did not do that: DPS refuses it"


def entry_missing(seen: Seen) -> str | None:
    """It needs an individual enrollment, and has none."""
    if not seen.to_be_open or not seen.wanted.own_entry or seen.entry is not None:
        return None
    return (
        "its individual enrollment in DPS is gone, by which DPS takes its present certificates and no other: its group "
        "lets in earlier ones, too, also revoked ones"
    )


def write_entry(seen: Seen) -> Remedy:
    """Make the individual enrollment anew."""
    return Remedy(
        "Make its individual enrollment anew.", Call("PUT", enrollment(seen), {"provisioningStatus": "enabled"})
    )


def entry_other_attestation(seen: Seen) -> str | None:
    """Its individual enrollment does not look at certificates."""
    entry = seen.own_entry
    if entry is None or seen.device.shut_out or (present := attestation_of(entry)).by_certificates:
        return None
    return (
        f"its individual enrollment in DPS accepts {present.words}, and decides before its group: no certificate lets "
        "it in"
    )


def drop_entry(seen: Seen) -> Remedy:
    """Delete the individual enrollment, so that the group decides."""
    return Remedy(
        "Delete its individual enrollment, if its group is to decide; or put its certificate into it.",
        Call("DELETE", enrollment(seen)),
    )


def entry_other_certificate(seen: Seen) -> str | None:
    """Its individual enrollment holds another certificate than it uses."""
    found = seen.refusal
    if not seen.to_be_open or found is None or found[1].finding.code != "other-certificate":
        return None
    return found[1].finding.message


def put_certificate(seen: Seen) -> Remedy:
    """Put the certificate that it uses into the individual enrollment."""
    used = [seen.certificates[each] for each in seen.device.in_use if each in seen.certificates]
    places = ("certificate", "secondaryCertificate")
    body = {place: names.pem(each) for place, each in zip(places, used, strict=False)}
    return Remedy("Put the certificates that it uses into its individual enrollment.", _put_entry(seen, body))


def _put_entry(seen: Seen, body: dict[str, str]) -> Call:
    return Call("PUT", enrollment(seen), body)


def enrollment(seen: Seen) -> str:
    """Give the device's individual enrollment, as the app's path."""
    return f"/api/enrollments/{seen.device.registration_id}"
