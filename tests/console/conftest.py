"""A stack with something on every page, and Chromium."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from devstack.outside import until
from tests.end_to_end.conftest import GROUP, SETTINGS, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver.remote.webelement import WebElement

    from devstack.outside import World

HOSTILE = "<img src=x onerror=alert(1)>'\"&{{7*7}}"
"""What is not an enrollment group, and would be a script where it were not escaped."""

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@dataclass(frozen=True)
class Place:
    """Where the console is, and what lets somebody in."""

    root: str
    key: str


@dataclass
class Browser:
    """A browser that looks at a stack's console."""

    driver: webdriver.Chrome
    root: str
    key: str

    def open(self, path: str = "") -> None:
        self.driver.get(f"{self.root}{path}")

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, words: str, *, leaves: bool = True) -> None:
        """Click the link or button with these words; what it leads to is there when this returns."""
        found = self.driver.find_element(By.XPATH, f"//a[normalize-space()='{words}'] | //button[.='{words}']")
        if leaves:
            self.leave(found.click)
        else:
            found.click()

    def leave(self, act: Callable[[], None]) -> None:
        """Do what leads to another page; that is there when this returns."""
        self.driver.execute_script("window.isLeft = true")
        act()
        # Between two pages the browser may answer nothing.
        WebDriverWait(self.driver, 30, ignored_exceptions=[WebDriverException]).until(
            lambda driver: driver.execute_script("return !window.isLeft && document.readyState == 'complete'")
        )

    def sign_in(self, key: str | None = None) -> None:
        self.open("/sign-in")
        self.find("#key").send_keys(self.key if key is None else key)
        self.press("Sign in")

    @property
    def heading(self) -> str:
        return self.find("h1").text

    @property
    def text(self) -> str:
        return self.find("main").text

    def size(self, width: int, height: int = 900) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def scheme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def violations(self) -> list[str]:
        """Give what axe-core finds against WCAG 2.2 AA on this page."""
        self.driver.execute_script(AXE.read_text(encoding="utf-8"))
        found: dict[str, Any] = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run({runOnly: arguments[0]}).then(done, error => done({error: String(error)}));",
            _RULES,
        )
        assert found["passes"], "axe-core looked at something"
        return [f"{each['id']}: {[node['target'] for node in each['nodes']]}" for each in found["violations"]]


@contextmanager
def browser_of(place: Place, folder: Path, *, scripts: bool = True) -> Iterator[Browser]:
    """Open a browser that knows nothing yet."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.exit("Chromium is missing: apt-get install chromium chromium-driver", returncode=1)
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    for each in ("headless=new", "disable-gpu", "disable-background-networking", f"user-data-dir={folder}"):
        options.add_argument(f"--{each}")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium's own can't be made by root, whom containers run as
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not scripts:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    try:
        yield Browser(driver, place.root, place.key)
    finally:
        driver.quit()


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, World]]:
    """A stack with two groups, orders that are done and failed, messages that were refused, and a finding."""
    unsigned = {name: value for name, value in SETTINGS.items() if name != "WEBHOOK_SECRET_NAME"}
    with running(tmp_path_factory.mktemp("stack"), settings=unsigned) as (stack, seen):
        devices = [{"registrationId": f"press-{number}"} for number in range(1, 6)]
        seen.post("device-orders", {"orderId": "order-1", "enrollmentGroup": GROUP, "devices": devices})
        for name in ("hostile", "replayed", "closed"):
            refused = {
                "orderId": f"order-{name}",
                "enrollmentGroup": HOSTILE,
                "devices": [{"registrationId": "press-9"}],
            }
            seen.post_message("device-orders", refused)
        until("the order is done", lambda: seen.get("device-orders/order-1", missing={}), is_completed)
        again = {"orderId": "order-2", "enrollmentGroup": GROUP, "devices": [{"registrationId": "press-1"}]}
        seen.post("device-orders", again)
        until("it has failed", lambda: seen.get("device-orders/order-2", missing={}), has_failed)
        until("all are refused", lambda: seen.get("rejections")["items"], lambda found: len(found) == 3)
        seen.post_message(
            "enrollment-group-requests", {"requestId": "g-2", "enrollmentGroup": "line-2", "action": "create"}
        )
        seen.disable_identity("press-4")
        seen.post("reconciliations", {"registrationId": "press-4"})
        until("it is found", lambda: seen.get("findings")["items"], lambda found: len(found) == 1)
        until("the second group", lambda: seen.get("enrollment-groups/line-2", missing={}), is_enabled)
        seen.post("enrollment-groups/line-2/roll")
        seen.post("devices/press-5/revoke", {"reason": "superseded"})
        boots = {"orderId": "order-3", "registerBy": "device", "devices": [{"registrationId": "press-6"}]}
        seen.post("device-orders", {**boots, "enrollmentGroup": GROUP})
        until("its doors are closed", lambda: seen.get("devices/press-5"), lambda device: bool(device["closedDoors"]))
        until("it waits", lambda: seen.get("device-orders/order-3", missing={}), is_waiting)
        yield Place(f"{stack.endpoints.functions_url}/api/console", stack.endpoints.function_key), seen


def has_failed(order: dict[str, Any]) -> bool:
    return bool(order.get("state") == "completedWithFailures")


def is_completed(order: dict[str, Any]) -> bool:
    return bool(order.get("state") == "completed")


def is_waiting(order: dict[str, Any]) -> bool:
    return bool(order.get("state") == "waiting")


def is_enabled(group: dict[str, Any]) -> bool:
    return bool(group.get("state") == "enabled")


@pytest.fixture(scope="session")
def world(both: tuple[Place, World]) -> World:
    return both[1]


@pytest.fixture(scope="session")
def place(both: tuple[Place, World]) -> Place:
    return both[0]


@pytest.fixture
def stranger(place: Place, tmp_path: Path) -> Iterator[Browser]:
    """A browser of somebody who has not signed in."""
    with browser_of(place, tmp_path / "browser") as browser:
        yield browser


@pytest.fixture(scope="session")
def signed_in(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    with browser_of(place, folder) as browser:
        browser.sign_in()
        yield browser


@pytest.fixture
def operator(signed_in: Browser) -> Browser:
    """A browser of somebody who has signed in, at a desk in daylight."""
    signed_in.size(1280)
    signed_in.scheme("light")
    return signed_in
