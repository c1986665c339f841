"""The settings of the app: the only reader of the environment.

Nothing in here is a secret. The app reaches every service with its managed identity, so a setting is an address, a
name or a number; a setting that looks like a credential is refused at start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.reading.numbers import digits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

STORAGE_CONNECTION = "DeviceFactoryStorage"
"""Name of the identity-based connection that triggers and core share."""


class InvalidSettings(ValueError):
    """One or more settings are missing or wrong; the message lists all of them."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("invalid settings:\n" + "\n".join(f"  - {problem}" for problem in problems))


@dataclass(frozen=True, slots=True)
class AzureResource:
    """A DPS or an IoT hub as an Azure resource, for its management API (Azure Resource Manager).

    Attributes:
        subscription_id: id of the subscription.
        resource_group: name of the resource group.
        name: of the resource.
    """

    subscription_id: str
    resource_group: str
    name: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that differs from one deployment to the next.

    Attributes:
        queue_service_url: URL of the storage account's queue service.
        blob_service_url: URL of its blob service.
        table_service_url: URL of its table service.
        managed_identity_client_id: client id of a user-assigned identity; ``None`` for the system-assigned one.
        key_vault_url: URL of the vault that holds CA keys and bundle passwords.
        key_vault_verify_challenge: whether the vault's authentication challenge must name a domain that the vault's
            host belongs to (azure-keyvault: ``verify_challenge_resource``). Off for a vault under a name of one's own.
        deployment_name: names this deployment in the tags of its keys and secrets; the DPS's id scope unless set.
        adopted_vault_names: names, in lower case, of keys and secrets that were made elsewhere and that it may use.
        ca_keys_in_hsm: whether the vault makes the keys of CAs in its HSMs, which takes the Premium tier.
        dps_service_url: URL of the DPS service API.
        dps_device_host: host that devices register at.
        dps_id_scope: id scope of the DPS.
        dps_resource: the DPS as an Azure resource, for uploading and verifying roots; ``None`` to do that by hand.
        hub_resources: hubs as Azure resources that roots are uploaded to and verified in as well, for devices that
            others than DPS register there by CA.
        resource_manager_url: URL of Azure Resource Manager.
        iot_hub_service_urls: service URL by host name of a linked hub, for hubs whose service API is not reached
            under ``https://<host name>``.
        subject_organization: ``O`` of CA subjects.
        subject_country: ``C`` of CA subjects, two letters (ISO 3166-1).
        root_authority: name of the root that issuing CAs are made under when a request names none.
        issuing_custody: where the keys of issuing CAs are when a request says nothing: ``vault`` or ``wrapped``.
        public_base_url: where relying parties reach this app's CRLs over plain HTTP (RFC 5280 section 8: a CRL
            behind TLS can be a circle), such as ``http://pki.example.com``; ``None`` leaves the URLs out.
        device_validity: life of a device certificate when the order names none.
        expiry_warning: how long before its end a certificate is reported as expiring.
        crl_validity: time from the making of a CRL to its nextUpdate.
        webhook_secret_name: name of the vault secret that signs webhooks; ``None`` when the function key is enough.
        bundle_retrieval: how long the caller that was handed a bundle may have it again, in case the answer got lost;
            then its key is deleted.
        registration_timeout: how long one registration through DPS may take.
    """

    queue_service_url: str
    blob_service_url: str
    table_service_url: str
    managed_identity_client_id: str | None
    key_vault_url: str
    key_vault_verify_challenge: bool
    deployment_name: str
    adopted_vault_names: AbstractSet[str]
    ca_keys_in_hsm: bool
    dps_service_url: str
    dps_device_host: str
    dps_id_scope: str
    dps_resource: AzureResource | None
    hub_resources: Sequence[AzureResource]
    resource_manager_url: str
    iot_hub_service_urls: Mapping[str, str]
    subject_organization: str
    subject_country: str
    root_authority: str
    issuing_custody: str
    public_base_url: str | None
    device_validity: timedelta
    expiry_warning: timedelta
    crl_validity: timedelta
    webhook_secret_name: str | None
    bundle_retrieval: timedelta
    registration_timeout: timedelta

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read and check all settings.

        Args:
            environment: the process environment, or whatever stands for it.

        Raises:
            InvalidSettings: with every problem found, not only the first.
        """
        reader = _Reader(environment)
        webhook_secret = reader.secret_name("WEBHOOK_SECRET_NAME")
        settings = cls(
            queue_service_url=reader.url(f"{STORAGE_CONNECTION}__queueServiceUri"),
            blob_service_url=reader.url(f"{STORAGE_CONNECTION}__blobServiceUri"),
            table_service_url=reader.url(f"{STORAGE_CONNECTION}__tableServiceUri"),
            managed_identity_client_id=reader.optional(f"{STORAGE_CONNECTION}__clientId"),
            key_vault_url=reader.url("KEY_VAULT_URL"),
            key_vault_verify_challenge=reader.flag("KEY_VAULT_VERIFY_CHALLENGE", default=True),
            deployment_name=reader.optional("DEPLOYMENT_NAME") or reader.optional("DPS_ID_SCOPE") or "",
            adopted_vault_names=reader.vault_names("KEY_VAULT_ADOPTED_NAMES")
            | ({webhook_secret.lower()} if webhook_secret else set()),
            ca_keys_in_hsm=reader.flag("CA_KEYS_IN_HSM", default=False),
            dps_service_url=reader.url("DPS_SERVICE_URL"),
            dps_device_host=reader.optional("DPS_DEVICE_HOST") or "global.azure-devices-provisioning.net",
            dps_id_scope=reader.required("DPS_ID_SCOPE"),
            dps_resource=reader.resource("DPS_RESOURCE_ID", "provisioningServices"),
            hub_resources=reader.resources("IOT_HUB_RESOURCE_IDS", "IotHubs"),
            resource_manager_url=reader.url("ARM_URL", default="https://management.azure.com"),
            iot_hub_service_urls=reader.hubs("IOT_HUBS"),
            subject_organization=reader.optional("CA_ORGANIZATION") or "Device Identity Factory",
            subject_country=reader.country("CA_COUNTRY", default="US"),
            root_authority=reader.optional("ROOT_CA_NAME") or "dpsCa",
            issuing_custody=reader.one_of("ISSUING_CA_CUSTODY", "vault", "wrapped"),
            public_base_url=reader.plain_http_url("PUBLIC_BASE_URL"),
            device_validity=timedelta(days=reader.number("DEVICE_VALIDITY_DAYS", default=365, low=1, high=3650)),
            expiry_warning=timedelta(days=reader.number("EXPIRY_WARNING_DAYS", default=30, low=1, high=365)),
            crl_validity=timedelta(days=reader.number("CRL_VALIDITY_DAYS", default=7, low=2, high=90)),
            webhook_secret_name=webhook_secret,
            bundle_retrieval=timedelta(
                minutes=reader.number("BUNDLE_RETRIEVAL_MINUTES", default=60, low=0, high=10_080)
            ),
            registration_timeout=timedelta(
                seconds=reader.number("REGISTRATION_TIMEOUT_SECONDS", default=60, low=5, high=200)
            ),
        )
        if settings.hub_resources and settings.dps_resource is None:
            reader.problems.append(
                "IOT_HUB_RESOURCE_IDS is set and DPS_RESOURCE_ID is not: set it too, since a root is proved to the DPS "
                "before it is proved to hubs; or leave both out, and prove possession by hand"
            )
        if reader.problems:
            raise InvalidSettings(tuple(reader.problems))
        return settings


_VAULT_NAME = re.compile(r"[0-9a-z-]{1,127}")
_RESOURCE_ID = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.Devices/(?P<type>[^/]+)/(?P<name>[^/]+)",
    re.IGNORECASE,
)


class _Reader:
    """Reads one setting at a time and gathers what is wrong, so that one start shows every problem."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []
        for name in (STORAGE_CONNECTION, f"{STORAGE_CONNECTION}__accountKey"):
            if environment.get(name):
                self.problems.append(
                    f"{name} holds a credential; set {STORAGE_CONNECTION}__queueServiceUri, __blobServiceUri, "
                    "__tableServiceUri and __credential=managedidentity instead"
                )

    def optional(self, name: str) -> str | None:
        return self._environment.get(name, "").strip() or None

    def required(self, name: str) -> str:
        value = self.optional(name)
        if value is None:
            self.problems.append(f"{name} is not set")
        return value or ""

    def url(self, name: str, *, default: str | None = None) -> str:
        value = self.optional(name) or default
        if value is None:
            return self.required(name)
        parts = urlsplit(value)
        if parts.scheme != "https" or not parts.hostname:
            self.problems.append(f"{name} is {value!r}; it must be an https:// URL, since tokens travel over it")
        if parts.query or "@" in parts.netloc:
            self.problems.append(f"{name} must be a bare URL without credentials or a query (no SAS)")
        return value.rstrip("/")

    def plain_http_url(self, name: str) -> str | None:
        value = self.optional(name)
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme != "http" or not parts.hostname or parts.query:
            self.problems.append(f"{name} is {value!r}; it must be an http:// URL: RFC 5280 section 8 warns of https")
        return value.rstrip("/")

    def secret_name(self, name: str) -> str | None:
        value = self.optional(name)
        if value is not None and not _VAULT_NAME.fullmatch(value.lower()):
            # Not repeated: it may be the secret itself.
            self.problems.append(f"{name} must be the name of a vault secret: 1 to 127 letters, digits and dashes")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = (self.optional(name) or str(default)).lower()
        if value not in {"true", "false"}:
            self.problems.append(f"{name} is {value!r}; it must be true or false")
        return value == "true"

    def number(self, name: str, *, default: int, low: int, high: int) -> int:
        value = self.optional(name) or str(default)
        found = digits(value)
        if found is None or not low <= found <= high:
            self.problems.append(f"{name} is {value!r}; it must be a whole number from {low} to {high}")
            return default
        return found

    def one_of(self, name: str, *values: str) -> str:
        value = self.optional(name) or values[0]
        if value not in values:
            self.problems.append(f"{name} is {value!r}; it must be {' or '.join(values)}")
        return value

    def vault_names(self, name: str) -> frozenset[str]:
        """Read names of the vault's keys and secrets: what a setting names is meant to be used."""
        listed = self.optional(name) or ""
        found = frozenset(filter(None, (part.strip().lower() for part in listed.split(";"))))
        for wrong in sorted(each for each in found if not _VAULT_NAME.fullmatch(each)):
            self.problems.append(f"{name} has {wrong!r}; names in a vault have letters, digits and dashes, 127 at most")
        return found

    def country(self, name: str, *, default: str) -> str:
        value = self.optional(name) or default
        if not re.fullmatch("[A-Z]{2}", value):
            self.problems.append(f"{name} is {value!r}; it must be two capital letters (ISO 3166-1 alpha-2)")
        return value

    def resource(self, name: str, kind: str) -> AzureResource | None:
        value = self.optional(name)
        return self._resource(name, value, kind) if value else None

    def resources(self, name: str, kind: str) -> tuple[AzureResource, ...]:
        values = filter(None, (part.strip() for part in (self.optional(name) or "").split(";")))
        return tuple(each for value in values if (each := self._resource(name, value, kind)))

    def _resource(self, name: str, value: str, kind: str) -> AzureResource | None:
        match = _RESOURCE_ID.fullmatch(value)
        if match is None or match["type"].lower() != kind.lower():
            self.problems.append(
                f"{name} is {value!r}; it must be /subscriptions/<id>/resourceGroups/<name>/providers/"
                f"Microsoft.Devices/{kind}/<name>"
            )
            return None
        return AzureResource(match["subscription"], match["group"], match["name"])

    def hubs(self, name: str) -> Mapping[str, str]:
        hubs: dict[str, str] = {}
        for entry in filter(None, (part.strip() for part in (self.optional(name) or "").split(";"))):
            host, _, url = entry.partition("=")
            url = url or f"https://{host}"
            if urlsplit(url).scheme != "https":
                self.problems.append(f"{name} has {entry!r}; an entry is hostName or hostName=https://serviceUrl")
            hubs[host.strip().lower()] = url.strip().rstrip("/")
        return hubs
