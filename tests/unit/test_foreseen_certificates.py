"""Requests for CAs and certificates: what can be seen not to succeed is refused before it is queued."""

from __future__ import annotations

from typing import Any

import pytest

from shared.contracts.certificates import CertificateRequest
from shared.contracts.parsing import parse
from shared.errors import Rejected
from shared.workflows.devices.certificate_requests import CertificateRequests
from tests.unit.groups import GroupScene


async def foreseen(scene: GroupScene, **body: Any) -> str | None:
    """Give why a request would be refused."""
    nothing: Any = None
    worker = scene.worker()
    subject = CertificateRequests(
        requests=nothing,
        certificates=nothing,
        devices=nothing,
        groups=scene.groups,
        authorities=worker.authorities,
        creation=worker.creation,
        possession=worker.possession,
        device_certificates=nothing,
        failures=nothing,
        converger=nothing,
        outbox=nothing,
        settings=scene.settings,
        clock=scene.clock,
    )
    try:
        await subject.foresee(parse(CertificateRequest, {"requestId": "r", **body}))
    except Rejected as refused:
        return str(refused)
    return None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"kind": "intermediate", "name": "line"}, None),
        ({"kind": "intermediate", "name": "factory", "pathLength": 1}, None),
        (
            {"kind": "root", "name": "factory"},
            "name: 'factory' exists as intermediate CA of another definition; choose another name",
        ),
        (
            {"kind": "intermediate", "name": "deep", "pathLength": 1, "issuer": "factory"},
            "pathLength: a CA of path length 1 does not fit below 'factory', whose path length is 1: it must be smaller "
            "(RFC 5280 section 4.2.1.9)",
        ),
        (
            {"kind": "intermediate", "name": "line", "issuer": "no"},
            "issuer: the certificate authority 'no' does not exist",
        ),
        ({"kind": "root", "name": "theirs"}, "name: the vault has a key 'theirs' already"),
        (
            {"kind": "device", "name": "press-1", "issuer": "factory"},
            "issuer: 'factory' is a CA that may have others below it; a device is signed by an issuing CA, whose path "
            "length is 0",
        ),
        (
            {"kind": "verification", "name": "v", "issuer": "no", "verificationCode": "ABC"},
            "issuer: the certificate authority 'no' does not exist",
        ),
        ({"kind": "verification", "name": "v", "issuer": "dpsCa", "verificationCode": "ABC"}, None),
    ],
)
async def test_what_can_not_succeed_is_said_at_once(body: dict[str, Any], message: str | None) -> None:
    """With the reason that the queue would give; nothing is recorded, made or signed."""
    scene = await GroupScene().set_up()
    await scene.issuing("factory", "dpsCa", path_length=1)
    scene.vault.foreign.add("theirs")
    before = (dict(scene.table.rows), set(scene.vault.keys), scene.vault.signatures)
    assert await foreseen(scene, **body) == message
    assert (dict(scene.table.rows), set(scene.vault.keys), scene.vault.signatures) == before
