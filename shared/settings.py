"""The settings of the app: the only reader of the environment.

Nothing in here is a secret. The app reaches every service with its managed identity, so a setting is an address, a
name or a number. The app does not start with a setting that looks like a credential. docs/settings.md is made from this
module (``make docs``).
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Self, get_type_hints

from shared.reading.settings import (
    COUNTRY,
    DPS_RESOURCE,
    FLAG,
    HTTP_URL,
    HTTPS_URL,
    HUB_RESOURCES,
    HUBS,
    SECRET_NAME,
    TEXT,
    VAULT_NAMES,
    AzureResource,
    Setting,
    number,
    one_of,
)

STORAGE_CONNECTION = "DeviceFactoryStorage"
"""Name of the identity-based connection that triggers and core share."""


class InvalidSettings(ValueError):
    """One or more settings are missing or wrong; the message lists all of them."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("invalid settings:\n" + "\n".join(f"  - {problem}" for problem in problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that differs from one deployment to the next. What each means stands beside it."""

    queue_service_url: Annotated[
        str,
        Setting(
            f"{STORAGE_CONNECTION}__queueServiceUri",
            HTTPS_URL,
            "URL of the queue service of the app's storage account.",
            example="https://<account>.queue.core.windows.net",
        ),
    ]
    blob_service_url: Annotated[
        str,
        Setting(
            f"{STORAGE_CONNECTION}__blobServiceUri",
            HTTPS_URL,
            "URL of the account's blob service.",
            example="https://<account>.blob.core.windows.net",
        ),
    ]
    table_service_url: Annotated[
        str,
        Setting(
            f"{STORAGE_CONNECTION}__tableServiceUri",
            HTTPS_URL,
            "URL of the account's table service.",
            example="https://<account>.table.core.windows.net",
        ),
    ]
    managed_identity_client_id: Annotated[
        str | None,
        Setting(
            f"{STORAGE_CONNECTION}__clientId",
            TEXT,
            "Client id of a user-assigned managed identity. The app uses it for every service.",
            example="00000000-0000-0000-0000-000000000000",
            default="",
            otherwise="the system-assigned identity",
        ),
    ]
    key_vault_url: Annotated[
        str,
        Setting(
            "KEY_VAULT_URL",
            HTTPS_URL,
            "URL of the vault that holds CA keys and bundle passwords.",
            example="https://<vault>.vault.azure.net",
        ),
    ]
    key_vault_verify_challenge: Annotated[
        bool,
        Setting(
            "KEY_VAULT_VERIFY_CHALLENGE",
            FLAG,
            "Whether the vault's authentication challenge must name a domain that the vault's host belongs "
            "to (azure-keyvault: verify_challenge_resource). Turn it off for a vault behind a domain name of "
            "your own.",
            example="false",
            default="true",
        ),
    ]
    deployment_name: Annotated[
        str,
        Setting(
            "DEPLOYMENT_NAME",
            TEXT,
            "Names this deployment in the tags of its keys and secrets.",
            example="plant-1",
            default="",
            otherwise="the value of DPS_ID_SCOPE",
        ),
    ]
    adopted_vault_names: Annotated[
        AbstractSet[str],
        Setting(
            "KEY_VAULT_ADOPTED_NAMES",
            VAULT_NAMES,
            "Keys and secrets of the vault that were made elsewhere and that this deployment may use.",
            example="old-root;old-root-2",
            default="",
            otherwise="none",
        ),
    ]
    ca_keys_in_hsm: Annotated[
        bool,
        Setting(
            "CA_KEYS_IN_HSM",
            FLAG,
            "Whether the vault makes the keys of CAs in its HSMs. This needs the Premium tier.",
            example="true",
            default="false",
        ),
    ]
    dps_service_url: Annotated[
        str,
        Setting(
            "DPS_SERVICE_URL",
            HTTPS_URL,
            "URL of the service API of DPS.",
            example="https://<dps>.azure-devices-provisioning.net",
        ),
    ]
    dps_device_host: Annotated[
        str,
        Setting(
            "DPS_DEVICE_HOST",
            TEXT,
            "Host at which devices register.",
            example="global.azure-devices-provisioning.net",
            default="global.azure-devices-provisioning.net",
        ),
    ]
    dps_id_scope: Annotated[
        str,
        Setting(
            "DPS_ID_SCOPE",
            TEXT,
            "Id scope of DPS.",
            example="0ne00000000",
        ),
    ]
    dps_resource: Annotated[
        AzureResource | None,
        Setting(
            "DPS_RESOURCE_ID",
            DPS_RESOURCE,
            "DPS as an Azure resource. With it the app uploads root CAs and verifies them by itself.",
            example="/subscriptions/<subscription>/resourceGroups/<group>/providers/Microsoft.Devices/provisioningServices/<dps>",
            default="",
            otherwise="you upload roots and prove possession by hand",
        ),
    ]
    hub_resources: Annotated[
        Sequence[AzureResource],
        Setting(
            "IOT_HUB_RESOURCE_IDS",
            HUB_RESOURCES,
            "IoT hubs to which the app uploads root CAs as well, and in which it verifies them. Only devices "
            "that others register there by CA need this. Set DPS_RESOURCE_ID too.",
            example="/subscriptions/<subscription>/resourceGroups/<group>/providers/Microsoft.Devices/IotHubs/<hub>",
            default="",
            otherwise="none",
        ),
    ]
    resource_manager_url: Annotated[
        str,
        Setting(
            "ARM_URL",
            HTTPS_URL,
            "URL of Azure Resource Manager.",
            example="https://management.azure.com",
            default="https://management.azure.com",
        ),
    ]
    iot_hub_service_urls: Annotated[
        Mapping[str, str],
        Setting(
            "IOT_HUBS",
            HUBS,
            "Service URLs of linked hubs. A hub needs an entry only if its service API is not at https://<host name>.",
            example="<hub>.azure-devices.net=https://<hub>.example.com",
            default="",
            otherwise="each hub is reached at its host name",
        ),
    ]
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
    expiry_warning: Annotated[
        timedelta,
        Setting(
            "EXPIRY_WARNING_DAYS",
            number("days", 1, 365),
            "How long before its end a certificate is reported as expiring.",
            example="60",
            default="30",
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
            "Name of the vault secret with the key that signs webhooks. With it every call that revokes, "
            "reinstates or deletes a device must be signed.",
            example="webhook-key",
            default="",
            otherwise="the function key is enough",
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

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read and check all settings.

        Args:
            environment: the process environment, or whatever stands for it.

        Raises:
            InvalidSettings: with every problem found, not only the first.
        """
        problems, values = _credentials_in(environment), dict[str, Any]()
        for attribute, setting in described_settings().items():
            try:
                values[attribute] = setting.read(environment)
            except ValueError as error:
                problems.extend(error.args)
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
    webhook_secret = values["webhook_secret_name"]
    adopted = values["adopted_vault_names"] or frozenset()
    return {
        **values,
        "deployment_name": values["deployment_name"] or values["dps_id_scope"],
        "adopted_vault_names": adopted | ({webhook_secret.lower()} if webhook_secret else set()),
        "hub_resources": values["hub_resources"] or (),
        "iot_hub_service_urls": values["iot_hub_service_urls"] or {},
    }


def _credentials_in(environment: Mapping[str, str]) -> list[str]:
    return [
        f"{name} holds a credential; set {STORAGE_CONNECTION}__queueServiceUri, __blobServiceUri, "
        "__tableServiceUri and __credential=managedidentity instead"
        for name in (STORAGE_CONNECTION, f"{STORAGE_CONNECTION}__accountKey")
        if environment.get(name)
    ]
