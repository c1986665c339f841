// A storage account without keys: who may do what is decided by roles alone.
param location string
param tags object

@minLength(3)
@maxLength(24)
param name string

@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GZRS'
  'Standard_GRS'
])
param redundancy string

param queues string[] = []
param tables string[] = []
param containers string[] = []

@description('Days for which a deleted or overwritten blob can be got back; 0 where deleting must be final.')
@minValue(0)
@maxValue(365)
param restoreDays int = 0

@description('Containers whose blobs are written once.')
param immutableContainers string[] = []

@description('Days for which those blobs can be neither changed nor deleted; 0 for no such policy.')
@minValue(0)
@maxValue(146000)
param immutableDays int = 0

@description('Whether the account can be reached from the internet (with a role); otherwise by private endpoints alone.')
param publicAccess bool

param workspaceId string

@description('Whether it is logged who puts messages into the queues: for accounts in which few others do.')
param logsMessages bool = false

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: redundancy
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    publicNetworkAccess: publicAccess ? 'Enabled' : 'Disabled'
    supportsHttpsTrafficOnly: true
    networkAcls: {
      bypass: 'None'
      defaultAction: publicAccess ? 'Allow' : 'Deny'
    }
  }
}

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2026-04-01' = {
  parent: account
  name: 'default'
  properties: {
    isVersioningEnabled: restoreDays > 0
    deleteRetentionPolicy: restoreDays > 0
      ? {
          enabled: true
          days: restoreDays
        }
      : {
          enabled: false
        }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: 30
    }
  }
}

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2026-04-01' = {
  parent: account
  name: 'default'
}

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2026-04-01' = {
  parent: account
  name: 'default'
}

resource containersOfAccount 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-04-01' = [
  for container in containers: {
    parent: blobService
    name: container
    properties: {
      publicAccess: 'None'
    }
  }
]

resource writtenOnce 'Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2026-04-01' = [
  for (container, i) in containers: if (immutableDays > 0 && contains(immutableContainers, container)) {
    parent: containersOfAccount[i]
    name: 'default'
    properties: {
      immutabilityPeriodSinceCreationInDays: immutableDays
      allowProtectedAppendWrites: false
    }
  }
]

resource queuesOfAccount 'Microsoft.Storage/storageAccounts/queueServices/queues@2026-04-01' = [
  for queue in queues: {
    parent: queueService
    name: queue
  }
]

resource tablesOfAccount 'Microsoft.Storage/storageAccounts/tableServices/tables@2026-04-01' = [
  for table in tables: {
    parent: tableService
    name: table
  }
]

// Who deleted what from the containers.
resource blobLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: blobService
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'StorageDelete'
        enabled: true
      }
    ]
  }
}

// Who put which message, and when: RequesterObjectId of the operation PutMessage (StorageQueueLogs of Azure Monitor).
resource queueLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (logsMessages) {
  scope: queueService
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'StorageWrite'
        enabled: true
      }
    ]
  }
}

output id string = account.id
output name string = account.name
output blobUrl string = account.properties.primaryEndpoints.blob
output queueUrl string = account.properties.primaryEndpoints.queue
output tableUrl string = account.properties.primaryEndpoints.table
