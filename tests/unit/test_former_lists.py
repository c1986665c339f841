"""A CA that is made again under its name: its lists go on where those of the former one ended."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from shared.domain.words import DeviceState
from shared.errors import LedgerBehind
from shared.pki.revocation_lists import build_crl
from shared.ports.blobs import StoredBlob
from shared.restoration import DONE
from shared.workflows.status.former_lists import former_list
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.adopting import GROUP, ISSUER, Deployment
from tests.unit.fakes import Killed, Trap
from tests.unit.test_adopting import certificate_of, listed, number, said

if TYPE_CHECKING:
    from cryptography import x509

    from shared.pki.issuers import Issuer

HOUR = timedelta(hours=1)


async def forgotten() -> tuple[Deployment, x509.Certificate]:
    """Give a ledger of a time before its group was made, and the certificate of a device that was revoked since."""
    subject = Deployment()
    await subject.make_root()
    await subject.app.epochs.advance()
    copy = subject.copied()
    subject.now += HOUR
    await subject.make_group()
    for each in ("press", "drill"):
        await subject.order(each)
    revoked = await certificate_of(subject, "drill")
    await subject.revoke("drill")
    await subject.app.epochs.advance()
    subject.now += HOUR
    subject.put_back(copy)
    return subject, revoked


async def test_a_group_that_was_made_after_the_copy_is_deleted_in_dps_and_made_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As docs/recover.md says it. What was revoked stays so, numbers go on, and its devices are taken back."""
    subject, revoked = await forgotten()
    last = number(subject.crl(ISSUER))
    assert await subject.command() == DONE
    assert f"the enrollment group {GROUP!r} is in DPS, and the ledger does not know it" in capsys.readouterr().out
    del subject.provisioning.groups[GROUP]
    subject.now += HOUR
    await subject.make_group("again")
    await subject.app.revocation_lists.publish(ISSUER)
    assert number(subject.crl(ISSUER)) == last + 1001
    serial = f"{revoked.serial_number:040x}"
    assert listed(subject.crl(ISSUER)) == {serial: "keyCompromise"}
    assert (await said(subject, revoked)).certificate_status.name == "REVOKED"
    assert await subject.app.revocation_lists.ahead() is None
    await subject.app.readiness.checks["ledger"]()
    assert await subject.command(accept=True, since=NOW) == DONE
    assert (await subject.device("press")).state is DeviceState.REGISTERED
    assert not subject.provisioning.admits("drill", revoked)
    await subject.order("mill")
    await subject.revoke("mill")
    assert set(listed(subject.crl(ISSUER))) > {serial}


async def test_killed_at_any_write_the_first_list_has_what_the_former_one_had() -> None:
    """The writes are those of CAs and of revocations; the request comes again, as its message does."""
    subject, revoked = await forgotten()
    last, serial = number(subject.crl(ISSUER)), f"{revoked.serial_number:040x}"
    await subject.take_back()
    del subject.provisioning.groups[GROUP]
    subject.now += HOUR
    copy, services = subject.copied(), subject.kept()
    for after in range(1, 40):
        subject.as_kept(services)
        for name, rows in copy.items():
            subject.table(name).rows = deepcopy(rows)
        trap = Trap(after=after)
        subject.table("issuers").step = subject.table("revocations").step = trap.step
        try:
            await subject.make_group("again")
        except Killed:
            subject.now += timedelta(minutes=2)  # its turns are over
            subject.app = subject.worker()
            await subject.make_group("again")
            await subject.app.revocation_lists.publish(ISSUER)
        else:
            assert after > 8
            break
        assert listed(subject.crl(ISSUER)) == {serial: "keyCompromise"}
        assert number(subject.crl(ISSUER)) > last + 1000
    else:
        pytest.fail("it never ended")


async def test_a_list_that_is_later_than_its_ca_says_that_the_ledger_is_older_and_readiness_says_so() -> None:
    """The copy is of the moment between a CA and its first list: that it was made later tells."""
    subject = Deployment()
    await subject.make_root()
    await subject.make_group()
    copy = subject.copied()
    subject.now += HOUR
    await subject.order("drill")
    await subject.revoke("drill")
    subject.put_back(copy)
    records = subject.app.authorities.records
    known = await records.get(ISSUER)
    assert known is not None
    await records.replace(known, known.record.changed(published=None, crl_number=0))
    with pytest.raises(LedgerBehind):
        await subject.app.revocation_lists.publish(ISSUER)
    with pytest.raises(LedgerBehind) as behind:
        await subject.app.readiness.checks["ledger"]()
    assert str(behind.value) == (
        f"the ledger is older than it was: the published CRL of {ISSUER!r} has a number that the ledger has not given "
        "yet; run python -m shared.restoration (docs/recover.md)"
    )
    assert await subject.command() == DONE
    await subject.app.readiness.checks["ledger"]()


async def test_a_list_is_read_again_only_if_it_or_its_ledger_has_changed() -> None:
    """Readiness asks often, and lists may be long. A ledger that is put back is noticed all the same."""
    subject = await Deployment().begin("drill", "press")
    copy = subject.copied()
    await subject.revoke("drill")
    lists, read = subject.app.revocation_lists, list[str]()
    get = subject.blobs.get

    async def counted(container: str, name: str) -> StoredBlob | None:
        read.append(name)
        return await get(container, name)

    subject.blobs.get = counted  # type: ignore[method-assign]
    for _ in range(3):
        assert not await lists.is_ahead(ISSUER)
    assert read == [f"{ISSUER}.crl"]
    for name, table in subject.tables.items():
        table.rows = copy.get(name, {})
    assert await lists.is_ahead(ISSUER)


async def test_a_list_of_another_key_gives_its_number_alone() -> None:
    """The former CA's key is lost, and its name is the same: no list has a lower number than one that was seen."""
    subject = await Deployment().begin()
    record = (await subject.authority(ISSUER)).changed(published=None)
    issuer = await subject.app.authorities.load(ISSUER)

    def stored(number: int, by: Issuer) -> StoredBlob:
        made = build_crl([], issuer=by, crl_number=number, now=NOW, next_update=NOW + timedelta(days=7))
        return StoredBlob(made, {}, "1")

    found = former_list(stored(40, hierarchy().issuing), record, issuer)
    assert found is not None
    assert (found.number, found.first, found.entries) == (40, 1041, ())
    for content in (b"", b"mine", issuer.certificate.public_bytes(Encoding.DER)):
        assert former_list(StoredBlob(content, {}, "1"), record, issuer) is None
    assert former_list(stored(2**62, hierarchy().issuing), record, issuer) is None, "no column takes it"
    assert former_list(stored(40, issuer), record, issuer) is None, "it was made later than its CA"
    assert former_list(None, record, issuer) is None
