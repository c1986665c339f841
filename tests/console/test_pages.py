"""Every page, as an operator sees it: in a browser, with the keyboard, on a phone, in the dark, without scripts."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
import requests
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from devstack.outside import until
from tests.console.conftest import HOSTILE, browser_of

if TYPE_CHECKING:
    from devstack.outside import World
    from tests.console.conftest import Browser, Place

PAGES = {
    "today": "",
    "devices": "/devices",
    "device": "/devices/press-1",
    "revoked device": "/devices/press-5",
    "orders": "/orders",
    "order": "/orders/order-1",
    "failed order": "/orders/order-2",
    "retry": "/orders/order-2/retry",
    "authorities": "/authorities",
    "group": "/groups/line-1",
    "rolling group": "/groups/line-2",
    "retire": "/authorities/line-1-ca1/retire",
    "disable group": "/groups/line-1/disable",
    "roll group": "/groups/line-1/roll",
    "renew group": "/group-renewals/line-1",
    "revoke group": "/group-revocations/line-1",
    "findings": "/findings",
    "finding": "/findings/{finding}",
    "mend": "/findings/{finding}/mend",
    "close finding": "/findings/{finding}/close",
    "passes": "/reconciliations",
    "reconcile": "/reconcile",
    "rejections": "/rejections",
    "approvals": "/approvals",
    "audit": "/audit",
    "rejection": "/rejections/{rejection}",
    "renew": "/devices/press-1/renew",
    "revoke": "/devices/press-1/revoke",
    "refused act": "/devices/press-1/reinstate",
    "request": "/requests/order-1?kind=device-orders",
    "replay": "/rejections/{rejection}/replay",
    "close": "/rejections/{rejection}/close",
    "replay many": "/replays?queue=device-orders",
    "unknown": "/devices/nobody",
    "sign-in": "/sign-in",
}
IMAGES = Path(__file__).parents[2] / "docs" / "images"
KEPT = {
    ("finding", "light", 1280),
    ("today", "light", 1280),
    ("today", "dark", 390),
    ("device", "light", 1280),
    ("revoke", "light", 1280),
}
"""Of which docs/console.md has pictures: SCREENSHOTS=1 makes them anew."""


def rejection_of(world: World, order: str) -> str:
    items = world.get("rejections?state=all")["items"]
    return next(str(each["id"]) for each in items if f"order-{order}" in each["body"])


HEADINGS = {
    "today": "Today",
    "devices": "Devices",
    "device": "Device press-1",
    "revoked device": "Device press-5",
    "orders": "Orders",
    "order": "Order order-1",
    "failed order": "Order order-2",
    "retry": "Retry order order-2",
    "authorities": "CAs and groups",
    "group": "Group line-1",
    "rolling group": "Group line-2",
    "retire": "Retire CA line-1-ca1",
    "disable group": "Disable group line-1",
    "roll group": "Roll group line-1",
    "renew group": "Renew the devices of group line-1",
    "revoke group": "Revoke the devices of group line-1",
    "findings": "Findings",
    "finding": "Finding: identity disabled of press-4",
    "mend": "Mend finding: identity disabled of press-4",
    "close finding": "Close finding: identity disabled of press-4",
    "passes": "Passes of reconciliation",
    "reconcile": "Begin a pass of reconciliation",
    "rejections": "Rejections",
    "approvals": "Approvals",
    "audit": "Audit",
    "rejection": "Rejection {rejection}",
    "renew": "Renew device press-1",
    "revoke": "Revoke or hold device press-1",
    "refused act": "Conflict",
    "request": "Request order-1",
    "replay": "Replay rejection {rejection}",
    "close": "Close rejection {rejection}",
    "replay many": "Replay many",
    "unknown": "Not Found",
    "sign-in": "Sign in",
}


def path_of(world: World, page: str) -> str:
    return PAGES[page].format(rejection=rejection_of(world, "hostile"), finding=finding_of(world, "press-4"))


def finding_of(world: World, device: str) -> str:
    items = world.get(f"findings?state=all&subject={device}")["items"]
    return str(items[0]["id"])


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_accessible(operator: Browser, world: World, page: str, scheme: str, width: int) -> None:
    """axe-core finds nothing against WCAG 2.2 AA, also in the dark and on a phone."""
    operator.scheme(scheme)
    operator.size(width)
    operator.open(path_of(world, page))
    assert operator.heading == HEADINGS[page].format(rejection=rejection_of(world, "hostile"))
    assert operator.violations() == []
    if os.environ.get("SCREENSHOTS") and (page, scheme, width) in KEPT:
        operator.driver.save_screenshot(str(IMAGES / f"console-{page}-{scheme}.png"))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_a_narrow_screen(operator: Browser, world: World, page: str) -> None:
    """At 320 pixels nothing but tables scrolls sideways (WCAG 2.2, 1.4.10)."""
    operator.size(320)
    operator.open(path_of(world, page))
    width = operator.driver.execute_script("return document.documentElement.scrollWidth")
    assert width <= 320


def test_whoever_has_no_key_sees_nothing_and_gets_where_they_wanted_with_one(stranger: Browser) -> None:
    stranger.open("/devices?enrollmentGroup=line-1")
    assert stranger.heading == "Sign in"
    stranger.find("#key").send_keys("not-a-key")
    stranger.press("Sign in")
    assert "The host does not take this key" in stranger.text
    stranger.find("#key").send_keys(stranger.key)
    stranger.press("Sign in")
    assert stranger.driver.current_url == f"{stranger.root}/devices?enrollmentGroup=line-1"
    assert "press-1" in stranger.text
    cookie = stranger.driver.get_cookies()[0]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/api/console")
    assert stranger.driver.execute_script("return document.cookie") == ""
    stranger.press("Sign out")
    stranger.open()
    assert stranger.heading == "Sign in"


def test_a_page_is_used_with_the_keyboard_alone(operator: Browser) -> None:
    """The first stop is the link over the navigation, and what has the focus is marked."""
    operator.open()
    operator.find("body").send_keys(Keys.TAB)
    assert operator.driver.switch_to.active_element.text == "Skip to the content"
    operator.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert operator.driver.switch_to.active_element.tag_name == "main"
    operator.open()
    stops = [*"TTT"]
    for _ in stops:
        operator.driver.switch_to.active_element.send_keys(Keys.TAB)
    focused = operator.driver.switch_to.active_element
    assert (focused.text, focused.value_of_css_property("outline-style")) == ("Devices", "solid")
    operator.leave(lambda: focused.send_keys(Keys.ENTER))
    assert operator.heading == "Devices"


def test_a_device_is_found_by_its_serial_number(operator: Browser, world: World) -> None:
    """With colons, as openssl writes it, too."""
    serial = world.get("devices/press-2")["certificate"]["serialNumber"].upper()
    operator.open("/devices")
    written = ":".join(serial[at : at + 2] for at in range(0, 40, 2))
    operator.leave(lambda: operator.find("#find").send_keys(written, Keys.ENTER))
    assert operator.heading == "Device press-2"
    assert "registered" in operator.text
    assert "not on the list" in operator.text
    assert "its identity is enabled, and not connected now" in operator.text
    assert "Why it is so" in operator.text


def test_the_results_of_an_order_are_a_file(operator: Browser) -> None:
    operator.open("/orders/order-1")
    link = operator.driver.find_element(By.LINK_TEXT, "Results as CSV").get_attribute("href")
    cookies = {str(each["name"]): str(each["value"]) for each in operator.driver.get_cookies()}
    answer = requests.get(str(link), cookies=cookies, timeout=60)
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/csv")
    assert "press-1,registered," in answer.text


def test_what_others_wrote_is_shown_and_not_run(operator: Browser, world: World) -> None:
    operator.open(path_of(world, "rejection"))
    operator.driver.get_log("browser")  # type: ignore[no-untyped-call]
    operator.driver.refresh()
    assert HOSTILE in operator.text.replace('\\"', '"')
    assert operator.driver.execute_script("return document.images.length") == 0
    assert operator.driver.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_a_device_is_put_on_hold_and_let_in_again(operator: Browser, world: World) -> None:
    """Each page says first what it will do; the request's page leads back to the device."""
    operator.open("/devices/press-3")
    operator.press("Revoke or hold ...")
    assert "This will do the following, for one device" in operator.text
    assert world.state("press-3") == "registered"
    operator.press("Revoke this device", leaves=False)
    assert operator.heading == "Revoke or hold device press-3", "the browser wants a reason"
    operator.find("#reason").send_keys("certificate hold")
    operator.press("Revoke this device")
    assert operator.heading.startswith("Request console-")
    until("it is on hold", lambda: world.state("press-3"), lambda state: state == "revoked")
    operator.press("/api/devices/press-3")
    assert "on the list: certificateHold" in operator.text
    assert "on hold: it is on hold since" in operator.text
    assert "its identity is disabled" in operator.text
    operator.press("Reinstate ...")
    operator.press("Reinstate this device")
    until("it is in again", lambda: world.state("press-3"), lambda state: state == "registered")


def test_a_device_is_renewed(operator: Browser, world: World) -> None:
    """It has two certificates, until it has registered with the new one."""
    operator.open("/devices/press-2")
    operator.press("Renew ...")
    operator.press("Renew this device")
    until("it has another certificate", lambda: world.state("press-2"), lambda state: state == "renewing")
    device = world.get("devices/press-2")
    operator.open("/devices/press-2")
    for each in (device["certificate"], device["nextCertificate"]):
        assert each["serialNumber"] in operator.text


def test_failed_lines_of_an_order_are_tried_again(operator: Browser, world: World) -> None:
    operator.open("/orders/order-2")
    operator.press("Retry ...")
    assert "1 device that failed: tried again" in operator.text
    operator.press("Retry this order")
    identifier = operator.heading.removeprefix("Request ")
    until(
        "it is done",
        lambda: world.get(f"requests/{identifier}?kind=device-orders"),
        lambda request: request["state"] == "done",
    )
    operator.driver.refresh()
    assert "done" in operator.text


def test_an_act_that_can_not_be_done_is_refused_before_it_is_asked_for(operator: Browser) -> None:
    operator.open("/devices/press-1/reinstate")
    assert operator.heading == "Conflict"
    assert "on hold" in operator.text


def test_a_replay_says_first_what_it_will_do(operator: Browser, world: World) -> None:
    identifier = rejection_of(world, "replayed")
    operator.open(f"/rejections/{identifier}")
    operator.press("Replay ...")
    assert "This will do the following, for one message" in operator.text
    assert world.get(f"rejections/{identifier}")["state"] == "open"
    operator.press("Replay this message")
    assert operator.heading == f"Rejection {identifier}"
    assert world.get(f"rejections/{identifier}")["state"] == "replayed"


def test_a_rejection_is_closed_with_a_comment(operator: Browser, world: World) -> None:
    identifier = rejection_of(world, "closed")
    operator.open(f"/rejections/{identifier}/close")
    operator.press("Close this rejection", leaves=False)
    assert operator.heading == f"Close rejection {identifier}", "the browser wants a comment"
    operator.find("#comment").send_keys("ordered anew <b>as order-2</b>")
    operator.press("Close this rejection")
    assert "closed ordered anew <b>as order-2</b>" in operator.text
    assert world.get(f"rejections/{identifier}")["comment"] == "ordered anew <b>as order-2</b>"


def test_many_are_replayed_at_once_and_counted_before(operator: Browser, world: World) -> None:
    world.post_message("revocation-requests", {"requestId": "many", "registrationId": "nobody", "reason": "superseded"})
    until(
        "it is refused",
        lambda: world.get("rejections?queue=revocation-requests")["items"],
        lambda found: len(found) == 1,
    )
    operator.open("/rejections?queue=revocation-requests")
    operator.press("Replay all of these ...")
    assert "for 1 message refused until now, of the queue revocation-requests" in operator.text
    operator.press("Replay these messages")
    assert "1 message was put back." in operator.text


def test_a_form_of_another_site_does_nothing(operator: Browser, world: World) -> None:
    """Its browser is signed in; the form is sent from elsewhere."""
    identifier = rejection_of(world, "hostile")
    target = f"{operator.root}/rejections/{identifier}/close"
    form = f'<form method="post" action="{target}"><input name="comment" value="x"><button>Win</button></form>'

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(form.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        operator.driver.get(f"http://127.0.0.1:{server.server_address[1]}/")
        operator.press("Win")
        assert "this form was not sent by a page of the console" in operator.text
        server.shutdown()
    assert world.get(f"rejections/{identifier}")["state"] == "open"


def test_the_pages_work_without_scripts(place: Place, world: World, tmp_path: Path) -> None:
    with browser_of(place, tmp_path / "browser", scripts=False) as browser:
        browser.sign_in()
        for page in ("devices", "order", "authorities", "rejection"):
            browser.open(path_of(world, page))
            assert browser.text.count("\n") > 3
        assert "<script" not in browser.driver.page_source


def test_a_device_that_is_shut_out_says_since_when_each_door_is_closed(operator: Browser) -> None:
    operator.open("/devices/press-5")
    table = operator.find("[aria-label='Closed doors']")
    doors = [row.text.split()[0] for row in table.find_elements(By.CSS_SELECTOR, "tbody th")]
    assert sorted(doors) == ["CRL", "DPS", "IoT", "OCSP"]
    assert "UTC" in table.text


def test_today_says_how_far_an_order_is(operator: Browser) -> None:
    operator.open()
    row = operator.driver.find_element(By.XPATH, "//tr[th[normalize-space()='order-3']]")
    assert "waits for first boots" in row.text
    assert "0 of 1" in row.text


def test_a_difference_is_found_by_a_pass_and_mended(operator: Browser, world: World) -> None:
    """Somebody has disabled an identity in its hub; the page says both sides before it is enabled again."""
    world.disable_identity("press-1")
    operator.open("/reconcile?registrationId=press-1")
    assert "This will do the following, for the device press-1" in operator.text
    operator.press("Begin this pass")
    assert operator.heading == "Device press-1"
    until("it is found", lambda: world.get("findings?subject=press-1")["items"], lambda found: len(found) == 1)
    operator.open("/devices/press-1")
    operator.press("identity disabled")
    assert "its identity is disabled: lost" in operator.text
    operator.press("Mend ...")
    assert "The services follow the ledger: the identity is enabled." in operator.text
    assert world.hub_identity(world.hub_name, "press-1") == "disabled"
    operator.press("Mend this finding")
    assert "mended" in operator.text
    until("it is enabled", lambda: world.hub_identity(world.hub_name, "press-1"), lambda status: status == "enabled")


def test_a_finding_is_closed_with_a_comment(operator: Browser, world: World) -> None:
    operator.open(path_of(world, "close finding"))
    operator.find("#comment").send_keys("under repair")
    operator.press("Close this finding")
    assert "closed under repair" in operator.text
    operator.open("/findings?state=closed")
    assert "press-4" in operator.text


def test_a_group_is_disabled_and_its_page_shows_the_request(operator: Browser, world: World) -> None:
    operator.open("/groups/line-2")
    operator.press("Disable ...")
    assert "This will do the following, for one group and 0 devices" in operator.text
    operator.press("Disable this group")
    identifier = operator.heading.removeprefix("Request ")
    until(
        "it is disabled",
        lambda: world.get("enrollment-groups/line-2"),
        lambda group: group["state"] == "disabled",
    )
    operator.press("/api/enrollment-groups/line-2")
    assert operator.heading == "Group line-2"
    assert identifier in operator.text
    assert "Enable ..." in operator.text


def test_the_devices_of_a_group_are_renewed_from_its_page(operator: Browser, world: World) -> None:
    """The request's page counts its parts, until nothing is left to do but for the devices."""
    operator.open("/group-renewals/line-1")
    operator.press("Renew these devices")
    identifier = operator.heading.removeprefix("Request ")
    until(
        "its parts are counted",
        lambda: world.get(f"requests/{identifier}?kind=renewal-requests")["progress"] or {},
        lambda progress: progress.get("queued", 0) > 0,
    )
    operator.open("/groups/line-1")
    assert identifier in operator.text
