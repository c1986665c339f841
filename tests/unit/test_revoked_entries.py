"""The entries of CRLs: encoded once, kept by month, changed in place, and gone when their month is over."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.certificates import RevocationRecord
from shared.domain.words import RevocationReason
from shared.ledger.certificates import Certificates
from shared.pki.revocation_lists import RevokedCertificate, build_crl, encode_entry
from shared.ports.blobs import StoredBlob
from shared.workflows.status.revoked_entries import RevokedEntries
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.fakes import FakeBlobs, FakeTable

if TYPE_CHECKING:
    from shared.domain.authorities import KeptMonth

ISSUER = "line-1-ca1"
NEXT_YEAR = NOW + timedelta(days=365)


def record(serial: int, *, not_after: datetime = NEXT_YEAR, reason: str = "superseded") -> RevocationRecord:
    return RevocationRecord(
        serial_number=f"{(1 << 158) + serial:040x}",
        issuer=ISSUER,
        revoked_at=NOW,
        reason=RevocationReason(reason),
        not_after=not_after,
    )


@dataclass
class Scene:
    rows: FakeTable = field(default_factory=FakeTable)
    blobs: FakeBlobs = field(default_factory=FakeBlobs)
    kept: dict[str, KeptMonth] = field(default_factory=dict)
    steps: int = 0

    @property
    def ledger(self) -> Certificates:
        return Certificates(certificates=FakeTable(), revocations=self.rows, in_force=FakeTable())

    @property
    def subject(self) -> RevokedEntries:
        blobs: Any = self.blobs
        return RevokedEntries(certificates=self.ledger, blobs=blobs, container="crls")

    async def enter(self, entry: RevocationRecord, **changes: Any) -> None:
        """Enter a revocation, or its end, into the ledger; each is of a later generation than the one before."""
        self.steps += 1
        await self.ledger.enter_revocation(entry.changed(generation=self.steps, **changes))

    async def listed(self, listed_at: datetime | None = NOW) -> dict[int, x509.ReasonFlags | None]:
        """Make a list as the workflow does, and read it with cryptography."""
        current = await self.subject.current(ISSUER, self.kept, listed_at)
        assert current is not None
        until = NOW + timedelta(days=7)
        der = build_crl(current.joined, issuer=hierarchy().issuing, crl_number=1, now=NOW, next_update=until)
        self.kept = current.kept
        await self.ledger.forget(current.changes)
        await self.subject.leave(current.over)
        assert len(x509.load_der_x509_crl(der)) == current.length
        return {entry.serial_number - (1 << 158): _reason(entry) for entry in x509.load_der_x509_crl(der)}


def _reason(entry: x509.RevokedCertificate) -> x509.ReasonFlags | None:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return None


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["revoke", "hold", "reinstate", "list"])), max_size=25))
async def test_the_entries_are_those_of_the_ledger_whatever_happened(steps: list[tuple[int, str]]) -> None:
    """After any row of revocations, holds, reinstatements and lists, the list holds what is revoked and no more."""
    scene, expected = Scene(), dict[int, x509.ReasonFlags | None]()
    for serial, step in steps:
        reason = {"revoke": "unspecified", "hold": "certificateHold"}.get(step)
        not_after = NEXT_YEAR + timedelta(days=40 * (serial % 3))
        if reason is not None:
            await scene.enter(record(serial, not_after=not_after, reason=reason))
            expected[serial] = x509.ReasonFlags.certificate_hold if step == "hold" else None
        elif step == "reinstate":
            await scene.enter(record(serial, not_after=not_after), ended=True)
            expected.pop(serial, None)
        else:
            assert await scene.listed() == expected
    assert await scene.listed() == expected
    assert await scene.ledger.changes(ISSUER) == []


async def test_a_list_of_what_has_not_changed_reads_no_row_of_a_certificate() -> None:
    """The kept entries are joined as they are: nothing is encoded, and no blob is written, a second time."""
    scene = Scene()
    for serial in range(3):
        await scene.enter(record(serial))
    await scene.listed()
    kept = dict(scene.blobs.blobs)
    for key in [key for key in scene.rows.rows if key[0] == ISSUER]:
        del scene.rows.rows[key]
    assert set(await scene.listed()) == {0, 1, 2}
    assert scene.blobs.blobs == kept


async def test_a_month_leaves_when_all_its_certificates_have_expired() -> None:
    """Entries stay until a list was made after their month, which has them for the last time (RFC 5280 section 3.3)."""
    scene = Scene()
    early = datetime.fromisoformat("2026-05-31T23:00:00Z")
    await scene.enter(record(1, not_after=early))
    await scene.enter(record(2))
    assert set(await scene.listed(None)) == {1, 2}
    assert set(await scene.listed(datetime.fromisoformat("2026-05-31T23:59:59Z"))) == {1, 2}
    assert set(await scene.listed(datetime.fromisoformat("2026-06-01T00:00:00Z"))) == {2}
    assert sorted(scene.blobs.blobs) == [("crls", f"entries/{ISSUER}/2027-03")]


async def test_lost_entries_are_made_anew_from_the_ledger() -> None:
    """Whoever deletes the blobs of a CA gets the same list again, without what has expired meanwhile."""
    scene = Scene()
    await scene.enter(record(1, not_after=NOW + timedelta(days=30)))
    await scene.enter(record(2))
    await scene.listed()
    scene.blobs.blobs.clear()
    assert set(await scene.listed(NOW + timedelta(days=90))) == {2}


async def test_two_writers_do_not_overwrite_each_other() -> None:
    """When another has changed a month in between, nothing is written and the changes are kept for the next try."""
    scene = Scene()
    await scene.enter(record(1))
    await scene.listed()
    await scene.enter(record(2))
    [name] = scene.blobs.blobs
    read, before = scene.blobs.get, scene.blobs.blobs[name]

    async def get(container: str, wanted: str) -> Any:
        stored = await read(container, wanted)
        scene.blobs.blobs[name] = type(before)(before.content, before.metadata, "others")
        return stored

    scene.blobs.get = get  # type: ignore[method-assign,assignment]
    assert await scene.subject.current(ISSUER, scene.kept, NOW) is None
    scene.blobs.get = read  # type: ignore[method-assign]
    assert set(await scene.listed()) == {1, 2}


OLDER, EMPTY, JUNK = "older", b"", b"\x30\x80junk"


@pytest.mark.parametrize("content", [OLDER, EMPTY, JUNK], ids=["older", "emptied", "junk"])
async def test_entries_that_others_have_rewritten_are_made_anew_from_the_ledger(
    content: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody leaves a list, or comes onto it, by what is written into the container; the log says that it was tried."""
    scene = Scene()
    await scene.enter(record(1))
    await scene.listed()
    [name] = scene.blobs.blobs
    older = scene.blobs.blobs[name].content
    await scene.enter(record(2))
    assert set(await scene.listed()) == {1, 2}
    rewritten = older if isinstance(content, str) else content
    scene.blobs.blobs[name] = StoredBlob(rewritten, {}, "theirs")
    await scene.enter(record(3))
    assert set(await scene.listed()) == {1, 2, 3}
    assert (
        "the entries that are kept for the list of 'line-1-ca1' are not those that were written (2027-03)"
        in caplog.text
    )
    caplog.clear()
    assert set(await scene.listed()) == {1, 2, 3}
    assert caplog.text == ""


async def test_entries_of_a_month_that_the_ledger_knows_nothing_of_are_not_listed() -> None:
    """Others may put any blob beside those of a CA."""
    scene = Scene()
    await scene.enter(record(1))
    await scene.listed()
    forged = encode_entry(RevokedCertificate(7, NOW))
    scene.blobs.blobs["crls", f"entries/{ISSUER}/2027-01"] = StoredBlob(forged, {}, "theirs")
    assert set(await scene.listed()) == {1}
    await scene.enter(record(2, not_after=datetime.fromisoformat("2027-01-05T00:00:00Z")))
    assert set(await scene.listed()) == {1, 2}
