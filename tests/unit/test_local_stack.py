"""Which stack ``python -m devstack`` starts for which options."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from devstack import __main__ as devstack
from devstack import zones
from devstack.azurite import command, endpoints, environment
from devstack.stack import REPOSITORY, Stack
from devstack.zoned_stack import ZonedStack
from emulator.platform.tls import TlsFiles

if TYPE_CHECKING:
    from pathlib import Path


def test_azurite_keeps_a_connection_longer_than_the_sdks_use_it(tmp_path: Path) -> None:
    """Otherwise a request may be on its way when Azurite closes: by itself it does so after 5 seconds."""
    tls = TlsFiles(tmp_path / "ca.pem", tmp_path / "certificate.pem", tmp_path / "key.pem")
    given = command(REPOSITORY, "127.0.0.1", (1, 2, 3), tmp_path, tls)
    kept = [int(given[given.index(f"--{each}KeepAliveTimeout") + 1]) for each in ("blob", "queue", "table")]
    assert min(kept) > 15  # keepalive_timeout of aiohttp's TCPConnector, by default


def test_azurite_keeps_its_state_in_a_folder_or_in_memory(tmp_path: Path) -> None:
    """Azurite refuses to start with both."""
    tls = TlsFiles(tmp_path / "ca.pem", tmp_path / "certificate.pem", tmp_path / "key.pem")
    kept, lost = (command(REPOSITORY, "127.0.0.1", (1, 2, 3), tmp_path, tls, in_memory=each) for each in (False, True))
    assert kept[kept.index("--location") + 1] == str(tmp_path)
    assert "--inMemoryPersistence" not in kept
    assert ("--inMemoryPersistence" in lost, "--location" in lost) == (True, False)


@pytest.mark.parametrize(("count", "kind", "hosts"), [("1", Stack, 1), ("4", ZonedStack, 4)])
def test_with_zones_it_has_a_functions_host_for_each(tmp_path: Path, count: str, kind: type[Stack], hosts: int) -> None:
    given = ["run", "--zones", count, "--state-dir", str(tmp_path)]
    stack = devstack._stack(devstack._arguments(given))  # noqa: SLF001
    assert type(stack) is kind
    assert len(set(stack.hosts)) == hosts
    assert stack.options.state_dir == tmp_path


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["stack", "--zones", "4"], "--zones 4 goes with run: `func start` runs one app for everything"),
        (["run", "--zones", "3"], "argument --zones: invalid choice: 3"),
    ],
)
def test_zones_that_there_are_not_are_refused(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        devstack._arguments(given)  # noqa: SLF001
    assert said in capsys.readouterr().err


def test_a_queue_is_given_an_account_of_its_own(tmp_path: Path) -> None:
    """Beside the account that has everything; the app is told where the queue is, and so is whoever sends there."""
    given = ["run", "--state-dir", str(tmp_path), "--queue-account", "device-orders=erp"]
    stack = devstack._stack(devstack._arguments(given))  # noqa: SLF001
    assert stack.options.queue_accounts == {"device-orders": "erp"}
    storage = endpoints("127.0.0.1", (1, 2, 3), tmp_path)
    assert storage.queue_of("erp") == "https://127.0.0.1:2/erp"
    accounts = environment(storage, ["erp"])["AZURITE_ACCOUNTS"].split(";")
    assert [each.partition(":")[0] for each in accounts] == ["devstoreaccount1", "erp"]
    assert len({each.partition(":")[2] for each in accounts}) == 2


@pytest.mark.parametrize(
    "given", ["provisioning-events=erp", "device-orders", "device-orders=A", "device-orders=devstoreaccount1"]
)
def test_an_account_that_can_not_be_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        devstack._arguments(["run", "--queue-account", given])  # noqa: SLF001
    assert f"'{given}' is not QUEUE=ACCOUNT, with a queue of certificate-requests, " in capsys.readouterr().err


def test_the_roles_of_a_zone_follow_a_queue_into_its_account() -> None:
    """With its poison queue; the other queues stay where they are."""
    held = zones.roles(zones.read_zones(), queue_accounts={"device-orders": "erp"})
    listens = next(
        each["paths"]
        for said in held["identities"].values()
        for each in said["assignments"]
        if (said["name"], each["role"]) == ("issuing", "queueListener")
    )
    assert {"/erp/queue/device-orders", "/erp/queue/device-orders-poison"} <= set(listens)
    assert "/intakeStorage/queue/renewal-requests" in listens
    assert not {"/intakeStorage/queue/device-orders", "/intakeStorage/queue/device-orders-poison"} & set(listens)


@pytest.mark.parametrize(("target", "command"), [("demo", "devstack.demo"), ("run", "devstack run"), ("test", "test")])
def test_make_hands_zones_on(target: str, command: str) -> None:
    """``make run ZONES=4``, and the same for demo and test."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(rf"^{target}:.*\n\t(.+)", makefile, re.MULTILINE)
    assert recipe
    assert f"{command} --zones $(or $(ZONES),1)" in recipe[1]
