"""What an older ledger takes back: revocations first, then certificates, and nothing that our CAs have not signed."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from shared.domain.words import DeviceState, RevocationReason
from shared.pki import names
from shared.pki.list_checks import listed_serial_numbers
from shared.pki.revocation_lists import RevokedCertificate, build_crl, encode_entry
from shared.ports.blobs import StoredBlob
from shared.workflows.reconciliation.restoring import Restoration
from shared.workflows.reconciliation.taking_in import TakingIn
from tests.unit.devices import HUB, ISSUER, DeviceScene
from tests.unit.pki.hierarchy import NOW, hierarchy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


@dataclass
class Records:
    """The row of the one CA."""

    record: Any = field(
        default_factory=lambda: SimpleNamespace(name=ISSUER, certificate="there", crl_number=4, changed=None)
    )
    written: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.record.changed = lambda **changes: changes

    async def get(self, _name: str) -> Any:
        return SimpleNamespace(record=self.record)

    async def replace(self, _known: Any, changes: dict[str, Any]) -> None:
        self.written.append(changes)


class Authorities:
    """One CA, and its row."""

    def __init__(self) -> None:
        self.records = Records()

    async def list(self) -> AsyncIterator[Any]:
        yield self.records.record

    async def load(self, _name: str) -> Any:
        return hierarchy().issuing


class Epochs:
    """Remembers when the ledger was accepted."""

    def __init__(self, scene: DeviceScene) -> None:
        self.scene, self.states = scene, dict[str, DeviceState]()

    async def accept(self) -> int:
        for name in ("press", "drill"):
            if (known := await self.scene.devices.get(name)) is not None:
                self.states[name] = known.record.state
        return 58


class BundlesAndLists:
    """The scene's blobs, in which lists are not bundles."""

    def __init__(self, scene: DeviceScene) -> None:
        self.scene = scene

    async def names(self, _container: str, _prefix: str) -> list[str]:
        return sorted(name for _, name in self.scene.blobs.blobs if name.endswith(".json"))

    async def get(self, container: str, name: str) -> StoredBlob | None:
        return await self.scene.blobs.get(container, name)


class Lists:
    """Publishes nothing."""

    async def publish_all(self) -> int:
        return 1


@dataclass
class Disaster:
    """A scene whose ledger can be put back."""

    scene: DeviceScene
    copy: dict[str, Any] = field(default_factory=dict)

    def copied(self) -> None:
        """Copy the ledger."""
        self.copy = {name: deepcopy(table.rows) for name, table in self.scene.tables.items()}

    def put_back(self) -> None:
        """Have the ledger as it was copied."""
        for name, table in self.scene.tables.items():
            table.rows = deepcopy(self.copy.get(name, {}))

    def publish(self, *serials: str, number: int = 9, reason: str = "keyCompromise") -> None:
        """Publish a list of the CA."""
        entries = [encode_entry(RevokedCertificate(int(each, 16), NOW, RevocationReason(reason))) for each in serials]
        made = build_crl(
            entries, issuer=hierarchy().issuing, crl_number=number, now=NOW, next_update=NOW + timedelta(days=7)
        )
        self.scene.blobs.blobs["crls", f"{ISSUER}.crl"] = StoredBlob(made, {}, "1")

    async def taken_back(self) -> tuple[list[str], Epochs, Records]:
        """Run it; give its lines, and what was done in the end."""
        authorities, epochs = Authorities(), Epochs(self.scene)
        given: dict[str, Any] = {
            "authorities": authorities,
            "blobs": BundlesAndLists(self.scene),
            "epochs": epochs,
            "lists": Lists(),
        }
        common: dict[str, Any] = {
            "certificates": self.scene.certificates,
            "devices": self.scene.devices,
            "groups": self.scene.groups,
            "provisioning": self.scene.provisioning,
            "hubs": self.scene.hubs,
            "clock": self.scene.clock,
        }
        taking_in = TakingIn(expiry=self.scene.expiry, settings=self.scene.settings, **common)
        given["authority_converger"] = None  # of the scene's one CA nothing is revoked
        subject = Restoration(converger=self.scene.converger, log=None, taking_in=taking_in, **common, **given)
        return [line async for line in subject.run()], epochs, authorities.records


async def disaster(*devices: str) -> Disaster:
    scene = await DeviceScene().set_up()
    for each in devices:
        await scene.order(f"order-{each}", each)
    return Disaster(scene)


def about(lines: Sequence[str], what: str) -> list[str]:
    return [line for line in lines if line.startswith(f"{what}: ")]


async def test_a_revocation_is_taken_back_before_anything_is_signed() -> None:
    """The device's record says so before the epoch is accepted, and then its doors are shut."""
    subject = await disaster("press", "drill")
    (serial,) = await subject.scene.serials("press")
    subject.copied()
    await subject.scene.revoke()
    subject.put_back()
    subject.publish(serial)
    assert await subject.scene.state() is DeviceState.REGISTERED
    lines, epochs, records = await subject.taken_back()
    assert about(lines, "press") == ["press: revoked again (keyCompromise, 2026-03-01 12:00 UTC)"]
    assert epochs.states == {"press": DeviceState.REVOKED, "drill": DeviceState.REGISTERED}
    assert (subject.scene.entry(), subject.scene.identity()) == ("disabled", False)
    assert records.written == [{"crl_number": 1009, "list_making": None}]
    assert "the next CRL of 'line-1-ca1' has number 1010; the last one was 9" in lines
    assert "the ledger's epoch is 58 now: certificates are signed again" in lines
    again, _, _ = await subject.taken_back()
    assert about(again, "press") == []


async def test_a_device_that_was_made_meanwhile_is_known_again() -> None:
    """Its bundle has its certificate, DPS its place; it can be revoked as before, and its order sent again."""
    subject = await disaster("press")
    subject.copied()
    await subject.scene.order("order-drill", "drill")
    (serial,) = await subject.scene.serials("drill")
    subject.put_back()
    lines, _, _ = await subject.taken_back()
    assert about(lines, "drill") == [f"drill: known again, with certificate {serial}, in {HUB}"]
    record = await subject.scene.record("drill")
    assert (record.state, record.enrollment_group, record.assigned_hub) == (DeviceState.REGISTERED, "line", HUB)
    await subject.scene.revoke(registration_id="drill")
    assert subject.scene.identity("drill") is False


async def test_a_device_that_was_made_and_revoked_meanwhile_comes_back_revoked() -> None:
    subject = await disaster("press")
    subject.copied()
    await subject.scene.order("order-drill", "drill")
    (serial,) = await subject.scene.serials("drill")
    await subject.scene.revoke(registration_id="drill")
    subject.put_back()
    subject.publish(serial)
    _, epochs, _ = await subject.taken_back()
    assert epochs.states["drill"] is DeviceState.REVOKED


async def test_a_certificate_that_a_device_was_renewed_with_is_known_again() -> None:
    """Its hub lets it in with the new one alone, so that is the one it uses."""
    subject = await disaster("press")
    (before,) = await subject.scene.serials()
    subject.copied()
    await subject.scene.renewing()
    after = (await subject.scene.record()).next_certificate
    assert after is not None
    subject.scene.hubs.enter(HUB, "press", names.sha256_thumbprint(await subject.scene.certificate(0)))
    subject.put_back()
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == [
        f"press: certificate {after.serial_number}, with which it was renewed, is known again"
    ]
    assert await subject.scene.serials() == [before, after.serial_number]
    assert [each.value for each in await subject.scene.states()] == ["superseded", "active"]


async def test_what_a_hub_keeps_out_stays_out() -> None:
    """No list names it, so why is not known: it is disabled, which an operator can undo."""
    subject = await disaster("press", "drill")
    subject.scene.hubs.enter(HUB, "press", enabled=False)
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == [
        "press: it is disabled in hub-1, and no list names it: it is kept out; enable it, or revoke it"
    ]
    assert (await subject.scene.record("press")).disabled
    assert not (await subject.scene.record("drill")).disabled


async def test_what_was_made_and_disabled_meanwhile_stays_out() -> None:
    """It is looked at when every device is known again: else its hub would be opened to it."""
    subject = await disaster("press")
    subject.copied()
    await subject.scene.order("order-drill", "drill")
    subject.scene.hubs.enter(HUB, "drill", enabled=False)
    subject.put_back()
    await subject.taken_back()
    assert (await subject.scene.record("drill")).disabled
    assert subject.scene.identity("drill") is False


async def test_a_bundle_that_our_cas_have_not_signed_makes_no_device() -> None:
    """Who may write blobs must not make devices."""
    subject = await disaster("press")
    subject.copied()
    await subject.scene.order("order-drill", "drill")
    (serial,) = await subject.scene.serials("drill")
    subject.put_back()
    name = f"drill/{serial}.json"
    stored = subject.scene.blobs.blobs["bundles", name]
    certificate = x509.load_pem_x509_certificate(json.loads(stored.content)["pem"].encode())
    forged = bytearray(certificate.public_bytes(Encoding.DER))
    forged[-1] ^= 1
    subject.scene.blobs.blobs["bundles", name] = StoredBlob(
        stored.content.replace(_body(certificate), _body(x509.load_der_x509_certificate(bytes(forged)))), {}, "2"
    )
    lines, _, _ = await subject.taken_back()
    assert about(lines, "drill") == [
        f"drill: its bundle has certificate {serial}, which no CA of the ledger has signed"
    ]
    assert await subject.scene.devices.get("drill") is None


async def test_a_revocation_of_a_certificate_that_nobody_knows_stays_on_the_list() -> None:
    subject = await disaster("press")
    unknown = "4a" * 20
    subject.publish(unknown)
    lines, _, _ = await subject.taken_back()
    assert any(line.startswith(f"certificate {unknown} of 'line-1-ca1' is revoked (keyCompromise)") for line in lines)
    revoked = [each.serial_number async for each in subject.scene.certificates.revoked_by(ISSUER)]
    assert revoked == [unknown]
    row = await subject.scene.certificates.get(unknown)
    assert row is not None, "OCSP answers by it"
    assert (row.record.state, row.record.revocation_reason) == ("revoked", "keyCompromise")
    assert await subject.taken_back()
    crl = subject.scene.blobs.blobs["crls", f"{ISSUER}.crl"].content
    assert listed_serial_numbers(crl, hierarchy().issuing) == {int(unknown, 16)}


def _body(certificate: x509.Certificate) -> bytes:
    """Give a certificate as it stands in a bundle's JSON."""
    return names.pem(certificate).replace("\n", "\\n").encode()
