"""A timer trigger: NCRONTAB with six fields, in UTC; on one host at a time, and soon after the start if it is past due.

Sources: TimerListener, ScheduleMonitor and StorageScheduleMonitor of Azure/azure-webjobs-sdk-extensions;
SingletonListener and SingletonOptions of Azure/azure-webjobs-sdk.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import BlobLeaseClient
from croniter import croniter

from devstack.functions_host.configuration import ConfigurationError, resolve
from devstack.functions_host.protocol import json_data
from devstack.functions_host.worker import InvocationFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from azure.storage.blob.aio import BlobClient, BlobServiceClient

    from devstack.functions_host.protocol import TypedData

LOG = logging.getLogger("functions_host")
CONTAINER = "azure-webjobs-hosts"
LOCK_SECONDS = 60
"""How long the lock of a killed host stands (SingletonOptions.ListenerLockPeriod)."""

_IS_THERE = frozenset({HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED})
"""A blob exists, or is leased (BlobAlreadyExists, LeaseIdMissing)."""

_LOCK_POLL_SECONDS = 60.0
_RELEASE_SECONDS = 2.0
_SHORTEST_MONITORED = timedelta(minutes=1)


def timer_data(*, past_due: bool = False) -> TypedData:
    """Give what a timer function is told."""
    return json_data({"IsPastDue": past_due, "Schedule": {"AdjustForDST": True}, "ScheduleStatus": None})


@dataclass(frozen=True, slots=True)
class Schedule:
    """An NCRONTAB expression of six fields, seconds first.

    Raises:
        ConfigurationError: it is not one.
    """

    expression: str
    name: str

    def __post_init__(self) -> None:
        """Check it."""
        if len(self.expression.split()) != 6 or not croniter.is_valid(self.expression, second_at_beginning=True):  # noqa: PLR2004
            raise ConfigurationError(
                f"the schedule {self.expression!r} of {self.name} is not an NCRONTAB expression of six fields, "
                "seconds first"
            )

    def after(self, moment: datetime) -> datetime:
        """Give the first time after a moment; day of month and day of week both have to fit."""
        found: datetime = croniter(self.expression, moment, second_at_beginning=True, day_or=False).get_next(datetime)
        return found

    def is_monitored(self, now: datetime) -> bool:
        """Tell whether missed ticks are made up for: not for what ticks more often than each minute."""
        first = self.after(now)
        return self.after(first) - first >= _SHORTEST_MONITORED


@dataclass(frozen=True, slots=True)
class Status:
    """When a timer ran last, and when it is to run next."""

    last: datetime | None
    following: datetime
    updated: datetime

    def is_past_due(self, schedule: Schedule, now: datetime) -> bool:
        """Tell whether a tick was missed; a schedule that was changed meanwhile counts from the last run."""
        return schedule.after(self.last or self.updated) < now

    def to_json(self) -> bytes:
        """Give it as the real host keeps it."""
        never = datetime(1, 1, 1, tzinfo=UTC)
        fields = {"Last": self.last or never, "Next": self.following, "LastUpdated": self.updated}
        return json.dumps({name: value.isoformat() for name, value in fields.items()}).encode()

    @classmethod
    def of_json(cls, content: bytes) -> Self:
        """Read what was kept."""
        fields = {name: datetime.fromisoformat(value) for name, value in json.loads(content).items()}
        last: datetime = fields["Last"]
        return cls(last if last.year > 1 else None, fields["Next"], fields["LastUpdated"])


@dataclass(frozen=True, slots=True)
class HostStorage:
    """What hosts of one app share, in the storage account of their own.

    Attributes:
        blobs: its blob service.
        host_id: the app's.
        lock_seconds: 15 to 60.
    """

    blobs: BlobServiceClient
    host_id: str
    lock_seconds: int = LOCK_SECONDS

    def lock(self, function: str) -> BlobClient:
        """Give the blob whose lease is a function's lock."""
        return self.blobs.get_blob_client(CONTAINER, f"locks/{self.host_id}/{function}.Listener")

    def status(self, function: str) -> BlobClient:
        """Give the blob that keeps a timer's status."""
        return self.blobs.get_blob_client(CONTAINER, f"timers/{self.host_id}/Host.Functions.{function}/status")

    async def create(self) -> None:
        """Make the container, unless it exists."""
        with suppress(ResourceExistsError):
            await self.blobs.create_container(CONTAINER)


class TimerListener:
    """Ticks for one function, as long as no other host has its lock.

    Args:
        name: the function's.
        trigger: its binding.
        storage: where lock and status are.
        invoke: calls the function.
        now: gives the time, in UTC.

    Raises:
        ConfigurationError: its schedule is not an NCRONTAB expression.
    """

    def __init__(
        self,
        name: str,
        trigger: Mapping[str, Any],
        storage: HostStorage,
        invoke: Callable[[TypedData], Awaitable[object]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._schedule = Schedule(resolve(str(trigger["schedule"])), name)
        self._run_on_startup = bool(trigger.get("runOnStartup"))
        self._name = name
        self._storage = storage
        self._invoke = invoke
        self._now = now

    async def run(self) -> None:
        """Tick until cancelled.

        Raises:
            AzureError: the host's storage does not give or keep lock or status.
        """
        lease = await self._locked()
        ticks, renewal = asyncio.create_task(self._ticks()), asyncio.create_task(self._keep(lease))
        try:
            done, _ = await asyncio.wait((ticks, renewal), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (ticks, renewal):
                task.cancel()
            await asyncio.gather(ticks, renewal, return_exceptions=True)
            with suppress(AzureError, TimeoutError):  # else it ends by itself
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await lease.release()

    async def _locked(self) -> BlobLeaseClient:
        """Wait for the function's lock, and take it; errors are those of :meth:`run`."""
        blob = self._storage.lock(self._name)
        try:
            await blob.upload_blob(b"", overwrite=False)
        except HttpResponseError as error:
            if error.status_code not in _IS_THERE:
                raise
        while True:
            lease = BlobLeaseClient(blob)
            try:
                await lease.acquire(lease_duration=self._storage.lock_seconds)
            except HttpResponseError as error:
                if error.status_code != HTTPStatus.CONFLICT:  # another host has it: LeaseAlreadyPresent
                    raise
                await asyncio.sleep(min(_LOCK_POLL_SECONDS, self._storage.lock_seconds))
            else:
                return lease

    async def _keep(self, lease: BlobLeaseClient) -> None:
        while True:
            await asyncio.sleep(self._storage.lock_seconds / 2)
            await lease.renew()

    async def _ticks(self) -> None:
        status = await self._begin()
        if status.is_past_due(self._schedule, self._now()):
            LOG.info("%s is past due: it was to run at %s", self._name, status.following.isoformat())
            await self._tick(past_due=True)
        elif self._run_on_startup:
            await self._tick()
        while True:
            due = self._schedule.after(self._now())
            await asyncio.sleep(max(0.0, (due - self._now()).total_seconds()))
            await self._tick(due)

    async def _begin(self) -> Status:
        """Read when the timer ran last; for one that never ran, note when it is to run first."""
        now = self._now()
        fresh = Status(None, self._schedule.after(now), now)
        if not self._schedule.is_monitored(now):
            return fresh
        try:
            stream = await self._storage.status(self._name).download_blob()
            return Status.of_json(await stream.readall())
        except ResourceNotFoundError:
            await self._note(fresh)
            return fresh

    async def _note(self, status: Status) -> None:
        await self._storage.status(self._name).upload_blob(status.to_json(), overwrite=True)

    async def _tick(self, due: datetime | None = None, *, past_due: bool = False) -> None:
        begun = max(self._now(), due or self._now())  # a tick that comes a little early is not to come twice
        with suppress(InvocationFailed):  # the worker has logged it, and the next tick comes
            await self._invoke(timer_data(past_due=past_due))
        if self._schedule.is_monitored(begun):
            await self._note(Status(begun, self._schedule.after(begun), begun))
