"""Causes that DPS shows in a device's enrollment group and its CAs, and in what it decides by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.devices import IN_SERVICE
from shared.domain.explanations.entry_rules import enrollment
from shared.domain.explanations.parts import Call, Remedy, Seen, Unseen
from shared.domain.groups import GroupState

if TYPE_CHECKING:
    from shared.domain.dps_decisions import Decision

UNVERIFIED = frozenset({"not-verified", "no-verified-ca"})
_OTHER_AUTHORITY = frozenset({"wrong-group", "no-group"})


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
        Call("PUT", enrollment(seen), {}),
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
    own = seen.device.state in IN_SERVICE and seen.to_be_open and seen.own_entry is None
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
    if found is None or seen.device.state not in IN_SERVICE or not seen.to_be_open or seen.device.entry_disabled:
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
