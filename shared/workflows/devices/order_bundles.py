"""The bundles of an order as archives for the installer, a page of devices in each.

Each bundle is handed out as it is alone: to one caller, who gets it again until its receipt is confirmed, and noted in
the device's history. So a caller whose answer was lost asks again, and gets the same bundles. Passwords are not in the
archive; the manifest names the vault's secrets.
"""

from __future__ import annotations

import asyncio
import io
import zipfile
from dataclasses import dataclass
from itertools import batched
from typing import TYPE_CHECKING
from urllib.parse import quote

from shared.contracts.answers_bundles import ArchivedBundle, ArchiveManifest, BundleState
from shared.domain.held_certificates import Purpose
from shared.domain.orders import LineState
from shared.errors import Conflict, Deferred, Gone, NotFound, Rejected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from shared.contracts.answers_bundles import BundleFormat
    from shared.domain.orders import OrderLine
    from shared.ledger.devices import Devices
    from shared.workflows.devices.directory import DeviceDirectory, HandedOut
    from shared.workflows.devices.order_answers import OrderAnswers
    from shared.workflows.intake.outbox import Clock

MANIFEST = "manifest.json"
_AT_ONCE = 16
_NOT_MADE = frozenset({LineState.FAILED, LineState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A page of an order's bundles.

    Attributes:
        content: a ZIP file.
        following: continuation of the next page; ``None`` on the last one.
    """

    content: bytes
    following: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A device in the archive, with its file, if it has one."""

    device: ArchivedBundle
    content: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderBundles:
    """Hands out the bundles of orders."""

    answers: OrderAnswers
    devices: Devices
    directory: DeviceDirectory
    clock: Clock

    async def archive(
        self, order_id: str, *, wanted: BundleFormat, caller: str, size: int, continuation: str | None
    ) -> Archive:
        """Hand out the bundles of the next devices of an order.

        Args:
            order_id: of the order.
            wanted: ``pem`` or ``pfx``.
            caller: tells callers apart.
            size: devices of the archive.
            continuation: of the archive before.

        Raises:
            NotFound: the order does not exist.
            Rejected: the continuation is not valid.
        """
        order = await self.answers.order(order_id)
        lines, following = await self.answers.page_of_lines(order, size, continuation)
        entries: list[_Entry] = []
        for several in batched(lines, _AT_ONCE, strict=False):
            entries += await _all(*(self._entry(line, wanted, caller) for line in several))
        manifest = ArchiveManifest(
            order_id=order_id,
            state=order.state,
            format=wanted,
            devices=[entry.device for entry in entries],
            is_more=following is not None,
        )
        return Archive(content=self._packed(manifest, entries), following=following)

    async def _entry(self, line: OrderLine, wanted: str, caller: str) -> _Entry:
        told = ArchivedBundle(registration_id=line.registration_id or line.requested_id, state=BundleState.NOT_READY)
        if line.state in _NOT_MADE or line.registration_id is None:
            return _Entry(device=told.model_copy(update={"state": BundleState.NOT_MADE, "reason": line.reason}))
        device = await self.devices.get(line.registration_id)
        if device is None:
            return _Entry(device=told)
        if (device.record.purpose, device.record.order_id) != (Purpose.ORDER, line.order_id):
            why = f"its certificate is of {device.record.order_id!r} by now"
            return _Entry(device=told.model_copy(update={"state": BundleState.OF_ANOTHER_ORDER, "reason": why}))
        own_key = device.record.own_key
        if own_key and wanted == "pfx":
            return _Entry(device=told.model_copy(update={"state": BundleState.OWN_KEY}))
        try:
            given = await self.directory.hand_out(line.registration_id, wanted=wanted, caller=caller)
        except (Deferred, Rejected) as refusal:
            return _Entry(device=told.model_copy(update={"state": _state_of(refusal), "reason": str(refusal)}))
        return _included(told, given, wanted, own_key=own_key)

    def _packed(self, manifest: ArchiveManifest, entries: Sequence[_Entry]) -> bytes:
        """Write the archive. What is in it is encrypted, or small, so that it is not worth compressing."""
        written, at = io.BytesIO(), self.clock().timetuple()[:6]
        with zipfile.ZipFile(written, "w") as archive:
            archive.writestr(zipfile.ZipInfo(MANIFEST, at), manifest.model_dump_json(by_alias=True, indent=1))
            for entry in entries:
                if entry.content is not None and entry.device.file is not None:
                    archive.writestr(zipfile.ZipInfo(entry.device.file, at), entry.content)
        return written.getvalue()


async def _all(*entries: Awaitable[_Entry]) -> list[_Entry]:
    """Wait for all, also where one fails, so that none goes on behind the caller's back."""
    found = await asyncio.gather(*entries, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return [each for each in found if isinstance(each, _Entry)]


def _included(told: ArchivedBundle, given: HandedOut, wanted: str, *, own_key: bool) -> _Entry:
    # A colon, which an id may have, is not allowed in the names of files on Windows.
    file = f"{quote(told.registration_id, safe='')}.{wanted}"
    state = BundleState.OWN_KEY if own_key else BundleState.INCLUDED
    changes = {
        "state": state,
        "file": file,
        "serial_number": given.serial_number,
        "password_secret": given.password_secret,
    }
    return _Entry(device=told.model_copy(update=changes), content=given.content)


def _state_of(refusal: Deferred | Rejected) -> BundleState:
    match refusal:
        case Gone():
            return BundleState.HANDED_OUT
        case Conflict():
            return BundleState.OUT_OF_SERVICE
        case Deferred() | NotFound():
            return BundleState.NOT_READY
        case _:
            raise refusal
