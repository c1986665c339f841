// The whole factory: one resource group with everything in it. docs/deploy.md says what this creates and who may do what.
targetScope = 'subscription'

@description('Name of the environment; the resource group is called rg-<name>.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Region of everything that has one. It must have Flex Consumption.')
@minLength(1)
param location string

@description('separate: an app, a plan and an identity for each trust zone. single: one app for everything.')
@allowed([
  'separate'
  'single'
])
param zones string = 'separate'

@description('Object id of who deploys; they may then put orders into the queues and upload order lists. Empty for nobody.')
param principalId string = ''

@allowed([
  'User'
  'Group'
  'ServicePrincipal'
])
param principalType string = 'User'

@description('premium where the keys of CAs are to be made in HSMs, which cannot be changed later for keys that are there.')
@allowed([
  'standard'
  'premium'
])
param caVaultSku string = 'standard'

@description('Ids of IoT hubs that are there, to be linked. With any, no new hub is made.')
param existingHubIds array = []

@description('Number of new IoT hubs.')
@minValue(1)
@maxValue(20)
param hubCount int = 1

@allowed([
  'S1'
  'S2'
  'S3'
])
param hubSku string = 'S1'

@description('Units of each new hub: each unit of S1 takes 100 registry operations a minute.')
@minValue(1)
@maxValue(200)
param hubUnits int = 1

@description('Whether roots are uploaded to hubs too, and verified there. Only devices that others register by CA need this.')
param uploadRootsToHubs bool = false

@description('Copies of what the ledger and the intake hold: ZRS within the region, GZRS in a second one too.')
@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GZRS'
  'Standard_GRS'
])
param storageRedundancy string = 'Standard_ZRS'

@description('Whether storage and vaults are reached by private endpoints in a virtual network alone.')
param privateNetwork bool = false

@description('Address space of the virtual network: a /16 or larger.')
param networkAddressSpace string = '10.60.0.0/16'

@description('Host name in certificates for CRLs, OCSP and CA certificates, over plain HTTP: pki.example.com. Empty for none.')
param publicHostName string = ''

@description('Whether Front Door answers for publicHostName. Otherwise the owner sends the name to the app by other means.')
param frontDoor bool = false

@description('Queues that get a storage account of their own, with their poison queues: certificate-requests, enrollment-group-requests, device-orders, revocation-requests.')
param queueAccounts string[] = []

@description('Who puts messages into which queue, as history, events and the audit log name them: QUEUE_SENDERS in docs/settings.md.')
param queueSenders string = ''

@description('Whether events go to an Event Grid topic, instead of into the queue provisioning-events.')
param eventTopic bool = false

@description('Addresses that get a mail when an alert fires.')
param alertEmails array = []

@description('Days for which tiles of the evidence log can be neither changed nor deleted; 0 for no such policy. It is unlocked: docs/evidence.md.')
@minValue(0)
@maxValue(146000)
param evidenceImmutableDays int = 0

@description('Days that logs are kept.')
param logRetentionDays int = 90

@description('Gigabytes of logs a day at most; -1 for no limit.')
param logDailyQuotaGb int = -1

@description('Memory of an instance in MB.')
@allowed([
  512
  2048
  4096
])
param instanceMemory int = 2048

@description('Client id of a registration in Microsoft Entra ID by which people and programs sign in. Empty for none.')
param entraClientId string = ''

@description('Tenant of that registration. Empty for the tenant of the subscription.')
param entraTenantId string = ''

@description('What function keys may do, as docs/settings.md says of KEY_ROLES. Empty lets each of them read.')
param keyRoles string = ''

@description('App settings that differ from their defaults, each NAME=value: docs/settings.md lists them.')
param appSettings array = []

var table = any(loadJsonContent('zones.json'))
var layout = any(loadJsonContent('storage.json'))
var token = toLower(uniqueString(subscription().id, environmentName, location))
var groupName = 'rg-${environmentName}'
var tags = {
  'azd-env-name': environmentName
}

// The storage account of each queue that has one of its own, by the queue and by its poison queue.
var queueStorageNames = toObject(
  flatten(map(queueAccounts, queue => [
    {
      queue: queue
      account: '${layout.ownStorage[queue].name}${token}'
    }
    {
      queue: '${queue}-poison'
      account: '${layout.ownStorage[queue].name}${token}'
    }
  ])),
  each => each.queue,
  each => each.account
)
var queueUrls = toObject(
  items(layout.ownStorage),
  own => own.key,
  own =>
    contains(queueStorageNames, own.key)
      ? 'https://${queueStorageNames[own.key]}.queue.${environment().suffixes.storage}/'
      : ''
)

var changedSettings = toObject(
  appSettings,
  setting => split(setting, '=')[0],
  setting => join(skip(split(setting, '='), 1), '=')
)

// An app is a name and the zones whose functions it runs.
var allZones = map(items(table.zones), zone => zone.key)
var appsWanted = zones == 'single'
  ? [
      {
        name: 'factory'
        zones: allZones
      }
    ]
  : map(allZones, zone => {
      name: zone
      zones: [
        zone
      ]
    })
var publicApp = zones == 'single' ? 0 : indexOf(allZones, 'status')

// At most so many instances of each function: what registers is bounded by the 1,000 registrations a minute of a DPS.
var instancesAtMost = {
  factory: 10
  intake: 20
  issuing: 10
  revocation: 10
  status: 40
}

// Hubs by id, known before they are made, so that roles can be looped over.
var newHubNames = empty(existingHubIds) ? map(range(1, hubCount), i => 'iot-${i}-${token}') : []
var newHubIds = map(
  newHubNames,
  name => '${subscription().id}/resourceGroups/${groupName}/providers/Microsoft.Devices/IotHubs/${name}'
)
var hubIds = concat(newHubIds, existingHubIds)
var otherGroupIds = union(map(existingHubIds, id => join(take(split(id, '/'), 5), '/')), [])

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: groupName
  location: location
  tags: tags
}

module monitoring 'modules/monitoring.bicep' = {
  scope: group
  name: 'monitoring'
  params: {
    location: location
    tags: tags
    token: token
    retentionDays: logRetentionDays
    dailyQuotaGb: logDailyQuotaGb
  }
}

// One account for each app's host: whoever can write there can replace the app's code, so no two zones share one.
module hostStorage 'modules/storage.bicep' = [
  for app in appsWanted: {
    scope: group
    name: 'storage-host-${app.name}'
    params: {
      location: location
      tags: tags
      name: 'sth${take(app.name, 8)}${token}'
      redundancy: 'Standard_LRS'
      containers: [
        'packages'
      ]
      publicAccess: !privateNetwork
      workspaceId: monitoring.outputs.workspaceId
    }
  }
]

// What others write into, and read events from.
module intakeStorage 'modules/storage.bicep' = {
  scope: group
  name: 'storage-intake'
  params: {
    location: location
    tags: tags
    name: 'stintake${token}'
    redundancy: storageRedundancy
    queues: filter(layout.intakeStorage.queues, queue => !contains(queueStorageNames, queue))
    tables: layout.intakeStorage.tables
    containers: layout.intakeStorage.containers
    publicAccess: !privateNetwork
    workspaceId: monitoring.outputs.workspaceId
  }
}

// A queue that has an account of its own: each sender is known by the account that it may write into.
module queueStorage 'modules/storage.bicep' = [
  for queue in queueAccounts: {
    scope: group
    name: 'storage-${queue}'
    params: {
      location: location
      tags: tags
      name: queueStorageNames[queue]
      redundancy: storageRedundancy
      queues: [
        queue
        '${queue}-poison'
      ]
      logsMessages: true
      publicAccess: !privateNetwork
      workspaceId: monitoring.outputs.workspaceId
    }
  }
]

// What the factory alone writes. A bundle's key must be gone once it is deleted, so nothing deleted is kept here.
module ledgerStorage 'modules/storage.bicep' = {
  scope: group
  name: 'storage-ledger'
  params: {
    location: location
    tags: tags
    name: 'stledger${token}'
    redundancy: storageRedundancy
    queues: layout.ledgerStorage.queues
    tables: layout.ledgerStorage.tables
    containers: layout.ledgerStorage.containers
    immutableContainers: layout.writtenOnce
    immutableDays: evidenceImmutableDays
    publicAccess: !privateNetwork
    workspaceId: monitoring.outputs.workspaceId
  }
}

module caVault 'modules/vault.bicep' = {
  scope: group
  name: 'vault-ca'
  params: {
    location: location
    tags: tags
    name: 'kv-ca-${token}'
    sku: caVaultSku
    publicAccess: !privateNetwork
    workspaceId: monitoring.outputs.workspaceId
  }
}

module passwordVault 'modules/vault.bicep' = {
  scope: group
  name: 'vault-passwords'
  params: {
    location: location
    tags: tags
    name: 'kv-pw-${token}'
    sku: 'standard'
    publicAccess: !privateNetwork
    workspaceId: monitoring.outputs.workspaceId
  }
}

module statusVault 'modules/vault.bicep' = {
  scope: group
  name: 'vault-status'
  params: {
    location: location
    tags: tags
    name: 'kv-st-${token}'
    sku: 'standard'
    publicAccess: !privateNetwork
    workspaceId: monitoring.outputs.workspaceId
  }
}

module hubs 'modules/hub.bicep' = [
  for name in newHubNames: {
    scope: group
    name: name
    params: {
      location: location
      tags: tags
      name: name
      sku: hubSku
      units: hubUnits
      workspaceId: monitoring.outputs.workspaceId
    }
  }
]

module provisioning 'modules/provisioning.bicep' = {
  scope: group
  name: 'provisioning'
  dependsOn: [
    hubs
  ]
  params: {
    location: location
    tags: tags
    name: 'dps-${token}'
    hubIds: hubIds
    workspaceId: monitoring.outputs.workspaceId
  }
}

module topic 'modules/eventTopic.bicep' = if (eventTopic) {
  scope: group
  name: 'event-topic'
  params: {
    location: location
    tags: tags
    name: 'evgt-${token}'
  }
}

module identities 'modules/identity.bicep' = [
  for app in appsWanted: {
    scope: group
    name: 'identity-${app.name}'
    params: {
      location: location
      tags: tags
      name: 'id-${app.name}-${token}'
    }
  }
]

module customRoles 'modules/customRoles.bicep' = {
  scope: group
  name: 'custom-roles'
  params: {
    token: token
    otherGroupIds: otherGroupIds
  }
}

module roles 'modules/roles.bicep' = [
  for (app, i) in appsWanted: {
    scope: group
    name: 'roles-${app.name}'
    dependsOn: [
      customRoles
      hubs
      queueStorage
    ]
    params: {
      zoneNames: app.zones
      principalId: identities[i].outputs.principalId
      settingNames: concat(
        ['DPS_RESOURCE_ID'],
        uploadRootsToHubs ? ['IOT_HUB_RESOURCE_IDS'] : [],
        eventTopic ? ['EVENT_TOPIC_URL'] : [],
        map(items(changedSettings), setting => setting.key)
      )
      hostStorageName: hostStorage[i].outputs.name
      intakeStorageName: intakeStorage.outputs.name
      queueStorageNames: queueStorageNames
      ledgerStorageName: ledgerStorage.outputs.name
      caVaultName: caVault.outputs.name
      passwordVaultName: passwordVault.outputs.name
      statusVaultName: statusVault.outputs.name
      insightsName: monitoring.outputs.insightsName
      provisioningName: provisioning.outputs.name
      eventTopicName: eventTopic ? topic!.outputs.name : ''
      hubIds: hubIds
    }
  }
]

module senderRoles 'modules/senderRoles.bicep' = if (!empty(principalId)) {
  scope: group
  name: 'roles-sender'
  dependsOn: [
    queueStorage
  ]
  params: {
    principalId: principalId
    principalType: principalType
    intakeStorageName: intakeStorage.outputs.name
    queueStorageNames: queueStorageNames
    queueNames: [
      'certificate-requests'
      'enrollment-group-requests'
      'device-orders'
      'revocation-requests'
    ]
  }
}

// What is reached by private endpoints: each by its id, the part of it, and the names under which it is found.
var storageNames = concat(
  map(appsWanted, app => 'sth${take(app.name, 8)}${token}'),
  ['stintake${token}', 'stledger${token}'],
  map(queueAccounts, queue => queueStorageNames[queue])
)
var vaultNames = ['kv-ca-${token}', 'kv-pw-${token}', 'kv-st-${token}']
var dnsOfStorage = toObject(
  ['blob', 'queue', 'table'],
  part => part,
  part => ['privatelink.${part}.${environment().suffixes.storage}']
)
var dnsOfVaults = 'privatelink.vaultcore.azure.net'
var dnsOfProvisioning = 'privatelink.azure-devices-provisioning.net'
var dnsOfHubs = [
  'privatelink.azure-devices.net'
  'privatelink.servicebus.windows.net'
]
var endpoints = concat(
  flatten(map(storageNames, name => map(['blob', 'queue', 'table'], part => {
    name: 'pe-${name}-${part}'
    id: resourceId(subscription().subscriptionId, groupName, 'Microsoft.Storage/storageAccounts', name)
    part: part
    dns: dnsOfStorage[part]
  }))),
  map(vaultNames, name => {
    name: 'pe-${name}'
    id: resourceId(subscription().subscriptionId, groupName, 'Microsoft.KeyVault/vaults', name)
    part: 'vault'
    dns: [dnsOfVaults]
  }),
  [
    {
      name: 'pe-dps-${token}'
      id: resourceId(subscription().subscriptionId, groupName, 'Microsoft.Devices/provisioningServices', 'dps-${token}')
      part: 'iotDps'
      dns: [dnsOfProvisioning]
    }
  ],
  map(hubIds, id => {
    name: 'pe-${last(split(id, '/'))}'
    id: id
    part: 'iotHub'
    dns: dnsOfHubs
  })
)

module network 'modules/network.bicep' = if (privateNetwork) {
  scope: group
  name: 'network'
  params: {
    location: location
    tags: tags
    token: token
    addressSpace: networkAddressSpace
    zoneNames: map(appsWanted, app => app.name)
    dnsZones: concat(
      flatten(map(items(dnsOfStorage), part => part.value)),
      [dnsOfVaults, dnsOfProvisioning],
      dnsOfHubs
    )
  }
}

module privateEndpoints 'modules/privateEndpoint.bicep' = [
  for endpoint in endpoints: if (privateNetwork) {
    scope: group
    name: endpoint.name
    dependsOn: [
      hostStorage
      intakeStorage
      queueStorage
      ledgerStorage
      caVault
      passwordVault
      statusVault
      hubs
      provisioning
    ]
    params: {
      location: location
      tags: tags
      name: endpoint.name
      serviceId: endpoint.id
      groupId: endpoint.part
      subnetId: network!.outputs.endpointSubnetId
      dnsZones: endpoint.dns
    }
  }
]

module frontDoorProfile 'modules/frontDoorProfile.bicep' = if (frontDoor) {
  scope: group
  name: 'front-door'
  params: {
    tags: tags
    token: token
    hostName: publicHostName
  }
}

// What shared/settings.py reads, each setting by name; '' stands for its default. tests/infra holds both together.
var settings = {
  DeviceFactoryStorage__queueServiceUri: intakeStorage.outputs.queueUrl
  DeviceFactoryStorage__blobServiceUri: ledgerStorage.outputs.blobUrl
  DeviceFactoryStorage__tableServiceUri: ledgerStorage.outputs.tableUrl
  CertificateRequestsStorage__queueServiceUri: queueUrls['certificate-requests']
  EnrollmentGroupRequestsStorage__queueServiceUri: queueUrls['enrollment-group-requests']
  DeviceOrdersStorage__queueServiceUri: queueUrls['device-orders']
  RevocationRequestsStorage__queueServiceUri: queueUrls['revocation-requests']
  QUEUE_SENDERS: queueSenders
  ORDER_LISTS_URL: intakeStorage.outputs.blobUrl
  EVENT_TOPIC_URL: eventTopic ? topic!.outputs.endpoint : ''
  KEY_VAULT_URL: caVault.outputs.url
  PASSWORD_VAULT_URL: passwordVault.outputs.url
  STATUS_VAULT_URL: statusVault.outputs.url
  KEY_VAULT_VERIFY_CHALLENGE: ''
  DEPLOYMENT_NAME: environmentName
  KEY_VAULT_ADOPTED_NAMES: ''
  CA_KEYS_IN_HSM: caVaultSku == 'premium' ? 'true' : 'false'
  DPS_SERVICE_URL: provisioning.outputs.serviceUrl
  DPS_DEVICE_HOST: provisioning.outputs.deviceHost
  DPS_ID_SCOPE: provisioning.outputs.idScope
  DPS_RESOURCE_ID: provisioning.outputs.id
  IOT_HUB_RESOURCE_IDS: uploadRootsToHubs ? join(hubIds, ';') : ''
  ARM_URL: environment().resourceManager
  IOT_HUBS: ''
  CA_ORGANIZATION: ''
  CA_COUNTRY: ''
  ROOT_CA_NAME: ''
  ISSUING_CA_CUSTODY: ''
  PUBLIC_BASE_URL: empty(publicHostName) ? '' : 'http://${publicHostName}'
  DEVICE_VALIDITY_DAYS: ''
  EXPIRY_WARNING_DAYS: ''
  CA_EXPIRY_WARNING_DAYS: ''
  REVOKE_UNREPEATED_DEVICES: ''
  APPROVALS: ''
  APPROVALS_EXPIRE_HOURS: ''
  RATE_LIMIT_REQUESTS: ''
  RATE_LIMIT_DENIED: ''
  RATE_LIMIT_PUBLIC: ''
  CRL_VALIDITY_DAYS: ''
  WEBHOOK_SECRET_NAME: ''
  KEY_ROLES: keyRoles
  ENTRA_AUTHENTICATION: empty(entraClientId) ? '' : 'true'
  OTEL_EXPORTER_OTLP_ENDPOINT: ''
  BUNDLE_RETRIEVAL_MINUTES: ''
  BUNDLE_KEPT_DAYS: ''
  ORDER_UPLOAD_MEGABYTES: ''
  RETAIN_REQUESTS_DAYS: ''
  RETAIN_REJECTIONS_DAYS: ''
  RETAIN_ORDER_LISTS_DAYS: ''
  EVIDENCE_LOG: ''
  EVIDENCE_ORIGIN: ''
  EVIDENCE_KEY: ''
  EVIDENCE_WITNESSES: ''
  REGISTRATION_TIMEOUT_SECONDS: ''
  RECONCILIATION_INTERVAL_MINUTES: ''
  RECONCILIATION_QUOTA_PERCENT: ''
  RECONCILIATION_POLICY: ''
  IOT_HUB_UNITS: '${hubUnits}'
}

// The zones that a setting is for, where these are not all: Setting.zones in shared/settings.py.
var zonesOfSettings = {
  DeviceFactoryStorage__queueServiceUri: ['intake', 'issuing', 'revocation']
  CertificateRequestsStorage__queueServiceUri: ['intake', 'issuing']
  CertificateRequestsStorage__clientId: ['intake', 'issuing']
  EnrollmentGroupRequestsStorage__queueServiceUri: ['issuing']
  EnrollmentGroupRequestsStorage__clientId: ['issuing']
  DeviceOrdersStorage__queueServiceUri: ['intake', 'issuing']
  DeviceOrdersStorage__clientId: ['intake', 'issuing']
  RevocationRequestsStorage__queueServiceUri: ['issuing', 'revocation']
  RevocationRequestsStorage__clientId: ['issuing', 'revocation']
  QUEUE_SENDERS: ['issuing', 'revocation']
  ORDER_LISTS_URL: ['intake', 'issuing']
  EVENT_TOPIC_URL: ['issuing', 'revocation']
  KEY_VAULT_URL: ['issuing', 'revocation']
  PASSWORD_VAULT_URL: ['issuing', 'revocation']
  STATUS_VAULT_URL: ['issuing', 'revocation', 'status']
  KEY_VAULT_ADOPTED_NAMES: ['issuing', 'revocation']
  CA_KEYS_IN_HSM: ['issuing', 'revocation']
  DPS_SERVICE_URL: ['issuing', 'revocation']
  DPS_ID_SCOPE: ['issuing']
  DPS_RESOURCE_ID: ['issuing', 'revocation']
  IOT_HUB_RESOURCE_IDS: ['issuing']
  IOT_HUBS: ['issuing', 'revocation']
  WEBHOOK_SECRET_NAME: ['intake', 'issuing', 'revocation']
  ORDER_UPLOAD_MEGABYTES: ['intake']
  RETAIN_REQUESTS_DAYS: ['issuing']
  RETAIN_REJECTIONS_DAYS: ['issuing']
  RETAIN_ORDER_LISTS_DAYS: ['issuing']
  REVOKE_UNREPEATED_DEVICES: ['issuing', 'revocation']
  APPROVALS: ['issuing', 'revocation']
  APPROVALS_EXPIRE_HOURS: ['issuing', 'revocation']
  RECONCILIATION_INTERVAL_MINUTES: ['issuing']
  RECONCILIATION_QUOTA_PERCENT: ['issuing']
  RECONCILIATION_POLICY: ['issuing']
  IOT_HUB_UNITS: ['issuing', 'revocation']
  BUNDLE_KEPT_DAYS: ['issuing']
  EVIDENCE_ORIGIN: ['issuing']
  EVIDENCE_KEY: ['issuing']
  EVIDENCE_WITNESSES: ['issuing']
}

module apps 'modules/app.bicep' = [
  for (app, i) in appsWanted: {
    scope: group
    name: 'app-${app.name}'
    dependsOn: [
      roles
      privateEndpoints
    ]
    params: {
      location: location
      tags: union(tags, { 'azd-service-name': app.name })
      name: 'func-${app.name}-${token}'
      planName: 'plan-${app.name}-${token}'
      identityId: identities[i].outputs.id
      packageUrl: '${hostStorage[i].outputs.blobUrl}packages'
      zone: zones == 'single' ? 'all' : app.name
      zonesOfSettings: zonesOfSettings
      settings: union(settings, changedSettings, {
        ZONE: zones == 'single' ? 'all' : app.name
        // What the Functions host reads.
        AzureWebJobsStorage__blobServiceUri: hostStorage[i].outputs.blobUrl
        AzureWebJobsStorage__queueServiceUri: hostStorage[i].outputs.queueUrl
        AzureWebJobsStorage__tableServiceUri: hostStorage[i].outputs.tableUrl
        AzureWebJobsStorage__credential: 'managedidentity'
        AzureWebJobsStorage__clientId: identities[i].outputs.clientId
        DeviceFactoryStorage__credential: 'managedidentity'
        DeviceFactoryStorage__clientId: identities[i].outputs.clientId
        CertificateRequestsStorage__credential: 'managedidentity'
        CertificateRequestsStorage__clientId: identities[i].outputs.clientId
        EnrollmentGroupRequestsStorage__credential: 'managedidentity'
        EnrollmentGroupRequestsStorage__clientId: identities[i].outputs.clientId
        DeviceOrdersStorage__credential: 'managedidentity'
        DeviceOrdersStorage__clientId: identities[i].outputs.clientId
        RevocationRequestsStorage__credential: 'managedidentity'
        RevocationRequestsStorage__clientId: identities[i].outputs.clientId
        APPLICATIONINSIGHTS_CONNECTION_STRING: monitoring.outputs.insightsConnectionString
        APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identities[i].outputs.clientId};Authorization=AAD'
        PYTHON_ENABLE_OPENTELEMETRY: 'true'
      })
      instanceMemory: instanceMemory
      instances: instancesAtMost[app.name]
      readyInstances: 0
      subnetId: privateNetwork ? network!.outputs.appSubnetIds[i] : ''
      entraClientId: entraClientId
      entraTenantId: empty(entraTenantId) ? tenant().tenantId : entraTenantId
      // The one app for everything is called by others than Front Door too.
      frontDoorId: frontDoor && zones == 'separate' && app.name == 'status' ? frontDoorProfile!.outputs.frontDoorId : ''
    }
  }
]

module frontDoorRoutes 'modules/frontDoorRoutes.bicep' = if (frontDoor) {
  scope: group
  name: 'front-door-routes'
  params: {
    profileName: frontDoorProfile!.outputs.profileName
    endpointName: frontDoorProfile!.outputs.endpointName
    domainId: frontDoorProfile!.outputs.domainId
    originHostName: apps[publicApp].outputs.hostName
  }
}

module alerts 'modules/alerts.bicep' = {
  scope: group
  name: 'alerts'
  params: {
    location: location
    tags: tags
    token: token
    workspaceId: monitoring.outputs.workspaceId
    emails: alertEmails
  }
}

module workbook 'modules/workbook.bicep' = {
  scope: group
  name: 'workbook'
  params: {
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
  }
}

output AZURE_LOCATION string = location
output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_RESOURCE_GROUP string = group.name
output DEPLOY_ZONES string = zones == 'separate' ? 'true' : 'false'
output DEPLOY_FACTORY string = zones == 'single' ? 'true' : 'false'
output FACTORY_APPS array = [for (app, i) in appsWanted: apps[i].outputs.name]
output FACTORY_URLS array = [for (app, i) in appsWanted: apps[i].outputs.url]
output FACTORY_QUEUE_SERVICE_URL string = intakeStorage.outputs.queueUrl
output FACTORY_OWN_QUEUE_SERVICE_URLS object = queueUrls
output FACTORY_ORDER_LISTS_URL string = '${intakeStorage.outputs.blobUrl}orders'
output DPS_ID_SCOPE string = provisioning.outputs.idScope
output DPS_DEVICE_HOST string = provisioning.outputs.deviceHost
output PUBLIC_NAME_TARGET string = frontDoor ? frontDoorProfile!.outputs.endpointHostName : ''
output PUBLIC_NAME_VALIDATION string = frontDoor ? frontDoorProfile!.outputs.domainValidation : ''
