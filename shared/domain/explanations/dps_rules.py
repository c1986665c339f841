"""Causes that DPS shows: its entries, what it decides by them, and the device's registration record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.attestations import attestation_of
from shared.domain.devices import IN_ITS_HUB, IN_SERVICE
from shared.domain.explanations.parts import Blind, Call, Remedy, Seen, Unseen, day
from shared.domain.groups import GroupState
from shared.domain.upkeep import TAKEN_OVER
from shared.pki import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.domain.dps_decisions import Decision

UNVERIFIED = frozenset({"not-verified", "no-verified-ca"})
_OTHER_AUTHORITY = frozenset({"wrong-group", "no-group"})


def dps_unseen(because: Blind) -> Callable[[Seen], str | None]:
    """Give the rule that DPS could not be looked at, for one kind of reason."""

    def text(seen: Seen) -> str | None:
        unseen = seen.unseen_dps
        if unseen is None or unseen.because is not because:
            return None
        return f"DPS could not be looked at: {unseen.why}; as long as that is so for devices, none registers"

    return text


def not_asked(seen: Seen) -> str | None:
    """The services were not asked, since this part of the app does not reach them."""
    unseen = seen.unseen_dps
    if unseen is None or unseen.because is not Blind.NOT_ASKED:
        return None
    return f"the ledger shows no cause, and DPS and the hub were not asked: {unseen.why}"


def ask_there(seen: Seen) -> Remedy:
    """Ask the app that reaches the services."""
    return Remedy("Ask the app of issuing, which reaches DPS and the hubs.", Call("GET", f"{seen.path}/explanation"))


def slower(_seen: Seen) -> Remedy:
    """Wait."""
    return Remedy("Wait a minute and ask again. If it stays so, slow down what else calls the service.")


def give_role(_seen: Seen) -> Remedy:
    """Assign the role."""
    return Remedy(
        "Give the app's identity its role at the service; a new assignment takes effect after some minutes.",
        Call("GET", "/api/health/ready"),
    )


# --- the individual enrollment ---


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
    if not _to_be_open(seen) or seen.device.entry_disabled or _entry_status(seen) != "disabled":
        return None
    return "its individual enrollment in DPS is disabled, and this app did not do that: DPS refuses it"


def entry_missing(seen: Seen) -> str | None:
    """It needs an individual enrollment, and has none."""
    if not _to_be_open(seen) or not seen.wanted.own_entry or seen.entry is not None:
        return None
    return (
        "its individual enrollment in DPS is gone, by which DPS takes its present certificates and no other: its group "
        "lets in earlier ones, too, also revoked ones"
    )


def write_entry(seen: Seen) -> Remedy:
    """Make the individual enrollment anew."""
    return Remedy(
        "Make its individual enrollment anew.", Call("PUT", _enrollment(seen), {"provisioningStatus": "enabled"})
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
        Call("DELETE", _enrollment(seen)),
    )


def entry_other_certificate(seen: Seen) -> str | None:
    """Its individual enrollment holds another certificate than it uses."""
    found = seen.refusal
    if not _to_be_open(seen) or found is None or found[1].finding.code != "other-certificate":
        return None
    return found[1].finding.message


def put_certificate(seen: Seen) -> Remedy:
    """Put the certificate that it uses into the individual enrollment."""
    used = [seen.certificates[each] for each in seen.device.in_use if each in seen.certificates]
    places = ("certificate", "secondaryCertificate")
    body = {place: names.pem(each) for place, each in zip(places, used, strict=False)}
    return Remedy("Put the certificates that it uses into its individual enrollment.", _put_entry(seen, body))


def _to_be_open(seen: Seen) -> bool:
    return seen.settled and not seen.device.shut_out


def _put_entry(seen: Seen, body: dict[str, str]) -> Call:
    return Call("PUT", _enrollment(seen), body)


def _enrollment(seen: Seen) -> str:
    return f"/api/enrollments/{seen.device.registration_id}"


# --- its group ---


def _by_group(seen: Seen) -> Decision | None:
    """Give the decision that refuses it, if the individual enrollment has no part in it."""
    found = seen.refusal
    if found is None or seen.own_entry is not None:
        return None
    return found[0]


def group_deleted(seen: Seen) -> str | None:
    """Its group was deleted over this app."""
    if seen.group is None or seen.group.state is not GroupState.DELETED or not _is_refused(seen):
        return None
    return f"its enrollment group {seen.group.enrollment_group!r} was deleted: no entry of DPS lets it register"


def _is_refused(seen: Seen) -> bool:
    return seen.device.state in IN_SERVICE and (seen.refusal is not None)


def order_in_other_group(seen: Seen) -> Remedy:
    """Give it a place in DPS again."""
    return Remedy(
        "Give it an individual enrollment, or order it anew in another group.",
        Call("PUT", _enrollment(seen), {}),
    )


def group_disabled(seen: Seen) -> str | None:
    """Somebody has disabled its group over this app."""
    if seen.group is None or seen.group.state is not GroupState.DISABLED or not _group_shut(seen):
        return None
    return (
        f"its enrollment group {seen.group.enrollment_group!r} is disabled: DPS lets none of its devices register, and "
        "those that are in their hubs go on"
    )


def group_disabled_elsewhere(seen: Seen) -> str | None:
    """Somebody has disabled its group at DPS itself."""
    if seen.group is None or seen.group.state is not GroupState.ENABLED or not _group_shut(seen):
        return None
    if not seen.group.settled:
        return None
    return (
        f"its enrollment group {seen.group.enrollment_group!r} is disabled in DPS, and this app did not do that: DPS "
        "lets none of its devices register"
    )


def _group_shut(seen: Seen) -> bool:
    decision = _by_group(seen)
    if decision is None:
        entry = seen.group_entry
        if seen.chain or seen.own_entry is not None or entry is None or isinstance(entry, Unseen):
            return False
        return entry.get("provisioningStatus") == "disabled"  # a device that is being made meets it later
    match = decision.match
    own = match is not None and match.identifier.lower() == seen.device.enrollment_group
    return own and decision.causes[0].finding.code == "disabled"


def enable_group(seen: Seen) -> Remedy:
    """Enable the group."""
    return Remedy(
        "Enable the group, if its devices are to register.",
        Call("POST", f"/api/enrollment-groups/{seen.device.enrollment_group}/enable"),
    )


def group_missing(seen: Seen) -> str | None:
    """Somebody has deleted its group at DPS itself."""
    if seen.group is None or seen.group.state not in {GroupState.ENABLED, GroupState.DISABLED}:
        return None
    if seen.group_entry is not None or not seen.group.settled or (seen.chain and not _is_refused(seen)):
        return None
    return (
        f"DPS does not have its enrollment group {seen.group.enrollment_group!r}, and this app did not delete it: no "
        "entry lets the device register"
    )


def restore_group(seen: Seen) -> Remedy:
    """Write the group again."""
    return Remedy(
        "Write the group again: the app makes its entry in DPS anew.",
        Call("PUT", f"/api/enrollment-groups/{seen.device.enrollment_group}", {}),
    )


def other_group(seen: Seen) -> str | None:
    """DPS would put it into another group than its own."""
    own = seen.device.enrollment_group
    decisions = () if isinstance(seen.decisions, Unseen) else seen.decisions
    for each in decisions:
        match = each.match
        if own is None or match is None or match.by is None or match.identifier.lower() == own:
            continue
        return (
            f"DPS matches the enrollment group {match.identifier!r} and not its own, {own!r}: it takes the group of "
            "the lowest CA in the chain that has one"
        )
    return None


def see_group(seen: Seen) -> Remedy:
    """Look at the group."""
    return Remedy(
        "Compare the CAs that the groups hold: one issuing CA belongs to one group.",
        Call("GET", f"/api/enrollment-groups/{seen.device.enrollment_group}"),
    )


def authority_not_verified(seen: Seen) -> str | None:
    """No CA of its chain is verified in DPS."""
    return _refused_for(seen, UNVERIFIED)


def verify_authority(_seen: Seen) -> Remedy:
    """Have a CA of its chain verified."""
    return Remedy(
        "See which CA of its chain waits for its proof of possession: upload it to DPS again and have it verified.",
        Call("GET", "/api/certificate-authorities"),
    )


def group_holds_other_authority(seen: Seen) -> str | None:
    """Its group in DPS holds another CA than the one that signed its certificate."""
    return _refused_for(seen, _OTHER_AUTHORITY)


def former_authority(seen: Seen) -> str | None:
    """The chain that it has ends at a certificate of its CA that its group does not accept any more."""
    own = seen.device.state in IN_SERVICE and _to_be_open(seen) and seen.own_entry is None
    if not (own and seen.is_of_former_authority):
        return None
    return (
        "its certificate is older than that of its CA, which was made again: DPS refuses the chain that it has when it "
        "registers again, since its group accepts the CA's new certificate alone"
    )


def renew_it(seen: Seen) -> Remedy:
    """Have it renewed while its hub lets it in."""
    return Remedy("Renew it before anything makes it register again.", Call("POST", f"{seen.path}/renew"))


def chain_refused(seen: Seen) -> str | None:
    """DPS refuses its certificate for another reason."""
    found = seen.refusal
    if found is None or seen.device.state not in IN_SERVICE or not _to_be_open(seen) or seen.device.entry_disabled:
        return None
    if found[1].finding.code == "disabled":
        return None
    return f"DPS would answer {found[1].message!r}: {found[1].finding.message}"


def check_chain(seen: Seen) -> Remedy:
    """Look at all reasons."""
    return Remedy(
        "See every reason, and renew the device with a certificate that does not have them.",
        Call("POST", f"{seen.path}/renew"),
    )


def _refused_for(seen: Seen, codes: frozenset[str]) -> str | None:
    decision = _by_group(seen)
    if decision is None or seen.device.state not in IN_SERVICE:
        return None
    found = next((each for each in decision.causes if each.finding.code in codes), None)
    return f"DPS would answer {found.message!r}: {found.finding.message}" if found else None


# --- its registration record ---


def assignment_failed(seen: Seen) -> str | None:
    """DPS let it in, and found no hub for it."""
    record = seen.known_registration
    if record is None or record.get("status") != "failed":
        return None
    code, message = record.get("errorCode") or "no code", record.get("errorMessage") or "no message"
    return f"DPS took its certificate, and could not assign a hub: {code}, {message}"


def see_allocation(seen: Seen) -> Remedy:
    """Mend the allocation."""
    return Remedy(
        "See to the group's allocation policy, its webhook and its hubs; then have the device register again.",
        Call("GET", f"/api/enrollment-groups/{seen.device.enrollment_group}"),
    )


def assigning(seen: Seen) -> str | None:
    """DPS is at work."""
    record = seen.known_registration
    if record is None or record.get("status") != "assigning" or seen.device.shut_out:
        return None
    return "DPS is assigning a hub to it at this moment"


def taken_over(seen: Seen) -> str | None:
    """Another group had registered it, and it was given back."""
    if seen.device.shut_out or seen.registration is not None or seen.device.state not in IN_ITS_HUB:
        return None
    noted = next((each for each in reversed(seen.device.history) if each.note.startswith(TAKEN_OVER)), None)
    return f"it was {noted.note} ({day(noted.at)})" if noted else None


def register_again(_seen: Seen) -> Remedy:
    """Have the device register."""
    return Remedy("Have the device register with DPS again, as at its first boot; a restart does that, as a rule.")


def registration_missing(seen: Seen) -> str | None:
    """It is in its hub, and DPS does not know of it."""
    if not _to_be_open(seen) or seen.device.state not in IN_ITS_HUB or seen.registration is not None:
        return None
    return (
        "DPS has no registration record of it any more: as long as its identity is in its hub it goes on, and what its "
        "hub does not have comes back when it registers again"
    )
