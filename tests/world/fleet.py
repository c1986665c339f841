"""A fleet of any size that a pass of reconciliation walks, in virtual time: what is read is made when it is read.

Pages, identities and certificates are made from a device's number, so that a million devices take no room. The calls
are counted, and refused, by the emulator's own throttling (:mod:`emulator.platform.throttling`), with the share of the
quotas as its limit: a call that is not refused is within the share in every window of the quota's length.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from emulator.platform.throttling import Throttling
from shared.domain.attestations import reference_attestation
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.devices import DeviceRecord
from shared.domain.groups import CaReferences, GroupRecord, GroupState
from shared.domain.held_certificates import CertificateSummary
from shared.domain.hub_authentication import SELF_SIGNED
from shared.domain.words import CertificateKind, DeviceState, RevocationReason
from shared.errors import Deferred
from shared.ledger.table import Versioned
from shared.pki import names
from shared.ports.hubs import HubIdentity
from shared.workflows.devices.bundles import bundle_name, secret_name
from tests.pki.hierarchy import hierarchy
from tests.records import held_certificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECRETS = 25
"""Of a page of a vault."""

_MINUTE = timedelta(minutes=1)
_ENDS = NOW + timedelta(days=300)
_PREFIX, _ISSUER, _ROOT, _SERIAL = "press-", "line-ca1", "root", "0" * 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a fleet is like.

    Attributes:
        devices: how many there are.
        hubs: that they are spread over.
        units: S1 units of each hub.
        groups: that they are spread over.
        id_length: characters of a registration id.
        shut: of so many devices, one is revoked.
        waiting: of so many devices, one has a key that was not fetched.
        drifted: so many devices, one after the other, had their identities disabled by somebody.
        strangers: so many individual enrollments of devices that the ledger does not know.
        guests: so many identities in the first hub that nobody knows.
        percent: of each quota, that a pass may use, and after which the services refuse.
    """

    devices: int
    hubs: int = 1
    units: int = 1
    groups: int = 50
    id_length: int = 46
    shut: int = 50
    waiting: int = 100
    drifted: int = 0
    strangers: int = 0
    guests: int = 0
    percent: int = 10


@dataclass
class Clock:
    """Time that goes by only when somebody waits."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        """Give the present time."""
        return self.now

    async def pause(self, seconds: float) -> None:
        """Let time go by."""
        self.now += timedelta(seconds=seconds)

    def to_next_minute(self) -> None:
        """Let time go by until a timer comes again."""
        self.now = NOW + ((self.now - NOW) // _MINUTE + 1) * _MINUTE


class Quotas:
    """The emulator's throttling of a DPS, a vault, and hubs that have units, all scaled to a share of their quotas.

    Attributes:
        calls: made, by quota.
        refused: how many of them.
    """

    def __init__(self, shape: Shape, clock: Clock) -> None:
        share = shape.percent / 100
        self._clock = clock
        self._one = Throttling(enabled=True, scale=share)
        self._hubs = Throttling(enabled=True, scale=share * shape.units)
        self.calls, self.refused = Counter[str](), 0

    def call(self, name: str, subject: str = "") -> None:
        """Make a call.

        Raises:
            Deferred: it is one too many.
        """
        throttling = self._hubs if name.startswith("iot_hub") else self._one
        self.calls[name] += 1
        wait = throttling.admit([name], self._clock(), subject)
        if wait is not None:
            self.refused += 1
            raise Deferred(f"{name} {subject} is throttled", retry_after=timedelta(seconds=wait))


class Fleet:
    """What each device is, by its number."""

    def __init__(self, shape: Shape, clock: Clock) -> None:
        self.shape, self.quotas = shape, Quotas(shape, clock)
        made = hierarchy().device()
        self._thumbprints = names.thumbprint(made), names.sha256_thumbprint(made)
        summary = CertificateSummary(
            serial_number=_SERIAL,
            thumbprint=self._thumbprints[0],
            not_before=NOW,
            not_after=_ENDS,
            issuer=_ISSUER,
        )
        held = held_certificate(_SERIAL, NOW, issuer=_ISSUER, cause="order-1", not_after=_ENDS)
        self._registered = DeviceRecord(
            registration_id=_PREFIX,
            state=DeviceState.REGISTERED,
            order_id="order-1",
            updated_at=NOW,
            sha256_thumbprints=self._thumbprints[1:],
            certificate=summary,
            held=(held,),
            entry_settings={},
        )
        reason = RevocationReason.KEY_COMPROMISE
        self._revoked = self._registered.changed(
            state=DeviceState.REVOKED,
            revoked=reason,
            held=(held.changed(state=CertificateState.REVOKED, reason=reason, listed=True),),
        )
        self._certificate = CertificateRecord(
            serial_number="0",
            kind=CertificateKind.DEVICE,
            state=CertificateState.ACTIVE,
            subject=_PREFIX,
            issuer=_ISSUER,
            cause="order-1",
            recorded_at=NOW,
            pem=names.pem(made),
            not_after=_ENDS,
        )

    @property
    def of_group(self) -> int:
        """How many devices a group has at most."""
        return -(-self.shape.devices // self.shape.groups)

    @property
    def shut(self) -> range:
        """The devices that are revoked."""
        return range(1, self.shape.devices, self.shape.shut)

    def id_of(self, number: int) -> str:
        """Name a device."""
        return f"{_PREFIX}{number:0{self.shape.id_length - len(_PREFIX)}}"

    def number_of(self, registration_id: str) -> int | None:
        """Find a device by its name."""
        digits = registration_id.removeprefix(_PREFIX)
        return int(digits) if digits.isdecimal() and int(digits) < self.shape.devices else None

    def serial_of(self, number: int) -> str:
        """Give the serial number of a device's certificate."""
        return f"{number:040x}"

    def hub_of(self, number: int) -> str:
        """Name the hub of a device."""
        return f"hub-{number % self.shape.hubs}.azure-devices.net"

    def record(self, number: int) -> DeviceRecord:
        """Give a device as the ledger has it; the certificates of all have one serial number there."""
        name = self.id_of(number)
        own = {
            "registration_id": name,
            "device_id": name,
            "enrollment_group": group_name(number // self.of_group),
            "assigned_hub": self.hub_of(number),
        }
        return (self._revoked if number in self.shut else self._registered).model_copy(update=own)

    def certificate(self, number: int) -> CertificateRecord:
        """Give its certificate as the ledger has it."""
        state = CertificateState.REVOKED if number in self.shut else CertificateState.ACTIVE
        named = {"serial_number": self.serial_of(number), "subject": self.id_of(number), "state": state}
        return self._certificate.model_copy(update=named)

    def identity(self, number: int) -> HubIdentity:
        """Give its identity as its hub has it."""
        enabled = number not in self.shut and number >= self.shape.drifted
        held = frozenset(self._thumbprints[1:])
        return HubIdentity(self.id_of(number), enabled, held, connected=False, authentication=SELF_SIGNED)

    def guest(self, number: int) -> HubIdentity:
        """Give an identity that nobody knows."""
        held = frozenset({f"{number:064X}"})
        return HubIdentity(
            f"guest-{number:06}", enabled=True, thumbprints=held, connected=False, authentication=SELF_SIGNED
        )

    def registration(self, number: int) -> dict[str, Any]:
        """Give its registration record."""
        name = self.id_of(number)
        return {"registrationId": name, "status": "assigned", "assignedHub": self.hub_of(number), "deviceId": name}

    def entry(self, number: int) -> dict[str, Any] | None:
        """Give its individual enrollment, if it has one."""
        own = {"registrationId": self.id_of(number), "provisioningStatus": "disabled", "etag": "1"}
        shut = {**own, "capabilities": {"iotEdge": False}, "allocationPolicy": "hashed"}  # as DPS fills them in
        return shut if number in self.shut else None

    def stranger(self, number: int) -> dict[str, Any]:
        """Give the individual enrollment of a device that the ledger does not know."""
        held = {"primary": {"info": {"sha256Thumbprint": f"{number:064X}", "issuerName": "CN=theirs"}}}
        return {
            "registrationId": f"stranger-{number}",
            "provisioningStatus": "enabled",
            "etag": "1",
            "attestation": {"type": "x509", "x509": {"clientCertificates": held}},
        }


def group_name(number: int) -> str:
    """Name a group."""
    return f"line-{number:02}"


def _page(numbers: range, size: int, continuation: str | None) -> tuple[range, str | None]:
    begin = int(continuation or 0)
    return numbers[begin : begin + size], str(begin + size) if begin + size < len(numbers) else None


@dataclass(frozen=True)
class Devices:
    """The ledger's devices."""

    fleet: Fleet

    async def get(self, registration_id: str) -> Versioned[DeviceRecord] | None:
        """Find one."""
        number = self.fleet.number_of(registration_id)
        return None if number is None else Versioned(self.fleet.record(number), "1")

    async def owner_of(self, device_id: str) -> str | None:
        """Give whose a device id is."""
        return device_id if self.fleet.number_of(device_id) is not None else None

    async def certificates_of(self, registration_id: str) -> list[CertificateRecord]:
        """List the certificates of one."""
        number = self.fleet.number_of(registration_id)
        return [] if number is None else [self.fleet.certificate(number).model_copy(update={"serial_number": _SERIAL})]

    async def page(
        self, *, enrollment_group: str | None, size: int, continuation: str | None
    ) -> tuple[list[DeviceRecord], str | None]:
        """List a page of them."""
        del enrollment_group
        numbers, following = _page(range(self.fleet.shape.devices), size, continuation)
        return [self.fleet.record(each) for each in numbers], following


@dataclass(frozen=True)
class Certificates:
    """The ledger's certificates."""

    fleet: Fleet

    async def get(self, serial_number: str) -> Versioned[CertificateRecord]:
        """Find one."""
        return Versioned(self.fleet.certificate(int(serial_number, 16)), "1")


@dataclass(frozen=True)
class Groups:
    """The ledger's groups."""

    fleet: Fleet

    async def get(self, group: str) -> Versioned[GroupRecord]:
        """Find one."""
        record = GroupRecord(
            enrollment_group=group,
            state=GroupState.ENABLED,
            issuer=_ISSUER,
            updated_at=NOW,
            last_request="request-1",
            ca_references=CaReferences(primary=_ROOT),
            entry_settings={},
        )
        return Versioned(record, "1")

    async def list(self) -> AsyncIterator[GroupRecord]:
        """List all of them."""
        for number in range(self.fleet.shape.groups):
            yield (await self.get(group_name(number))).record


class Nothing:
    """What the fleet has none of: CAs, keys that wait to be deleted."""

    _none: tuple[Any, ...] = ()

    async def get(self, _name: str) -> None:
        """Find none."""

    async def list(self) -> AsyncIterator[Any]:
        """List none."""
        for each in self._none:
            yield each

    async def key_deletions(self, _day: object) -> AsyncIterator[Any]:
        """List none."""
        for each in self._none:
            yield each


@dataclass(frozen=True)
class Dps:
    """A DPS, whose operations are counted."""

    fleet: Fleet

    def _call(self) -> None:
        self.fleet.quotas.call("dps.operations")

    async def get_group(self, group_id: str) -> dict[str, Any]:
        """Read a group."""
        self._call()
        return {
            "enrollmentGroupId": group_id,
            "provisioningStatus": "enabled",
            "attestation": reference_attestation(_ROOT),
        }

    async def list_groups(self) -> AsyncIterator[dict[str, Any]]:
        """List all groups."""
        self._call()
        for number in range(self.fleet.shape.groups):
            yield {"enrollmentGroupId": group_name(number)}

    async def get_registration(self, registration_id: str) -> dict[str, Any] | None:
        """Read a registration record."""
        self._call()
        number = self.fleet.number_of(registration_id)
        return None if number is None else self.fleet.registration(number)

    async def get_enrollment(self, registration_id: str) -> dict[str, Any] | None:
        """Read an individual enrollment."""
        self._call()
        if registration_id.startswith("stranger-"):
            return self.fleet.stranger(int(registration_id.removeprefix("stranger-")))
        number = self.fleet.number_of(registration_id)
        return None if number is None else self.fleet.entry(number)

    async def page_of_registrations(
        self, group_id: str, *, size: int, continuation: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Read a page of a group's registration records."""
        self._call()
        begin = int(group_id.removeprefix(group_name(0)[:-2])) * self.fleet.of_group
        of_group = range(begin, min(begin + self.fleet.of_group, self.fleet.shape.devices))
        numbers, following = _page(of_group, size, continuation)
        return [self.fleet.registration(each) for each in numbers], following

    async def page_of_enrollments(
        self, *, size: int, continuation: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Read a page of individual enrollments."""
        self._call()
        shut, strangers = self.fleet.shut, self.fleet.shape.strangers
        numbers, following = _page(range(len(shut) + strangers), size, continuation)
        found = [
            self.fleet.entry(shut[each]) if each < len(shut) else self.fleet.stranger(each - len(shut))
            for each in numbers
        ]
        return [each for each in found if each is not None], following


@dataclass(frozen=True)
class Hubs:
    """Hubs, whose queries and reads are counted; and which of them are linked to the DPS."""

    fleet: Fleet

    @property
    def known(self) -> frozenset[str]:
        """The linked hubs."""
        return frozenset(self.fleet.hub_of(each) for each in range(self.fleet.shape.hubs))

    async def names(self) -> frozenset[str]:
        """Give the linked hubs."""
        return self.known

    async def get(self, hub: str, device_id: str) -> HubIdentity | None:
        """Read an identity."""
        self.fleet.quotas.call("iot_hub.registry", hub)
        if device_id.startswith("guest-"):
            return self.fleet.guest(int(device_id.removeprefix("guest-")))
        number = self.fleet.number_of(device_id)
        return self.fleet.identity(number) if number is not None and self.fleet.hub_of(number) == hub else None

    async def find(self, hub: str, device_ids: Sequence[str]) -> dict[str, HubIdentity]:
        """Query identities."""
        self.fleet.quotas.call("iot_hub.queries", hub)
        numbers = [number for each in device_ids if (number := self.fleet.number_of(each)) is not None]
        return {self.fleet.id_of(each): self.fleet.identity(each) for each in numbers}

    async def page(self, hub: str, *, size: int, continuation: str | None) -> tuple[list[HubIdentity], str | None]:
        """Query a page of all identities."""
        self.fleet.quotas.call("iot_hub.queries", hub)
        shape = self.fleet.shape
        first = next(each for each in range(shape.hubs) if self.fleet.hub_of(each) == hub)
        here = range(first, shape.devices, shape.hubs)
        guests = range(shape.guests) if first == 0 else range(0)
        numbers, following = _page(range(len(here) + len(guests)), size, continuation)
        found = [
            self.fleet.identity(here[each]) if each < len(here) else self.fleet.guest(each - len(here))
            for each in numbers
        ]
        return found, following


@dataclass(frozen=True)
class Blobs:
    """The stored bundles."""

    fleet: Fleet

    async def page_of_names(
        self, _container: str, *, size: int, continuation: str | None
    ) -> tuple[list[str], str | None]:
        """List a page of their names."""
        numbers, following = _page(range(self.fleet.shape.devices), size, continuation)
        return [bundle_name(self.fleet.id_of(each), self.fleet.serial_of(each)) for each in numbers], following


@dataclass(frozen=True)
class Secrets:
    """A vault, whose transactions are counted."""

    fleet: Fleet
    _none: dict[str, str] = field(default_factory=dict)

    async def page(self, *, continuation: str | None) -> tuple[dict[str, Mapping[str, str]], str | None]:
        """List a page of passwords."""
        self.fleet.quotas.call("key_vault.transactions")
        numbers, following = _page(range(0, self.fleet.shape.devices, self.fleet.shape.waiting), SECRETS, continuation)
        return {
            secret_name(self.fleet.serial_of(each)): {"registrationId": self.fleet.id_of(each)} for each in numbers
        }, following

    async def get(self, name: str) -> str | None:
        """Read a password: those of certificates that are over are gone."""
        self.fleet.quotas.call("key_vault.transactions")
        return self._none.get(name)
