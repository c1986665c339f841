// An IoT hub. Devices come with certificates, never with a symmetric key. Services may still use a key, because the
// provisioning service can be linked in no other way (Microsoft.Devices/provisioningServices 2022-12-12:
// iotHubs[].connectionString is required); no zone has a role that reads it.
param location string
param tags object

@minLength(3)
@maxLength(50)
param name string

@allowed([
  'S1'
  'S2'
  'S3'
])
param sku string

@description('Units of the hub: each unit of S1 takes 100 registry operations a minute.')
@minValue(1)
@maxValue(200)
param units int

param workspaceId string

resource hub 'Microsoft.Devices/IotHubs@2023-06-30' = {
  name: name
  location: location
  tags: tags
  sku: {
    name: sku
    capacity: units
  }
  properties: {
    disableDeviceSAS: true
    disableModuleSAS: true
    disableLocalAuth: false
    publicNetworkAccess: 'Enabled'
  }
}

resource log 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: hub
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'DeviceIdentityOperations'
        enabled: true
      }
    ]
  }
}

output id string = hub.id
