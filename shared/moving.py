"""Has the devices of a group register again: with another DPS, or because their hub is to be retired.

Run ``python -m shared.moving GROUP`` with the app's settings in its environment, after another DPS was set up, and
``python -m shared.moving GROUP --hub HOST`` after the group has other hubs. It tells so many devices a minute, by a
desired property of their twins, and ends when none is left. ``--look`` only lists who is left. It needs the rights of
the zone issuing. It can be broken off and run again. Its exit status is 0 if none is left, 1 if some are (``--look``),
and 2 if it was refused or broke off: the settings or the options are wrong, the group or the hub does not exist, or a
service does not answer.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from shared.commands import enrollment_group, hub_host, run
from shared.ledger.stores import Ledger
from shared.services import build
from shared.workflows.reconciliation.moving import Moving, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.settings import Settings


async def move(settings: Settings, plan: Plan, *, look: bool) -> int:
    """Have devices register again, or say who is to; give the exit status: 1 if some are left.

    Raises:
        NotFound: the group does not exist, or the DPS does not have it.
        Rejected: the hub that they are to leave does not exist.
    """
    services = build(settings)
    clock = services.clock
    ledger = Ledger.of(services.clients.tables.table, clock=clock)
    moving = Moving(
        devices=ledger.devices,
        groups=ledger.groups,
        provisioning=services.clients.provisioning,
        hubs=services.clients.hubs,
        converger=services.converger,
        linked=services.linked_hubs,
        id_scope=settings.dps_id_scope,
        clock=clock,
    )
    try:
        if look:
            left = await moving.left(plan)
            sys.stdout.writelines(f"{each.registration_id} {each.assigned_hub or '-'}\n" for each in left)
            return 1 if left else 0
        async for line in moving.run(plan):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    finally:
        await services.close()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Have the devices of a group of the deployment that the environment names register again."""
    parser = argparse.ArgumentParser(prog="python -m shared.moving", description=__doc__)
    parser.add_argument("group", type=enrollment_group, metavar="GROUP", help="the enrollment group")
    parser.add_argument("--hub", type=hub_host, metavar="HOST", help="host name of the hub that they are to leave")
    parser.add_argument("--per-minute", type=_positive, default=60, metavar="N", help="so many are told (%(default)s)")
    parser.add_argument("--seconds", type=_positive, default=60, help="between two looks (%(default)s)")
    parser.add_argument("--look", action="store_true", help="only list who is left; then end with 1")
    given = parser.parse_args(arguments)
    plan = Plan(enrollment_group=given.group, hub=given.hub, per_minute=given.per_minute, seconds=given.seconds)
    return run(partial(move, plan=plan, look=given.look))


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
