// What the identity of one app may do: the roles of its trust zones in zones.json, each on the smallest thing that Azure
// lets it be assigned on. Nothing else in infra/ gives an app a right.
@description('Zones whose functions the app runs: one, or all of them.')
param zoneNames string[]

param principalId string

@description('Names of the app settings that are set. A role that is needed only with another one is left out.')
param settingNames string[]

param hostStorageName string
param intakeStorageName string

@description('The storage accounts of queues and poison queues that are not in the intake, by the queue.')
param queueStorageNames object

param ledgerStorageName string
param caVaultName string
param passwordVaultName string
param statusVaultName string
param insightsName string
param provisioningName string

@description('Empty where there is no topic; then no role is for it.')
param eventTopicName string

param hubIds string[]

var source = any(loadJsonContent('../zones.json'))

// Each grant is 'role scope'. A union of texts has each of them once.
var grantsOfZones = concat(source.everyZone.hostRoles, flatten(map(zoneNames, zone => source.zones[zone].roles)))
var grants = union(
  map(
    filter(grantsOfZones, grant => !contains(grant, 'onlyWith') || contains(settingNames, grant.onlyWith)),
    grant => '${grant.role} ${grant.scope}'
  ),
  []
)

// The id of each role: of Azure's own as it is in zones.json, of ours as customRoles.bicep makes it.
var roleIds = toObject(
  items(source.roles),
  role => role.key,
  role =>
    subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      contains(role.value, 'custom') ? guid(resourceGroup().id, role.key) : role.value.id
    )
)

var wholeResources = toObject(
  ['hostStorage', 'ledgerStorage', 'caVault', 'passwordVault', 'statusVault', 'applicationInsights', 'dps', 'hubs', 'eventTopic'],
  name => name,
  name =>
    union(
      map(
        filter(
          grants,
          grant =>
            source.scopes[split(grant, ' ')[1]].resource == name && empty(intersection(
              map(items(source.scopes[split(grant, ' ')[1]]), field => field.key),
              ['tables', 'queues', 'containers']
            ))
        ),
        grant => split(grant, ' ')[0]
      ),
      []
    )
)

// Each part is 'role name-of-the-part'.
var tableGrants = union(
  flatten(map(
    filter(grants, grant => contains(source.scopes[split(grant, ' ')[1]], 'tables')),
    grant => map(source.scopes[split(grant, ' ')[1]].tables, table => '${split(grant, ' ')[0]} ${table}')
  )),
  []
)
var queueGrants = union(
  flatten(map(
    filter(grants, grant => contains(source.scopes[split(grant, ' ')[1]], 'queues')),
    grant => map(source.scopes[split(grant, ' ')[1]].queues, queue => '${split(grant, ' ')[0]} ${queue}')
  )),
  []
)
var containerGrants = union(
  flatten(map(
    filter(grants, grant => contains(source.scopes[split(grant, ' ')[1]], 'containers')),
    grant =>
      map(
        source.scopes[split(grant, ' ')[1]].containers,
        container => '${split(grant, ' ')[0]} ${source.scopes[split(grant, ' ')[1]].resource} ${container}'
      )
  )),
  []
)

resource hostStorage 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: hostStorageName
}

resource ledgerStorage 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: ledgerStorageName
}

resource caVault 'Microsoft.KeyVault/vaults@2026-02-01' existing = {
  name: caVaultName
}

resource passwordVault 'Microsoft.KeyVault/vaults@2026-02-01' existing = {
  name: passwordVaultName
}

resource statusVault 'Microsoft.KeyVault/vaults@2026-02-01' existing = {
  name: statusVaultName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource provisioning 'Microsoft.Devices/provisioningServices@2022-12-12' existing = {
  name: provisioningName
}

resource topic 'Microsoft.EventGrid/topics@2025-02-15' existing = {
  name: empty(eventTopicName) ? 'none' : eventTopicName
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices/tables@2026-04-01' existing = [
  for grant in tableGrants: {
    name: '${ledgerStorageName}/default/${split(grant, ' ')[1]}'
  }
]

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2026-04-01' existing = [
  for grant in queueGrants: {
    name: '${contains(queueStorageNames, split(grant, ' ')[1]) ? queueStorageNames[split(grant, ' ')[1]] : intakeStorageName}/default/${split(grant, ' ')[1]}'
  }
]

resource containers 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-04-01' existing = [
  for grant in containerGrants: {
    name: '${split(grant, ' ')[1] == 'intakeStorage' ? intakeStorageName : ledgerStorageName}/default/${split(grant, ' ')[2]}'
  }
]

resource onHostStorage 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in wholeResources.hostStorage: {
    scope: hostStorage
    name: guid(hostStorage.id, principalId, role)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleIds[role]
    }
  }
]

resource onLedger 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in wholeResources.ledgerStorage: {
    scope: ledgerStorage
    name: guid(ledgerStorage.id, principalId, role)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleIds[role]
    }
  }
]

resource onTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (grant, i) in tableGrants: {
    scope: tables[i]
    name: guid(tables[i].id, principalId, split(grant, ' ')[0])
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleIds[split(grant, ' ')[0]]
    }
  }
]

resource onQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (grant, i) in queueGrants: {
    scope: queues[i]
    name: guid(queues[i].id, principalId, split(grant, ' ')[0])
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleIds[split(grant, ' ')[0]]
    }
  }
]

resource onContainers 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (grant, i) in containerGrants: {
    scope: containers[i]
    name: guid(containers[i].id, principalId, split(grant, ' ')[0])
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleIds[split(grant, ' ')[0]]
    }
  }
]

resource onCaVault 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in wholeResources.caVault: {
    scope: caVault
    name: guid(caVault.id, principalId, role)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleIds[role]
    }
  }
]

resource onPasswordVault 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in wholeResources.passwordVault: {
    scope: passwordVault
    name: guid(passwordVault.id, principalId, role)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleIds[role]
    }
  }
]

resource onStatusVault 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in wholeResources.statusVault: {
    scope: statusVault
    name: guid(statusVault.id, principalId, role)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleIds[role]
    }
  }
]

resource onInsights 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in wholeResources.applicationInsights: {
    scope: insights
    name: guid(insights.id, principalId, role)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleIds[role]
    }
  }
]

resource onProvisioning 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in wholeResources.dps: {
    scope: provisioning
    name: guid(provisioning.id, principalId, role)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleIds[role]
    }
  }
]

resource onTopic 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in wholeResources.eventTopic: {
    scope: topic
    name: guid(topic.id, principalId, role)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleIds[role]
    }
  }
]

// A hub that was there before may be in another resource group, so each has a deployment of its own.
module onHubs 'hubRoles.bicep' = [
  for id in hubIds: {
    name: 'roles-${uniqueString(id, principalId)}'
    scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
    params: {
      hubName: last(split(id, '/'))
      principalId: principalId
      roleDefinitionIds: map(wholeResources.hubs, role => roleIds[role])
    }
  }
]
