"""Devices with everything that concerns them: the workflows are the app's own; ledger, vault, DPS and hub are in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from shared.contracts.devices import RenewalRequest, RevocationAction, RevocationRequest
from shared.contracts.groups import IndividualEnrollmentDefinition
from shared.contracts.orders import DeviceRegistration
from shared.contracts.parsing import parse
from shared.domain.groups import GroupRecord, GroupState
from shared.domain.orders import LineState, OrderLine
from shared.domain.words import DeviceState, RegisterBy, RevocationReason
from shared.errors import Deferred, NotFound
from shared.pki import names
from shared.pki.extensions import DistributionPoints
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.services import build
from shared.threads import ThreadPool
from shared.workflows.authorities.loading import LoadedAuthority
from shared.workflows.devices.enrollments import as_it_is
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.fakes import FakeBlobs, FakeHubs, FakeProvisioning, FakeQueues, FakeRegistrar, FakeTable
from tests.unit.pki.test_requests import request as signing_request
from tests.world.services import DpsResource, Log, Marks, Secrets
from tests.world.world import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.domain.certificates import CertificateState
    from shared.domain.devices import DeviceRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.groups import Groups
    from shared.ledger.orders import Orders
    from shared.ledger.public_keys import PublicKeys
    from shared.ledger.requests import Requests
    from shared.ledger.table import Versioned
    from shared.pki.signing_keys import PrivateKey
    from shared.services import Services
    from shared.workflows.devices.assignments import Assignments
    from shared.workflows.devices.bundles import Bundles
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.directory import DeviceDirectory
    from shared.workflows.devices.directory_upkeep import DirectoryUpkeep
    from shared.workflows.devices.enrollments import Expectation, IndividualEnrollments
    from shared.workflows.devices.expiry import ExpirySweep
    from shared.workflows.devices.failures import Failures
    from shared.workflows.devices.group_renewals import GroupRenewals
    from shared.workflows.devices.identities import DeviceIdentities
    from shared.workflows.devices.issuing import DeviceCertificates
    from shared.workflows.devices.missed_renewals import MissedRenewals
    from shared.workflows.devices.registrations import Registrations
    from shared.workflows.devices.renewals import Renewals
    from shared.workflows.devices.revocations import Revocations
    from shared.workflows.devices.usable_groups import UsableGroups
    from shared.workflows.intake.outbox import Outbox

HUB = "hub-1"
ISSUER = "line-1-ca1"
HOLD, COMPROMISE = RevocationReason.CERTIFICATE_HOLD, RevocationReason.KEY_COMPROMISE


class FakeAuthorities:
    """One issuing CA under any name.

    Attributes:
        refusal: why it signs nothing.
    """

    refusal: Exception | None = None

    async def get(self, name: str) -> str:
        if name == "none":
            raise NotFound.because("the certificate authority 'none' does not exist", field="name")
        return name

    async def check_signs(self, _name: str) -> None:
        if self.refusal is not None:
            raise self.refusal

    async def check_ledger(self) -> None:
        pass

    async def loaded(self, name: str) -> LoadedAuthority:
        return LoadedAuthority(
            name=name, issuer=hierarchy().issuing, anchor=hierarchy().root.certificate, anchor_name="dpsCa"
        )

    async def signing(self, _issuer: Any, call: Callable[..., Any], *args: Any) -> Any:
        return call(*args)

    def distribution_points(self, _authority: LoadedAuthority) -> DistributionPoints:
        return DistributionPoints()

    async def check(self) -> None:
        pass


@dataclass
class FakeLists:
    """Remembers whose list was made anew."""

    published: list[str] = field(default_factory=list)

    async def publish(self, name: str) -> None:
        self.published.append(name)


class ChainedSettings:
    """Settings of a scene, and where it says nothing those of the tests' world."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name) if hasattr(self._own, name) else getattr(SETTINGS, name)


@dataclass
class DeviceScene:
    """A deployment with the enrollment group ``line``, whose devices ``line-1-ca1`` signs.

    Attributes:
        now: the time that all clocks show.
        linked: hubs that are linked to the DPS as it says itself; without any, it can't be asked.
    """

    now: datetime = NOW
    rows: FakeTable = field(default_factory=FakeTable)
    in_force: FakeTable = field(default_factory=FakeTable)
    revocation_rows: FakeTable = field(default_factory=FakeTable)
    unsettled_rows: FakeTable = field(default_factory=FakeTable)
    directory_rows: FakeTable = field(default_factory=FakeTable)
    unrepeated: int = 100
    provisioning: FakeProvisioning = field(default_factory=FakeProvisioning)
    hubs: FakeHubs = field(default_factory=FakeHubs)
    blobs: FakeBlobs = field(default_factory=FakeBlobs)
    secrets: Secrets = field(default_factory=Secrets)
    marks: Marks = field(default_factory=Marks)
    queues: FakeQueues = field(default_factory=FakeQueues)
    lists: FakeLists = field(default_factory=FakeLists)
    authorities: Any = field(default_factory=FakeAuthorities)
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(
            device_validity=timedelta(days=365),
            device_warnings=(30,),
            authority_warnings=(365, 180, 90, 30),
            bundle_retrieval=timedelta(minutes=60),
            bundle_kept=timedelta(days=90),
            key_vault_url="https://vault",
        )
    )
    requested: int = 0
    linked: tuple[str, ...] = ()

    tables: dict[str, FakeTable] = field(default_factory=dict)
    """Other tables, by their names."""

    def __post_init__(self) -> None:
        self.registrar = FakeRegistrar(self.provisioning, self.hubs)
        self.computing = ThreadPool("computing", 1)
        self.log = Log()
        self._wired: tuple[list[Any], Services] | None = None
        self.tables |= {
            "identities": self.rows,
            "inforce": self.in_force,
            "revocations": self.revocation_rows,
            "unsettled": self.unsettled_rows,
            "directory": self.directory_rows,
        }

    def table(self, name: str) -> FakeTable:
        """Give a table by its name."""
        return self.tables.setdefault(name, FakeTable())

    async def check(self, _table: str) -> None:
        """See whether tables can be reached."""

    def clock(self) -> datetime:
        return self.now

    async def set_up(self) -> DeviceScene:
        """Make the group."""
        await self.groups.insert(
            GroupRecord(
                enrollment_group="line", state=GroupState.ENABLED, issuer=ISSUER, updated_at=NOW, last_request="r"
            )
        )
        return self

    async def group(self, state: GroupState, issuer: str = ISSUER) -> None:
        """Enter what became of the group."""
        known = await self.groups.get("line")
        assert known is not None
        await self.groups.replace(known, known.record.changed(state=state, issuer=issuer))

    # --- as the app wires it ---

    @property
    def services(self) -> Services:
        """What the app has, wired as in the cloud; wired anew if a test has put something else into the scene."""
        parts = [self.provisioning, self.hubs, self.blobs, self.secrets, self.queues, self.lists, self.authorities]
        parts += [self.registrar, self.settings, self.linked]
        if self._wired is None or any(a is not b for a, b in zip(self._wired[0], parts, strict=True)):
            self._wired = parts, self._build()
        return self._wired[1]

    def _build(self) -> Services:
        marks = self.marks
        keys = SimpleNamespace(check=self.secrets.check, close=self.secrets.close, tags=marks.tags, tag=marks.tag)
        clients: Any = SimpleNamespace(
            queues=self.queues,
            tables=self,
            blobs=self.blobs,
            order_lists=self.blobs,
            keys=keys,
            responder_keys=keys,
            secrets=self.secrets,
            provisioning=self.provisioning,
            dps_authorities=DpsResource(self.provisioning.conductor, self.linked) if self.linked else None,
            hub_authorities=(),
            ca_certificates=(),
            registrar=self.registrar,
            hubs=self.hubs,
            event_topic=None,
        )
        settings: Any = ChainedSettings(self.settings)
        lists: Any = self.lists
        return build(
            settings,
            clients=clients,
            clock=self.clock,
            threads=lambda _name, _size: self.computing,
            authorities=self.authorities,
            revocation_lists=lists,
            log=self.log,
        )

    @property
    def devices(self) -> Devices:
        return self.services.converger.devices

    @property
    def certificates(self) -> Certificates:
        return self.services.converger.books.certificates

    @property
    def public_keys(self) -> PublicKeys:
        return self.services.converger.books.public_keys

    @property
    def orders(self) -> Orders:
        return self.services.registrations.orders

    @property
    def groups(self) -> Groups:
        return self.services.usable_groups.groups

    @property
    def requests(self) -> Requests:
        return self.services.requests

    @property
    def expiry(self) -> ExpiryIndex:
        return self.services.lifetimes.expiry_sweep.expiry

    @property
    def outbox(self) -> Outbox:
        return self.services.outbox

    @property
    def converger(self) -> DeviceConverger:
        return self.services.converger

    @property
    def bundles(self) -> Bundles:
        return self.services.devices.bundles

    @property
    def issuing(self) -> DeviceCertificates:
        return self.services.certificate_requests.device_certificates

    @property
    def groups_in_use(self) -> UsableGroups:
        return self.services.usable_groups

    @property
    def assignments(self) -> Assignments:
        return self.services.renewals.assignments

    @property
    def failures(self) -> Failures:
        return self.services.certificate_requests.failures

    @property
    def registrations(self) -> Registrations:
        return self.services.registrations

    @property
    def renewals(self) -> Renewals:
        return self.services.renewals

    @property
    def missed(self) -> MissedRenewals:
        return self.services.lifetimes.missed_renewals

    @property
    def group_renewals(self) -> GroupRenewals:
        return self.services.lifetimes.group_renewals

    @property
    def identities(self) -> DeviceIdentities:
        return self.services.identities

    @property
    def revocations(self) -> Revocations:
        return replace(self.services.revocations, unrepeated=self.unrepeated)

    @property
    def enrollments(self) -> IndividualEnrollments:
        return self.services.individual_enrollments

    @property
    def directory(self) -> DeviceDirectory:
        return self.services.devices

    @property
    def directory_upkeep(self) -> DirectoryUpkeep:
        return self.services.directory_upkeep

    @property
    def sweep(self) -> ExpirySweep:
        return self.services.lifetimes.expiry_sweep

    # --- what people do ---

    def _next_id(self, kind: str) -> str:
        self.requested += 1
        return f"{kind}-{self.requested}"

    async def order(
        self,
        order_id: str = "order",
        device: str = "press",
        *,
        csr: str | None = None,
        register_by: RegisterBy = RegisterBy.SERVICE,
        **fields: Any,
    ) -> None:
        """Order a device, and carry the order's line out once."""
        await self.orders.insert_lines(
            [
                OrderLine(
                    order_id=order_id,
                    line=0,
                    state=LineState.ORDERED,
                    requested_id=device,
                    registration_id=device,
                    enrollment_group="line",
                    register_by=RegisterBy.DEVICE if csr else register_by,
                    csr=csr,
                    accepted_at=self.now,
                    **fields,
                )
            ]
        )
        await self.deliver(order_id)

    async def deliver(self, order_id: str = "order") -> None:
        """Carry an order's line out, as one delivery of its message does."""
        await self.registrations.register(DeviceRegistration(order_id=order_id, line=0))

    async def line(self, order_id: str = "order") -> OrderLine:
        """Give an order's line as it is now."""
        known = await self.orders.get_line(order_id, 0)
        assert known is not None
        return known.record

    async def renew(self, request_id: str = "renewal", device: str = "press", csr: str | None = None) -> None:
        """Carry a renewal out, as one delivery of its message does."""
        await self.renewals.carry_out(RenewalRequest(request_id=request_id, registration_id=device, csr=csr))

    async def renewing(self, request_id: str = "renewal", device: str = "press", csr: str | None = None) -> None:
        """Begin a renewal, which then waits for its device."""
        try:
            await self.renew(request_id, device, csr)
        except Deferred:
            return
        raise AssertionError("the renewal did not wait")

    async def revoke(self, reason: RevocationReason = COMPROMISE, **fields: Any) -> None:
        """Revoke the device, or what the fields name."""
        await self.revocations.carry_out(self.revocation(reason=reason, **fields))

    async def reinstate(self, **fields: Any) -> None:
        """Undo a hold."""
        await self.revocations.carry_out(self.revocation(action=RevocationAction.REINSTATE, **fields))

    async def delete(self, device: str = "press") -> None:
        """Take a device out of service."""
        await self.revocations.carry_out(self.revocation(action=RevocationAction.DELETE, registration_id=device))

    def revocation(self, **fields: Any) -> RevocationRequest:
        """Make a request with a new id."""
        named = {"registration_id", "registration_ids", "serial_number", "enrollment_group", "order_id"} & fields.keys()
        given = {} if named else {"registration_id": "press"}
        return RevocationRequest(**{"request_id": self._next_id("revocation"), **given, **fields})

    async def enroll(self, device: str = "press", *, expects: Expectation = as_it_is, **body: Any) -> None:
        """Write an individual enrollment."""
        await self.enrollments.put(device, parse(IndividualEnrollmentDefinition, body), expects=expects)

    def boot(self, certificate: x509.Certificate, device: str = "press") -> None:
        """Let a device register by itself."""
        self.registrar.boot(device, certificate)

    # --- what there is ---

    async def known(self, device: str = "press") -> Versioned[DeviceRecord]:
        """Give a device as it stands in the ledger."""
        known = await self.devices.get(device)
        assert known is not None
        return known

    async def record(self, device: str = "press") -> DeviceRecord:
        """Give a device's record."""
        return (await self.known(device)).record

    async def state(self, device: str = "press") -> DeviceState:
        """Give a device's state."""
        return (await self.record(device)).state

    async def serials(self, device: str = "press") -> list[str]:
        """Give the serial numbers of a device's certificates, in the order in which they were made."""
        return [each.serial_number for each in (await self.record(device)).held]

    async def certificate(self, number: int, device: str = "press") -> x509.Certificate:
        """Give a device's certificates by number: 1 is the first, 0 the last."""
        known = await self.certificates.get((await self.serials(device))[number - 1])
        assert known is not None
        assert known.record.pem is not None
        return x509.load_pem_x509_certificate(known.record.pem.encode())

    async def states(self, device: str = "press") -> list[CertificateState]:
        """Give the states of a device's certificates, which its record and their own rows must have alike."""
        record = await self.record(device)
        rows = [await self.certificates.get(each.serial_number) for each in record.held]
        assert [known.record.state for known in rows if known] == [each.state for each in record.held]
        return [each.state for each in record.held]

    async def admitted(self, device: str = "press") -> list[int]:
        """Tell with which of its certificates DPS lets a device in."""
        found = []
        for number, each in enumerate((await self.record(device)).held, start=1):
            if each.issued and self.provisioning.admits(device, await self.certificate(number, device)):
                found.append(number)
        return found

    def bundle(self) -> bytes:
        """Give what is stored of the newest bundle."""
        return list(self.blobs.blobs.values())[-1].content

    def entry(self, device: str = "press") -> str | None:
        """Give the status of a device's own entry."""
        entry = self.provisioning.enrollments.get(device)
        return entry["provisioningStatus"] if entry else None

    def identity(self, device: str = "press") -> bool | None:
        """Tell whether the hub lets a device in; ``None`` if it does not know it."""
        identity = self.hubs.identities.get((HUB, device))
        return identity.enabled if identity else None

    async def listed(self) -> list[str]:
        """Give the serial numbers on the issuer's list."""
        return sorted([each.serial_number async for each in self.certificates.revoked_by(ISSUER)])

    def events(self) -> list[str]:
        """Give the types of the events that were sent, each one once."""
        told = {
            body["id"]: body["type"].removeprefix("DeviceProvisioning.")
            for queue, body, _ in self.queues.sent
            if queue == "provisioning-events"
        }
        return list(told.values())

    def event(self, kind: str) -> dict[str, Any]:
        """Give the last event of a type."""
        return next(body for _, body, _ in reversed(self.queues.sent) if body["type"].endswith(f".{kind}"))


def csr(device: str = "press", key: PrivateKey | None = None) -> str:
    """Make a device's request, with a new key unless one is given."""
    return signing_request(device, key=key or generate_key(KeyAlgorithm.EC_P256))


def pem(certificate: x509.Certificate) -> str:
    """Give a certificate in PEM."""
    return names.pem(certificate)


async def registered(**fields: Any) -> DeviceScene:
    """Give a scene with the device ``press`` in its hub."""
    scene = await DeviceScene().set_up()
    await scene.order(**fields)
    return scene


async def renewed_from(key: PrivateKey) -> DeviceScene:
    """Give a device that had a certificate with a key (1), and has renewed it with another key of its own (2)."""
    scene = await DeviceScene().set_up()
    with pytest.raises(Deferred):
        await scene.order(csr=csr(key=key))
    scene.boot(await scene.certificate(1))
    await scene.deliver()
    another = csr()
    await scene.renewing("first", csr=another)
    scene.boot(await scene.certificate(2))
    await scene.renew("first", csr=another)
    return scene


async def renewing() -> DeviceScene:
    """Give a device with a certificate that it had (1), one that it has (2), and one that waits for it (3)."""
    scene = await registered()
    await scene.renewing("renewal-1")
    scene.boot(await scene.certificate(2))
    await scene.renew("renewal-1")
    await scene.renewing("renewal-2")
    return scene
