"""Takes back what a ledger has forgotten that was put back to an earlier moment, and has it sign again.

Run ``python -m shared.restoration`` when readiness says that the ledger is older than it was. It takes the app's
settings in its environment, and an identity with the rights of the zones issuing and revocation. It prints what it
takes back, a line each, and what can't be known. ``--look`` only says whether the ledger is older. ``--accept`` goes on
although the ledger is not known to be older, such as after a vault was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

from shared.ledger.certificates import Certificates
from shared.ledger.changes import ChangeNotes
from shared.ledger.devices import Devices
from shared.ledger.expiry import ExpiryIndex
from shared.ledger.groups import Groups
from shared.services import build
from shared.settings import InvalidSettings, Settings
from shared.workflows.reconciliation.restoring import Restoration

if TYPE_CHECKING:
    from shared.services import Services


def restoration_of(services: Services) -> Restoration:
    """Wire it."""
    table, clock = services.clients.tables.table, services.clock
    return Restoration(
        authorities=services.authorities,
        certificates=Certificates(
            certificates=table("identities"), revocations=table("revocations"), in_force=table("inforce")
        ),
        devices=Devices(
            identities=table("identities"),
            unsettled=table("unsettled"),
            changes=ChangeNotes(table("directory"), clock=clock),
        ),
        groups=Groups(table("groups")),
        expiry=ExpiryIndex(table("expiry")),
        blobs=services.clients.blobs,
        lists=services.revocation_lists,
        provisioning=services.clients.provisioning,
        hubs=services.clients.hubs,
        converger=services.converger,
        log=services.evidence.reader,
        epochs=services.epochs,
        settings=services.settings,
        clock=clock,
    )


async def restore(settings: Settings, *, look: bool, accept: bool) -> int:
    """Look whether the ledger is older than it was, and take back what it has forgotten; give the exit status."""
    services = build(settings)
    try:
        fault = await services.epochs.fault()
        for record in [each async for each in services.authorities.list() if each.certificate]:
            if fault is None and await services.revocation_lists.is_ahead(record.name):
                fault = f"the published CRL of {record.name!r} has a number that the ledger has not given yet"
        sys.stdout.write(f"{fault or 'the ledger is not older than it was, as far as vault and CRLs tell'}\n")
        if look or (fault is None and not accept):
            return 1 if fault else 0
        async for line in restoration_of(services).run():
            sys.stdout.write(f"{line}\n")
    finally:
        await services.close()
    return 0


def main() -> int:
    """Take back what the ledger of the deployment that the environment names has forgotten."""
    parser = argparse.ArgumentParser(prog="python -m shared.restoration", description=__doc__)
    parser.add_argument("--look", action="store_true", help="only say whether the ledger is older; then end with 1")
    parser.add_argument("--accept", action="store_true", help="go on although the ledger is not known to be older")
    options = parser.parse_args()
    try:
        settings = Settings.from_environment(os.environ)
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return asyncio.run(restore(settings, look=options.look, accept=options.accept))


if __name__ == "__main__":
    sys.exit(main())
