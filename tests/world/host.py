"""The Functions host in memory: it indexes the app, and calls its functions with what their triggers bring.

What becomes of a message is as Microsoft's queue extension has it: one that was carried out is deleted; one whose
function fails comes again after host.json's ``visibilityTimeout``, and after ``maxDequeueCount`` tries it is copied to
its poison queue and then deleted. A poison queue has none of its own (Azure/azure-sdk-for-net,
Microsoft.Azure.WebJobs.Extensions.Storage.Queues). Who is killed leaves the message to the end of its lease.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from azure.functions.meta import Datum
from azure.functions.queue import QueueMessageInConverter
from azure.functions.timer import TimerRequest

from shared.adapters.sdk_errors import is_outage
from shared.contracts.messages import INBOUND_QUEUES
from shared.rules.zones import Zone
from triggers.registration import app_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.services import Services
    from tests.world.conductor import Conductor
    from tests.world.storage import Queued, Queues

SERVING: ContextVar[Services] = ContextVar("serving")
"""The services of the worker whose function runs; :mod:`tests.world.conftest` has the triggers ask here."""

LEASE = timedelta(minutes=10)
_SETTINGS = json.loads((Path(__file__).parents[2] / "host.json").read_text())["extensions"]["queues"]
MAX_DEQUEUE_COUNT: int = _SETTINGS["maxDequeueCount"]
_, _, RETRY_SECONDS = (int(part) for part in _SETTINGS["visibilityTimeout"].split(":"))
POISON = "-poison"


@cache
def functions() -> Mapping[str, Callable[..., Any]]:
    """Index the app's functions: by their queue, or by their name if a timer starts them."""
    found: dict[str, Callable[..., Any]] = {}
    for each in app_of(Zone.ALL).get_functions():
        trigger: Any = each.get_trigger()
        found[str(getattr(trigger, "queue_name", None) or each.get_function_name())] = each.get_user_function()
    return found


QUEUES = (*(queue.value for queue in INBOUND_QUEUES), *(queue.poison for queue in INBOUND_QUEUES))
TIMERS = (
    "expiry_sweep",
    "key_deletion",
    "order_sweep",
    "request_sweep",
    "directory_upkeep",
    "rollover_sweep",
    "authority_sweep",
    "group_sweep",
    "takeover_sweep",
    "convergence_sweep",
    "poison_sweep",
)
"""Timers that may run at any time; a list of each CA is published by one of its own."""


@dataclass
class Host:
    """One worker.

    Attributes:
        make: wires the app, when something is first asked of this worker.
        bugs: what functions were ended by that is not an outage.
        failed: how many calls failed, for whatever reason.
    """

    make: Callable[[], Services]
    queues: Queues
    conductor: Conductor
    bugs: list[BaseException] = field(default_factory=list)
    failed: int = 0

    @cached_property
    def services(self) -> Services:
        """What it has: nothing of it is shared with another worker."""
        return self.make()

    async def deliver(self, queue: str, message: Queued) -> None:
        """Call a queue's function with a message that was taken, and see to what becomes of it."""
        if message.taken > MAX_DEQUEUE_COUNT:
            await self._set_aside(queue, message)
            return
        try:
            await self._call(queue, _bound(message))
        except Exception as error:  # noqa: BLE001 - as the host does
            self._note(error)
            if message.taken >= MAX_DEQUEUE_COUNT:
                await self._set_aside(queue, message)
            else:
                await self._settle(f"hide in {queue}", lambda: self.queues.hide(queue, message, seconds=RETRY_SECONDS))
        else:
            await self._delete(queue, message)

    async def tick(self, timer: str) -> None:
        """Call a timer's function."""
        try:
            await self._call(timer, TimerRequest())
        except Exception as error:  # noqa: BLE001 - as the host does
            self._note(error)

    async def _call(self, function: str, argument: object) -> None:
        before = SERVING.set(self.services)
        try:
            await functions()[function](argument)
        finally:
            SERVING.reset(before)

    def _note(self, error: Exception) -> None:
        self.failed += 1
        if not is_outage(error):
            self.bugs.append(error)

    async def _set_aside(self, queue: str, message: Queued) -> None:
        """Copy to the poison queue, then delete: killed in between, the message is there twice and not lost."""
        if queue.endswith(POISON):
            return  # it stays there
        if await self._settle(f"send {queue}{POISON}", lambda: self.queues.put(f"{queue}{POISON}", message.text)):
            await self._delete(queue, message)

    async def _delete(self, queue: str, message: Queued) -> None:
        await self._settle(f"delete in {queue}", lambda: self.queues.remove(queue, message.message_id, message.receipt))

    async def _settle(self, label: str, change: Callable[[], object]) -> bool:
        """Change a queue; if that fails, the lease ends by itself."""
        try:
            async with self.conductor.step(label, "queues"):
                change()
        except (AzureError, ConnectionError):
            return False
        return True


def _bound(message: Queued) -> object:
    """Bind a message as Microsoft's worker does."""
    at = message.inserted.isoformat()
    metadata = {
        "Id": Datum(message.message_id, "string"),
        "DequeueCount": Datum(str(message.taken), "json"),
        "InsertionTime": Datum(json.dumps(at), "json"),
        "ExpirationTime": Datum(json.dumps("9999-12-31T23:59:59+00:00"), "json"),
        "NextVisibleTime": Datum(json.dumps(message.visible.isoformat()), "json"),
        "PopReceipt": Datum(message.receipt, "string"),
    }
    # What the host hands on is as it stands in the queue: host.json's messageEncoding is none.
    return QueueMessageInConverter.decode(Datum(message.content, "string"), trigger_metadata=metadata)
