"""The pages that show roles: made from the file by which they are assigned."""

from __future__ import annotations

from devstack.zones import read_zones
from devstack.zones_page import PAGE, README, readme_with_roles, zones_page


def test_the_page_and_the_readme_show_the_roles_that_are_assigned() -> None:
    """``make docs`` makes them anew."""
    assert PAGE.read_text(encoding="utf-8") == zones_page(read_zones())
    readme = README.read_text(encoding="utf-8")
    assert readme == readme_with_roles(readme, read_zones())
    assert "| Key Vault of passwords | Device Factory Password Keeper |" in readme  # it may all that the webhook needs
