"""Settings of what the app sees to by itself: how long things are kept, and how the ledger is compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from shared.domain.treatments import FindingKind, Policy, read_policies
from shared.reading.queue_settings import QueueSettings
from shared.reading.settings import Kind, Setting, number, whole
from shared.rules.zones import SIGNING, Zone

_ISSUING = frozenset({Zone.ALL, Zone.ISSUING})


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepSettings(QueueSettings):
    """What differs from one deployment to the next; :class:`shared.settings.Settings` has all of it."""

    retain_requests: Annotated[
        timedelta,
        Setting(
            "RETAIN_REQUESTS_DAYS",
            number("days", 8, 3650),
            "How long a request is kept after its end. Then its id is free. Messages may lie in a queue for a week.",
            example="90",
            default="365",
            zones=_ISSUING,
        ),
    ]
    retain_rejections: Annotated[
        timedelta,
        Setting(
            "RETAIN_REJECTIONS_DAYS",
            number("days", 1, 3650),
            "How long a rejection is kept after it was replayed or closed. An open one is kept until then.",
            example="90",
            default="365",
            zones=_ISSUING,
        ),
    ]
    retain_order_lists: Annotated[
        timedelta,
        Setting(
            "RETAIN_ORDER_LISTS_DAYS",
            number("days", 1, 3650),
            "How long a list of devices that came with an order over HTTP is kept after the order's end.",
            example="7",
            default="30",
            zones=_ISSUING,
        ),
    ]
    reconciliation_interval: Annotated[
        timedelta | None,
        Setting(
            "RECONCILIATION_INTERVAL_MINUTES",
            number("minutes", 5, 10_080),
            "How long after a pass that has compared the ledger with DPS, hubs and vaults the next one begins.",
            example="1440",
            default="60",
            zones=_ISSUING,
        ),
    ]
    reconciliation_percent: Annotated[
        int,
        Setting(
            "RECONCILIATION_QUOTA_PERCENT",
            whole("percent", 1, 50),
            "How much of the quotas of DPS and of the hubs a pass may use.",
            example="20",
            default="10",
            zones=_ISSUING,
        ),
    ]
    hub_units: Annotated[
        int,
        Setting(
            "IOT_HUB_UNITS",
            whole("units", 1, 200),
            "Units that each hub has at least: its quotas grow with them. Count one unit of S3 as 50.",
            example="4",
            default="1",
            zones=SIGNING,
        ),
    ]
    reconciliation_policy: Annotated[
        Mapping[FindingKind, Policy],
        Setting(
            "RECONCILIATION_POLICY",
            Kind("entries separated by `;`, each `kind=report`, `kind=mend` or `kind=adopt`", read_policies),
            "What is done by itself about differences of a kind. What is not named is reported. A door that is open "
            "to a device that is shut out is always shut.",
            example="identityDisabled=mend;hubChanged=adopt",
            default="",
            otherwise="everything is reported",
            zones=_ISSUING,
        ),
    ]
