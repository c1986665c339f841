"""Settings of where the services are, and which of them the app reaches."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated

from shared.reading.settings import (
    DPS_RESOURCE,
    FLAG,
    HTTPS_URL,
    HUB_RESOURCES,
    HUBS,
    TEXT,
    VAULT_NAMES,
    AzureResource,
    Setting,
    one_of,
)
from shared.rules.zones import SIGNING, Zone

STORAGE_CONNECTION = "DeviceFactoryStorage"
"""Name of the identity-based connection that triggers and core share."""

_ISSUING = frozenset({Zone.ALL, Zone.ISSUING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the services are. What a zone does not use is empty there."""

    zone: Annotated[
        Zone,
        Setting(
            "ZONE",
            one_of(*Zone),
            "Trust zone that this app is: only its functions run (docs/zones.md).",
            example="issuing",
            default="all",
        ),
    ]
    queue_service_url: Annotated[
        str,
        Setting(
            f"{STORAGE_CONNECTION}__queueServiceUri",
            HTTPS_URL,
            "URL of the queue service of the app's storage account.",
            example="https://<account>.queue.core.windows.net",
            zones=SIGNING | {Zone.INTAKE},
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
    order_lists_url: Annotated[
        str,
        Setting(
            "ORDER_LISTS_URL",
            HTTPS_URL,
            "URL of the blob service that others write lists of devices to, where it is another account's.",
            example="https://<account>.blob.core.windows.net",
            default="",
            otherwise="the app's own blob service",
            zones=_ISSUING | {Zone.INTAKE},
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
    event_topic_url: Annotated[
        str | None,
        Setting(
            "EVENT_TOPIC_URL",
            HTTPS_URL,
            "URL of an Event Grid topic that takes CloudEvents 1.0. Events go there instead of into the queue "
            "`provisioning-events`.",
            example="https://<topic>.westeurope-1.eventgrid.azure.net/api/events",
            default="",
            otherwise="events go into the queue `provisioning-events`",
            zones=SIGNING,
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
            "URL of the vault that holds CA keys.",
            example="https://<vault>.vault.azure.net",
            zones=SIGNING,
        ),
    ]
    password_vault_url: Annotated[
        str,
        Setting(
            "PASSWORD_VAULT_URL",
            HTTPS_URL,
            "URL of the vault that holds bundle passwords and the webhook's secret, where it is another one.",
            example="https://<vault>.vault.azure.net",
            default="",
            otherwise="the value of KEY_VAULT_URL",
            zones=SIGNING,
        ),
    ]
    status_vault_url: Annotated[
        str,
        Setting(
            "STATUS_VAULT_URL",
            HTTPS_URL,
            "URL of the vault with the key that wraps the keys of OCSP responders, and with the ledger's epoch. The "
            "zones `issuing`, `revocation` and `status` need it.",
            example="https://<vault>.vault.azure.net",
            default="",
            otherwise="each worker keeps the keys of its own responders in memory, and the epoch is at KEY_VAULT_URL",
            zones=SIGNING | {Zone.STATUS},
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
            zones=SIGNING,
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
            zones=SIGNING,
        ),
    ]
    dps_service_url: Annotated[
        str,
        Setting(
            "DPS_SERVICE_URL",
            HTTPS_URL,
            "URL of the service API of DPS.",
            example="https://<dps>.azure-devices-provisioning.net",
            zones=SIGNING,
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
            zones=_ISSUING,
        ),
    ]
    dps_resource: Annotated[
        AzureResource | None,
        Setting(
            "DPS_RESOURCE_ID",
            DPS_RESOURCE,
            "DPS as an Azure resource. With it the app uploads root CAs and verifies them by itself, and asks each hub "
            "that is linked to the DPS for a device that is shut out.",
            example="/subscriptions/<subscription>/resourceGroups/<group>/providers/Microsoft.Devices/provisioningServices/<dps>",
            default="",
            otherwise="you upload roots and prove possession by hand, and name the linked hubs in `IOT_HUBS`",
            zones=SIGNING,
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
            zones=_ISSUING,
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
            "Service URLs of linked hubs. A hub needs an entry only if its service API is not at https://<host name>, "
            "or if DPS_RESOURCE_ID is not set.",
            example="<hub>.azure-devices.net=https://<hub>.example.com",
            default="",
            otherwise="each hub is reached at its host name",
            zones=SIGNING,
        ),
    ]
