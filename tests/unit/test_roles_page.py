"""docs/roles.md shows the roles that the operations need."""

from __future__ import annotations

from devstack.roles_page import MEANINGS, PAGE, roles_page
from shared.domain.callers import Role


def test_the_page_is_as_the_operations_have_it() -> None:
    """``make docs`` makes it anew."""
    assert PAGE.read_text(encoding="utf-8") == roles_page()
    assert set(MEANINGS) == set(Role)
    row = "| `GET /api/devices/{registrationId}/bundle` | its group | Hand out a device's bundle |"
    assert row in roles_page().partition("## `Bundles.Read`")[2].partition("##")[0]
