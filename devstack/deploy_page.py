"""Write the table of roles in docs/deploy.md from infra/zones.json: ``python -m devstack.deploy_page``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "deploy.md"
ZONES = REPOSITORY / "infra" / "zones.json"
BEGIN, END = "<!-- Made from infra/zones.json by `make docs`. -->\n", "<!-- End of what is made. -->\n"


def roles_table(said: Mapping[str, Any]) -> str:
    """Give the table, in Markdown: a row for each role of each zone's identity."""
    granted = [(name, grant) for name, zone in said["zones"].items() for grant in zone["roles"]]
    granted += [("each", grant) for grant in said["everyZone"]["hostRoles"]]
    rows = "".join(f"| `{name}` | {_role(said, grant)} | {_where(said, grant)} |\n" for name, grant in granted)
    return f"\n| app | role | on |\n| --- | --- | --- |\n{rows}\n"


def _role(said: Mapping[str, Any], grant: Mapping[str, str]) -> str:
    role = said["roles"][grant["role"]]
    only = f", with `{grant['onlyWith']}` only" if "onlyWith" in grant else ""
    return f"{role['name']}{' (custom)' if 'custom' in role else ''}{only}"


def _where(said: Mapping[str, Any], grant: Mapping[str, str]) -> str:
    return str(said["scopes"][grant["scope"]]["what"])


def with_table(page: str) -> str:
    """Put the table into the page, in the place of the one before."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + roles_table(json.loads(ZONES.read_text(encoding="utf-8"))) + END + after


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
