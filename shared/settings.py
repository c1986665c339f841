"""The settings of the app: the only reader of the environment.

Nothing in here is a secret. The app reaches every service with its managed identity, so a setting is an address, a
name or a number. The app does not start with a setting that looks like a credential. docs/settings.md is made from this
module (``make docs``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Self, get_type_hints

from shared.domain.approvals import ApprovalAct, read_approvals
from shared.domain.key_roles import NamedKey, read_named_keys
from shared.evidence_settings import EvidenceSettings
from shared.reading.addresses import STORAGE_CONNECTION
from shared.reading.queue_settings import faults_of_connections
from shared.reading.settings import (
    COUNTRY,
    FLAG,
    HOST,
    HTTP_URL,
    SECRET_NAME,
    TEXT,
    WEB_URL,
    InvalidSettings,
    Kind,
    Setting,
    number,
    one_of,
    several,
    whole,
)
from shared.rules.zones import SIGNING, Zone

KEY_ROLES = Kind(
    "entries separated by `;`, each a name, roles separated by `,`, and SHA-256 digests separated by `,`",
    read_named_keys,
)

APPROVALS = Kind(f"acts separated by `;`, of {', '.join(f'`{each}`' for each in ApprovalAct)}", read_approvals)

__all__ = ["STORAGE_CONNECTION", "InvalidSettings", "Settings", "described_settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(EvidenceSettings):
    """Everything that differs from one deployment to the next. What each means stands beside it.

    What a zone does not use has its default there, or is empty.
    """

    subject_organization: Annotated[
        str,
        Setting(
            "CA_ORGANIZATION",
            TEXT,
            "Organization (O) in the subjects of CAs.",
            example="Example Corporation",
            default="Device Identity Factory",
        ),
    ]
    subject_country: Annotated[
        str,
        Setting(
            "CA_COUNTRY",
            COUNTRY,
            "Country (C) in the subjects of CAs.",
            example="US",
            default="US",
        ),
    ]
    root_authority: Annotated[
        str,
        Setting(
            "ROOT_CA_NAME",
            TEXT,
            "Name of the root under which an issuing CA is made when a request names no issuer.",
            example="dpsCa",
            default="dpsCa",
        ),
    ]
    issuing_custody: Annotated[
        str,
        Setting(
            "ISSUING_CA_CUSTODY",
            one_of("vault", "wrapped"),
            "Where the keys of issuing CAs are kept when a request does not say (docs/custody.md).",
            example="vault",
            default="vault",
        ),
    ]
    public_base_url: Annotated[
        str | None,
        Setting(
            "PUBLIC_BASE_URL",
            HTTP_URL,
            "URL at which relying parties reach this app's CRLs over plain HTTP. RFC 5280 section 8 says why "
            "it is not HTTPS.",
            example="http://pki.example.com",
            default="",
            otherwise="certificates do not say where the CRL and the OCSP responder are",
        ),
    ]
    device_validity: Annotated[
        timedelta,
        Setting(
            "DEVICE_VALIDITY_DAYS",
            number("days", 1, 3650),
            "Life of a device certificate when the order does not say.",
            example="730",
            default="365",
        ),
    ]
    device_warnings: Annotated[
        tuple[int, ...],
        Setting(
            "EXPIRY_WARNING_DAYS",
            several("days", 1, 365),
            "How many days before its end a device's certificate is reported as expiring, each time once.",
            example="60;30;7",
            default="30;7;1",
        ),
    ]
    authority_warnings: Annotated[
        tuple[int, ...],
        Setting(
            "CA_EXPIRY_WARNING_DAYS",
            several("days", 1, 3650),
            "How many days before its end a CA's own certificate is reported as expiring, each time once.",
            example="730;365;90",
            default="365;180;90;30",
        ),
    ]
    unrepeated_devices: Annotated[
        int,
        Setting(
            "REVOKE_UNREPEATED_DEVICES",
            whole("devices", 0, 1_000_000),
            "How many devices a CA or a group may be revoked with without their number being repeated in the request.",
            example="10",
            default="100",
            zones=SIGNING,
        ),
    ]
    approvals: Annotated[
        Mapping[ApprovalAct, int],
        Setting(
            "APPROVALS",
            APPROVALS,
            "Acts that wait until a second person approves them (docs/secure.md). `revokeDevices>100` means more than "
            "100 devices of a group, a CA or a cancelled order.",
            example="createRoot;importAuthority;deleteGroup;revokeDevices>100",
            default="",
            otherwise="nothing needs a second person",
            zones=SIGNING,
        ),
    ]
    approvals_expire: Annotated[
        timedelta,
        Setting(
            "APPROVALS_EXPIRE_HOURS",
            number("hours", 1, 720),
            "How long an act waits for a second person. Then it is refused.",
            example="24",
            default="72",
            zones=SIGNING,
        ),
    ]
    crl_validity: Annotated[
        timedelta,
        Setting(
            "CRL_VALIDITY_DAYS",
            number("days", 2, 90),
            "Time from the making of a CRL to its nextUpdate.",
            example="14",
            default="7",
        ),
    ]
    webhook_secret_name: Annotated[
        str | None,
        Setting(
            "WEBHOOK_SECRET_NAME",
            SECRET_NAME,
            "Name of the vault secret with the keys of those who sign webhooks: `whsec_` and a secret, or `whpk_` and "
            "a public key, or several with white space between them. With it every call that revokes, reinstates or "
            "deletes a device must be signed.",
            example="webhook-key",
            default="",
            otherwise="the caller's role is enough",
            zones=frozenset(Zone) - {Zone.STATUS},
        ),
    ]
    bundle_retrieval: Annotated[
        timedelta,
        Setting(
            "BUNDLE_RETRIEVAL_MINUTES",
            number("minutes", 0, 10_080),
            "How long the caller that got a bundle can get it again, in case the answer was lost. Then its "
            "key is deleted.",
            example="1440",
            default="60",
        ),
    ]
    bundle_kept: Annotated[
        timedelta,
        Setting(
            "BUNDLE_KEPT_DAYS",
            number("days", 1, 3650),
            "How long the private key in a bundle is kept for whoever is to fetch it. Then it is deleted, with the "
            "secret that has its password.",
            example="30",
            default="90",
            zones=frozenset({Zone.ALL, Zone.ISSUING}),
        ),
    ]
    order_upload_megabytes: Annotated[
        int,
        Setting(
            "ORDER_UPLOAD_MEGABYTES",
            whole("megabytes", 1, 100),
            "How long an order may be that comes over HTTP with its devices, in megabytes (1,048,576 bytes). The host "
            "takes no more than 100.",
            example="50",
            default="20",
            zones=frozenset({Zone.ALL, Zone.INTAKE}),
        ),
    ]
    registration_timeout: Annotated[
        timedelta,
        Setting(
            "REGISTRATION_TIMEOUT_SECONDS",
            number("seconds", 5, 200),
            "How long one registration through DPS may take.",
            example="120",
            default="60",
        ),
    ]
    application_insights: Annotated[
        str | None,
        Setting(
            "APPLICATIONINSIGHTS_CONNECTION_STRING",
            TEXT,
            "Connection string of Application Insights, to which spans, metrics and the log go. The app uses its "
            "managed identity there, so the connection string lets nobody in.",
            example="InstrumentationKey=00000000-0000-0000-0000-000000000000;"
            "IngestionEndpoint=https://westeurope-5.in.applicationinsights.azure.com/",
            default="",
            otherwise="nothing is sent to Application Insights",
        ),
    ]
    otlp_endpoint: Annotated[
        str | None,
        Setting(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            WEB_URL,
            "URL of a receiver of OpenTelemetry's protocol (OTLP over HTTP) to which spans, metrics and the log go. "
            "OpenTelemetry's other variables (OTEL_EXPORTER_OTLP_HEADERS and so on) count as well.",
            example="http://127.0.0.1:4318",
            default="",
            otherwise="nothing is sent by OTLP",
        ),
    ]

    own_host: Annotated[
        str | None,
        Setting(
            "WEBSITE_HOSTNAME",
            HOST,
            "Host name, and port, under which this app is reached. Azure sets it, and so does the local host. The "
            "console asks there whether a function key is one.",
            example="factory.azurewebsites.net",
            default="",
            otherwise="nobody can sign in to the console with a function key",
        ),
    ]
    key_roles: Annotated[
        tuple[NamedKey, ...],
        Setting(
            "KEY_ROLES",
            KEY_ROLES,
            "What function keys may do. An entry has a name, roles, and the SHA-256 of the key in hexadecimal, with "
            'blanks between them: `printf %s "$key" | sha256sum` gives it. A role may be limited to an enrollment '
            "group, as in `Devices.Revoke:line-1`. Two digests may stand there while a key is changed. A key that is "
            "in no entry may only read (`Fleet.Read`).",
            example="erp Orders.Write,Fleet.Read 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            default="",
            otherwise="every function key may only read",
        ),
    ]
    entra_authentication: Annotated[
        bool,
        Setting(
            "ENTRA_AUTHENTICATION",
            FLAG,
            "Whether App Service authentication is on, and signs callers in with Microsoft Entra ID. With it, callers "
            "are known by `X-MS-CLIENT-PRINCIPAL` and need no function key, and the app asks its host whether a "
            "function key is one. Without it a request with that header is refused.",
            example="true",
            default="false",
        ),
    ]
    platform_signs_in: Annotated[
        bool | None,
        Setting(
            "WEBSITE_AUTH_ENABLED",
            FLAG,
            "Whether App Service authentication is on. Azure sets it. The app does not start if it says `false` and "
            "ENTRA_AUTHENTICATION says `true`, since then anybody could say who they are.",
            example="True",
            default="",
            otherwise="ENTRA_AUTHENTICATION is believed",
        ),
    ]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read and check all settings.

        Args:
            environment: the process environment, or whatever stands for it.

        Raises:
            InvalidSettings: with every problem found, not only the first.
        """
        problems, values = [*faults_of_connections(environment), *_twice_told(environment)], dict[str, Any]()
        zone = Zone.ALL
        for attribute, setting in described_settings().items():
            try:
                values[attribute] = setting.read(environment, zone)
            except ValueError as error:
                problems.extend(error.args)
            zone = values.get("zone", zone)
        if zone in {Zone.ISSUING, Zone.REVOCATION, Zone.STATUS} and values.get("status_vault_url", "wrong") is None:
            problems.append(f"STATUS_VAULT_URL is not set, and the zone {zone.value!r} needs it")
        if values.get("entra_authentication") and values.get("platform_signs_in") is False:
            problems.append(
                "ENTRA_AUTHENTICATION is true, and WEBSITE_AUTH_ENABLED says that App Service authentication is off, "
                "so that anybody could say who they are: switch it on, or set ENTRA_AUTHENTICATION to false"
            )
        if values.get("hub_resources") and values.get("dps_resource", "wrong") is None:
            problems.append(
                "IOT_HUB_RESOURCE_IDS is set and DPS_RESOURCE_ID is not: set it too, since a root is proved to the DPS "
                "before it is proved to hubs; or leave both out, and prove possession by hand"
            )
        if problems:
            raise InvalidSettings(tuple(problems))
        return cls(**_completed(values))


def described_settings() -> Mapping[str, Setting]:
    """Give every setting by the attribute of :class:`Settings` that it becomes."""
    hints = get_type_hints(Settings, include_extras=True)
    return {attribute: hint.__metadata__[0] for attribute, hint in hints.items()}


def _completed(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill in what is not set and has no default of its own."""
    webhook_secret, is_intake = values["webhook_secret_name"], values["zone"] is Zone.INTAKE
    deployment = values["deployment_name"] or values["dps_id_scope"] or ""
    begins_log = values["zone"] in {Zone.ALL, Zone.ISSUING}
    adopted = values["adopted_vault_names"] or frozenset()
    texts = ("queue_service_url", "blob_service_url", "key_vault_url", "dps_service_url", "dps_id_scope")
    return {
        **values,
        **{name: values[name] or "" for name in (*texts, "status_vault_url")},
        "order_lists_url": values["order_lists_url"] or ("" if is_intake else values["blob_service_url"]) or "",
        "password_vault_url": values["password_vault_url"] or values["key_vault_url"] or "",
        "deployment_name": deployment,
        "ca_keys_in_hsm": bool(values["ca_keys_in_hsm"]),
        "adopted_vault_names": adopted | ({webhook_secret.lower()} if webhook_secret else set()),
        "key_roles": values["key_roles"] or (),
        "evidence_key": values["evidence_key"] or "",
        "evidence_origin": values["evidence_origin"] or (f"{deployment}/log" if begins_log else ""),
        "evidence_witnesses": values["evidence_witnesses"] or (),
        "approvals": values["approvals"] or {},
        "queue_senders": values["queue_senders"] or {},
        "hub_resources": values["hub_resources"] or (),
        "reconciliation_policy": values["reconciliation_policy"] or {},
        "reconciliation_percent": values["reconciliation_percent"] or 0,
        "hub_units": values["hub_units"] or 1,
        "iot_hub_service_urls": values["iot_hub_service_urls"] or {},
    }


def _twice_told(environment: Mapping[str, str]) -> list[str]:
    """Refuse what would have the worker export as well as the app (azure_functions_runtime 1.3.0, otel.py)."""
    name = "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY"
    if environment.get(name, "").strip().lower() not in {"1", "true", "t", "yes", "y"}:
        return []
    return [f"{name} is set: the worker would send everything a second time; set PYTHON_ENABLE_OPENTELEMETRY instead"]
