"""Write docs/settings.md from the settings that the app reads: ``python -m devstack.settings_page``."""

from __future__ import annotations

from pathlib import Path

from shared.settings import STORAGE_CONNECTION, described_settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"

HOST_SETTINGS = {
    "AzureWebJobsStorage__blobServiceUri": "URL of the blob service of the host's own storage account",
    "AzureWebJobsStorage__queueServiceUri": "URL of its queue service",
    "AzureWebJobsStorage__tableServiceUri": "URL of its table service",
    "AzureWebJobsStorage__credential": "`managedidentity`",
    "AzureWebJobsStorage__clientId": "client id of the user-assigned identity that the host uses",
    f"{STORAGE_CONNECTION}__credential": "`managedidentity`, for the queue triggers",
    "PYTHON_ENABLE_OPENTELEMETRY": "`true` if telemetry is sent: the worker then takes over the host's trace "
    "context, and the host does not send the app's log a second time",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "`Authorization=AAD`, and `;ClientId=<client id>` for a user-assigned "
    "identity: the host's own telemetry uses the managed identity, too",
}
"""What the Functions host reads and the app does not, by name."""

_HEAD = """# Settings

<!-- Made from shared/settings.py by `make docs`. Do not edit this page. -->

The app reads these settings from its environment. If any of them is missing or wrong, the app does not start, and its
log lists every problem. No setting holds a secret. [local.settings.example.json](../local.settings.example.json) shows
the usual settings together.
"""

_HOST = """## What the Functions host reads

| setting | value |
| --- | --- |
"""


def settings_page() -> str:
    """Give the page, in Markdown."""
    parts = [_HEAD]
    for setting in described_settings().values():
        if setting.default is None:
            default = "none; it must be set"
        elif setting.default:
            default = f"`{setting.default}`"
        else:
            default = f"not set: {setting.otherwise}"
        parts.append(
            f"## `{setting.name}`\n\n{setting.meaning}\n\n"
            f"- Takes: {setting.kind.takes}\n- Default: {default}\n- Example: `{setting.example}`\n"
        )
    rows = "".join(f"| `{name}` | {value} |\n" for name, value in HOST_SETTINGS.items())
    return "\n".join([*parts, _HOST + rows])


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
