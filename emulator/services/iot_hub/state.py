"""What a hub keeps, and its rules; no HTTP and no MQTT."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from emulator.services.iot_hub import errors, identities, queries, twins
from emulator.services.iot_hub.cloud_to_device import CommandQueues
from emulator.services.iot_hub.feedback import FeedbackQueue, is_wanted
from emulator.services.iot_hub.messages import Telemetry
from emulator.services.management.ca_certificates import CaCertificates

if TYPE_CHECKING:
    from collections.abc import Collection

    from emulator.platform.context import Context
    from emulator.services.iot_hub.cloud_to_device import Command
    from emulator.services.iot_hub.feedback import Batch, Ending


class ConnectedDevice(Protocol):
    """A device's open connection."""

    @property
    def takes_methods(self) -> bool:
        """Whether it has subscribed to direct methods."""
        ...

    async def desired_changed(self, patch: Mapping[str, Any], version: int) -> None:
        """Tell the device of changed desired properties."""
        ...

    async def invoke(self, method: str, payload: Any, seconds: float) -> tuple[int, Any]:
        """Call a direct method; gives the device's status and answer."""
        ...

    async def deliver(self) -> None:
        """Fetch the cloud-to-device messages that wait, if the device listens."""
        ...

    def drop(self) -> None:
        """End the connection."""
        ...


class IotHub:
    """One hub: identities, twins, telemetry, and who is connected.

    Attributes:
        host_name: what devices connect to.
        ca_certificates: what the chain of a device with ``certificateAuthority`` may end at, once verified.
        feedback: what became of cloud-to-device messages whose senders want to know.
    """

    def __init__(self, context: Context, host_name: str) -> None:
        self.host_name = host_name
        self.ca_certificates = CaCertificates(context, f"hub.{host_name}.ca")
        self._context = context
        self._store = context.store
        self._devices = f"hub.{host_name}.device"
        self._twins = f"hub.{host_name}.twin"
        self._subscriptions = f"hub.{host_name}.subscriptions"
        self._telemetry = Telemetry(context.store, host_name)
        self.feedback = FeedbackQueue(context.store, host_name)
        self._commands = CommandQueues(context.store, host_name, self._message_ended)
        self._connected: dict[str, ConnectedDevice] = {}
        self._ready = asyncio.Event()
        """Set, and made anew, whenever a device connects or begins to take methods."""

    def _now(self) -> str:
        return self._context.clock().isoformat().replace("+00:00", "Z")

    # --- identities ---

    def get(self, device_id: str) -> dict[str, Any]:
        """Read an identity.

        Raises:
            HubError: 404.
        """
        found = self._store.get(self._devices, device_id)
        if found is None:
            raise errors.not_found(device_id)
        return self._shown(found)

    def _shown(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        state = "Connected" if identity["deviceId"] in self._connected else "Disconnected"
        waiting = self._commands.count(identity["deviceId"], self._context.clock())
        return {**identity, "connectionState": state, "cloudToDeviceMessageCount": waiting}

    def has(self, device_id: str) -> bool:
        """Tell whether there is such an identity."""
        return self._store.get(self._devices, device_id) is not None

    def lets_in(self, device_id: str) -> bool:
        """Tell whether there is such an identity, and it is enabled."""
        found = self._store.get(self._devices, device_id)
        return found is not None and found["status"] == "enabled"

    def put(self, device_id: str, body: Any, if_match: str | None) -> dict[str, Any]:
        """Create an identity (no ETag), or change the one that has this ETag (or any, ``*``).

        Raises:
            HubError: 400, 404, 409, 412.
        """
        present = self._store.get(self._devices, device_id)
        if present is None and if_match is not None:
            raise errors.not_found(device_id)
        if present is not None and if_match is None:
            raise errors.exists(device_id)
        if present is not None and not matches(if_match, present["etag"]):
            raise errors.precondition_failed()
        identity = identities.changed(device_id, body, present, self._now())
        self._keep(identity, present)
        return self.get(device_id)

    def _keep(self, identity: Mapping[str, Any], present: Mapping[str, Any] | None) -> None:
        device_id = identity["deviceId"]
        with self._store.transaction():
            self._store.put(self._devices, device_id, identity)
            if present is None:
                self._store.put(self._twins, device_id, twins.new_twin(None, self._now()))
        if identity["status"] == "disabled":
            self.disconnect(device_id)

    def delete(self, device_id: str, if_match: str | None) -> None:
        """Delete an identity with its twin, and end its connection.

        Raises:
            HubError: 404, 412.
        """
        present = self.get(device_id)
        if not matches(if_match, present["etag"]):
            raise errors.precondition_failed()
        self.remove(device_id)

    def remove(self, device_id: str) -> None:
        """Delete an identity with its twin, if it exists, as when DPS moves a device. Its telemetry stays."""
        with self._store.transaction():
            for kind in (self._devices, self._twins, self._subscriptions):
                self._store.delete(kind, device_id)
            self._commands.purge(device_id)
        self.disconnect(device_id)

    def identities(self, *, limit: int) -> list[dict[str, Any]]:
        """List identities by id."""
        return [self._shown(body) for _, body in self._store.scan(self._devices, limit=limit)]

    def statistics(self) -> dict[str, int]:
        """Count identities."""
        statuses = [body["status"] for _, body in self._store.scan(self._devices)]
        enabled = statuses.count("enabled")
        return {
            "totalDeviceCount": len(statuses),
            "enabledDeviceCount": enabled,
            "disabledDeviceCount": len(statuses) - enabled,
        }

    def provision(
        self,
        device_id: str,
        *,
        authentication: Mapping[str, Any],
        initial_twin: Mapping[str, Any] | None,
        reset_twin: bool,
        iot_edge: bool,
        carried_twin: Mapping[str, Any] | None = None,
    ) -> None:
        """Do what DPS does: create the identity, or give it the device's present certificate or keys.

        A disabled identity stays disabled. The twin is made once, and made anew only when the policy says so.

        Args:
            device_id: whose.
            authentication: with a type, and the thumbprints of the device's certificate or its symmetric keys.
            initial_twin: what a new twin starts with.
            reset_twin: whether a twin that is there is made anew.
            iot_edge: whether it is an IoT Edge device.
            carried_twin: the twin from the hub that the device leaves.
        """
        present = self._store.get(self._devices, device_id)
        body = {
            "authentication": authentication,
            "capabilities": {"iotEdge": iot_edge},
            "statusReason": present["statusReason"] if present else None,
        }
        with self._store.transaction():
            self._keep(identities.changed(device_id, body, present, self._now()), present)
            if carried_twin is not None:
                self._store.put(self._twins, device_id, carried_twin)
            elif present is None or reset_twin:
                self._store.put(self._twins, device_id, twins.new_twin(initial_twin, self._now()))

    # --- twins ---

    def twin(self, device_id: str) -> dict[str, Any]:
        """Give a twin as the service API shows it.

        Raises:
            HubError: 404.
        """
        identity, twin = self.get(device_id), self._twin(device_id)
        authentication = identity["authentication"]
        return {
            "deviceId": device_id,
            "etag": base64.b64encode(int(twin["revision"]).to_bytes(8)).decode(),
            "deviceEtag": identity["etag"],
            "status": identity["status"],
            "statusReason": identity["statusReason"],
            "statusUpdateTime": identity["statusUpdatedTime"],
            "connectionState": identity["connectionState"],
            "lastActivityTime": identity["lastActivityTime"],
            "cloudToDeviceMessageCount": identity["cloudToDeviceMessageCount"],
            "authenticationType": authentication["type"],
            "x509Thumbprint": authentication["x509Thumbprint"],
            "version": twin["version"],
            "tags": twin["tags"],
            "properties": {"desired": twin["desired"], "reported": twin["reported"]},
            "capabilities": identity["capabilities"],
            "parentScopes": identity["parentScopes"],
        } | {name: identity[name] for name in ("deviceScope",) if name in identity}

    def _twin(self, device_id: str) -> dict[str, Any]:
        found = self._store.get(self._twins, device_id)
        if found is None:
            raise errors.not_found(device_id)
        return found

    def twin_document(self, device_id: str) -> dict[str, Any] | None:
        """Give a twin as it is kept, for another hub to take over; None if it does not exist."""
        return self._store.get(self._twins, device_id)

    def write_twin(self, device_id: str, body: Any, if_match: str | None, *, replace: bool) -> dict[str, Any] | None:
        """Merge into, or replace, tags and desired properties.

        Returns:
            The desired properties' part of the change, for the device; None if it has none.

        Raises:
            HubError: 400, 404, 412.
        """
        twin = self._twin(device_id)
        if not matches(if_match, self.twin(device_id)["etag"]):
            raise errors.precondition_failed()
        if not isinstance(body, dict) or not isinstance(body.get("properties"), dict | None):
            raise errors.bad_argument('The body must be a twin: {"tags": {...}, "properties": {"desired": {...}}}.')
        empty: dict[str, Any] | None = {} if replace else None
        tags, desired = body.get("tags", empty), (body.get("properties") or {}).get("desired", empty)
        changed = {**twin, "version": twin["version"] + 1, "revision": twin["revision"] + 1}
        if tags is not None:
            changed["tags"] = twins.with_tags(twin, tags, replace=replace)
        if desired is not None:
            changed["desired"] = twins.with_desired(twin, desired, self._now(), replace=replace)
        self._store.put(self._twins, device_id, changed)
        return None if desired is None else twins.plain(desired)

    async def change_twin(self, device_id: str, body: Any, if_match: str | None, *, replace: bool) -> dict[str, Any]:
        """Merge into, or replace, tags and desired properties, and tell the device.

        Raises:
            HubError: 400, 404, 412.
        """
        patch = self.write_twin(device_id, body, if_match, replace=replace)
        changed = self.twin(device_id)
        device = self._connected.get(device_id)
        if device is not None and patch is not None:
            await device.desired_changed(patch, changed["properties"]["desired"]["$version"])
        return changed

    def find(self, query: Any, *, continuation: str, size: int) -> queries.Page:
        """Find a page of what a query asks for.

        Raises:
            HubError: 400, 501.
        """
        return queries.find(queries.parse(query), self._twins_after, continuation, size)

    def _twins_after(self, device_id: str) -> Iterator[dict[str, Any]]:
        return (self.twin(found) for found, _ in self._store.scan(self._devices, after=device_id))

    def device_view(self, device_id: str) -> dict[str, Any]:
        """Give a twin as its device reads it: no tags, no metadata."""
        twin = self._twin(device_id)
        return {
            name: {**twins.plain(twin[name]), "$version": twin[name]["$version"]} for name in ("desired", "reported")
        }

    def report(self, device_id: str, patch: Any) -> int:
        """Merge what a device reports, and give the new version.

        The twin's ETag stays: it guards tags and desired properties, which the device does not write.

        Raises:
            HubError: 400.
        """
        twin = self._twin(device_id)
        reported = twins.with_reported(twin, patch, self._now())
        self._store.put(self._twins, device_id, {**twin, "reported": reported, "version": twin["version"] + 1})
        return int(reported["$version"])

    # --- connections ---

    def connect(self, device_id: str, device: ConnectedDevice) -> None:
        """Enter a connection; an older one of the same device ends."""
        older = self._connected.get(device_id)
        self._connected[device_id] = device
        if older is not None:
            older.drop()
        now = self._now()
        self._touch(device_id, connectionStateUpdatedTime=now, lastActivityTime=now)
        self.announce()

    def disconnected(self, device_id: str, device: ConnectedDevice) -> None:
        """Forget a connection that ended."""
        if self._connected.get(device_id) is device:
            del self._connected[device_id]
            self._touch(device_id, connectionStateUpdatedTime=self._now())

    def disconnect(self, device_id: str) -> None:
        """End a device's connection, if it has one."""
        device = self._connected.get(device_id)
        if device is not None:
            self.disconnected(device_id, device)
            device.drop()

    def announce(self) -> None:
        """Let those look again who wait for a device."""
        self._ready.set()
        self._ready = asyncio.Event()

    async def listening(self, device_id: str, seconds: float) -> ConnectedDevice:
        """Find the connection of a device that takes direct methods; wait for it if need be.

        Raises:
            HubError: 404, the device does not exist, or none connected within so many seconds.
        """
        if not self.has(device_id):
            raise errors.not_registered()
        try:
            async with asyncio.timeout(seconds):
                while (device := self._connected.get(device_id)) is None or not device.takes_methods:
                    await self._ready.wait()
                return device
        except TimeoutError:
            raise errors.not_online(timedelta(seconds=seconds)) from None

    @property
    def connected_count(self) -> int:
        """How many devices are connected."""
        return len(self._connected)

    def subscriptions(self, device_id: str) -> frozenset[str]:
        """Give the topic filters that a device's persistent session holds (MQTT 3.1.1, section 3.1.2.4)."""
        found = self._store.get(self._subscriptions, device_id)
        return frozenset(found["filters"]) if found else frozenset()

    def remember_subscriptions(self, device_id: str, filters: Collection[str]) -> None:
        """Keep the topic filters of a persistent session, or forget them with an empty collection."""
        if filters:
            self._store.put(self._subscriptions, device_id, {"filters": sorted(filters)})
        else:
            self._store.delete(self._subscriptions, device_id)

    def _touch(self, device_id: str, **times: str) -> None:
        found = self._store.get(self._devices, device_id)
        if found is not None:
            self._store.put(self._devices, device_id, {**found, **times})

    # --- cloud-to-device messages ---

    async def send(self, device_id: str, message: Any) -> dict[str, Any]:
        """Queue a message for a device, and deliver it if the device is there.

        Args:
            device_id: for whom.
            message: ``{"body", "bodyEncoding", "properties", "systemProperties"}``, as telemetry is shown.

        Raises:
            HubError: 400, 403 when too many wait, 404, 413, 429.
        """
        if not self.has(device_id):
            raise errors.not_found(device_id)
        if (wait := self._context.throttled("iot_hub.cloudToDevice", subject=self.host_name)) is not None:
            raise errors.throttled(wait)
        queued = self._commands.add(device_id, message, self._context.clock())
        device = self._connected.get(device_id)
        if device is not None:
            await device.deliver()
        return queued

    def end_expired_messages(self) -> None:
        """Let go of all messages that have expired."""
        self._commands.drop_expired(self._context.clock())

    def _message_ended(self, device_id: str, message: Mapping[str, Any], ending: Ending) -> None:
        """Keep feedback, if it is wanted; of a device that is gone there is none."""
        system, identity = message["systemProperties"], self._store.get(self._devices, device_id)
        if identity is None or not is_wanted(system.get("ack", "none"), ending):
            return
        record = {
            "originalMessageId": system["messageId"],
            "statusCode": ending,
            "description": ending,
            "deviceId": device_id,
            "deviceGenerationId": identity["generationId"],
        }
        self.feedback.add(record, self._now())
        asyncio.get_running_loop().call_soon(self.feedback.announce)  # after the commit

    def take_feedback(self) -> Batch | None:
        """Give feedback that nobody has taken yet."""
        return self.feedback.take(self._context.clock())

    def due_messages(self, device_id: str, *, skip: Collection[int], limit: int | None = None) -> list[Command]:
        """Give what is to be delivered to a device now, without those numbers that are on their way."""
        return self._commands.deliver(device_id, self._context.clock(), skip=skip, limit=limit)

    def complete_message(self, device_id: str, number: int, ending: Ending = "Success") -> None:
        """Let go of a message that the device has acknowledged, or rejected."""
        self._commands.complete(device_id, number, ending)

    def purge_messages(self, device_id: str) -> int:
        """Let go of all messages that wait for a device; tells how many.

        Raises:
            HubError: 404.
        """
        if not self.has(device_id):
            raise errors.not_found(device_id)
        return self._commands.purge(device_id)

    # --- telemetry ---

    def receive(self, device_id: str, payload: bytes, properties: Mapping[str, str]) -> None:
        """Keep a device's message; of each device the last hundred are kept."""
        now = self._now()
        with self._store.transaction():
            self._telemetry.add(device_id, payload, properties, now)
            self._touch(device_id, lastActivityTime=now)

    def telemetry(self, device_id: str) -> list[dict[str, Any]]:
        """Give the device's latest messages, oldest first."""
        return self._telemetry.latest(device_id)


class IotHubs(Mapping[str, IotHub]):
    """All hubs, by host name."""

    def __init__(self, context: Context) -> None:
        self._hubs = {hub.host_name: IotHub(context, hub.host_name) for hub in context.configuration.hubs}

    def __getitem__(self, host_name: str) -> IotHub:
        return self._hubs[host_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hubs)

    def __len__(self) -> int:
        return len(self._hubs)

    def called(self, host: str) -> IotHub:
        """Find the hub that a request is for, by the name in its Host header; the first one for a name unknown."""
        name = host.rsplit(":", 1)[0].lower()
        return self._hubs.get(name) or next(iter(self._hubs.values()))


def matches(if_match: str | None, etag: str) -> bool:
    """Tell whether an If-Match header lets a change through."""
    return if_match is None or if_match.removeprefix("W/").strip('"') in {"*", etag}
