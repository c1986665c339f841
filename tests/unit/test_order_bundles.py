"""The bundles of an order as archives: each handed out once, to one caller, and every device accounted for."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from typing import Any

import azure.functions as func
import pytest

from shared.contracts.answers_bundles import ArchiveManifest, BundleFormat
from shared.contracts.orders import DeviceRegistration
from shared.domain.orders import LineState, OrderLine, OrderRecord, OrderState
from shared.domain.words import RegisterBy
from shared.errors import Deferred, Gone, NotFound, Rejected
from shared.workflows.devices.order_answers import OrderAnswers
from shared.workflows.devices.order_bundles import OrderBundles
from tests.unit.devices import COMPROMISE, DeviceScene, csr
from tests.unit.fakes import Killed, Trap
from triggers import outcomes
from triggers.http import orders


async def ordered(*devices: str, **csrs: str) -> DeviceScene:
    """Order devices in one order; those that bring a CSR have yet to boot, and 'wrong' is a line that failed."""
    scene = await DeviceScene().set_up()
    names = [*devices, *csrs]
    lines = [
        OrderLine(
            order_id="order",
            line=number,
            state=LineState.FAILED if name == "wrong" else LineState.ORDERED,
            requested_id=name,
            registration_id=None if name == "wrong" else name,
            enrollment_group="line",
            register_by=RegisterBy.DEVICE if name in csrs else RegisterBy.SERVICE,
            csr=csrs.get(name),
            accepted_at=scene.now,
            reasons=({"field": "keyAlgorithm", "message": "is not known"},) if name == "wrong" else None,
        )
        for number, name in enumerate(names)
    ]
    await scene.orders.insert(
        OrderRecord(
            order_id="order",
            fingerprint="f",
            state=OrderState.PROCESSING,
            enrollment_group="line",
            device_count=len(lines),
            accepted_at=scene.now,
        )
    )
    await scene.orders.insert_lines(lines)
    for line in lines:
        if line.is_open:
            try:
                await scene.registrations.register(DeviceRegistration(order_id="order", line=line.line))
            except Deferred:
                assert line.csr is not None
    return scene


def subject(scene: DeviceScene) -> OrderBundles:
    return OrderBundles(
        answers=OrderAnswers(orders=scene.orders),
        devices=scene.devices,
        directory=scene.directory,
        clock=scene.clock,
    )


async def fetch(
    scene: DeviceScene,
    *,
    wanted: BundleFormat = "pem",
    caller: str = "installer",
    size: int = 100,
    after: str | None = None,
) -> tuple[dict[str, Any], dict[str, bytes], str | None]:
    """Give the manifest, the files by name, and the continuation."""
    archive = await subject(scene).archive("order", wanted=wanted, caller=caller, size=size, continuation=after)
    with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
        assert opened.testzip() is None
        files = {name: opened.read(name) for name in opened.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    ArchiveManifest.model_validate(manifest)
    return manifest, files, archive.following


def states(manifest: dict[str, Any]) -> dict[str, str]:
    return {each["registrationId"]: each["state"] for each in manifest["devices"]}


async def test_an_archive_has_the_bundles_and_says_of_each_device_why_it_has_none() -> None:
    """What is handed out already, is not ready, was never made or has its own key is named; passwords are elsewhere."""
    scene = await ordered("press", "lathe", "gone", "moved", "wrong", drill=csr("drill"))
    await scene.directory.hand_out("lathe", wanted="pem", caller="somebody else")
    await scene.revoke(COMPROMISE, registration_id="gone")
    await scene.delete("moved")
    await scene.order("another", "moved")
    manifest, files, following = await fetch(scene, wanted="pfx")
    assert (manifest["orderId"], manifest["format"], manifest["isMore"], following) == ("order", "pfx", False, None)
    assert states(manifest) == {
        "press": "included",
        "lathe": "handedOut",
        "gone": "outOfService",
        "moved": "ofAnotherOrder",
        "wrong": "notMade",
        "drill": "ownKey",
    }
    assert sorted(files) == ["press.pfx"]
    by_id = {each["registrationId"]: each for each in manifest["devices"]}
    press = by_id["press"]
    certificate = (await scene.record("press")).certificate
    assert certificate is not None
    assert press["serialNumber"] == certificate.serial_number
    assert press["passwordSecret"] == f"https://vault/secrets/bundle-{certificate.serial_number}"
    assert by_id["wrong"]["reason"] == "keyAlgorithm: is not known"
    password = scene.secrets.secrets[f"bundle-{certificate.serial_number}"]
    assert password.encode() not in b"".join(files.values()) + json.dumps(manifest).encode()
    assert [entry.note for entry in (await scene.record("press")).history].count("bundle handed out as pfx") == 1
    assert [entry.note for entry in (await scene.record("moved")).history].count("bundle handed out as pfx") == 0


async def test_the_pem_of_a_device_with_its_own_key_is_in_it_without_a_key() -> None:
    """It is a certificate, and can be had by anybody at any time."""
    scene = await ordered("press", drill=csr("drill"))
    for caller in ("installer", "somebody else"):
        manifest, files, _ = await fetch(scene, caller=caller)
        assert states(manifest)["drill"] == "ownKey"
        assert files["drill.pem"].startswith(b"-----BEGIN CERTIFICATE-----")
        assert b"PRIVATE KEY" not in files["drill.pem"]
    assert b"ENCRYPTED PRIVATE KEY" not in b"".join(files.values()), "the other caller has no key"


async def test_the_same_caller_gets_the_same_archive_until_the_receipt_is_confirmed() -> None:
    """Another one gets none of its bundles; each is confirmed as it is alone."""
    scene = await ordered("press", "lathe")
    _, files, _ = await fetch(scene)
    assert sorted(files) == ["lathe.pem", "press.pem"]
    assert (await fetch(scene))[1] == files
    manifest, others, _ = await fetch(scene, caller="somebody else")
    assert (set(states(manifest).values()), others) == ({"handedOut"}, {})
    with pytest.raises(Gone):
        await scene.directory.hand_out("press", wanted="pem", caller="somebody else")
    await scene.directory.confirm("press", caller="installer")
    manifest, rest, _ = await fetch(scene)
    assert states(manifest) == {"press": "handedOut", "lathe": "included"}
    assert sorted(rest) == ["lathe.pem"]


async def test_a_device_that_is_not_made_yet_or_whose_bundle_went_is_named_as_not_ready() -> None:
    """The others of the page are handed out."""
    scene = await ordered("press", "lost")
    serial = (await scene.serials("lost"))[0]
    del scene.blobs.blobs["bundles", f"lost/{serial}.json"]
    await scene.orders.insert_lines(
        [
            OrderLine(
                order_id="order",
                line=2,
                state=LineState.ORDERED,
                requested_id="waiting",
                registration_id="waiting",
                enrollment_group="line",
                register_by=RegisterBy.SERVICE,
                accepted_at=scene.now,
            )
        ]
    )
    manifest, files, _ = await fetch(scene)
    assert states(manifest) == {"press": "included", "lost": "notReady", "waiting": "notReady"}
    assert list(files) == ["press.pem"]


async def test_a_long_order_comes_in_pages() -> None:
    """Each has so many devices as are asked for, in the order's own order; none is handed out before its page."""
    scene = await ordered(*(f"d{number}" for number in range(5)))
    found, after = [], None
    for _ in range(3):
        manifest, files, after = await fetch(scene, size=2, after=after)
        found.append(sorted(files))
        assert manifest["isMore"] is (after is not None)
        if len(found) == 1:
            notes = [entry.note for entry in (await scene.record("d2")).history]
            assert "bundle handed out as pem" not in notes
    assert found == [["d0.pem", "d1.pem"], ["d2.pem", "d3.pem"], ["d4.pem"]]
    assert after is None


async def test_an_id_with_a_colon_has_a_file_that_windows_can_write() -> None:
    """And no two ids share a name."""
    scene = await ordered("plant:press", "plant_press")
    _, files, _ = await fetch(scene)
    assert sorted(files) == ["plant%3Apress.pem", "plant_press.pem"]


async def test_an_archive_whose_worker_is_killed_is_had_again_by_its_caller() -> None:
    """After whatever write: what was claimed is the caller's, and each hand-out is in its device's history."""
    for after in range(1, 100):
        scene, trap = await ordered("press", "lathe"), Trap(after)
        scene.rows.step = trap.step
        try:
            await fetch(scene)
        except Killed:
            trap.after = None
        else:
            assert after > 2, "it was killed nowhere"
            return
        _, files, _ = await fetch(scene)
        assert sorted(files) == ["lathe.pem", "press.pem"], f"killed after {after}"
        for device in ("press", "lathe"):
            notes = [entry.note for entry in (await scene.record(device)).history]
            assert notes.count("bundle handed out as pem") == 1, f"killed after {after}"
    raise AssertionError("it has more steps than were tried")


async def test_an_outage_is_not_taken_for_a_bundle_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole answer is an error, and the next one has what was claimed."""
    scene = await ordered("press", "lathe")
    whole = scene.blobs.get

    async def fails(container: str, name: str) -> Any:
        if name.startswith("lathe/"):
            raise ConnectionError("no route")
        return await whole(container, name)

    monkeypatch.setattr(scene.blobs, "get", fails)
    with pytest.raises(ConnectionError):
        await fetch(scene)
    monkeypatch.undo()
    _, files, _ = await fetch(scene)
    assert sorted(files) == ["lathe.pem", "press.pem"]


async def test_no_bundle_is_handed_out_behind_the_back_of_who_was_told_of_an_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others are waited for: else one would be handed out after the answer."""
    scene = await ordered("press", "lathe")
    whole = scene.blobs.get

    async def fails(container: str, name: str) -> Any:
        if name.startswith("lathe/"):
            raise ConnectionError("no route")
        for _ in range(20):  # the other one has failed long ago
            await asyncio.sleep(0)
        return await whole(container, name)

    monkeypatch.setattr(scene.blobs, "get", fails)
    with pytest.raises(ConnectionError):
        await fetch(scene)
    assert "bundle handed out as pem" in [each.note for each in (await scene.record("press")).history]


async def test_the_archive_is_handed_out_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a ZIP file that nothing keeps, with the next page in Link; a format that does not exist is refused."""
    scene = await ordered("press", "lathe")
    services: Any = scene
    services.order_bundles = subject(scene)
    monkeypatch.setattr(outcomes, "services", lambda: services)

    async def ask(order_id: str = "order", **query: str) -> func.HttpResponse:
        request = func.HttpRequest(
            "GET", "http://host/api/x", params=query, route_params={"orderId": order_id}, body=b""
        )
        return await outcomes.answer(request, orders.get_order_bundles)

    answer = await ask(pageSize="1", format="pfx")
    assert (answer.status_code, answer.mimetype) == (200, "application/zip")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="order-bundles.zip"'
    path = "/api/device-orders/order/bundles?format=pfx&pageSize=1&continuationToken=MQ"
    assert answer.headers["Link"] == f'<{path}>; rel="next"'
    assert "Link" not in (await ask()).headers
    refused = await ask(format="der")
    assert (refused.status_code, json.loads(refused.get_body())["errors"][0]["field"]) == (400, "format")
    assert (await ask("nowhere")).status_code == 404
    with pytest.raises(NotFound):
        await subject(scene).archive("nowhere", wanted="pem", caller="c", size=1, continuation=None)
    with pytest.raises(Rejected, match="is not a continuation"):
        await fetch(scene, after="x")
