"""What the check says is what the emulated DPS does: each chain is sent over TLS, and given to the check."""

from __future__ import annotations

import json
import ssl
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any

import pytest

from emulator.tests.dps_clients import DpsService
from emulator.tests.running import RunningEmulator, emulator_in_thread
from shared.ports.ca_certificates import VerifiedAuthority
from shared.workflows.groups.previews import Previews
from tests.contract import chains
from tests.contract.odd_chains import ODD_GROUPS, ODD_ROWS, ODD_VERIFIED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

VERSION = "api-version=2021-06-01"
GROUPS = {**chains.GROUPS, **ODD_GROUPS}
VERIFIED = {**chains.VERIFIED, **ODD_VERIFIED}
ROWS = [*chains.ROWS, *ODD_ROWS]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """One DPS with all entries of the table."""
    with emulator_in_thread(tmp_path_factory.mktemp("previews")) as running:
        service = DpsService(running)
        for name, authority in VERIFIED.items():
            service.verified(name, authority)  # type: ignore[arg-type]  # it asks for the PEM alone
        for group_id, entry in GROUPS.items():
            service.dps(
                "PUT", f"/enrollmentGroups/{group_id}", {"enrollmentGroupId": group_id, **entry}
            ).raise_for_status()
        for row in ROWS:
            if row.enrollment is not None:
                body = {"registrationId": row.device.lower(), **row.enrollment}
                service.dps("PUT", f"/enrollments/{row.device.lower()}", body).raise_for_status()
        yield running


class Device:
    """A device that sends whatever chain it has, weak ones too."""

    def __init__(self, emulator: RunningEmulator, row: chains.Row, folder: Path) -> None:
        (folder / "chain.pem").write_text(row.chain_pem)
        (folder / "key.pem").write_text(row.leaf.key_pem)
        context = ssl.create_default_context(cafile=emulator.ca_file)
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        host, _, port = emulator.https_url.removeprefix("https://").partition(":")
        self._connection = HTTPSConnection(host, int(port), context=context, timeout=10)
        self._path = f"/{emulator.endpoints['idScope']}/registrations/{row.device}"

    def call(self, method: str, path: str, body: str = "") -> tuple[int, dict[str, Any]]:
        self._connection.request(method, f"{self._path}{path}?{VERSION}", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def registered(self) -> dict[str, Any]:
        """Register; gives what the check says, in its form."""
        status, begun = self.call("PUT", "/register", "{}")
        if status == 202:
            status, done = self.call("GET", f"/operations/{begun['operationId']}")
            group_id = done["registrationState"]["x509"].get("enrollmentGroupId")
            self._connection.close()
            return {"status": status, "errorCode": None, "message": None, "by": group_id or "itself"}
        self._connection.close()
        return {"status": status, "errorCode": begun["errorCode"], "message": begun["message"], "by": None}


class Entries:
    """What the emulated DPS gives of its entries and CA certificates, read once."""

    def __init__(self, service: DpsService, resource_id: str) -> None:
        groups = service.dps("POST", "/enrollmentGroups/query", {"query": "SELECT * FROM enrollmentGroups"})
        enrollments = service.dps("POST", "/enrollments/query", {"query": "SELECT * FROM enrollments"})
        self._groups: list[dict[str, Any]] = groups.json()
        self._enrollments = {each["registrationId"]: each for each in enrollments.json()}
        assert (len(self._groups), len(self._enrollments)) == (len(GROUPS), sum(bool(row.enrollment) for row in ROWS))
        listed = service.call(
            "GET",
            f"{resource_id}/certificates",
            resource="https://management.azure.com",
            **{"api-version": "2022-12-12"},
        )
        self._verified = [
            VerifiedAuthority(each["name"], each["properties"]["thumbprint"], each["properties"]["certificate"])
            for each in listed.json()["value"]
            if each["properties"]["isVerified"]
        ]

    async def get_enrollment(self, registration_id: str) -> dict[str, Any] | None:
        return self._enrollments.get(registration_id)

    async def list_groups(self) -> AsyncIterator[dict[str, Any]]:
        for group in self._groups:
            yield group

    async def verified(self) -> list[VerifiedAuthority]:
        return self._verified


class NoAuthorities:
    """An app without CAs of its own: what is verified in DPS has no connection with them."""

    async def list(self) -> AsyncIterator[Any]:
        nothing: list[Any] = []
        for each in nothing:
            yield each


@pytest.fixture(scope="module")
def previews(emulator: RunningEmulator) -> Previews:
    """The check, of the emulated DPS."""
    entries: Any = Entries(DpsService(emulator), emulator.endpoints["dpsResourceId"])
    authorities: Any = NoAuthorities()
    return Previews(provisioning=entries, resource=entries, authorities=authorities, clock=emulator.context.clock)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.device)
async def test_the_check_says_what_dps_does(
    row: chains.Row, emulator: RunningEmulator, previews: Previews, tmp_path: Path
) -> None:
    """Status, code, message and matched entry are those of the DPS; what DPS does not mind is marked as advice."""
    told = Device(emulator, row, tmp_path).registered()
    found = await previews.check(None, row.device.lower(), row.chain_pem)
    match, accepted = found.match, told["status"] == 200
    by = None if not accepted or match is None else match.id if match.kind == "enrollmentGroup" else "itself"
    assert {**found.answer.shown(), "by": by} == told
    assert found.accepted is accepted
    assert row.answer == (told["by"] or told["message"])
    advice = [reason.code for reason in found.reasons if reason.effect == "advice"]
    assert advice == list(row.advice)
    refusals = [reason.message for reason in found.reasons if reason.effect == "refusal"]
    assert bool(refusals) is not accepted
    assert all(refusals)
