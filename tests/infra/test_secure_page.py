"""docs/secure.md says of each trust zone what it does not reach; infra/zones.json gives the zone no role there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "secure.md").read_text(encoding="utf-8")
ZONES = json.loads((REPOSITORY / "infra" / "zones.json").read_text(encoding="utf-8"))["zones"]
ROWS = {
    zone: unreached.split(", ") if unreached else []
    for zone, unreached in re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\| ?([^|]*?) ?\|$", PAGE, re.MULTILINE)
}
SCOPES = {
    "vaults": {"caVault", "passwordVault", "statusVault"},
    "CAs' keys": {"caVault"},
    "DPS": {"dps"},
    "hubs": {"hubs"},
    "bundles": {"bundlesContainer"},
    "the queue of revocations": {"revocationQueue"},
    "queues of orders": {"intakeQueues", "issuingQueues"},
}
"""Scopes in zones.json, by the words of the page."""


def test_the_page_has_each_zone() -> None:
    assert set(ROWS) == set(ZONES)


@pytest.mark.parametrize("zone", ROWS)
def test_a_zone_has_no_role_where_the_page_says_that_it_does_not_reach(zone: str) -> None:
    """Where it says "writing", the zone has roles that read alone."""
    roles = ZONES[zone]["roles"]
    for words in ROWS[zone]:
        if words == "writing":
            assert {each["role"] for each in roles} == {"tableReader", "blobReader", "responderKeyUnwrapper"}
        else:
            assert not SCOPES[words] & {each["scope"] for each in roles}, words


@pytest.mark.parametrize("zone", ["issuing", "revocation"])
def test_no_zone_can_take_keys_of_cas_out_or_delete_them(zone: str) -> None:
    """As the page says of a stolen identity; what each role may do is in zones.json."""
    roles = json.loads((REPOSITORY / "infra" / "zones.json").read_text(encoding="utf-8"))["roles"]
    (role,) = [roles[each["role"]] for each in ZONES[zone]["roles"] if each["scope"] == "caVault"]
    actions = json.dumps(role)
    assert "sign/action" in actions
    assert not re.search(r"keys/(delete|backup|purge|recover|\*)", actions)


def test_intake_writes_its_own_requests_and_what_is_denied_and_no_other_table() -> None:
    """So it can't have it that a revocation is done: requests that revoke are in the table ``actrequests``."""
    said = json.loads((REPOSITORY / "infra" / "zones.json").read_text(encoding="utf-8"))
    writes = {
        table
        for each in said["zones"]["intake"]["roles"]
        if each["role"] != "tableReader"
        for table in said["scopes"][each["scope"]].get("tables", ())
    }
    assert writes == {"requests", "audit", "actstolog"}
    assert not any(
        each["scope"] == "ledgerTables" and each["role"] != "tableReader" for each in ZONES["intake"]["roles"]
    )
