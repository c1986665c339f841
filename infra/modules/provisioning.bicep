// The Device Provisioning Service, linked with its hubs.
param location string
param tags object

@minLength(3)
@maxLength(64)
param name string

@description('Ids of the hubs that devices can be assigned to, new ones and ones that were there.')
@minLength(1)
@maxLength(50)
param hubIds string[]

param workspaceId string

resource hubs 'Microsoft.Devices/IotHubs@2023-06-30' existing = [
  for id in hubIds: {
    name: last(split(id, '/'))
    scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
  }
]

resource service 'Microsoft.Devices/provisioningServices@2022-12-12' = {
  name: name
  location: location
  tags: tags
  sku: {
    name: 'S1'
    capacity: 1
  }
  properties: {
    allocationPolicy: 'Hashed'
    publicNetworkAccess: 'Enabled'
    iotHubs: [
      for (id, i) in hubIds: {
        connectionString: 'HostName=${hubs[i].properties.hostName};SharedAccessKeyName=${hubs[i].listkeys().value[0].keyName};SharedAccessKey=${hubs[i].listkeys().value[0].primaryKey}'
        location: hubs[i].location
        applyAllocationPolicy: true
        allocationWeight: 1
      }
    ]
  }
}

resource log 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: service
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'DeviceOperations'
        enabled: true
      }
      {
        category: 'ServiceOperations'
        enabled: true
      }
    ]
  }
}

output id string = service.id
output name string = service.name
output idScope string = service.properties.idScope
output serviceUrl string = 'https://${service.properties.serviceOperationsHostName}'
output deviceHost string = service.properties.deviceProvisioningHostName
