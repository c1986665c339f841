"""Lists of an offline root: what is looked at before one is served, and that an older one never takes its place."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from shared.errors import Conflict, Deferred, NotFound, Overtaken, Rejected
from shared.ledger.imported_lists import ImportedListRows
from shared.pki import names
from shared.ports.blobs import StoredBlob
from shared.workflows.status.imported_lists import ImportedLists, ServedLists, list_name
from tests.pki.hierarchy import NOW
from tests.unit.authorities import AuthorityScene
from tests.unit.fakes import FakeBlobs
from tests.world.authority_world import ELSEWHERE, TOP, TOP_KEY, answer

DAY = timedelta(days=1)


def crl(
    number: int | None = 7,
    *,
    listed: tuple[int, ...] = (),
    since: datetime = NOW,
    until: datetime = NOW + 90 * DAY,
    issuer: x509.Name = TOP.subject,
    key: Any = TOP_KEY,
    extension: tuple[x509.ExtensionType, bool] | None = None,
) -> bytes:
    """Have the root sign a list, as its owner does offline."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(since).next_update(until)
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    if extension is not None:
        builder = builder.add_extension(extension[0], critical=extension[1])
    for serial in listed:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


class Scene:
    """A CA of ours that the root ``top`` has signed, whose key is elsewhere."""

    def __init__(self) -> None:
        self.authorities, self.blobs = AuthorityScene(), FakeBlobs()

    @property
    def subject(self) -> ImportedLists:
        blobs: Any = self.blobs
        return ImportedLists(
            records=self.authorities.records,
            rows=ImportedListRows(self.authorities.table),
            blobs=blobs,
            clock=self.authorities.clock,
        )

    async def set_up(self) -> Scene:
        worker = self.authorities.worker()
        record = await worker.creation.ensure(ELSEWHERE, cause="make-it")
        given = answer(record.signing_request or "")
        pem = b"".join(each.public_bytes(Encoding.PEM) for each in (given, TOP))
        await worker.installation.install(ELSEWHERE.name, pem)
        return self


async def test_a_list_of_an_offline_root_is_served_as_it_was_signed() -> None:
    """In PEM or in DER; and it says which CAs here it revokes."""
    scene = await Scene().set_up()
    known = await scene.authorities.records.get(ELSEWHERE.name)
    assert known is not None
    serial = int(known.record.serial_number or "", 16)
    content = crl(listed=(serial, 99))
    found = await scene.subject.take_in("top", content)
    assert (found.number, found.entries, found.revokes) == (7, 2, [ELSEWHERE.name])
    described, served = await scene.subject.read("top")
    assert served == x509.load_pem_x509_crl(content).public_bytes(Encoding.DER)
    assert (described.made_at, described.next_update) == (NOW, NOW + 90 * DAY)
    assert await scene.subject.take_in("top", served) == found


async def test_only_a_later_list_takes_the_place_of_the_one_that_is_there() -> None:
    """Its number is higher and it is not older; what it replaces is gone."""
    scene = await Scene().set_up()
    await scene.subject.take_in("top", crl(7))
    for older in (crl(6), crl(7, listed=(1,)), crl(8, since=NOW - DAY)):
        with pytest.raises(
            Conflict, match=r"the one that is here has number 7, of .*, and only a later one replaces it"
        ):
            await scene.subject.take_in("top", older)
    await scene.subject.take_in("top", crl(8))
    assert len(scene.blobs.blobs) == 1
    assert x509.load_der_x509_crl((await scene.subject.read("top"))[1]).extensions[0].value == x509.CRLNumber(8)


OTHER = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "other")])
PART = x509.IssuingDistributionPoint(
    full_name=None,
    relative_name=None,
    only_contains_user_certs=True,
    only_contains_ca_certs=False,
    only_some_reasons=None,
    indirect_crl=False,
    only_contains_attribute_certs=False,
)
REFUSED: list[tuple[bytes, str]] = [
    (b"\x30\x03\x02\x01\x01", r"it is not a CRL \(RFC 5280 section 5.1\), or is cut off"),
    (TOP.public_bytes(Encoding.PEM), r"the PEM has CERTIFICATE; give one list, '-----BEGIN X509 CRL-----'"),
    (crl(issuer=OTHER), "it is a list of 'CN=other', and not of 'top'"),
    (crl(since=NOW + DAY), r"it holds only from .* on \(thisUpdate\)"),
    (
        crl(since=NOW - 9 * DAY, until=NOW - DAY),
        r"it is out of date since .* \(nextUpdate\); have the CA sign a new one",
    ),
    (crl(None), r"it has no CRL number"),
    (crl(extension=(PART, True)), "it is a delta, or a part of a list: critical extension 2.5.29.28"),
    (
        crl(extension=(x509.DeltaCRLIndicator(3), True)),
        "it is a delta, or a part of a list: critical extension 2.5.29.27",
    ),
]


@pytest.mark.parametrize(
    ("content", "why"),
    REFUSED,
    ids=["no DER", "certificate", "another CA's", "not yet", "out of date", "no number", "part", "delta"],
)
async def test_a_list_that_relying_parties_can_not_use_is_refused_in_words(content: bytes, why: str) -> None:
    """Each fault by its name, and what would be right; nothing is kept."""
    scene = await Scene().set_up()
    with pytest.raises(Rejected, match=why):
        await scene.subject.take_in("top", content)
    assert await scene.subject.find("top") is None
    assert scene.blobs.blobs == {}


async def test_a_list_with_a_flipped_byte_is_refused_anywhere() -> None:
    """Its signature says so, or it can't be read; a list of another key is refused likewise."""
    scene = await Scene().set_up()
    der = x509.load_pem_x509_crl(crl(listed=(5,))).public_bytes(Encoding.DER)
    for at in range(0, len(der), 7):
        broken = bytes([*der[:at], der[at] ^ 1, *der[at + 1 :]])
        with pytest.raises(Rejected):
            await scene.subject.take_in("top", broken)
    with pytest.raises(Rejected, match="it is not signed by the key of 'top'"):
        await scene.subject.take_in("top", crl(key=ec.derive_private_key(9, ec.SECP256R1())))


async def test_a_list_is_imported_only_for_a_ca_above_ours_whose_key_is_not_here() -> None:
    """Ours are made here; of others nobody asks us."""
    scene = await Scene().set_up()
    with pytest.raises(Conflict, match="'elsewhere' is a CA whose lists are made here"):
        await scene.subject.take_in("elsewhere", crl())
    with pytest.raises(NotFound, match="no CA here has 'nobody' above it; known are top"):
        await scene.subject.take_in("nobody", crl())


class Racing(ImportedListRows):
    """Somebody else brings a list between the read and the write of a row.

    Attributes:
        others: the lists that they bring, one each time.
    """

    def __init__(self, scene: Scene, others: list[bytes]) -> None:
        super().__init__(scene.authorities.table)
        self.scene, self.others = scene, others

    async def try_put(self, known: Any, record: Any) -> bool:
        if self.others:
            await self.scene.subject.take_in("top", self.others.pop(0))
        return await super().try_put(known, record)


async def test_of_two_lists_that_come_at_once_the_later_one_stays() -> None:
    """The earlier one is refused when it comes second, and takes nothing away."""
    for others, refused in (([crl(9)], True), ([crl(6)], False)):
        scene = await Scene().set_up()
        racing = replace(scene.subject, rows=Racing(scene, others))
        if refused:
            with pytest.raises(Conflict, match="the one that is here has number 9"):
                await racing.take_in("top", crl(8))
        else:
            await racing.take_in("top", crl(8))
        kept = x509.load_der_x509_crl((await scene.subject.read("top"))[1]).extensions[0].value
        assert kept == x509.CRLNumber(9 if refused else 8)


async def test_who_brings_a_list_while_others_keep_bringing_theirs_comes_again() -> None:
    scene = await Scene().set_up()
    others = [crl(number) for number in range(1, 60)]
    racing = replace(scene.subject, rows=Racing(scene, others))
    with pytest.raises(Overtaken, match=r"^others bring lists of 'top' at this moment$"):
        await racing.take_in("top", crl(99))


async def test_a_list_that_is_not_there_as_it_was_imported_is_not_served() -> None:
    """Whoever may write blobs can't say who is revoked; and one that was never imported does not exist."""
    scene = await Scene().set_up()
    with pytest.raises(NotFound, match=r"^name: no list of 'top' was imported$"):
        await scene.subject.read("top")
    assert await scene.subject.find("top") is None
    await scene.subject.take_in("top", crl(7, listed=(1,)))
    [(place, stored)] = scene.blobs.blobs.items()
    der = x509.load_pem_x509_crl(crl(6)).public_bytes(Encoding.DER)
    scene.blobs.blobs[place] = StoredBlob(der, {}, stored.etag)
    with pytest.raises(Deferred, match=r"^the CRL of 'top' is not there as it was imported$"):
        await scene.subject.read("top")
    scene.blobs.blobs[place] = stored
    assert (await scene.subject.read("top"))[1] == stored.content


@pytest.mark.parametrize("what", ["deleted", "changed", "there before, and cut off"])
async def test_a_list_that_was_lost_is_there_again_when_it_is_imported_again(what: str) -> None:
    """Its number is the same, and without its file nobody is told who is revoked."""
    scene = await Scene().set_up()
    content = crl(7, listed=(1,))
    found = await scene.subject.take_in("top", content)
    described, served = await scene.subject.read("top")
    [(place, stored)] = scene.blobs.blobs.items()
    if what == "deleted":
        scene.blobs.blobs.clear()
    else:
        scene.blobs.blobs[place] = StoredBlob(served[:9], {}, stored.etag)
    if what.startswith("there before"):
        for key in [each for each in scene.authorities.table.rows if each[0] == "importedList"]:
            del scene.authorities.table.rows[key]
    assert await scene.subject.take_in("top", content) == found
    assert await scene.subject.read("top") == (described, served)


async def test_a_list_that_a_later_one_replaces_while_it_is_imported_again_is_not_left() -> None:
    scene = await Scene().set_up()
    content = crl(7)
    await scene.subject.take_in("top", content)
    create = scene.blobs.create

    async def later(*given: Any, **named: Any) -> bool:
        scene.blobs.create = create  # type: ignore[method-assign]
        await scene.subject.take_in("top", crl(8))
        return await create(*given, **named)

    again = scene.subject
    scene.blobs.create = later  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="the one that is here has number 8"):
        await again.take_in("top", content)
    kept = x509.load_der_x509_crl((await scene.subject.read("top"))[1]).extensions[0].value
    assert (kept, len(scene.blobs.blobs)) == (x509.CRLNumber(8), 1)


async def test_a_list_whose_file_others_keep_changing_comes_again() -> None:
    scene = await Scene().set_up()
    content = crl(7)
    await scene.subject.take_in("top", content)
    [(place, stored)] = scene.blobs.blobs.items()
    scene.blobs.blobs[place] = StoredBlob(b"other", {}, stored.etag)

    async def changed(*_: Any, **__: Any) -> bool:
        return False

    scene.blobs.replace = changed  # type: ignore[method-assign]
    with pytest.raises(Overtaken, match=r"^others change the CRL of 'top' at this moment$"):
        await scene.subject.take_in("top", content)


class OwnLists:
    """The lists that are made here: those of one CA."""

    async def read(self, name: str) -> tuple[str, bytes]:
        if name != "ours":
            raise NotFound.because(f"the certificate authority {name!r} does not exist")
        return "described", b"list of ours"

    async def describe(self, name: str) -> str:
        return (await self.read(name))[0]


async def test_who_asks_for_a_list_gets_ours_or_else_the_one_that_was_imported() -> None:
    scene = await Scene().set_up()
    own: Any = OwnLists()
    served = ServedLists(own=own, imported=scene.subject)
    for ask in (served.read, served.describe):
        with pytest.raises(NotFound, match=r"^the certificate authority 'top' does not exist$"):
            await ask("top")
    await scene.subject.take_in("top", crl(7))
    assert (await served.read("ours"))[1] == b"list of ours"
    assert str(await served.describe("ours")) == "described"
    assert await served.read("top") == await scene.subject.read("top")
    assert await served.describe("top") == (await scene.subject.read("top"))[0]


def test_a_ca_whose_name_does_not_fit_a_path_has_dashes_in_it() -> None:
    assert names.common_name(TOP.subject) == list_name(TOP) == "top"
