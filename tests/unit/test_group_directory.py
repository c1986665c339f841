"""What is shown of groups: what the ledger knows, beside what DPS holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.words import CertificateKind
from shared.errors import NotFound
from tests.pki.hierarchy import NOW
from tests.unit.groups import GroupScene


async def test_a_group_is_shown_with_its_entry_and_its_rollover() -> None:
    """The ETag is that of the entry; without an entry there is none."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.ask("roll")
    shown = (await scene.directory.describe("g")).shown()
    assert {name: value for name, value in shown.items() if name not in {"provisioningService", "rollover"}} == {
        "enrollmentGroup": "g",
        "state": "enabled",
        "issuer": "g-ca2",
        "previousIssuer": "g-ca1",
        "renewAutomatically": False,
        "updatedAt": NOW,
        "etag": '"3"',
    }
    assert shown["provisioningService"] == scene.provisioning.groups["g"]
    assert (shown["rollover"]["from"], shown["rollover"]["to"], shown["rollover"]["certificatesLeft"]) == (
        "g-ca1", "g-ca2", 0
    )  # fmt: skip
    rollover = await scene.directory.rollover("g")
    assert rollover is not None
    assert rollover.shown() == shown["rollover"]
    scene.provisioning.groups.clear()
    gone = await scene.directory.describe("g")
    assert (gone.etag, gone.provisioning_service) == (None, None)


async def test_groups_are_listed_but_for_those_that_are_deleted() -> None:
    """Of one that is deleted nothing is shown, as of one that never was."""
    scene = await GroupScene().set_up()
    for group in ("a", "b"):
        await scene.ask("create", group)
    await scene.ask("delete", "a")
    listed = await scene.directory.list_groups()
    assert [each.enrollment_group for each in listed] == ["b"]
    assert await scene.directory.summary("b") == listed[0]
    for group in ("a", "no"):
        with pytest.raises(NotFound) as refused:
            await scene.directory.describe(group)
        with pytest.raises(NotFound):
            await scene.directory.summary(group)
        assert str(refused.value) == f"enrollmentGroup: the enrollment group {group!r} does not exist"
        with pytest.raises(NotFound):
            await scene.directory.registrations(group, size=10, continuation=None)


async def test_the_registrations_of_a_group_are_those_of_its_entry() -> None:
    """Page by page, as DPS gives them."""
    scene = await GroupScene().set_up()
    await scene.ask("create")

    async def page(group_id: str, *, size: int, continuation: str | None) -> tuple[list[dict[str, Any]], str | None]:
        return [{"registrationId": f"{group_id}-{size}-{continuation}"}], "next"

    scene.provisioning.page_of_registrations = page  # type: ignore[method-assign]
    found, following = await scene.directory.registrations("g", size=5, continuation="c")
    assert ([each.shown() for each in found], following) == ([{"registrationId": "g-5-c"}], "next")


async def test_the_devices_left_on_the_old_ca_are_listed_page_by_page() -> None:
    """Those whose certificate may still be used, of the CA that is leaving alone; without a rollover there are none."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    with pytest.raises(NotFound) as refused:
        await scene.directory.left_on_old_ca("g", size=2, continuation=None)
    assert str(refused.value) == "enrollmentGroup: the enrollment group 'g' has no rollover; it has one after 'roll'"
    await scene.ask("roll")
    for number, (issuer, days) in enumerate([("g-ca1", 30), ("g-ca1", 0), ("g-ca2", 30), ("g-ca1", -1), ("g-ca1", 9)]):
        certificate = CertificateRecord(
            serial_number=f"{number:040}",
            kind=CertificateKind.DEVICE,
            state=CertificateState.ACTIVE,
            subject=f"press-{number}",
            issuer=issuer,
            cause="order",
            recorded_at=NOW,
        )
        await scene.certificates.enter_in_force(certificate, until=NOW + timedelta(days=days))
    first, following = await scene.directory.left_on_old_ca("g", size=2, continuation=None)
    assert [each.shown() for each in first] == [
        {"registrationId": "press-0", "serialNumber": f"{0:040}", "endsBy": NOW + timedelta(days=30)},
        {"registrationId": "press-1", "serialNumber": f"{1:040}", "endsBy": NOW},
    ]
    rest, end = await scene.directory.left_on_old_ca("g", size=2, continuation=following)
    assert ([each.registration_id for each in rest], end) == (["press-4"], None)
