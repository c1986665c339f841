"""Which service an outage is of, as far as its error tells."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared.adapters.sdk_errors import service_of


def failure(url: str = "", **headers: str) -> Exception:
    error: Any = ConnectionError("it fails")
    error.response = SimpleNamespace(request=SimpleNamespace(url=url), headers=headers)
    return error  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "service"),
    [
        (failure("https://management.azure.com/subscriptions/s/resourceGroups/g"), "Azure Resource Manager"),
        (failure("https://v.vault.azure.net/keys/root/1/sign?api-version=7.4"), "Key Vault"),
        (failure("https://d.azure-devices-provisioning.net/enrollments/press"), "the DPS"),
        (failure("https://h.azure-devices.net/devices/press"), "the IoT hub"),
        (failure("https://a.table.core.windows.net/orders()", **{"x-ms-version": "2019-02-02"}), "the storage account"),
        (failure("https://elsewhere.example.com/path"), "elsewhere.example.com"),
        (ConnectionError("reset"), "a service"),
        (ExceptionGroup("two", [failure("https://h/twins/a"), failure("https://v/secrets/a"), failure("https://h/devices/a")]),
         "Key Vault, the IoT hub"),
    ],
)  # fmt: skip
def test_an_outage_is_named_after_what_was_asked(error: Exception, service: str) -> None:
    """Of several at once each is named, and none twice."""
    assert service_of(error) == service
