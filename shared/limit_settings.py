"""Settings of how much one caller may ask for."""

from dataclasses import dataclass
from typing import Annotated

from shared.reading.settings import Setting, whole
from shared.upkeep_settings import UpkeepSettings

_MOST = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings(UpkeepSettings):
    """Requests over HTTP in a minute, as each worker counts them. Zero means that there is none."""

    limit_of_requests: Annotated[
        int,
        Setting(
            "RATE_LIMIT_REQUESTS",
            whole("requests", 0, _MOST),
            "How many requests a minute a caller may make. Further ones get 429. Each worker counts for itself "
            "(docs/secure.md). 0 stands for none.",
            example="3000",
            default="12000",
        ),
    ]
    limit_of_denied: Annotated[
        int,
        Setting(
            "RATE_LIMIT_DENIED",
            whole("requests", 0, _MOST),
            "How many requests a minute of a caller, or of an address whose caller is not known, are told that they "
            "are denied (401, 403). Further ones of that kind get 429. What is allowed goes on. 0 stands for none.",
            example="100",
            default="1000",
        ),
    ]
    limit_of_public: Annotated[
        int,
        Setting(
            "RATE_LIMIT_PUBLIC",
            whole("requests", 0, _MOST),
            "How many requests a minute an address may make for CRLs, OCSP and certificates of CAs. Further ones get "
            "429. Leave it at 0, which stands for none, behind Front Door or a gateway: all relying parties have its "
            "address there.",
            example="600",
            default="0",
        ),
    ]
