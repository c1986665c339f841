"""What a hub keeps, and its rules; no HTTP and no MQTT."""

from __future__ import annotations

import base64
import re
import secrets
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from devstack.emulator.iot_hub import errors, twins

if TYPE_CHECKING:
    from devstack.emulator.context import Context

_DEVICE_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")
_TELEMETRY_KEPT = 100
_NEVER = "0001-01-01T00:00:00Z"
_STATUSES = ("enabled", "disabled")
_AUTHENTICATION = ("sas", "selfSigned", "certificateAuthority")


class ConnectedDevice(Protocol):
    """A device's open connection."""

    async def desired_changed(self, patch: Mapping[str, Any], version: int) -> None:
        """Tell the device of changed desired properties."""
        ...

    async def invoke(self, method: str, payload: Any, seconds: float) -> tuple[int, Any]:
        """Call a direct method; gives the device's status and answer."""
        ...

    def drop(self) -> None:
        """End the connection."""
        ...


class IotHub:
    """One hub: identities, twins, telemetry, and who is connected."""

    def __init__(self, context: Context, host_name: str) -> None:
        self.host_name = host_name
        self._context = context
        self._store = context.store
        self._devices = f"hub.{host_name}.device"
        self._twins = f"hub.{host_name}.twin"
        self._messages = f"hub.{host_name}.telemetry"
        self._connected: dict[str, ConnectedDevice] = {}

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
        return {**found, "connectionState": "Connected" if device_id in self._connected else "Disconnected"}

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
            raise errors.precondition_failed(device_id)
        identity = self._checked(device_id, body, present)
        self._keep(identity, present)
        return self.get(device_id)

    def _checked(self, device_id: str, body: Any, present: Mapping[str, Any] | None) -> dict[str, Any]:
        if not isinstance(body, dict) or body.get("deviceId", device_id) != device_id:
            raise errors.bad_argument(f"The body must be a device identity with deviceId {device_id!r}.")
        if not _DEVICE_ID.fullmatch(device_id):
            raise errors.bad_argument(f"{device_id!r} is no device id.")
        before: Mapping[str, Any] = present or {}
        status = body.get("status") or before.get("status", "enabled")
        if status not in _STATUSES:
            raise errors.bad_argument(f"status {status!r} is none of {', '.join(_STATUSES)}.")
        now = self._now()
        return {
            "deviceId": device_id,
            "generationId": before.get("generationId") or str(secrets.randbelow(10**18)),
            "etag": base64.b64encode(secrets.token_bytes(6)).decode(),
            "status": status,
            "statusReason": body.get("statusReason"),
            "statusUpdatedTime": before["statusUpdatedTime"] if before.get("status") == status else now,
            "connectionStateUpdatedTime": before.get("connectionStateUpdatedTime", _NEVER),
            "lastActivityTime": before.get("lastActivityTime", _NEVER),
            "cloudToDeviceMessageCount": 0,
            "authentication": _checked_authentication(body.get("authentication") or before.get("authentication")),
            "capabilities": body.get("capabilities") or before.get("capabilities") or {"iotEdge": False},
        }

    def _keep(self, identity: dict[str, Any], present: Mapping[str, Any] | None) -> None:
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
            raise errors.precondition_failed(device_id)
        self.remove(device_id)

    def remove(self, device_id: str) -> None:
        """Delete an identity with its twin, if it exists, as when DPS moves a device."""
        with self._store.transaction():
            self._store.delete(self._devices, device_id)
            self._store.delete(self._twins, device_id)
        self.disconnect(device_id)

    def identities(self, *, limit: int) -> list[dict[str, Any]]:
        """List identities by id."""
        return [self.get(device_id) for device_id, _ in self._store.scan(self._devices, limit=limit)]

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
        thumbprint: str,
        initial_twin: Mapping[str, Any] | None,
        reset_twin: bool,
        iot_edge: bool,
    ) -> None:
        """Do what DPS does: create the identity, or give it the device's present certificate.

        A disabled identity stays disabled. The twin is made once, and made anew only when the policy says so.
        """
        present = self._store.get(self._devices, device_id)
        authentication = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": thumbprint}}
        body = {"deviceId": device_id, "authentication": authentication, "capabilities": {"iotEdge": iot_edge}}
        identity = self._checked(device_id, {**body, "statusReason": (present or {}).get("statusReason")}, present)
        with self._store.transaction():
            self._keep(identity, present)
            if present is None or reset_twin:
                self._store.put(self._twins, device_id, twins.new_twin(initial_twin, self._now()))

    # --- twins ---

    def twin(self, device_id: str) -> dict[str, Any]:
        """Give a twin as the service API shows it.

        Raises:
            HubError: 404.
        """
        identity, twin = self.get(device_id), self._twin(device_id)
        return {
            "deviceId": device_id,
            "etag": base64.b64encode(str(twin["version"]).encode()).decode(),
            "deviceEtag": identity["etag"],
            "status": identity["status"],
            "statusUpdateTime": identity["statusUpdatedTime"],
            "connectionState": identity["connectionState"],
            "lastActivityTime": identity["lastActivityTime"],
            "cloudToDeviceMessageCount": 0,
            "authenticationType": identity["authentication"]["type"],
            "x509Thumbprint": identity["authentication"].get("x509Thumbprint"),
            "version": twin["version"],
            "tags": twin["tags"],
            "properties": {"desired": twin["desired"], "reported": twin["reported"]},
            "capabilities": identity["capabilities"],
        }

    def _twin(self, device_id: str) -> dict[str, Any]:
        found = self._store.get(self._twins, device_id)
        if found is None:
            raise errors.not_found(device_id)
        return found

    async def change_twin(self, device_id: str, body: Any, if_match: str | None, *, replace: bool) -> dict[str, Any]:
        """Merge into, or replace, tags and desired properties, and tell the device.

        Raises:
            HubError: 400, 404, 412.
        """
        if not isinstance(body, dict):
            raise errors.bad_argument("The body must be a twin.")
        shown, twin = self.twin(device_id), self._twin(device_id)
        if not matches(if_match, shown["etag"]):
            raise errors.precondition_failed(device_id)
        tags, desired = body.get("tags"), (body.get("properties") or {}).get("desired")
        changed = {**twin, "version": twin["version"] + 1}
        if tags is not None or replace:
            changed["tags"] = twins.with_tags({} if replace else twin["tags"], tags or {})
        if desired is not None or replace:
            base = twins.section({}, self._now(), twin["desired"]["$version"]) if replace else twin["desired"]
            changed["desired"] = twins.patched(base, desired or {}, self._now())
        self._store.put(self._twins, device_id, changed)
        device = self._connected.get(device_id)
        if device is not None and desired is not None:
            await device.desired_changed(twins.plain(desired), changed["desired"]["$version"])
        return self.twin(device_id)

    def device_view(self, device_id: str) -> dict[str, Any]:
        """Give a twin as its device reads it: no tags."""
        twin = self._twin(device_id)
        return {
            name: {**twins.plain(twin[name]), "$version": twin[name]["$version"]} for name in ("desired", "reported")
        }

    def report(self, device_id: str, patch: Any) -> int:
        """Merge what a device reports, and give the new version.

        Raises:
            HubError: 400.
        """
        twin = self._twin(device_id)
        reported = twins.patched(twin["reported"], patch, self._now())
        self._store.put(self._twins, device_id, {**twin, "reported": reported, "version": twin["version"] + 1})
        version: int = reported["$version"]
        return version

    # --- connections and telemetry ---

    def connect(self, device_id: str, device: ConnectedDevice) -> None:
        """Enter a connection; an older one of the same device ends."""
        older = self._connected.get(device_id)
        self._connected[device_id] = device
        if older is not None:
            older.drop()
        self._touch(device_id)

    def disconnected(self, device_id: str, device: ConnectedDevice) -> None:
        """Forget a connection that ended."""
        if self._connected.get(device_id) is device:
            del self._connected[device_id]

    def disconnect(self, device_id: str) -> None:
        """End a device's connection, if it has one."""
        device = self._connected.pop(device_id, None)
        if device is not None:
            device.drop()

    def connected(self, device_id: str) -> ConnectedDevice:
        """Find a device's connection.

        Raises:
            HubError: 404, it is not connected.
        """
        self.get(device_id)
        device = self._connected.get(device_id)
        if device is None:
            raise errors.not_online(device_id)
        return device

    @property
    def connected_count(self) -> int:
        """How many devices are connected."""
        return len(self._connected)

    def _touch(self, device_id: str) -> None:
        found = self._store.get(self._devices, device_id)
        if found is not None:
            self._store.put(self._devices, device_id, {**found, "lastActivityTime": self._now()})

    def receive(self, device_id: str, payload: bytes, properties: Mapping[str, str]) -> None:
        """Keep a device's message; of each device the last hundred are kept."""
        kept = self._store.get(self._messages, device_id) or {"count": 0, "messages": []}
        message = {
            "enqueuedTime": self._now(),
            "body": payload.decode(errors="replace"),
            "properties": dict(properties),
        }
        kept["count"] += 1
        kept["messages"] = [*kept["messages"], message][-_TELEMETRY_KEPT:]
        self._store.put(self._messages, device_id, kept)
        self._touch(device_id)

    def telemetry(self, device_id: str) -> list[dict[str, Any]]:
        """Give the device's latest messages, oldest first."""
        kept = self._store.get(self._messages, device_id)
        return list(kept["messages"]) if kept else []


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


def _checked_authentication(given: Any) -> dict[str, Any]:
    authentication: dict[str, Any] = {"type": "sas", **(given or {})}
    kind = authentication["type"]
    if kind not in _AUTHENTICATION:
        raise errors.bad_argument(f"authentication.type {kind!r} is none of {', '.join(_AUTHENTICATION)}.")
    if kind == "sas":
        keys = authentication.get("symmetricKey") or {}
        made = {name: keys.get(name) or _key() for name in ("primaryKey", "secondaryKey")}
        return {"type": "sas", "symmetricKey": made}
    if kind == "certificateAuthority":
        return {"type": kind}
    thumbprints = {name: value for name, value in (authentication.get("x509Thumbprint") or {}).items() if value}
    for name, value in thumbprints.items():
        if not re.fullmatch(r"[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}", value):
            raise errors.bad_argument(f"{name} {value!r} is no SHA-1 or SHA-256 thumbprint in hexadecimal.")
    return {"type": kind, "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None, **thumbprints}}


def _key() -> str:
    return base64.b64encode(uuid.uuid4().bytes + uuid.uuid4().bytes).decode()


def matches(if_match: str | None, etag: str) -> bool:
    """Tell whether an If-Match header lets a change through."""
    return if_match is None or if_match.strip('"') in {"*", etag}
