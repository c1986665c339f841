"""What an explanation is made of: what was seen of a device, and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from shared.domain.wanted import wanted
from shared.pki import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from cryptography import x509

    from shared.domain.attestations import Entry
    from shared.domain.authorities import AuthorityRecord
    from shared.domain.devices import DeviceRecord
    from shared.domain.dps_decisions import Cause as Refusal
    from shared.domain.dps_decisions import Decision
    from shared.domain.groups import GroupRecord
    from shared.domain.rejections import RejectionRecord
    from shared.domain.requests import RequestRecord
    from shared.domain.wanted import Wanted
    from shared.ports.hubs import HubIdentity

AT_WORK = timedelta(minutes=10)
"""So long the services may take to follow a record: the sweep that goes on with what was left runs more often."""


class Blind(StrEnum):
    """Why a service could not be looked at."""

    THROTTLED = "Throttled"
    ROLE_MISSING = "RoleMissing"
    UNAVAILABLE = "Unavailable"
    NOT_ASKED = "NotAsked"


@dataclass(frozen=True, slots=True)
class Unseen:
    """Stands for what a service did not show.

    Attributes:
        because: the kind of reason.
        why: in words.
    """

    because: Blind
    why: str


class Kind(StrEnum):
    """What a cause says about a device.

    ``fault``: it is not as it should be. ``unknown``: nobody can tell now. ``wanted``: somebody decided so. ``due``:
    it is as it should be, and something has to be done soon. ``waiting``: it is on its way. ``healthy``: in service.
    """

    FAULT = "fault"
    UNKNOWN = "unknown"
    WANTED = "wanted"
    DUE = "due"
    WAITING = "waiting"
    HEALTHY = "healthy"


Method = Literal["GET", "POST", "PUT", "DELETE"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the app; ``body`` is its JSON, if it needs one."""

    method: Method
    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Remedy:
    """The one thing to do; ``call`` does it, where the app can."""

    text: str
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause that applies."""

    code: str
    kind: Kind
    text: str
    remedy: Remedy


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table of causes.

    Attributes:
        code: names the cause, for programs.
        kind: what it says about the device.
        text: what is so, in words; ``None`` if it is not so.
        remedy: what to do.
    """

    code: str
    kind: Kind
    text: Callable[[Seen], str | None]
    remedy: Callable[[Seen], Remedy]

    def found(self, seen: Seen) -> Cause | None:
        """Look whether it applies."""
        text = self.text(seen)
        return Cause(self.code, self.kind, text, self.remedy(seen)) if text is not None else None


DoorKind = Literal["dps", "hub", "revocationStatus"]
MomentSource = Literal["ledger", "certificates", "dps", "requests", "rejections"]


class DoorState(StrEnum):
    """How a door is."""

    OPEN = "open"
    SHUT = "shut"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Door:
    """One way into the fleet: DPS, the hub, or whoever asks a list or an OCSP responder."""

    door: DoorKind
    name: str
    state: DoorState
    why: str


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline; ``source`` is who says so."""

    at: datetime
    source: MomentSource
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of a device.

    Attributes:
        now: the present time, UTC.
        device: its record.
        certificates: its certificates that were signed, by serial number.
        chain: what it sends with its present certificate, leaf first; empty if it has none.
        authorities: records of the CAs in that chain, the lowest first.
        group: its group's record.
        group_entry: its group in DPS.
        entry: its individual enrollment.
        decisions: what DPS decides about each certificate that it uses, the present one first.
        registration: its registration record in DPS.
        hub: where its identity was looked for; ``None`` if no hub was assigned.
        identity: as that hub has it.
        elsewhere: of a device that is shut out, its identities at other places, by hub and device id; ``None`` where it
            has none.
        requests: those about it that have not ended.
        rejections: those about it that nobody has dealt with.
        warning: so long before its end a certificate is to be renewed.
    """

    now: datetime
    device: DeviceRecord
    certificates: Mapping[str, x509.Certificate] = field(default_factory=dict)
    chain: tuple[x509.Certificate, ...] = ()
    authorities: tuple[AuthorityRecord, ...] = ()
    group: GroupRecord | None = None
    group_entry: Entry | Unseen | None = None
    entry: Entry | Unseen | None = None
    decisions: tuple[Decision, ...] | Unseen = ()
    registration: Entry | Unseen | None = None
    hub: str | None = None
    identity: HubIdentity | Unseen | None = None
    elsewhere: Mapping[tuple[str, str], HubIdentity | Unseen | None] = field(default_factory=dict)
    requests: tuple[RequestRecord, ...] = ()
    rejections: tuple[RejectionRecord, ...] = ()
    warning: timedelta = timedelta(days=30)

    @property
    def path(self) -> str:
        """The device, as the app's path."""
        return f"/api/devices/{self.device.registration_id}"

    @property
    def is_of_former_authority(self) -> bool:
        """Whether its CA had another certificate when it signed the device's: nothing begins before its issuer."""
        renewed = bool(self.authorities and self.authorities[0].further_certificates)
        leaf, *above = self.chain or (None,)
        begins = above[0].not_valid_before_utc if above and not renewed else None
        return leaf is not None and begins is not None and leaf.not_valid_before_utc < begins

    @property
    def settled(self) -> bool:
        """Whether the services are to follow the record by now."""
        return self.device.converged == self.device.generation

    @property
    def to_be_open(self) -> bool:
        """Whether the services are to let it in by now."""
        return self.settled and not self.device.shut_out

    @property
    def since(self) -> datetime:
        """When the record changed last."""
        return self.device.history[-1].at if self.device.history else self.device.updated_at

    @property
    def wanted(self) -> Wanted:
        """What the record wants of the services."""
        return wanted(self.device, self.now)

    @property
    def unseen_dps(self) -> Unseen | None:
        """Why a part of DPS could not be looked at, if one could not."""
        parts = (self.entry, self.group_entry, self.decisions, self.registration)
        return next((each for each in parts if isinstance(each, Unseen)), None)

    @property
    def own_entry(self) -> Entry | None:
        """Its individual enrollment, as far as it was seen."""
        return None if isinstance(self.entry, Unseen) else self.entry

    @property
    def known_identity(self) -> HubIdentity | None:
        """Its identity, as far as it was seen."""
        return None if isinstance(self.identity, Unseen) else self.identity

    @property
    def known_registration(self) -> Entry | None:
        """Its registration record, as far as it was seen."""
        return None if isinstance(self.registration, Unseen) else self.registration

    def at_hub(self, serial_number: str) -> bool:
        """Tell whether its hub knows it by one of its certificates."""
        identity = self.known_identity
        return identity is not None and self.knows(identity, (serial_number,))

    def knows(self, identity: HubIdentity, serial_numbers: Iterable[str]) -> bool:
        """Tell whether an identity is known by one of some certificates of the device."""
        found = [self.certificates[each] for each in serial_numbers if each in self.certificates]
        return any(not identity.thumbprints.isdisjoint(thumbprints_of(each)) for each in found)

    @property
    def at_hub_as_taken_over(self) -> bool:
        """Whether its hub knows it by what it did when the device was taken over with a certificate that nobody has."""
        identity = self.known_identity
        return identity is not None and self.knows_as_taken_over(identity)

    def knows_as_taken_over(self, identity: HubIdentity) -> bool:
        """Tell whether an identity is known by what was known of a device that was taken over."""
        return self.device.unseen and identity.thumbprints <= frozenset(self.device.sha256_thumbprints)

    @property
    def refusal(self) -> tuple[Decision, Refusal] | None:
        """Why DPS would refuse a certificate that it uses, if it would.

        A device that was issued for no group registers with whichever takes it, or with none.
        """
        if isinstance(self.decisions, Unseen) or (self.device.enrollment_group is None and self.own_entry is None):
            return None
        for each in self.decisions:
            if each.causes:
                return each, each.causes[0]
        return None


def thumbprints_of(certificate: x509.Certificate) -> frozenset[str]:
    """Give both names of a certificate: DPS and hubs know SHA-1 and SHA-256."""
    return frozenset({names.thumbprint(certificate), names.sha256_thumbprint(certificate)})


def day(at: datetime) -> str:
    """Write a point in time for people."""
    return f"{at:%Y-%m-%d %H:%M} UTC"
