"""Which functions run in which trust zone, as infra/zones.json has it."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import azure.functions as func

from shared.rules.zones import APART, Zone

if TYPE_CHECKING:
    from collections.abc import Mapping

ZONES_FILE = Path(__file__).parents[1] / "infra" / "zones.json"
_blueprints: Mapping[frozenset[Zone], func.Blueprint] = {
    zones: func.Blueprint() for zones in (APART, *(frozenset({zone}) for zone in sorted(APART)))
}


@cache
def zones_of_functions() -> Mapping[str, frozenset[Zone]]:
    """Give the zones of each function: one, or all of them.

    Raises:
        RuntimeError: a function is in two zones.
    """
    said = json.loads(ZONES_FILE.read_text(encoding="utf-8"))
    pairs = [(name, APART) for name in said["everyZone"]["functions"]]
    pairs += [(name, frozenset({Zone(zone)})) for zone, each in said["zones"].items() for name in each["functions"]]
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise RuntimeError(f"{ZONES_FILE.name} names {', '.join(twice)} in more than one zone; leave it in one")
    return dict(pairs)


def blueprint_of(function: str) -> func.Blueprint:
    """Give the blueprint that a function is to be registered with.

    Raises:
        RuntimeError: the function is in no zone.
    """
    zones = zones_of_functions().get(function)
    if zones is None:
        raise RuntimeError(f"the function {function!r} is in no trust zone; name it in infra/{ZONES_FILE.name}")
    return _blueprints[zones]


def blueprints_of(zone: Zone) -> list[func.Blueprint]:
    """Give the blueprints of the functions that run in a zone."""
    return [blueprint for zones, blueprint in _blueprints.items() if zone is Zone.ALL or zone in zones]
