"""Lists of devices that come with an order over HTTP, and are too long for a message: kept in a blob that it names."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.contracts.parsing import refuse_private_keys
from shared.domain.orders import UPLOADS
from shared.errors import Reason, Rejected
from shared.workflows.devices.order_blobs import ORDERS
from shared.workflows.devices.order_lists import FIELD, read_list

if TYPE_CHECKING:
    from shared.ports.blobs import Blobs
    from shared.settings import Settings
    from shared.threads import ThreadPool

_TYPES = {"csv": "text/csv", "json": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderUploads:
    """Keeps the lists of orders that came over HTTP."""

    blobs: Blobs
    settings: Settings
    threads: ThreadPool

    def url_of(self, order_id: str, content: bytes, form: str) -> str:
        """Give the URL of a list's blob, which follows from its order and its content: the same if it comes again.

        Args:
            order_id: of its order, which no other one shares the blob with.
            content: the list.
            form: ``csv`` or ``json``.
        """
        return f"{self.settings.order_lists_url}/{ORDERS}/{_name(order_id, content, form)}"

    async def keep(self, order_id: str, content: bytes, form: str) -> None:
        """Keep a list, unless it is there.

        Raises:
            Rejected: it can't be read as a whole, or there is a private key in it. Nothing is kept then.
        """
        await self.threads.run(_check, content, f"the body ({form})")
        name = _name(order_id, content, form)
        # Its name has the hash of its content: what is there is the same.
        _ = await self.blobs.create(ORDERS, name, content, content_type=_TYPES[form], metadata={})


def _name(order_id: str, content: bytes, form: str) -> str:
    return f"{UPLOADS}{sha256(order_id.encode() + b'\n' + content).hexdigest()}.{form}"


def _check(content: bytes, name: str) -> None:
    """Read a list to its end; what is wrong with one device is that device's own failure."""
    try:
        for entry in read_list([content], name):
            if entry.fault is None:
                refuse_private_keys(entry.device, field=entry.place)
    except Rejected as rejection:
        raise Rejected(
            *(Reason("" if each.field == FIELD else each.field, each.message) for each in rejection.reasons)
        ) from None
