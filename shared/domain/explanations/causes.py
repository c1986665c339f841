"""The table of causes, the gravest first, and the explanation by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.explanations import dps_rules as dps
from shared.domain.explanations import entry_rules as entry
from shared.domain.explanations import group_rules as group
from shared.domain.explanations import hub_rules as hub
from shared.domain.explanations import record_rules as record
from shared.domain.explanations import request_rules as request
from shared.domain.explanations.doors import doors
from shared.domain.explanations.parts import Blind, Cause, Door, Kind, Moment, Rule, Seen
from shared.domain.explanations.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAULT, _UNKNOWN, _WANTED, _WAITING = Kind.FAULT, Kind.UNKNOWN, Kind.WANTED, Kind.WAITING

RULES: Sequence[Rule] = (
    # A door that is open to who is shut out is graver than anything that keeps somebody out.
    Rule("doorOpenAtHub", _FAULT, hub.hub_open, entry.shut_again),
    Rule("doorOpenAtDps", _FAULT, entry.entry_open, entry.shut_again),
    Rule("notFollowed", _FAULT, record.not_followed, record.look_at_services),
    Rule("onHold", _WANTED, record.on_hold, record.reinstate),
    Rule("revoked", _WANTED, record.revoked, record.replace_it),
    Rule("deleted", _WANTED, record.deleted, record.order_anew),
    Rule("failed", _FAULT, record.failed, record.retry),
    Rule("certificateRevoked", _FAULT, record.certificate_revoked, record.use_successor),
    Rule("certificateExpired", _FAULT, record.certificate_expired, record.after_expiry),
    Rule("certificateNotYetValid", _FAULT, record.certificate_not_yet_valid, record.set_clock),
    Rule("issuerRevoked", _FAULT, record.issuer_revoked, record.roll),
    Rule("issuerExpired", _FAULT, record.issuer_expired, record.roll),
    # DPS, in the order in which it decides.
    Rule("entryDisabledByOperator", _WANTED, entry.entry_disabled_by_operator, entry.enable_entry),
    Rule("entryDisabled", _FAULT, entry.entry_disabled, entry.enable_entry),
    Rule("entryOtherAttestation", _FAULT, entry.entry_other_attestation, entry.drop_entry),
    Rule("entryOtherCertificate", _FAULT, entry.entry_other_certificate, entry.put_certificate),
    Rule("entryMissing", _FAULT, entry.entry_missing, entry.write_entry),
    Rule("groupDeleted", _FAULT, group.group_deleted, group.order_in_other_group),
    Rule("groupDisabled", _WANTED, group.group_disabled, group.enable_group),
    Rule("groupDisabledElsewhere", _FAULT, group.group_disabled_elsewhere, group.enable_group),
    Rule("groupMissing", _FAULT, group.group_missing, group.restore_group),
    Rule("otherGroup", _FAULT, group.other_group, group.see_group),
    Rule("authorityNotVerified", _FAULT, group.authority_not_verified, group.verify_authority),
    Rule("groupHoldsOtherAuthority", _FAULT, group.group_holds_other_authority, group.see_group),
    Rule("formerAuthority", _FAULT, group.former_authority, group.renew_it),
    Rule("chainRefused", _FAULT, group.chain_refused, group.check_chain),
    Rule("assignmentFailed", _FAULT, dps.assignment_failed, dps.see_allocation),
    # The hub.
    Rule("takenOver", _FAULT, dps.taken_over, dps.register_again),
    Rule("identityDisabledByOperator", _WANTED, hub.identity_disabled_by_operator, hub.enable),
    Rule("identityDisabled", _FAULT, hub.identity_disabled, hub.enable),
    Rule("identityEnabled", _FAULT, hub.identity_enabled, hub.disable),
    Rule("identityMissing", _FAULT, hub.identity_missing, dps.register_again),
    Rule("identityOtherAuthentication", _FAULT, hub.identity_other_authentication, hub.own_certificates_alone),
    Rule("identityOtherCertificate", _FAULT, hub.identity_other_certificate, hub.take_back),
    Rule("identityFormerCertificate", _FAULT, hub.identity_former_certificate, dps.register_again),
    Rule("atAnotherHub", _FAULT, hub.at_another_hub, hub.follow),
    Rule("registrationMissing", _FAULT, dps.registration_missing, dps.register_again),
    # What could not be looked at.
    Rule("dpsThrottled", _UNKNOWN, dps.dps_unseen(Blind.THROTTLED), dps.slower),
    Rule("dpsRoleMissing", _UNKNOWN, dps.dps_unseen(Blind.ROLE_MISSING), dps.give_role),
    Rule("dpsUnavailable", _UNKNOWN, dps.dps_unseen(Blind.UNAVAILABLE), record.look_at_services),
    Rule("hubThrottled", _UNKNOWN, hub.hub_unseen(Blind.THROTTLED), dps.slower),
    Rule("hubRoleMissing", _UNKNOWN, hub.hub_unseen(Blind.ROLE_MISSING), dps.give_role),
    Rule("hubUnavailable", _UNKNOWN, hub.hub_unseen(Blind.UNAVAILABLE), record.look_at_services),
    # What was asked for, and what it is about to become.
    Rule("requestSetAside", _FAULT, request.set_aside, request.replay),
    Rule("requestStuck", _FAULT, request.request_stuck, request.unstick),
    Rule("beingFollowed", _WAITING, record.being_followed, record.wait),
    Rule("requestRejected", Kind.DUE, request.rejected, request.close),
    Rule("expiresSoon", Kind.DUE, record.expires_soon, record.renew),
    Rule("assigning", _WAITING, dps.assigning, record.wait),
    Rule("successorWaits", _WAITING, record.successor_waits, record.use_successor),
    Rule("neverBooted", _WAITING, record.never_booted, record.boot),
    Rule("requestWaits", _WAITING, request.request_waits, request.see_request),
    Rule("beingRegistered", _WAITING, record.being_registered, record.see_order),
    Rule("ordered", _WAITING, record.ordered, record.see_order),
    Rule("servicesNotAsked", _UNKNOWN, dps.not_asked, dps.ask_there),
    Rule("inService", Kind.HEALTHY, record.in_service, record.nothing),
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a device is as it is.

    Attributes:
        causes: all that apply, the gravest first; the first is the cause.
        doors: how each is now.
        timeline: the oldest first.
    """

    causes: tuple[Cause, ...]
    doors: tuple[Door, ...]
    timeline: tuple[Moment, ...]

    @property
    def cause(self) -> Cause:
        """The cause."""
        return self.causes[0]

    @property
    def as_it_should_be(self) -> bool | None:
        """Whether nothing is wrong; ``None`` if nothing was found, and not everything could be looked at."""
        kinds = {each.kind for each in self.causes}
        if Kind.FAULT in kinds:
            return False
        return None if Kind.UNKNOWN in kinds else True


def explain(seen: Seen) -> Explanation:
    """Say why a device is as it is, from what was seen of it."""
    found = [cause for rule in RULES if (cause := rule.found(seen)) is not None]
    # That it is in service is said only of one for which nothing else is.
    causes = [each for each in found if each.kind is not Kind.HEALTHY] or found
    return Explanation(tuple(causes), doors(seen), timeline(seen))
