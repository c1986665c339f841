"""The console through the functions host: the host checks the key, and the pages show what the stack holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from devstack.outside import until
from tests.end_to_end.conftest import GROUP

if TYPE_CHECKING:
    from devstack.outside import World
    from devstack.stack import Stack

SAME = {"Sec-Fetch-Site": "same-origin"}


def test_an_operator_signs_in_and_looks_around(stack_and_world: tuple[Stack, World]) -> None:
    """Pages about a device, its order, its CA and a message that was refused; a wrong key sees none of them."""
    stack, world = stack_and_world
    root = f"{stack.endpoints.functions_url}/api/console"
    order = {"orderId": "console-order", "enrollmentGroup": GROUP, "devices": [{"registrationId": "console-1"}]}
    world.post("device-orders", order)
    world.post_message("device-orders", {**order, "orderId": "console-refused", "enrollmentGroup": "console-<b>"})
    until(
        "the order is done",
        lambda: world.get("device-orders/console-order", missing={}),
        lambda shown: shown.get("state") == "completed",
    )
    until(
        "the other is refused",
        lambda: [each for each in world.get("rejections")["items"] if "console-refused" in each["body"]],
        lambda found: len(found) == 1,
    )
    with requests.Session() as session:
        refused = session.post(f"{root}/sign-in", data={"key": "not-a-key"}, headers=SAME, timeout=60)
        assert (refused.status_code, dict(session.cookies)) == (403, {})
        given = session.post(f"{root}/sign-in", data={"key": stack.endpoints.function_key}, headers=SAME, timeout=60)
        assert (given.status_code, given.url) == (200, root)
        shown = {"": given.text}
        about = ("/devices/console-1", "/orders/console-order", f"/groups/{GROUP}", f"/group-renewals/{GROUP}")
        for path in (*about, "/authorities", "/rejections", "/findings", "/reconciliations"):
            answer = session.get(f"{root}{path}", timeout=60)
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
            shown[path] = answer.text
    assert "Every CA can sign." in shown[""]
    assert "registered" in shown["/devices/console-1"]
    assert "1 of 1 devices finished" in shown["/orders/console-order"]
    assert "Renew these devices" in shown[f"/group-renewals/{GROUP}"]
    assert "dpsCa" in shown["/authorities"]
    assert "console-&lt;b&gt;" in shown["/rejections"]
