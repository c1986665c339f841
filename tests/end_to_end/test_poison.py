"""What fails again and again is set aside whole, and replayed when its cause is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devstack.outside import until

if TYPE_CHECKING:
    from devstack.outside import World


def test_a_missing_role_loses_nothing(world: World) -> None:
    """Without its role on the vault the app fails; the request becomes a rejection, and a replay carries it out."""
    world.withhold_roles("key_vault")
    try:
        world.post_message("certificate-requests", {"requestId": "no-role", "kind": "root", "name": "second-root"})
        found = until(
            "the rejection",
            lambda: [each for each in world.get("rejections")["items"] if "second-root" in each["body"]],
            bool,
        )[0]
        ready = world.request("GET", "health/ready")
    finally:
        world.withhold_roles()
    assert ready.status_code == 503
    assert ready.json()["dependencies"]["keyVault"].startswith("HttpResponseError: (Forbidden)")
    assert (found["kind"], found["queue"]) == ("poison", "certificate-requests")
    events = until(
        "the event",
        lambda: [
            event for event in world.events("DeviceProvisioning.RequestRejected") if event["correlationid"] == "no-role"
        ],
        bool,
    )
    assert events[0]["data"]["rejectionId"] == found["id"]
    world.post(f"rejections/{found['id']}/replay")
    authority = until(
        "the root",
        lambda: world.get("certificate-authorities/second-root", missing={}),
        lambda body: body.get("proofOfPossession") == "verified",
    )
    assert authority["state"] == "active"
