"""The app is wired whole: every part has all that it works with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING

from shared.services import build
from shared.settings import Settings
from tests.unit.test_settings import GOOD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DPS = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Devices/provisioningServices/dps"
OPTIONAL = {
    "DPS_RESOURCE_ID": DPS,
    "EVENT_TOPIC_URL": "https://events.westeurope-1.eventgrid.azure.net/api/events",
    "IOT_HUBS": "h.azure-devices.net",
    "PUBLIC_BASE_URL": "http://pki.example.com",
    "WEBHOOK_SECRET_NAME": "webhook-key",
    "WEBSITE_HOSTNAME": "factory.azurewebsites.net",
}
OF_A_WHOLE_APP = 100
"""Classes that an app has at the least: fewer, and the way from one part to the next is not found any more."""


def parts_within(whole: object) -> Iterator[object]:
    """Give every part of the app that another one holds, or that a function is bound to."""
    seen, ahead = dict[int, object](), [whole]
    while ahead:
        part = ahead.pop()
        if id(part) not in seen:
            seen[id(part)] = part
            ahead += _held_by(part)
            yield part


def _held_by(part: object) -> Iterable[object]:
    match part:
        case MethodType():
            held: Iterable[object] = [part.__self__]
        case partial():
            held = [part.func, *part.args, *part.keywords.values()]
        case FunctionType():
            held = [each.cell_contents for each in part.__closure__ or ()]
        case Mapping():
            held = part.values()
        case tuple() | list() | set() | frozenset():
            held = part
        case _ if not type(part).__module__.startswith("shared."):
            held = ()
        case _ if dataclasses.is_dataclass(part):
            held = [getattr(part, field.name) for field in dataclasses.fields(part)]
        case _:
            held = getattr(part, "__dict__", {}).values()
    return held


async def missing(**settings: str) -> set[str]:
    """Name what parts of an app do not have, with its type; what begins with an underscore comes while it works."""
    services = build(Settings.from_environment({"ZONE": "all", **GOOD, **settings}))
    found, classes = set[str](), set[type]()
    for part in parts_within(services):
        if isinstance(part, partial) and None in (*part.args, *part.keywords.values()):
            found.add(f"an argument of {part.func}")
        if dataclasses.is_dataclass(part) and not isinstance(part, Settings):
            classes.add(type(part))
            found |= {
                f"{type(part).__name__}.{field.name}: {field.type}"
                for field in dataclasses.fields(part)
                if getattr(part, field.name) is None and not field.name.startswith("_")
            }
    assert len(classes) >= OF_A_WHOLE_APP
    await services.close()
    return found


async def test_every_part_has_what_it_can_not_do_without() -> None:
    """What a constructor was not given would be missed by the first request that needs it."""
    assert {each for each in await missing() if not each.endswith("| None")} == set()


async def test_every_part_has_all_that_the_settings_name() -> None:
    """What can be left out is there where it was not: else an app would leave undone what its owner has set.

    Only the zone of issuing makes keys for OCSP responders: an app for all zones signs these answers with the CAs' keys.
    """
    assert await missing(**OPTIONAL) == {"ResponderUpkeep.vault: VaultKeys | None"}
