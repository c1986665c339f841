// What a sender of requests may do: put messages into the queues that others write into, upload lists of devices, and
// take events. Given to who deploys, if anybody; an ERP's identity gets the same by this module.
param principalId string

@allowed([
  'User'
  'Group'
  'ServicePrincipal'
])
param principalType string

param intakeStorageName string

@description('The storage accounts of queues that are not in the intake, by the queue.')
param queueStorageNames object = {}

param queueNames string[]

var messageSender = 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a' // Storage Queue Data Message Sender
var messageReader = '19e7f393-937e-4f77-808e-94535e297925' // Storage Queue Data Reader
var messageProcessor = '8a0f0c08-91a1-4084-bc3d-661d67233fed' // Storage Queue Data Message Processor
var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe' // Storage Blob Data Contributor

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2026-04-01' existing = [
  for queue in queueNames: {
    name: '${contains(queueStorageNames, queue) ? queueStorageNames[queue] : intakeStorageName}/default/${queue}'
  }
]

resource events 'Microsoft.Storage/storageAccounts/queueServices/queues@2026-04-01' existing = {
  name: '${intakeStorageName}/default/provisioning-events'
}

resource lists 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-04-01' existing = {
  name: '${intakeStorageName}/default/orders'
}

resource sends 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (queue, i) in queueNames: {
    scope: queues[i]
    name: guid(queues[i].id, principalId, messageSender)
    properties: {
      principalId: principalId
      principalType: principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', messageSender)
    }
  }
]

resource takesEvents 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in [messageReader, messageProcessor]: {
    scope: events
    name: guid(events.id, principalId, role)
    properties: {
      principalId: principalId
      principalType: principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
    }
  }
]

resource uploads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: lists
  name: guid(lists.id, principalId, blobContributor)
  properties: {
    principalId: principalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobContributor)
  }
}
