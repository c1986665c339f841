"""What can be asked for of CAs, and the states that it can be asked for in."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.contracts.groups import GroupAction
from shared.domain.authorities import AuthorityAction
from shared.domain.words import CertificateKind
from shared.errors import Rejected
from tests.world.authority_world import (
    ELSEWHERE,
    GROUPS,
    LINE,
    OTHERWISE,
    PROOFS,
    ROOT,
    WRAPPED,
    AuthorityWorld,
    answer,
)
from tests.world.kept import kept

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    type Act = Callable[[AuthorityWorld], Coroutine[None, None, None]]


def _proof(code: str) -> Act:
    """Ask for a certificate that proves possession of a CA's key."""

    async def ask(world: AuthorityWorld) -> None:
        await world.request(code, CertificateKind.VERIFICATION, code, issuer=LINE.name, verificationCode=code)

    return ask


MESSAGES: dict[str, Act] = {
    "create root": lambda world: world.create(ROOT, "r0"),
    "create": lambda world: world.create(LINE, "r1"),
    "create again": lambda world: world.create(LINE, "r2"),
    "create otherwise": lambda world: world.create(OTHERWISE, "r3"),
    "create for a group": lambda world: world.create(GROUPS, "g1"),
    "roll to it": lambda world: world.create(GROUPS, "g2"),
    "create wrapped": lambda world: world.create(WRAPPED, "r4"),
    "create elsewhere": lambda world: world.create(ELSEWHERE, "r5"),
    "create the group": lambda world: world.group(GroupAction.CREATE, "gc"),
    "create it again": lambda world: world.group(GroupAction.CREATE, "gd"),
    "delete the group": lambda world: world.group(GroupAction.DELETE, "gx"),
    "disable the group": lambda world: world.group(GroupAction.DISABLE, "gs"),
    "enable the group": lambda world: world.group(GroupAction.ENABLE, "ge"),
    "put the group": lambda world: world.group(GroupAction.PUT, "gp"),
    "revoke": lambda world: world.revoke("root", 11),
    "revoke another": lambda world: world.revoke("root", 12),
    "disable the CA": lambda world: world.act(LINE.name, AuthorityAction.DISABLE),
    "enable the CA": lambda world: world.act(LINE.name, AuthorityAction.ENABLE),
    "retire the CA": lambda world: world.act(LINE.name, AuthorityAction.RETIRE),
    "revoke the CA": lambda world: world.act(LINE.name, AuthorityAction.REVOKE),
    "delete the CA": lambda world: world.act(LINE.name, AuthorityAction.DELETE),
    "delete the root": lambda world: world.act(ROOT.name, AuthorityAction.DELETE),
    "revoke the group's CA": lambda world: world.act(GROUPS.name, AuthorityAction.REVOKE),
    "renew the CA": lambda world: world.act(LINE.name, AuthorityAction.RENEW),
    "renew the root": lambda world: world.act(ROOT.name, AuthorityAction.RENEW),
    "revoke the root": lambda world: world.act(ROOT.name, AuthorityAction.REVOKE),
    "ask for the CA": lambda world: world.request(
        "c1", CertificateKind.INTERMEDIATE, LINE.name, issuer=ROOT.name, pathLength=0
    ),
    **{act: _proof(code) for act, code in PROOFS.items()},
}
"""Acts that come by a queue: they are delivered until they are done."""


async def _install_other(world: AuthorityWorld) -> None:
    """Install another answer to the same request."""
    with world.conductor.at_once():
        known = await world.records.get(ELSEWHERE.name)
    request = known.record.signing_request if known else None
    await world.install(answer(request, days=3000) if request else None)


CALLS: dict[str, Act] = {
    "install": lambda world: world.install(None),
    "install another": _install_other,
    "import": lambda world: world.bring("corporate", "i1"),
    "import again": lambda world: world.bring("corporate", "i2"),
    "import as another": lambda world: world.bring("other", "i3"),
    "publish all": AuthorityWorld.publish_all,
    "read the list": lambda world: world.read("root"),
}
"""Acts that somebody waits for: if they are broken off, nobody repeats them."""

ACTS = {**MESSAGES, **CALLS}


async def _after(world: AuthorityWorld, *names: str) -> AuthorityWorld:
    for name in names:
        await ACTS[name](world)
    return world


async def empty() -> AuthorityWorld:
    return AuthorityWorld()


@kept
async def rooted() -> AuthorityWorld:
    return await _after(AuthorityWorld(), "create root")


@kept
async def awaiting() -> AuthorityWorld:
    return await _after(await rooted(), "create elsewhere")


@kept
async def imported() -> AuthorityWorld:
    return await _after(AuthorityWorld(), "import")


async def one_place() -> AuthorityWorld:
    """One place is left at the DPS, and two CAs want it."""
    world = AuthorityWorld()
    dps = world.services[0]
    dps.limit = 1
    return world


@kept
async def unproved() -> AuthorityWorld:
    """A root that is signed, and whose possession the DPS had no place to prove for."""
    world = await one_place()
    world.services[0].limit = 0
    with suppress(Rejected):
        await ACTS["create root"](world)
    world.services[0].limit = 25
    return world


@kept
async def listing() -> AuthorityWorld:
    return await _after(await rooted(), "revoke")


@kept
async def acting() -> AuthorityWorld:
    """A CA that is open, and a group that has another one."""
    return await _after(await rooted(), "create", "create the group")


@kept
async def opened() -> AuthorityWorld:
    """A CA that is open, and whose possession somebody wants proved by hand."""
    return await _after(await rooted(), "create")


@kept
async def retired() -> AuthorityWorld:
    """A CA that was retired a while ago."""
    world = await _after(await rooted(), "create", "retire the CA")
    world.now += timedelta(minutes=5)
    return world


@kept
async def shut() -> AuthorityWorld:
    """A group that is disabled, and may be enabled."""
    world = await _after(await rooted(), "create the group", "disable the group")
    world.now += timedelta(minutes=1)
    world.shut = True
    return world


@kept
async def taken_out() -> AuthorityWorld:
    """A group whose entry others have deleted in the DPS."""
    world = await _after(await rooted(), "create the group")
    world.now += timedelta(minutes=1)
    world.provisioning.groups.clear()
    world.taken_out = True
    return world


SCENES: dict[str, Callable[[], Awaitable[AuthorityWorld]]] = {
    "empty": empty,
    "rooted": rooted,
    "awaiting": awaiting,
    "imported": imported,
    "grouped": rooted,
    "one place": one_place,
    "unproved": unproved,
    "listing": listing,
    "acting": acting,
    "retired": retired,
    "asked for": rooted,
    "proving": opened,
    "shut": shut,
    "taken out": taken_out,
}

MEANT: dict[str, tuple[str, ...]] = {
    "empty": ("create root", "create elsewhere", "import", "import again", "import as another"),
    "rooted": (
        "create",
        "create again",
        "create otherwise",
        "create for a group",
        "roll to it",
        "create wrapped",
        "revoke",
        "read the list",
        "publish all",
    ),
    "awaiting": ("create elsewhere", "install", "install another"),
    "imported": ("import again", "import as another"),
    "grouped": (
        "create the group",
        "create it again",
        "delete the group",
        "create for a group",
        "revoke the group's CA",
    ),
    "one place": ("create root", "import"),
    "unproved": ("create root", "delete the root"),
    "listing": ("revoke", "revoke another", "publish all", "read the list"),
    "acting": (
        "disable the CA",
        "enable the CA",
        "retire the CA",
        "revoke the CA",
        "revoke the group's CA",
        "revoke the root",
        "renew the CA",
        "renew the root",
        "create wrapped",
        "publish all",
        "delete the group",
    ),
    "retired": ("delete the CA", "revoke the CA", "revoke the root", "publish all"),
    "asked for": ("ask for the CA", "create", "create otherwise", "revoke the root"),
    "proving": ("ask for a proof", "ask for another proof", "retire the CA", "revoke the CA", "renew the CA"),
    "shut": ("enable the group", "put the group", "delete the group", "revoke the group's CA"),
    "taken out": ("put the group", "delete the group", "revoke the group's CA"),
}
"""The acts that a scene is for."""

BROKEN_OFF: dict[str, tuple[str, ...]] = {
    "empty": ("create root", "create elsewhere", "import"),
    "rooted": ("create", "create wrapped", "read the list"),
    "awaiting": ("install",),
    "imported": ("import again",),
    "grouped": ("create the group",),
    "one place": ("import",),
    "unproved": ("delete the root",),
    "listing": ("revoke another",),
    "acting": ("disable the CA", "revoke the group's CA", "revoke the root", "renew the root"),
    "retired": ("delete the CA", "revoke the CA"),
    "asked for": ("ask for the CA",),
    "proving": ("ask for a proof",),
    "shut": ("enable the group",),
    "taken out": ("put the group",),
}
"""The acts of a scene that ``make test`` breaks off; the others differ little from one of them."""

OFTEN = (
    ("empty", "create root", "create root"),
    ("empty", "import", "import again"),
    ("empty", "import", "import as another"),
    ("rooted", "create", "create"),
    ("rooted", "create", "create otherwise"),
    ("grouped", "create the group", "create for a group"),
    ("awaiting", "install", "install another"),
    ("one place", "create root", "import"),
    ("unproved", "create root", "delete the root"),
    ("listing", "revoke another", "publish all"),
    ("listing", "publish all", "revoke another"),
    ("listing", "revoke another", "read the list"),
    ("acting", "disable the CA", "revoke the CA"),
    ("acting", "revoke the group's CA", "revoke the root"),
    ("acting", "revoke the root", "create wrapped"),
    ("acting", "renew the CA", "renew the CA"),
    ("acting", "renew the CA", "revoke the CA"),
    ("acting", "renew the root", "revoke the root"),
    ("grouped", "create the group", "revoke the group's CA"),
    ("retired", "delete the CA", "revoke the CA"),
    ("asked for", "ask for the CA", "ask for the CA"),
    ("proving", "ask for a proof", "ask for a proof"),
    ("proving", "ask for a proof", "retire the CA"),
    ("shut", "enable the group", "revoke the group's CA"),
    ("taken out", "put the group", "revoke the group's CA"),
)
"""Pairs that ``make test`` tries."""

TWICE = (
    ("rooted", "create", "create"),
    ("rooted", "create", "create again"),
    ("rooted", "create wrapped", "create wrapped"),
    ("empty", "import", "import as another"),
    ("empty", "import", "import again"),
    ("awaiting", "install", "install another"),
    ("listing", "revoke another", "publish all"),
    ("proving", "ask for a proof", "ask for a proof"),
    ("proving", "ask for a proof", "retire the CA"),
    ("shut", "enable the group", "revoke the group's CA"),
    ("taken out", "put the group", "revoke the group's CA"),
)
"""Pairs of which both pause, and those of which one is taken for gone."""
