"""Bulk changes of the registry: up to 100 devices a call, each with an import mode (``ExportImportDevice``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emulator.protocols.wire import as_documented
from emulator.services.iot_hub import errors
from emulator.services.iot_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.platform.store import Store
    from emulator.services.iot_hub.state import IotHub

LIMIT = 100
MODES = (
    "create",
    "update",
    "updateIfMatchETag",
    "createOrUpdate",
    "createOrUpdateIfMatchETag",
    "delete",
    "deleteIfMatchETag",
    "updateTwin",
    "updateTwinIfMatchETag",
)
_NOT_OF_THE_IDENTITY = ("id", "importMode", "eTag", "twinETag", "tags", "properties")
_IDENTITY = ("status", "statusReason", "authentication", "capabilities", "deviceScope", "parentScopes", "moduleId")


async def change(store: Store, hub: IotHub, entries: Any) -> list[dict[str, Any]]:
    """Make every change that can be made, each for itself.

    Args:
        store: the hub's, for making an identity and its twin together.
        hub: whose registry.
        entries: the body of the request.

    Returns:
        What could not be changed: device id, error code, reason.

    Raises:
        HubError: 400, the list as a whole breaks a rule, and nothing was changed.
    """
    failures = []
    for entry in _checked(entries):
        try:
            await _change_one(store, hub, entry)
        except HubError as error:
            failures.append({"deviceId": entry["id"], "errorCode": error.number, "errorStatus": error.message})
    return failures


def _checked(entries: Any) -> list[dict[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise errors.bad_argument("The body must be a list of devices.")
    if not 0 < len(entries) <= LIMIT:
        raise errors.bad_argument(f"The list has {len(entries)} devices; a call takes 1 to {LIMIT}.")
    checked: dict[str, dict[str, Any]] = {}
    for position, given in enumerate(entries):
        entry = _spelled(given)
        device_id = entry.get("id")
        if not isinstance(device_id, str) or not device_id:
            raise errors.bad_argument(f"Device {position} of the list has no id.")
        if device_id in checked:
            raise errors.bad_argument(f"Device {device_id!r} is twice in the list.")
        if entry.get("moduleId"):
            raise errors.not_offered("IoT Hub's modules")
        checked[device_id] = entry | {"importMode": _mode(device_id, entry.get("importMode"))}
    return list(checked.values())


def _spelled(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Read names of fields in any case of letters, as the service does: azure-iothub of Node.js sends an ``etag``."""
    return {as_documented(name, (*_NOT_OF_THE_IDENTITY, *_IDENTITY)) or name: value for name, value in entry.items()}


def _mode(device_id: str, given: Any) -> str:
    mode = as_documented(given or "createOrUpdate", MODES)
    if mode is None:
        raise errors.bad_argument(f"importMode {given!r} of device {device_id!r} is not one of {', '.join(MODES)}.")
    return mode


async def _change_one(store: Store, hub: IotHub, entry: Mapping[str, Any]) -> None:
    device_id, mode = entry["id"], entry["importMode"]
    guarded = mode.endswith("IfMatchETag")
    if mode.startswith("updateTwin"):
        await hub.change_twin(device_id, entry, entry.get("twinETag") if guarded else None, replace=False)
        return
    etag = (entry.get("eTag") or "*") if guarded else "*"
    if mode.startswith("delete"):
        hub.delete(device_id, etag)
        return
    creates = mode == "create" or (mode.startswith("createOrUpdate") and not hub.has(device_id))
    identity = {name: value for name, value in entry.items() if name not in _NOT_OF_THE_IDENTITY}
    with store.transaction():
        hub.put(device_id, identity, None if creates else etag)
        if creates and (entry.get("tags") or entry.get("properties")):
            hub.write_twin(device_id, entry, None, replace=True)
