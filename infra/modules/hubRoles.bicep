// What the identity of one app may do with one hub.
param hubName string
param principalId string
param roleDefinitionIds string[]

resource hub 'Microsoft.Devices/IotHubs@2023-06-30' existing = {
  name: hubName
}

resource onHub 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in roleDefinitionIds: {
    scope: hub
    name: guid(hub.id, principalId, id)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: id
    }
  }
]
