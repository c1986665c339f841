"""Print the app roles of a registration in Microsoft Entra ID, for ``az ad app create --app-roles``.

``python -m devstack.app_roles [ROLE:GROUP ...]``: each role of the app, and those that are limited to a group as named.
The form is that of Microsoft Graph's resource type appRole. An id stays the same, so a later run changes nothing.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import TYPE_CHECKING, Any

from devstack.roles_page import MEANINGS
from shared.domain.callers import Grant, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_IDS = uuid.uuid5(uuid.NAMESPACE_DNS, "app-roles.device-identity-factory.invalid")


def app_roles(grants: Iterable[Grant]) -> list[dict[str, Any]]:
    """Give an app role for each grant, for people as well as for programs."""
    return [
        {
            "id": str(uuid.uuid5(_IDS, str(grant))),
            "value": str(grant),
            "displayName": str(grant),
            "description": f"{MEANINGS[grant.role]}{f', in the group {grant.group}' if grant.group else ''}",
            "allowedMemberTypes": ["User", "Application"],
            "isEnabled": True,
        }
        for grant in grants
    ]


def main(arguments: Sequence[str]) -> int:
    """Print them; 1 if one of those named is not a role."""
    try:
        named = [Grant.read(each) for each in arguments]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(app_roles([*map(Grant, Role), *named]), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
